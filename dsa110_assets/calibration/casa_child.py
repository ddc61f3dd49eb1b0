"""CASA in a process of its own: ``python -m dsa110_assets.calibration.casa_child REQUEST RESULT``.

CASA may crash, hang or leak; casatools and python-casacore then do not share a process with the platform (pitfalls 32 and 36).
`run_tasks` is the parent's side: it starts the child in its own session and directory, ends all of it when the time is
up, and turns every way to fail into an error. Solving goes to CASA's calibrater tool directly: the tasks gaincal and bandpass are
thin covers of it, take 6 s longer to import, and bandpass swallows the tool's exceptions. What does not belong here: what the
solutions are for (`solve`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsa110_assets.errors import ChildFailedError

_LOG = "casa.log"
_POLL_S = 0.2


def run_tasks(
    tasks: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    work_dir: Path,
    timeout_s: float,
    threads: int = 0,
    subject: object = "CASA",
    on_done: Callable[[int], None] | None = None,
) -> str:
    """Run CASA tasks one after the other in one child process.

    Args:
        tasks: (name of a casatasks function, its arguments), or ``("solve", arguments of solve_term)``; JSON types only; paths absolute.
        work_dir: existing directory in which CASA may leave its log and temporary files.
        timeout_s: wall-clock limit of all tasks together; the child and its children are killed then.
        threads: OpenMP threads; 0 leaves the choice to CASA.
        subject: what the error is about.
        on_done: called with the number of tasks that are done, whenever it grows.

    Returns:
        CASA's log.

    Raises:
        ChildFailedError: a task raised, the child died or its time ran out; the cause carries CASA's own last complaints.
    """
    with tempfile.TemporaryDirectory(prefix="casa-", dir=work_dir) as directory:
        here = Path(directory)
        request, result, errors = here / "request.json", here / "result.json", here / "stderr.txt"
        request.write_text(json.dumps([[name, dict(arguments)] for name, arguments in tasks]), encoding="utf-8")
        environment = dict(os.environ)
        if threads > 0:
            environment["OMP_NUM_THREADS"] = str(threads)
        with errors.open("w", encoding="utf-8") as stderr:
            child = subprocess.Popen(
                [sys.executable, "-m", "dsa110_assets.calibration.casa_child", str(request), str(result)],
                cwd=here,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                code = _wait(child, result.with_suffix(".done"), timeout_s, on_done)
            except subprocess.TimeoutExpired as error:
                raise ChildFailedError(
                    subject, f"CASA did not finish within {timeout_s:g} s", "look at the machine's load; raise the limit if it is too tight"
                ) from error
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        log = (here / _LOG).read_text(encoding="utf-8", errors="replace") if (here / _LOG).exists() else ""
        outcome: dict[str, Any] = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
        if code != 0 or not outcome.get("ok"):
            complaints = [line.split("\t")[-1].strip() for line in log.splitlines() if "SEVERE" in line and "dUTC" not in line][-3:]
            reason = outcome.get("error") or (f"CASA was killed by signal {-code}" if code < 0 else f"CASA ended with code {code}")
            tail = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise ChildFailedError(
                subject, "; ".join([reason, *(complaints or tail)]), "read the cause; run again if the machine was the reason"
            )
        return log


def _wait(child: subprocess.Popen[bytes], done: Path, timeout_s: float, on_done: Callable[[int], None] | None) -> int:
    """Exit code of the child; a line in ``done`` is a task that has ended."""
    end, seen = time.monotonic() + timeout_s, 0
    while True:
        try:
            return child.wait(min(_POLL_S if on_done else timeout_s, max(end - time.monotonic(), 0.0)))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end:
                raise
        if on_done is not None and done.exists() and (number := done.read_text().count("\n")) > seen:
            seen = number
            on_done(seen)


def solve_term(vis: str, selection: Mapping[str, str], apply: Sequence[str], term: Mapping[str, Any]) -> None:
    """Solve for one calibration term with CASA's calibrater tool, in the child.

    Cross-correlations only. Flags count for their own polarization, so that an antenna with one dead receptor keeps the other.

    Args:
        vis: Measurement Set with DATA and MODEL_DATA.
        selection: of calibrater.selectvis, e.g. spw and uvrange.
        apply: tables to apply first, interpolated linearly.
        term: of calibrater.setsolve.
    """
    import casatools

    calibrater: Any = casatools.calibrater()
    try:
        calibrater.open(filename=vis, compress=False, addcorr=False, addmodel=False)
        calibrater.reset()
        calibrater.selectvis(chanmode="none", msselect="ANTENNA1!=ANTENNA2", **selection)
        calibrater.setcorrdepflags(True)
        for table in apply:
            calibrater.setapply(t=0.0, table=table, calwt=True, interp="linear")
        calibrater.setsolve(**term)
        calibrater.solve()
    finally:
        calibrater.close()


def _main(request: Path, result: Path) -> int:
    """The child's side: do what is asked in order, report what happened in ``result``."""
    import casatools

    log = casatools.logsink(str(Path.cwd() / _LOG))
    log.setglobal(True)
    outcome: dict[str, Any] = {"ok": True}
    for name, arguments in json.loads(request.read_text(encoding="utf-8")):
        try:
            answer: object = None
            if name == "solve":
                solve_term(**arguments)
            else:
                import casatasks

                casatasks.casalog.setlogfile(str(Path.cwd() / _LOG))  # importing the tasks has set another
                answer = getattr(casatasks, name)(**arguments)
        except Exception as error:  # noqa: BLE001 - the parent turns it into a typed error; nothing is swallowed
            outcome = {"ok": False, "error": f"{name}: {type(error).__name__}: {error}"}
            break
        if answer is False:
            outcome = {"ok": False, "error": f"{name} returned False"}
            break
        with result.with_suffix(".done").open("a") as done:
            done.write(f"{name}\n")
    result.write_text(json.dumps(outcome), encoding="utf-8")
    return 0 if outcome["ok"] else 1


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2])))
