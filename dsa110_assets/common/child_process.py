"""Run a program as a child process and see it end: within its time, with its last words, and all that it started with it.

CASA, AOFlagger, WSClean and Aegean may crash, hang or leak; none of that may reach the process that asks for the work
(pitfall 32). Each child leads a process group of its own, so that its own children end with it. Its output goes to files
and not to pipes, so that a child that prints much cannot block.
"""

from __future__ import annotations

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

from dsa110_assets.errors import ChildFailedError

_SHORTEST_POLL_S, _LONGEST_POLL_S = 0.005, 0.1
_LAST_LINES = 3


@dataclass(frozen=True)
class Child:
    """A program to run.

    ``name``: as messages call it. ``command``: program and arguments. ``cwd``: its working directory, None for the parent's.
    ``environment``: variables on top of the parent's. ``stdin``: text that it reads. ``pass_fds``: descriptors that it inherits.
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

    ``code``: its exit code, or minus the number of the signal that killed it. ``stdout``, ``stderr``: what it printed.
    ``peak_bytes``: largest resident memory of the process, seen up to 0.1 s before its end; 0 if it ended before the first look.
    """

    name: str
    code: int
    stdout: str
    stderr: str
    peak_bytes: int

    @property
    def reason(self) -> str:
        """In words: ``CASA ended with code 1``, or ``CASA was killed by signal 9 (it held up to 6.2 GB)``."""
        if self.code < 0:
            return f"{self.name} was killed by signal {-self.code} (it held up to {self.peak_bytes / 1e9:.1f} GB)"
        return f"{self.name} ended with code {self.code}"

    @property
    def last_words(self) -> list[str]:
        """Last lines that it printed, those of the error stream last; at most three."""
        return (self.stdout + self.stderr).strip().splitlines()[-_LAST_LINES:]

    def raise_if_failed(self, subject: object, next_step: str, *, result: Path | None = None) -> None:
        """Do nothing if the child ended with code 0 and left its result.

        Args:
            subject: file or product that the error is about.
            next_step: what a person does about it.
            result: file that the child writes last.

        Raises:
            ChildFailedError: it ended in another way; the cause carries its last words.
        """
        if self.code != 0 or (result is not None and not result.exists()):
            without = f" without {result.name}" if result is not None and self.code == 0 else ""
            raise ChildFailedError(subject, ": ".join([self.reason + without, " | ".join(self.last_words)]), next_step)


def run_child(
    child: Child, *, subject: object, timeout_s: float, if_late: str, while_waiting: Callable[[], None] | None = None
) -> ChildEnd:
    """Run one child to its end; see `run_children`. A code other than 0 is returned, not raised."""
    return run_children([child], subject=subject, timeout_s=timeout_s, if_late=if_late, while_waiting=while_waiting)[0]


def run_children(
    children: Sequence[Child],
    *,
    subject: object,
    timeout_s: float,
    if_late: str,
    while_waiting: Callable[[], None] | None = None,
) -> list[ChildEnd]:
    """Run children side by side until all have ended or one has failed. When this returns or raises, none of them lives.

    Args:
        children: the programs.
        subject: file or product that an error is about.
        timeout_s: wall-clock limit of all together.
        if_late: what a person does when the limit is reached.
        while_waiting: called between two looks at the children, at most 0.1 s apart; what it raises ends the children.

    Returns:
        The children that ended, in that order. After a failure the failed one is the last, and the others were killed.

    Raises:
        ChildFailedError: a program did not start, or the time ran out.
    """
    deadline = time.monotonic() + timeout_s
    ends: list[ChildEnd] = []
    with ExitStack() as stack:
        running = [stack.enter_context(_Running(child, subject)) for child in children]
        pause_s = _SHORTEST_POLL_S
        while running:
            for one in [one for one in running if one.has_ended()]:
                running.remove(one)
                ends.append(one.end())
                if ends[-1].code != 0:
                    return ends
            if running and time.monotonic() >= deadline:
                raise ChildFailedError(subject, f"{running[0].child.name} did not end within {timeout_s:g} s", if_late)
            if while_waiting is not None:
                while_waiting()
            if running:
                time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))
                pause_s = min(2 * pause_s, _LONGEST_POLL_S)
    return ends


class _Running:
    """A child that was started; leaving the context kills its process group."""

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
            raise ChildFailedError(subject, f"{child.name} did not start: {error}", "run `dsa110 preflight`") from error

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill_group()
        self._files.close()

    def has_ended(self) -> bool:
        """Whether the process has ended. It is not reaped yet: its number, and so its group's, cannot go to another process."""
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        self._peak_bytes = max(self._peak_bytes, _high_water_bytes(self._process.pid))
        return False

    def end(self) -> ChildEnd:
        """How it ended; what it started and left behind is killed."""
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
        """A file without a name, which vanishes even if this process is killed."""
        return self._files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))


def _text(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()


def _high_water_bytes(pid: int) -> int:
    """The process's own high-water mark. The resource usage of `wait4` is no use: it begins with what the parent held."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it ended meanwhile, or the system has no /proc
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(line.split()[1]) * 1024 if line else 0
