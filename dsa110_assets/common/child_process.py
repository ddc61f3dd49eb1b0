"""Run a program as a child process, with a time limit, and kill everything it started when it ends.

CASA, WSClean and Aegean may crash, hang or leak. None of that may reach the process that needs the work
(pitfall 32). Each child leads its own process group, so its children end with it. Its output goes to files, not pipes,
so a child that prints a lot cannot block.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from dsa110_assets.errors import ChildFailedError, ConfigurationError, DiskFullError
from dsa110_assets.files import says_disk_is_full

_SHORTEST_POLL_S, _LONGEST_POLL_S = 0.005, 0.1
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ORDERLY_STOP = frozenset((*(-number for number in _STOPS), *(128 + number for number in _STOPS)))
"""Exit codes of a program that was asked to end: minus the signal, or 128 plus it if a shell or the program says so."""
_OWN_SIGNAL_S = 2.0
"""Time for the signal that ended a child to reach this process too."""
_LAST_LINES = 3


@dataclass(frozen=True)
class Child:
    """A program to run.

    ``name``: its name in messages. ``command``: program and arguments. ``cwd``: working directory, None for the
    parent's. ``environment``: variables added to the parent's. ``stdin``: text for its standard input. ``pass_fds``:
    file descriptors that it inherits.
    """

    name: str
    command: Sequence[str]
    cwd: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    stdin: str = ""
    pass_fds: Sequence[int] = ()


@dataclass(frozen=True)
class ChildEnd:
    """How a child ended.

    ``code``: exit code, or minus the number of the signal that killed it. ``stdout``, ``stderr``: what it printed.
    ``peak_bytes``: largest resident memory of the process, measured until at most 0.1 s before its end; 0 if it ended
    before the first measurement.
    """

    name: str
    code: int
    stdout: str
    stderr: str
    peak_bytes: int

    @property
    def reason(self) -> str:
        """Description, such as ``CASA ended with code 1`` or ``CASA was killed by signal 9 (it used up to 6.2 GB)``."""
        if self.code < 0:
            return f"{self.name} was killed by signal {-self.code} (it used up to {self.peak_bytes / 1e9:.1f} GB)"
        return f"{self.name} ended with code {self.code}"

    @property
    def last_lines(self) -> list[str]:
        """Last lines that it printed, at most three; those of the error stream come last."""
        return (self.stdout + self.stderr).strip().splitlines()[-_LAST_LINES:]

    def raise_if_failed(self, subject: object, next_step: str, *, result: Path | None = None) -> None:
        """Raise unless the child ended with code 0 and wrote its result.

        Args:
            subject: file or product that the error is about.
            next_step: what a person should do about it.
            result: file that the child writes last.

        Raises:
            DiskFullError: it failed and said that a disk is full.
            ChildFailedError: it failed; the cause contains its last lines.
        """
        if self.code != 0 or (result is not None and not result.exists()):
            about_disk = next((line for line in (self.stdout + self.stderr).splitlines() if says_disk_is_full(line)), None)
            if about_disk is not None:
                raise DiskFullError(subject, f"{self.reason}: {about_disk.strip()}", "free space; the work then goes on by itself")
            without = f" without {result.name}" if result is not None and self.code == 0 else ""
            raise ChildFailedError(subject, ": ".join([self.reason + without, " | ".join(self.last_lines)]), next_step)


def run_child(
    child: Child, *, subject: object, timeout_s: float, timeout_advice: str, while_waiting: Callable[[], None] | None = None
) -> ChildEnd:
    """Run one child to its end; see `run_children`. An exit code other than 0 does not raise."""
    ends = run_children([child], subject=subject, timeout_s=timeout_s, timeout_advice=timeout_advice, while_waiting=while_waiting)
    return ends[0]


def run_children(
    children: Sequence[Child],
    *,
    subject: object,
    timeout_s: float,
    timeout_advice: str,
    while_waiting: Callable[[], None] | None = None,
) -> list[ChildEnd]:
    """Run children in parallel until all have ended or one has failed. No child is left running on return or error.

    Slurm and systemd send the signal of an orderly stop to every process at once, and a child may have died of it
    before it reaches this one. That is no failure of the child, so a child that was asked to end is returned only
    if nothing interrupts this process within 2 s.

    Args:
        children: the programs.
        subject: file or product that an error is about.
        timeout_s: wall-clock limit for all of them together.
        timeout_advice: what a person should do when the limit is reached.
        while_waiting: called at least every 0.1 s while children run; an exception from it ends the children.

    Returns:
        The children in the order in which they ended. After a failure the failed one is last; the rest were killed.

    Raises:
        ChildFailedError: a program could not be started now, or the time ran out.
        ConfigurationError: there is no such program.
    """
    deadline = time.monotonic() + timeout_s
    ends: list[ChildEnd] = []
    with ExitStack() as stack:
        running = [stack.enter_context(_RunningChild(child, subject)) for child in children]
        pause_s = _SHORTEST_POLL_S
        while running:
            for ended in [child for child in running if child.has_ended()]:
                running.remove(ended)
                ends.append(ended.end())
                if ends[-1].code != 0:
                    if ends[-1].code in _ORDERLY_STOP:
                        time.sleep(_OWN_SIGNAL_S)
                    return ends
            if running and time.monotonic() >= deadline:
                raise ChildFailedError(subject, f"{running[0].child.name} did not end within {timeout_s:g} s", timeout_advice)
            if while_waiting is not None:
                while_waiting()
            if running:
                time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))
                pause_s = min(2 * pause_s, _LONGEST_POLL_S)
    return ends


class _RunningChild:
    """A started child. Leaving the context kills its process group."""

    def __init__(self, child: Child, subject: object) -> None:
        self.child = child
        self._peak_bytes = 0
        self._files = ExitStack()
        self._stdout, self._stderr = self._file(), self._file()
        try:
            self._process = subprocess.Popen(
                list(child.command),
                cwd=child.cwd,
                env={**os.environ, **child.environment},
                stdin=self._input(),
                stdout=self._stdout,
                stderr=self._stderr,
                pass_fds=child.pass_fds,
                start_new_session=True,
            )
        except OSError as error:
            self._files.close()
            never = error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC)  # others: too many processes, no memory
            kind = ConfigurationError if never else ChildFailedError
            raise kind(subject, f"{child.name} did not start: {error}", "run `dsa110 preflight`") from error

    def __enter__(self) -> _RunningChild:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill_group()
        self._files.close()

    def has_ended(self) -> bool:
        """Whether the process has ended. It is not reaped here, so its number cannot go to another process or group."""
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        self._peak_bytes = max(self._peak_bytes, _high_water_bytes(self._process.pid))
        return False

    def end(self) -> ChildEnd:
        """Kill what the child left running and return how it ended."""
        self._kill_group()
        return ChildEnd(self.child.name, self._process.returncode, _text(self._stdout), _text(self._stderr), self._peak_bytes)

    def _kill_group(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _input(self) -> IO[str] | int:
        if not self.child.stdin:
            return subprocess.DEVNULL
        stdin = self._file()
        stdin.write(self.child.stdin)
        stdin.seek(0)
        return stdin

    def _file(self) -> IO[str]:
        """Open an unnamed file, which disappears even if this process is killed."""
        return self._files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))


def _text(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()


def _high_water_bytes(pid: int) -> int:
    """Largest resident memory of a process so far. Do not use `wait4`: its figure starts with the parent's memory."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # the process has ended, or the system has no /proc
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(line.split()[1]) * 1024 if line else 0
