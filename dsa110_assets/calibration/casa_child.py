"""CASA in a process of its own: ``python -m dsa110_assets.calibration.casa_child REQUEST RESULT``.

CASA may crash, hang or leak; casatools and python-casacore then do not share a process with the platform (pitfalls 32 and 36).
`run_tasks` is the parent's side: it runs the child in a directory of its own and turns every way to fail into an error.
Solving goes to CASA's calibrater tool directly: the tasks gaincal and bandpass are
thin covers of it, take 6 s longer to import, and bandpass swallows the tool's exceptions. What does not belong here: what the
solutions are for (`solve`).
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
            timeout_advice="look at the machine's load; raise the limit if it is too tight",
            while_waiting=tasks_done.tell,
        )
        log = (here / _LOG).read_text(encoding="utf-8", errors="replace") if (here / _LOG).exists() else ""
        outcome: dict[str, Any] = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
        if ended.code != 0 or not outcome.get("ok"):
            complaints = [line.split("\t")[-1].strip() for line in log.splitlines() if "SEVERE" in line and "dUTC" not in line][-3:]
            reason = outcome.get("error") or ended.reason
            raise ChildFailedError(
                subject, "; ".join([reason, *(complaints or ended.last_lines)]), "read the cause; run again if the machine was the reason"
            )
        return log


class _Progress:
    """Tells how many tasks are done; a line in the file ``done`` is a task that has ended."""

    def __init__(self, done: Path, on_done: Callable[[int], None] | None) -> None:
        self._done, self._on_done, self._told = done, on_done, 0

    def tell(self) -> None:
        """Call ``on_done`` if another task has ended."""
        if self._on_done is not None and self._done.exists() and (number := self._done.read_text().count("\n")) > self._told:
            self._told = number
            self._on_done(number)


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
