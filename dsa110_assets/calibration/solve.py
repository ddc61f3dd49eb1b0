"""Bandpass and gains from a calibrator's tile, solved by CASA in a child process.

Three solutions: phases on the central channels (so that the bandpass does not decorrelate), the bandpass per channel
(normalized to unit amplitude), and the gains with the bandpass applied. The published Measurement Set is only read: the
solver works on a small averaged copy (`averaged`). Delays are optional and are solved first; residual slopes of this
telescope are below 3 deg across the band, and the bandpass absorbs them.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsa110_assets.calibration.averaged import AveragedTile, average_for_solving
from dsa110_assets.calibration.caltable import read_caltable
from dsa110_assets.calibration.casa_child import run_tasks
from dsa110_assets.calibration.field import FieldReport, fit_field
from dsa110_assets.calibration.model import ModelReport
from dsa110_assets.calibration.quality import CaltableQuality, assess
from dsa110_assets.calibration.solved_data import read_solved
from dsa110_assets.common.figures import Details, Figures
from dsa110_assets.common.measurement_sets import read_summary, read_tile_pointing
from dsa110_assets.errors import CalibrationQualityError, ConfigurationError, NonRetriableError
from dsa110_assets.quality.verdict import Verdict

DELAY_TABLE = "delay.cal"
BANDPASS_TABLE = "bandpass.cal"
GAIN_TABLE = "gain.cal"
QUALITY_FILE = "quality.json"
TABLES = (DELAY_TABLE, BANDPASS_TABLE, GAIN_TABLE)
"""Tables that a directory of solutions may hold, in the order of application."""
Progress = Callable[[str, float], None]
"""Called with the current step and the fraction of all the work that is done."""
REFANT_ORDER = tuple(str(n) for n in (*range(104, 109), *range(109, 114), *range(114, 117), 103))
"""Alternative reference antennas, by name, in the observatory's order: outriggers, then 103."""
MAX_REFANT_FLAGGED = 0.5
_FRACTION_AVERAGING, _FRACTION_CASA = 0.35, 0.5
_MOST_ROUNDS = 4
_SETTLED_SIGMA = 1.0
"""Gains are solved again until no flux of the field changes by more than this, in units of its error."""
_INF_BINS = 2
"""Time bins of the solver's copy when solutions span the tile; the first phases follow the ionosphere on this scale."""


@dataclass(frozen=True)
class SolveReport:
    """Result of a solution.

    ``delay``, ``bandpass``, ``gain``: tables, None where skipped. ``refant``: name. ``refant_fallback``: whether the
    requested one could not be used. ``mid_mjd``: middle of the observation. ``model``: the calibrator's sky; None if
    MODEL_DATA was used. ``quality``: by table name. ``accepted``: every table passed. ``solved_bins`` and
    ``n_channels``: of the averaged copy. ``plots``: plots by title. ``field``: None where the sky was believed.
    """

    delay: Path | None
    bandpass: Path | None
    gain: Path | None
    refant: str
    refant_fallback: bool
    mid_mjd: float
    duration_s: float
    n_channels: int
    solved_bins: int
    model: ModelReport | None
    quality: dict[str, CaltableQuality]
    accepted: bool
    plots: dict[str, Path]
    field: FieldReport | None = None

    @property
    def tables(self) -> list[Path]:
        """The tables that were solved, in the order of application."""
        return [table for table in (self.delay, self.bandpass, self.gain) if table is not None]

    @property
    def reasons(self) -> list[str]:
        """Why tables are refused, each reason with the name of its table."""
        tables = [f"{name}: {reason}" for name, quality in self.quality.items() for reason in quality.reasons]
        return tables + ([] if self.field is None else [f"field: {reason}" for reason in self.field.reasons()])

    def quality_figures(self) -> dict[str, float | int]:
        """The named figures of all tables, and of the field."""
        tables = {f"{name}_{figure}": value for name, quality in self.quality.items() for figure, value in quality.figures().items()}
        return tables | ({} if self.field is None else self.field.figures())

    def figures(self) -> Figures:
        """Named figures of the solution."""
        return {
            "refant": self.refant,
            "accepted": self.accepted,
            "reasons": "; ".join(self.reasons) or "none",
            **self.quality_figures(),
        }

    def verdicts(self) -> list[Verdict]:
        """Verdict on the tables as a whole."""
        return [Verdict.judge("tables_accepted", float(self.accepted), 1.0, None, "; ".join(self.reasons))]

    def details(self) -> Details:
        """Table of the antennas without solutions."""
        return {
            "antennas without solutions": [
                {
                    "table": name,
                    "antennas": ", ".join(one for one in quality.dead_antennas if one not in quality.dead_inactive) or "none",
                    "receptors": quality.dead_receptors,
                }
                for name, quality in self.quality.items()
            ],
            **({} if self.field is None else {"sources of the field": self.field.rows()}),
        }

    def moved(self, directory: Path) -> SolveReport:
        """Return the report with the paths of another directory, to which the tables were moved."""
        delay, bandpass, gain = (None if path is None else directory / path.name for path in (self.delay, self.bandpass, self.gain))
        plots = {title: directory / png.name for title, png in self.plots.items()}
        return replace(self, delay=delay, bandpass=bandpass, gain=gain, plots=plots)


