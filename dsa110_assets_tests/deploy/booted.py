"""A clean Debian 12 that boots: systemd is its first process, and its network and processes are its own.

`systemd-nspawn` starts it from a directory that `mmdebstrap` has filled, and `slirp4netns` connects its network to
that of this machine without any rule of a firewall. Root only. This machine's first process need not be systemd.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from dsa110_assets_tests.deploy.image_steps import CERTIFICATES, LENT, MIRROR, lent_variables, package_places

PROGRAMS = ("mmdebstrap", "systemd-nspawn", "slirp4netns", "nsenter", "ip", "curl", "openssl")
PACKAGES = ("systemd-sysv", "dbus", "ca-certificates")
"""What every installed Debian has, beyond the smallest root directory."""
BOOT_LIMIT_S = 600.0
STOP_LIMIT_S = 200.0
NAMESERVER = "10.0.2.3"
"""Where slirp4netns answers to questions for names."""
_CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"))


def why_not_possible() -> str | None:
    """Why this machine cannot boot another one in itself; None if it can."""
    if os.geteuid() != 0:
        return "namespaces with a systemd of their own need root"
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"{', '.join(missing)} is not installed (`make extras`)"
    if not Path("/dev/net/tun").exists():
        return "the kernel has no /dev/net/tun"
    if not any((place / "cgroup.procs").exists() for place in _CGROUPS):
        return "no hierarchy of control groups is mounted in which systemd could work"
    return None


@dataclass
class Machine:
    """The machine in ``root``. ``processes``: those of this machine that hold it while it is up."""

    root: Path
    name: str = field(default_factory=lambda: f"dsa110-{os.getpid()}")
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def install(self) -> None:
        """Fill an empty root directory with a minimal Debian 12."""
        include = f"--include={','.join(PACKAGES)}"
        subprocess.run(["mmdebstrap", "--mode=root", "--variant=minbase", include, "bookworm", str(self.root), MIRROR], check=True)
        (self.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        (self.root / "etc/hostname").write_text("telescope\n")
        (self.root / LENT).mkdir()
        shutil.copy(CERTIFICATES, self.root / LENT)

    def boot(self) -> None:
        """Boot, and wait until systemd says that all has started.

        Raises:
            RuntimeError: it does not.
        """
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        slirp = [
            "slirp4netns",
            "--configure",
            "--mtu=65520",
            "--disable-host-loopback",
            "--netns-type=path",
            f"/run/netns/{self.name}",
            "tap0",
        ]
        nspawn = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            f"--directory={self.root}",
            f"--machine={self.name}",
        ]
        nspawn += [f"--network-namespace-path=/run/netns/{self.name}", "--resolv-conf=off", "--timezone=off", "--console=read-only"]
        nspawn += [f"--bind-ro={place}" for place in package_places()]
        folders = [place / self.name for place in _CGROUPS if (place / "cgroup.procs").exists()]
        for folder in folders:
            folder.mkdir(exist_ok=True)
        join = "".join(f"echo $$ > {folder}/cgroup.procs && " for folder in folders)
        log = self.root.with_suffix(".console")
        with log.open("ab") as console:
            for command in (slirp, ["sh", "-c", f'{join}exec "$@"', "sh", *nspawn]):
                self.processes.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True)
                )
        (self.root / "etc/resolv.conf").unlink(missing_ok=True)
        (self.root / "etc/resolv.conf").write_text(f"nameserver {NAMESERVER}\n")
        limit, said = time.monotonic() + BOOT_LIMIT_S, "nothing"
        while time.monotonic() < limit and all(process.poll() is None for process in self.processes):
            if self._first() is not None:
                said = self.run("systemctl is-system-running", check=False).stdout.strip()
                if said in ("running", "degraded"):
                    return
            time.sleep(0.5)
        raise RuntimeError(f"the machine does not boot; systemd says {said!r}; {log.read_text(errors='replace')[-2000:]}")

    def _first(self) -> int | None:
        try:
            children = psutil.Process(self.processes[-1].pid).children()
        except psutil.NoSuchProcess:
            return None
        return next((child.pid for child in children if child.name() == "systemd"), None)

    def run(self, script: str, *, check: bool = True, limit_s: float = 1800.0) -> subprocess.CompletedProcess[str]:
        """Run a script in root's shell of the machine.

        Raises:
            RuntimeError: ``check``, and it fails.
        """
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        environment |= lent_variables()
        inside = [
            "nsenter",
            "--target",
            str(self._first()),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
            "--root",
            "--wdns=/root",
        ]
        command = [
            *inside,
            "env",
            "-i",
            *(f"{name}={text}" for name, text in environment.items()),
            "bash",
            "-e",
            "-o",
            "pipefail",
            "-c",
            script,
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=limit_s)
        if check and done.returncode != 0:
            raise RuntimeError(f"in the machine, {script!r} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Ask an address of the machine, from this machine's curl in its network."""
        command = ["nsenter", f"--net=/run/netns/{self.name}", "curl", "--silent", "--show-error", "--max-time", "60", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def power_off(self) -> float:
        """Shut the machine down in order. Return the seconds that it took.

        Raises:
            RuntimeError: it did not end by itself; it is ended then.
        """
        began = time.monotonic()
        orderly = True
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                orderly = False
                first = self._first()
                if first is not None:
                    os.kill(first, signal.SIGKILL)
                process.kill()
                process.wait(20)
        self.processes.clear()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)
        for place in _CGROUPS:
            for folder in sorted((place / self.name).rglob("*/"), reverse=True) if (place / self.name).is_dir() else []:
                folder.rmdir()
            if (place / self.name).is_dir():
                (place / self.name).rmdir()
        if not orderly:
            raise RuntimeError(f"the machine did not shut down within {STOP_LIMIT_S:.0f} s")
        return time.monotonic() - began


@contextmanager
def booted(machine: Machine) -> Iterator[Machine]:
    """Boot a machine; it is off after the block."""
    try:
        machine.boot()
        yield machine
    finally:
        machine.power_off()
