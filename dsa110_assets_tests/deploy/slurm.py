"""Debian's Slurm as one host: a controller, a node with eight cores in name, and munge, all in one directory."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dsa110_assets.cli.services import free_port

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "munged")
_CONFIG = """
ClusterName=dsa110
SlurmctldHost={name}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/{tracking}
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={name} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=dsa110 Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not_possible() -> str | None:
    """Why there can be no Slurm here; None if there can."""
    if os.geteuid() != 0:
        return "Slurm's node daemon needs root"
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"{', '.join(missing)} is not installed: Debian's slurmctld, slurmd, slurm-client and munge"
    return None


@dataclass(frozen=True)
class Slurm:
    """A running Slurm in ``root``."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """What its commands need."""
        return {**os.environ, "SLURM_CONF": str(self.root / "slurm.conf")}

    def run(self, *command: str, **environment: str) -> str:
        """Run one of its commands; return what it says."""
        done = subprocess.run(command, env=self.environment | environment, capture_output=True, text=True, check=False, cwd=self.root)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}{self.logs()}")
        return done.stdout

    def submit(self, script: Path, *options: str, **environment: str) -> str:
        """Submit a job; return its number."""
        return self.run("sbatch", "--parsable", *options, str(script), **environment).strip()

    def state(self, job: str) -> str:
        """State of a job, such as RUNNING or COMPLETED."""
        found = re.search(r"JobState=(\w+)", self.run("scontrol", "show", "job", job))
        assert found is not None
        return found[1]

    def wait(self, job: str, *states: str, limit_s: float = 300.0) -> float:
        """Wait until a job is in one of the states; return the seconds."""
        began = time.monotonic()
        while (state := self.state(job)) not in states:
            if time.monotonic() - began > limit_s:
                raise RuntimeError(f"job {job} is {state}, not {' or '.join(states)}{self.logs()}")
            time.sleep(0.2)
        return time.monotonic() - began

    def logs(self) -> str:
        """Ends of all logs."""
        return "".join(f"\n{path.name}: {path.read_text()[-1500:]}" for path in sorted(self.root.glob("*.log")))


@contextmanager
def running_slurm(root: Path) -> Iterator[Slurm]:
    """Run Slurm during the block in an empty directory."""
    root.chmod(0o755)
    for folder in ("state", "spool"):
        (root / folder).mkdir()
    (root / "munge.key").write_bytes(secrets.token_bytes(1024))
    (root / "munge.key").chmod(0o400)
    version_1 = Path("/sys/fs/cgroup/freezer").is_dir()
    config = _CONFIG.format(
        name=socket.gethostname(), root=root, controller=free_port(), node=free_port(), tracking="cgroup" if version_1 else "linuxproc"
    )
    (root / "slurm.conf").write_text(config)
    (root / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\n" if version_1 else "")
    slurm = Slurm(root)
    munge = [f"--{name}={root}/munge.{name.split('-')[0]}" for name in ("socket", "key-file", "pid-file", "log-file", "seed-file")]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in (["munged", "--foreground", "--force", *munge], ["slurmctld", "-D", "-i"], ["slurmd", "-D"]):
            with (root / f"{command[0]}.out").open("wb") as out:
                daemons.append(
                    subprocess.Popen(
                        command, env=slurm.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
                    )
                )
            limit = time.monotonic() + 60.0
            while command[0] == "munged" and not (root / "munge.socket").exists():
                assert time.monotonic() < limit, slurm.logs()
                time.sleep(0.1)
        limit = time.monotonic() + 120.0
        while (
            "State=IDLE"
            not in subprocess.run(["scontrol", "show", "node"], env=slurm.environment, capture_output=True, text=True, check=False).stdout
        ):
            assert time.monotonic() < limit, slurm.logs()
            assert all(one.poll() is None for one in daemons), slurm.logs()
            time.sleep(0.3)
        yield slurm
        slurm.run("scancel", "--state=RUNNING", "--user=root")
        limit = time.monotonic() + 60.0
        while slurm.run("squeue", "--noheader") and time.monotonic() < limit:
            time.sleep(0.3)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(60)