def solve(
    ms: Path,
    out_dir: Path,
    *,
    refant: str = "103",
    must_have_refant: bool = False,
    sky: pd.DataFrame | None = None,
    calibrator: str | None = None,
    bp_minsnr: float = 3.0,
    gain_minsnr: float = 3.0,
    gain_solint: str = "inf",
    do_delay: bool = False,
    skip_bandpass: bool = False,
    skip_gain: bool = False,
    bandpass_table: Path | None = None,
    min_apparent_jy: float = 0.05,
    radius_deg: float = 3.0,
    uvrange: str = "",
    smearing: bool = True,
    scratch_dir: Path | None = None,
    timeout_s: float = 900.0,
    threads: int = 0,
    progress: Progress | None = None,
) -> SolveReport:
    """Solve bandpass and gains on a calibrator's tile.

    Args:
        ms: uncalibrated Measurement Set of `conversion`; only read.
        out_dir: directory for ``bandpass.cal``, ``gain.cal``, plots and ``quality.json``; created if missing, its old
        tables are replaced.
        refant: reference antenna by name, not by index (pitfall 12); if it is mostly flagged, the next of
        `refant_order` is used.
        must_have_refant: refuse an array without this antenna, because a person named it.
        sky: catalog sky, calibrator's flux included (`catalogs.sky.with_calibrators`). None: ``ms`` has MODEL_DATA.
        calibrator: its name in ``sky``. The fluxes of all other sources are fitted together with the gains (`field`);
        None: they are believed.
        bp_minsnr, gain_minsnr: solutions with a lower S/N are flagged.
        gain_solint: interval of the gains in CASA's syntax: ``inf`` (the tile), ``int``, or seconds or minutes such as
        ``60s``.
        do_delay: first solve for one delay of each receptor (``delay.cal``).
        skip_bandpass: use ``bandpass_table`` for the gains (none: a flat bandpass).
        skip_gain: solve the bandpass only; it is then not normalized and carries the amplitude scale.
        bandpass_table: existing table for ``skip_bandpass``.
        min_apparent_jy, radius_deg: of the predicted sky.
        uvrange: CASA's selection, e.g. ``>0.3klambda``.
        smearing: smear the model as the telescope's data are; False for simulations without smearing.
        scratch_dir: for the averaged copy, removed afterward; ``out_dir`` when None.
        timeout_s: limit of all of CASA's work.
        threads: for CASA; 0 leaves the choice to CASA.
        progress: called with the current step and the fraction of all the work.

    Raises:
        CalibrationQualityError: no usable data, a zero model (pitfall 11), or no reference antenna.
        ChildFailedError: CASA failed or ran out of time.
        ConfigurationError: both solutions are skipped, the solution interval is not valid, or the array lacks the
        antenna that it must have.
    """
    if skip_bandpass and skip_gain:
        raise ConfigurationError("solve", "bandpass and gains are both skipped", "drop --skip-bp or --skip-g")
    report_progress = progress or _ignore_progress
    out_dir.mkdir(parents=True, exist_ok=True)
    out_dir = out_dir.absolute()
    with tempfile.TemporaryDirectory(prefix="solve-", dir=scratch_dir or out_dir) as directory:
        used, found, rounds = sky, None, 0
        while True:
            scratch = Path(directory).absolute() / f"round{rounds}"
            scratch.mkdir()
            rounds += 1
            tile = average_for_solving(
                ms,
                scratch / "calibrator.ms",
                sky=used,
                integrations=_integrations(ms, gain_solint),
                min_apparent_jy=min_apparent_jy if found is None else -np.inf,
                radius_deg=radius_deg,
                smearing=smearing,
                progress=lambda fraction: report_progress("averaging data and model", _FRACTION_AVERAGING * fraction),
            )
            if must_have_refant and refant not in tile.antenna_names:
                names = list(tile.antenna_names)
                some = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
                raise ConfigurationError("--refant", f"the array has no antenna {refant!r}", f"take one of {some}")
            order = refant_order(tile, refant)
            steps = _steps(
                tile,
                scratch,
                refants=",".join(order),
                bp_minsnr=bp_minsnr,
                gain_minsnr=gain_minsnr,
                gain_solint=gain_solint,
                do_delay=do_delay,
                skip_bandpass=skip_bandpass,
                skip_gain=skip_gain,
                bandpass_table=bandpass_table,
                uvrange=uvrange,
            )
            names = [*(str(Path(str(arguments["term"]["table"])).stem) for _, arguments in steps), "quality"]
            report_progress(f"solving: {names[0]}", _FRACTION_AVERAGING)
            run_tasks(
                steps,
                work_dir=scratch,
                timeout_s=timeout_s,
                threads=threads,
                subject=ms,
                on_done=_reporting(report_progress, names, len(steps)),
            )
            tables = [read_caltable(scratch / name) for name in TABLES if (scratch / name).is_dir()]
            if sky is None or calibrator is None or skip_bandpass or skip_gain or len(tables) < 2:
                break
            report_progress("fitting the field", _FRACTION_AVERAGING + _FRACTION_CASA)
            found = fit_field(
                read_solved(ms, tables, smearing=smearing),
                sky,
                calibrator,
                read_tile_pointing(ms),
                used=None if found is None else used,
                min_apparent_jy=min_apparent_jy,
                radius_deg=radius_deg,
            )
            if rounds == _MOST_ROUNDS or (rounds > 1 and found.largest_change < _SETTLED_SIGMA):
                break
            used = found.sky
        report_progress("quality and plots", _FRACTION_AVERAGING + _FRACTION_CASA)
        expected = [name for name, wanted in zip(TABLES, (do_delay, not skip_bandpass, not skip_gain), strict=True) if wanted]
        if missing := [name for name in expected if not (scratch / name).is_dir()]:
            raise CalibrationQualityError(
                ms, f"CASA found no solution and wrote no {', '.join(missing)}", "check the flags of the calibrator's tile"
            )
        for name in expected:
            _check_refant(scratch / name, tile.antenna_names, order)
        for name in TABLES:  # remove the tables of an earlier solution, too
            _replace(scratch / name if name in expected else None, out_dir / name)
    in_data = [name for name, f in zip(tile.antenna_names, tile.flagged_fraction, strict=True) if np.isfinite(f)]
    quality = {name: replace(assess(out_dir / name, in_data=in_data), path=name) for name in expected}
    delay, bandpass, gain = (out_dir / name if name in expected else None for name in TABLES)
    field = None if found is None else FieldReport.of(found, rounds)
    report = SolveReport(
        delay=delay,
        bandpass=bandpass,
        gain=gain,
        refant=order[0],
        refant_fallback=order[0] != refant,
        mid_mjd=tile.mid_mjd,
        duration_s=tile.duration_s,
        n_channels=tile.n_channels,
        solved_bins=tile.n_times,
        model=tile.model,
        quality=quality,
        accepted=all(q.accepted for q in quality.values()) and not (field and field.reasons()),
        plots=_plot([out_dir / name for name in expected], out_dir, in_data),
        field=field,
    )
    _write_report(report, out_dir / QUALITY_FILE)
    report_progress("done", 1.0)
    return report


