"""Hosts on one machine: each has a network, a name, processes and a /tmp of its own, and is connected to a bridge.

Root only. A host is a network namespace (`ip netns`) with a process that holds its other namespaces (`unshare`). To
kill that process is to pull the plug. Directories other than /tmp are shared, as on a shared file system.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil


def why_not_possible() -> str | None:
    """Why this machine cannot have hosts of its own; None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in ("ip", "unshare", "nsenter", "redis-server") if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} is not installed (`make extras`)"
    probe = subprocess.run(["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else f"namespaces are not permitted ({probe.stderr.decode().strip()})"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@dataclass
class Host:
    """A host. ``address``: on the bridge. ``shared``: all hosts see these. ``holder``: process of its namespaces."""

    name: str
    namespace: str
    link: str
    address: str
    shared: tuple[Path, ...]
    holder: subprocess.Popen[bytes] | None = None
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def boot(self) -> None:
        """Start the host, with an empty /tmp in which only the shared directories are."""
        kept = [one for one in map(str, self.shared) if one.startswith("/tmp/")]
        script = " && ".join(
            [
                f"hostname {self.name}",
                "mount -t tmpfs tmpfs /mnt",
                *(f"mkdir /mnt/{n} && mount --bind {shlex.quote(one)} /mnt/{n}" for n, one in enumerate(kept)),
                "mount -t tmpfs tmpfs /tmp",
                *(f"mkdir -p {shlex.quote(one)} && mount --bind /mnt/{n} {shlex.quote(one)}" for n, one in enumerate(kept)),
                "echo up",
                "exec sleep infinity",
            ]
        )
        inner = ["unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script]
        self.holder = subprocess.Popen(["ip", "netns", "exec", self.namespace, *inner], stdout=subprocess.PIPE, start_new_session=True)
        assert self.holder.stdout is not None
        if self.holder.stdout.readline() != b"up\n":
            raise RuntimeError(f"host {self.name} did not start")

    @property
    def init(self) -> int:
        """Number of the host's first process, as seen from outside."""
        assert self.holder is not None
        return psutil.Process(self.holder.pid).children()[0].pid

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path, directory: Path) -> subprocess.Popen[bytes]:
        """Start a program on the host in a working directory."""
        inside = ["nsenter", "--target", str(self.init), "--mount", "--uts", "--net", "--pid", f"--wdns={directory}", *command]
        with log.open("ab") as stream:
            process = subprocess.Popen(
                inside, env=dict(environment), stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.programs.append(process)
        return process

    def processes(self) -> list[psutil.Process]:
        """All processes of the host but its first."""
        here = Path(f"/proc/{self.init}/ns/pid").stat().st_ino
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if process.pid != self.init and Path(f"/proc/{process.pid}/ns/pid").stat().st_ino == here:
                    found.append(process)
        return found

    def find(self, words: str) -> list[psutil.Process]:
        """Processes of the host whose command has these words."""
        found: list[psutil.Process] = []
        for process in self.processes():
            with suppress(psutil.Error):
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def unplug(self) -> None:
        """Take the host's network away; its programs go on."""
        _run("ip", "link", "set", self.link, "down")

    def plug(self) -> None:
        """Give the network back."""
        _run("ip", "link", "set", self.link, "up")

    def kill(self) -> None:
        """Pull the plug: all processes of the host die at once."""
        if self.holder is not None and self.holder.poll() is None:
            with suppress(IndexError, psutil.NoSuchProcess):
                os.kill(self.init, signal.SIGKILL)
            self.holder.kill()
            self.holder.wait(10)
        for program in self.programs:
            program.kill()
            program.wait(20)
        self.programs.clear()

    def freeze(self, number: signal.Signals) -> None:
        """Stop or continue all processes of the host, like a virtual machine that is paused."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        for program in self.programs:  # `nsenter` stops itself with its program
            program.send_signal(number)


@dataclass(frozen=True)
class Network:
    """A bridge with the head's ``address``, and the hosts on it."""

    address: str
    hosts: list[Host]


@contextmanager
def network(number: int, data: Path) -> Iterator[Network]:
    """Make a bridge and hosts, which run during the block, and share ``data``, the checkout and Python."""
    shared = tuple(one.resolve() for one in (data, Path(__file__).parents[2], Path(sys.prefix), Path(sys.base_prefix)))
    mark = os.getpid() % 10000
    bridge, subnet = f"dsabr{mark}", f"10.{100 + mark % 100}.{mark // 100}"
    hosts = [Host(f"host{n}", f"dsa{mark}n{n}", f"dsa{mark}v{n}", f"{subnet}.{10 + n}", shared) for n in range(1, number + 1)]
    try:
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "addr", "add", f"{subnet}.1/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        for host in hosts:
            _run("ip", "netns", "add", host.namespace)
            _run("ip", "link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _run("ip", "link", "set", host.link, "master", bridge, "up")
            for command in (f"addr add {host.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
                _run("ip", "-n", host.namespace, *command.split())
            host.boot()
        yield Network(f"{subnet}.1", hosts)
    finally:
        for host in hosts:
            host.kill()
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)


@dataclass
class Broker:
    """A Redis server of its own, which may be killed and started again; it keeps nothing."""

    address: str
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["--bind", self.address, "--port", "6379", "--protected-mode", "no", "--save", "", "--dir", str(self.directory)]
        with (self.directory / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(["redis-server", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        limit = time.monotonic() + 20
        ping = ["redis-cli", "-h", self.address, "ping"]
        while subprocess.run(ping, capture_output=True, text=True, check=False).stdout != "PONG\n":
            if time.monotonic() > limit:
                raise RuntimeError(f"Redis does not answer: {(self.directory / 'redis.log').read_text()[-1000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
