"""CASA in its own process: ``python -m dsa110_assets.calibration.casa_child REQUEST RESULT``.

CASA may crash, hang or leak memory, so it does not run in the platform's process; nor do casatools and python-casacore
share one (pitfalls 32 and 36). `run_tasks` is the parent's side: it runs the child in its own directory and turns every
failure into an error. We solve with CASA's calibrater tool directly: the tasks gaincal and bandpass are thin wrappers
of it, take 6 s longer to import, and bandpass swallows the tool's exceptions.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsa110_assets.common.child_process import Child, run_child
from dsa110_assets.errors import ChildFailedError

_LOG = "casa.log"


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
        tasks: (name of a casatasks function, its arguments), or ``("solve", arguments of solve_term)``; JSON types and
        absolute paths only.
        work_dir: existing directory in which CASA may leave its log and temporary files.
        timeout_s: wall-clock limit of all tasks together; the child and its children are killed after it.
        threads: OpenMP threads; 0 leaves the choice to CASA.
        subject: subject of the error.
        on_done: called with the number of finished tasks whenever it grows.

    Returns:
        CASA's log.

    Raises:
        ChildFailedError: a task raised, the child died or its time ran out; the cause quotes CASA's last errors.
    """
    with tempfile.TemporaryDirectory(prefix="casa-", dir=work_dir) as directory:
        here = Path(directory)
        request, result = here / "request.json", here / "result.json"
        request.write_text(json.dumps([[name, dict(arguments)] for name, arguments in tasks]), encoding="utf-8")
        tasks_done = _Progress(result.with_suffix(".done"), on_done)
        ended = run_child(
            Child(
                "CASA",
                [sys.executable, "-m", "dsa110_assets.calibration.casa_child", str(request), str(result)],
                cwd=here,
                environment={"OMP_NUM_THREADS": str(threads)} if threads > 0 else {},
            ),
            subject=subject,
            timeout_s=timeout_s,
            timeout_advice="check the machine's load; raise the limit if it is too tight",
            while_waiting=tasks_done.report,
        )
        log = (here / _LOG).read_text(encoding="utf-8", errors="replace") if (here / _LOG).exists() else ""
        outcome: dict[str, Any] = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
        if ended.code != 0 or not outcome.get("ok"):
            casa_errors = [line.split("\t")[-1].strip() for line in log.splitlines() if "SEVERE" in line and "dUTC" not in line][-3:]
            reason = outcome.get("error") or ended.reason
            raise ChildFailedError(
                subject, "; ".join([reason, *(casa_errors or ended.last_lines)]), "read the cause; run it again if the machine was at fault"
            )
        return log


class _Progress:
    """Reports how many tasks have finished; the child writes a line into the file ``done`` for each one."""

    def __init__(self, done: Path, on_done: Callable[[int], None] | None) -> None:
        self._done, self._on_done, self._reported = done, on_done, 0

    def report(self) -> None:
        """Call ``on_done`` if another task has finished."""
        if self._on_done is not None and self._done.exists() and (number := self._done.read_text().count("\n")) > self._reported:
            self._reported = number
            self._on_done(number)


def solve_term(vis: str, selection: Mapping[str, str], apply: Sequence[str], term: Mapping[str, Any]) -> None:
    """Solve for one calibration term with CASA's calibrater tool, in the child.

    Uses cross-correlations only. A flag counts only for its own polarization, so that an antenna with one dead receptor
    keeps the other.

    Args:
        vis: Measurement Set with DATA and MODEL_DATA.
        selection: arguments of calibrater.selectvis, e.g. spw and uvrange.
        apply: tables to apply first, interpolated linearly.
        term: arguments of calibrater.setsolve.
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
    """Run the requested tasks in order, in the child, and write the outcome to ``result``."""
    import casatools

    log = casatools.logsink(str(Path.cwd() / _LOG))
    log.setglobal(True)
    outcome: dict[str, Any] = {"ok": True}
    for name, arguments in json.loads(request.read_text(encoding="utf-8")):
        try:
            returned: object = None
            if name == "solve":
                solve_term(**arguments)
            else:
                import casatasks

                casatasks.casalog.setlogfile(str(Path.cwd() / _LOG))  # the import of the tasks has set another
                returned = getattr(casatasks, name)(**arguments)
        except Exception as error:  # noqa: BLE001 - the parent turns it into a typed error; nothing is swallowed
            outcome = {"ok": False, "error": f"{name}: {type(error).__name__}: {error}"}
            break
        if returned is False:
            outcome = {"ok": False, "error": f"{name} returned False"}
            break
        with result.with_suffix(".done").open("a") as done:
            done.write(f"{name}\n")
    result.write_text(json.dumps(outcome), encoding="utf-8")
    return 0 if outcome["ok"] else 1


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2])))