def tables_in(directory: Path) -> list[Path]:
    """Tables that `solve` wrote into a directory, in the order of application; may be empty."""
    return [path for path in (directory / name for name in TABLES) if path.is_dir()]


def _reporting(progress: Progress, names: Sequence[str], n_steps: int) -> Callable[[int], None]:
    return lambda n: progress(f"solving: {names[n]}", _FRACTION_AVERAGING + (_FRACTION_CASA * n) / n_steps)


def _ignore_progress(step: str, fraction: float) -> None:
    """Do nothing: the default when the caller wants no progress."""


def refant_order(tile: AveragedTile, wanted: str, *, max_flagged: float = MAX_REFANT_FLAGGED) -> list[str]:
    """Names of usable reference antennas, best first: ``wanted`` and `REFANT_ORDER`, else the least flagged antenna.

    An antenna is usable when at most ``max_flagged`` of its cross-correlations are flagged.

    Raises:
        CalibrationQualityError: no antenna has that much data.
    """
    flagged = dict(zip(tile.antenna_names, tile.flagged_fraction, strict=True))
    usable = [name for name in dict.fromkeys((wanted, *REFANT_ORDER)) if flagged.get(name, np.nan) <= max_flagged]
    if usable:
        return usable
    best = min((f, name) for name, f in ((n, float(f)) for n, f in flagged.items() if np.isfinite(f)))
    if best[0] > max_flagged:
        raise CalibrationQualityError(tile.path.name, "every antenna is mostly flagged", "check the flagger's report of this tile")
    return [best[1]]


