"""`dsa110 calibrate` and `dsa110 apply`: solve calibration tables and apply them, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dsa110_assets.calibration.solve import SolveReport
    from dsa110_assets.stages.platform import Platform

MeasurementSet = Annotated[Path, typer.Option("--ms", help="Measurement Set, made by hand or by the platform.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EXIT_REFUSED = 1


def calibrate(
    ms: MeasurementSet,
    *,
    field: Annotated[str | None, typer.Option(help="Name of the calibrator, such as 3C286. Default: the one that transits.")] = None,
    refant: Annotated[
        str | None, typer.Option(help="Name of the reference antenna; outriggers are the fallback. [PIPELINE_DEFAULT_REFANT]")
    ] = None,
    do_k: Annotated[bool, typer.Option("--do-k", help="Solve for delays first.")] = False,
    skip_bp: Annotated[bool, typer.Option("--skip-bp", help="Do not solve for the bandpass; --bandpass gives one for the gains.")] = False,
    skip_g: Annotated[bool, typer.Option("--skip-g", help="Do not solve for gains; the bandpass then carries the flux scale.")] = False,
    bandpass: Annotated[Path | None, typer.Option(help="Existing bandpass table; needs --skip-bp.")] = None,
    bp_minsnr: Annotated[
        float | None, typer.Option(min=0, max=1000, help="Minimum S/N of a bandpass solution. [PIPELINE_CAL_BP_MINSNR]")
    ] = None,
    gain_solint: Annotated[
        str | None, typer.Option(help="Solution interval of the gains: inf, int, 60s, 2min. [PIPELINE_CAL_GAIN_SOLINT]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Directory for the tables, which are then not registered. Default: the platform's own, and registered."),
    ] = None,
    json: Json = False,
) -> None:
    """Solve and check bandpass and gains on a calibrator's tile.

    Exit code 1: the tables are refused. They are kept with the reasons, and the platform never applies them.

    Example: `dsa110 calibrate --ms 2026-03-12T05:09:39.ms --refant 103 --output tables`
    """
    from dataclasses import replace

    from dsa110_assets.cli.progress import progress_bar
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.files import refuse_overwriting
    from dsa110_assets.products import ProductPaths
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.products import calibrator

    config = PipelineConfig.from_env(validate_paths=False)
    ms = config.own_spelling(ms)
    _must_exist(ms)
    if bandpass is not None and not skip_bp:
        raise ConfigurationError("--bandpass", "needs --skip-bp", "add --skip-bp, or drop --bandpass")
    defaults = calibrator.SolveOptions.from_config(config)
    options = replace(
        defaults,
        refant=refant or defaults.refant,
        must_have_refant=refant is not None,
        bp_minsnr=defaults.bp_minsnr if bp_minsnr is None else bp_minsnr,
        gain_solint=gain_solint or defaults.gain_solint,
        do_delay=do_k,
        skip_bandpass=skip_bp,
        skip_gain=skip_g,
        bandpass_table=bandpass,
    )
    if output is not None:
        refuse_overwriting(output, [ms, bandpass], replaces_directory=True)
        with progress_bar("calibrate", quiet=json) as progress:
            report = calibrator.solve_by_hand(config, ms, output, field=field, options=options, progress=progress)
        _show_report(report, json=json)
        raise typer.Exit(0 if report.accepted else EXIT_REFUSED)
    if skip_bp or skip_g:
        raise ConfigurationError("--skip-bp, --skip-g", "half a set of tables cannot be registered", "give --output DIR")
    platform = Platform.open(config)
    group_id = _observation(platform, ms)
    star = calibrator.calibrator_of(ProductPaths.of(config), ms, field)
    with progress_bar("calibrate", quiet=json) as progress:
        result = calibrator.solve_transit(platform, group_id, star.name, _run_id(), options=options, progress=progress)
    _show_figures(result.figures, {"tables": str(result.paths["path"])}, json=json)
    raise typer.Exit(0 if result.figures["accepted"] else EXIT_REFUSED)


def apply(
    ms: MeasurementSet,
    *,
    caltable: Annotated[
        list[Path] | None,
        typer.Option(help="Table, or directory of tables; may be repeated. Default: the nearest valid tables in the registry."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Calibrated Measurement Set. Default: NAME.corrected.ms beside NAME.ms.")] = None,
    chan_avg: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Channels to average. Default: as many as PIPELINE_MAX_SMEARING allows.")
    ] = None,
    json: Json = False,
) -> None:
    """Apply calibration tables to a tile, and average channels.

    The tile itself is not changed. Without --caltable the command does what the platform does: it applies the nearest
    tables in time of the same declination strip, and registers the result with the applied tables.

    Example: `dsa110 apply --ms 2026-03-12T05:09:39.ms --caltable tables`
    """
    from dsa110_assets.cli.progress import progress_bar
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import ConfigurationError, NoCalibrationError
    from dsa110_assets.files import refuse_overwriting
    from dsa110_assets.stages.by_hand.apply_tables import apply_by_hand
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.products import tile
    from dsa110_assets.stages.queue.work import TileRun

    config = PipelineConfig.from_env(validate_paths=False)
    given, ms = ms, config.own_spelling(ms)
    _must_exist(ms)
    if caltable:
        destination = output or given.with_name(f"{given.name.removesuffix('.ms')}.corrected.ms")
        refuse_overwriting(destination, [ms, *caltable], replaces_directory=True)
        with progress_bar("apply", quiet=json) as progress:
            report = apply_by_hand(config, ms, caltable, destination, chan_avg=chan_avg, progress=lambda f: progress("applying", f))
        figures = {
            "channels": report.n_channels,
            "channels_averaged": report.channels_averaged,
            "smearing_loss": report.smearing_loss,
            "flagged_before": report.flagged_before,
            "flagged_fraction": report.flagged_fraction,
            "lost_to_solutions": report.lost_to_solutions,
            "median_amplitude_jy": report.median_amplitude_jy,
        }
        _show_figures(figures, {"output": str(report.out), "caltables": ", ".join(str(t) for t in report.tables)}, json=json)
        return
    if output is not None or chan_avg is not None:
        raise ConfigurationError("--output, --chan-avg", "need tables given by hand", "add --caltable, or drop these options")
    platform = Platform.open(config)
    group_id = _observation(platform, ms)
    with progress_bar("apply", quiet=json) as progress:
        progress("applying", 0.0)
        result = tile.calibrate(platform, TileRun(group_id, _run_id()))
    if result is None:
        raise NoCalibrationError(
            group_id,
            "no valid tables for its time and declination strip are registered",
            "solve a calibrator's tile: `dsa110 calibrate --ms MS`",
        )
    _show_figures(result.figures, {"output": str(result.paths["path"])}, json=json)


def _must_exist(ms: Path) -> None:
    from dsa110_assets.common.measurement_sets import is_measurement_set
    from dsa110_assets.errors import ConfigurationError

    if not is_measurement_set(ms):
        raise ConfigurationError(ms, "is not a Measurement Set", "give the path of one")


def _run_id() -> str:
    """Run id that no Dagster run has."""
    from uuid import uuid4

    return f"cli-{uuid4()}"


def _observation(platform: Platform, ms: Path) -> str:
    from dsa110_assets.errors import UnknownGroupError
    from dsa110_assets.registry.schema import MeasurementSetKind, MeasurementSetRow

    with platform.database.session() as session:
        row = session.get(MeasurementSetRow, str(ms.absolute()))
    if row is None or row.kind != MeasurementSetKind.RAW:
        raise UnknownGroupError(
            ms, "is not a registered, uncalibrated Measurement Set", "give --output (and --caltable) to work without the registry"
        )
    return row.group_id


def _show_report(report: SolveReport, *, json: bool) -> None:
    from dsa110_assets.cli.output import emit_json, emit_table

    if json:
        from dataclasses import asdict

        emit_json({**asdict(report), "tables": [str(t) for t in report.tables]})
        return
    rows = [
        (
            name,
            f"{q.median_snr:.1f}",
            f"{100 * q.flagged_fraction_active:.1f} %",
            "accepted" if q.accepted else "REFUSED: " + "; ".join(q.reasons),
        )
        for name, q in report.quality.items()
    ]
    emit_table(("table", "S/N", "flagged", "verdict"), rows, title=str(report.tables[0].parent))
    typer.echo(f"reference antenna {report.refant}{' (fallback)' if report.refant_fallback else ''}")
    if report.model is not None:
        typer.echo(
            f"model: {report.model.n_sources} sources, brightest {report.model.brightest} {report.model.brightest_apparent_jy:.2f} Jy apparent"
        )
    for name, quality in report.quality.items():
        for warning in quality.warnings:
            typer.echo(f"{name}: {warning}")


def _show_figures(figures: object, more: dict[str, str], *, json: bool) -> None:
    from dsa110_assets.cli.output import emit_json, emit_table

    values = {**more, **figures} if isinstance(figures, dict) else more
    if json:
        emit_json(values)
    else:
        emit_table(("what", "value"), [(name, f"{v:.5g}" if isinstance(v, float) else v) for name, v in values.items()])