def _integrations(ms: Path, solint: str) -> int:
    """Number of integrations that the solver's copy may average for a solution interval."""
    about = read_summary(ms)
    n_times, interval_s = about.time_s.size, about.integration_s
    if solint == "inf":
        return max(1, -(-n_times // _INF_BINS))
    if solint == "int":
        return 1
    match = re.fullmatch(r"\s*([\d.]+)\s*(s|min|m)?\s*", solint)
    if match is None or float(match[1]) <= 0:
        raise ConfigurationError("PIPELINE_CAL_GAIN_SOLINT", f"{solint!r} is not an interval", "give inf, int, or e.g. 60s or 2min")
    seconds = float(match[1]) * (60.0 if (match[2] or "s").startswith("m") else 1.0)
    return max(1, int(seconds / interval_s / 2))  # at least two bins in an interval, so that rounding does not merge intervals


def _steps(
    tile: AveragedTile,
    scratch: Path,
    *,
    refants: str,
    bp_minsnr: float,
    gain_minsnr: float,
    gain_solint: str,
    do_delay: bool,
    skip_bandpass: bool,
    skip_gain: bool,
    bandpass_table: Path | None,
    uvrange: str,
) -> list[tuple[str, dict[str, Any]]]:
    """List CASA's solutions in order: delays if requested, phases on the central channels, bandpass, gains."""
    n_antennas = int(np.sum(np.isfinite(tile.flagged_fraction)))
    common: dict[str, Any] = {"refant": refants, "refantmode": "flex", "minblperant": min(4, n_antennas - 1)}

    def step(spw: str, applied: Sequence[str], **term: Any) -> tuple[str, dict[str, Any]]:
        selection = {"spw": spw, "uvrange": uvrange}
        return "solve", {"vis": str(tile.path), "selection": selection, "apply": list(applied), "term": {**common, **term}}

    steps: list[tuple[str, dict[str, Any]]] = []
    applied: list[str] = []
    if do_delay:
        delay = str(scratch / DELAY_TABLE)
        steps.append(step("", [], type="K", table=delay, t="inf", combine="scan", minsnr=gain_minsnr))
        applied = [delay]
    if skip_bandpass:
        applied += [] if bandpass_table is None else [str(bandpass_table.absolute())]
    else:
        low = int(tile.n_channels * 0.4)
        high = max(low, int(tile.n_channels * 0.6) - 1)
        phases, bandpass = str(scratch / "phase.cal"), str(scratch / BANDPASS_TABLE)
        interval = "int" if tile.n_times > 1 else "inf"
        steps.append(step(f"0:{low}~{high}", applied, type="G", table=phases, t=interval, combine="", minsnr=gain_minsnr, apmode="p"))
        steps.append(
            step(
                "",
                [*applied, phases],
                type="B",
                table=bandpass,
                t="inf",
                combine="scan",
                minsnr=bp_minsnr,
                solnorm=not skip_gain,
                fillgaps=0,
            )
        )
        applied = [*applied, bandpass]
    if not skip_gain:
        combine = "scan" if gain_solint == "inf" else ""
        gain = str(scratch / GAIN_TABLE)
        steps.append(step("", applied, type="G", table=gain, t=gain_solint, combine=combine, minsnr=gain_minsnr, apmode="ap"))
    return steps


def _check_refant(path: Path, names: Sequence[str], order: Sequence[str]) -> None:
    """Check that CASA read the reference antenna as a name, not as a number: phases refer to its row in ANTENNA."""
    solutions = read_caltable(path)
    allowed = {names.index(name) for name in order}
    if stray := [a for a in solutions.refants if a not in allowed]:
        raise NonRetriableError(
            path, f"CASA referred the phases to antenna number {stray[0]} instead of name {order[0]}", "check the ANTENNA names of the tile"
        )


def _replace(source: Path | None, destination: Path) -> None:
    """Move a finished table into place, also across file systems; None only removes the old one."""
    import shutil

    if destination.exists():
        shutil.rmtree(destination)
    if source is not None:
        shutil.move(str(source), str(destination))


def _write_report(report: SolveReport, path: Path) -> None:
    """Write the report as JSON; paths as file names, because the directory will be moved into place."""
    path.write_text(json.dumps(asdict(report), indent=1, default=lambda value: Path(value).name), encoding="utf-8")


def _plot(tables: Sequence[Path], directory: Path, in_data: Sequence[str]) -> dict[str, Path]:
    from dsa110_assets.calibration.plots import plot_solutions

    return plot_solutions(tables, directory, in_data=in_data)
