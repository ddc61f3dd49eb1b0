"""Calibration tables of a night: bandpass and gains, solved on its calibrator transits."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pandas as pd
from sqlalchemy import select

from dsa110_assets import publication, staging
from dsa110_assets.calibration.caltable import read_caltable
from dsa110_assets.catalogs import calibrators, sky
from dsa110_assets.common.measurement_sets import read_summary, read_tile_pointing
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import CalibrationQualityError, ConfigurationError, NoCalibratorError
from dsa110_assets.ingest import ledger
from dsa110_assets.products import CALIBRATORS_FILE, REFERENCE_FILE, ProductPaths
from dsa110_assets.registry.queries.antennas import ANTENNAS
from dsa110_assets.registry.queries.calibration import forget_considered, lock_caltables, may_be_used, upsert_caltables
from dsa110_assets.registry.schema import CaltableRow, IngestGroup, MeasurementSetKind, MeasurementSetRow
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.nearest import observations_near, recalibrate_outdated
from dsa110_assets.stages.provenance.recording import StageResult, measured
from dsa110_assets.stages.provenance.versions import register, versions_of
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.stages.table import CALIBRATION_TABLES, CALIBRATOR_CATALOG, MEASUREMENT_SET, NVSS_CATALOG

if TYPE_CHECKING:
    from dsa110_assets.calibration.solve import Progress, SolveReport


@dataclass(frozen=True)
class SolveOptions:
    """Options of the solver that a person can set; see `calibration.solve.solve`."""

    refant: str
    bp_minsnr: float
    gain_solint: str
    do_delay: bool = False
    skip_bandpass: bool = False
    skip_gain: bool = False
    bandpass_table: Path | None = None
    must_have_refant: bool = False

    @classmethod
    def from_config(cls, config: PipelineConfig) -> Self:
        """The options of the configuration."""
        return cls(refant=config.default_refant, bp_minsnr=config.cal_bp_minsnr, gain_solint=config.cal_gain_solint)


def solve_night(platform: Platform, night: str, run_id: str) -> StageResult | None:
    """Solve the transits of a night whose Measurement Set is newer than their tables; None without a transit.

    If all tables are up to date, solve the newest transit again: a person has requested it.

    Raises:
        CalibrationQualityError: no transit gave acceptable tables; all were registered as refused.
    """
    with platform.database.session() as session:
        query = (
            select(IngestGroup.group_id, IngestGroup.calibrator, MeasurementSetRow.created_at, CaltableRow.created_at)
            .join(
                MeasurementSetRow, (MeasurementSetRow.group_id == IngestGroup.group_id) & (MeasurementSetRow.kind == MeasurementSetKind.RAW)
            )
            .outerjoin(CaltableRow, CaltableRow.group_id == IngestGroup.group_id)
            .where(IngestGroup.night == date.fromisoformat(night), IngestGroup.calibrator.is_not(None))
            .order_by(IngestGroup.group_id)
        )
        transits = session.execute(query).all()
    due = [(group_id, name) for group_id, name, made, solved in transits if solved is None or solved < made]
    if not due:
        due = [(group_id, name) for group_id, name, _, _ in transits[-1:]]
    results = [solve_transit(platform, group_id, str(name), run_id) for group_id, name in due]
    if results and not any(result.figures["accepted"] for result in results):
        reasons = "; ".join(f"{result.key}: {result.figures['reasons']}" for result in results)
        raise CalibrationQualityError(night, reasons, "look at the solutions' plots; flag what is broken and solve again")
    accepted = [result for result in results if result.figures["accepted"]]
    return accepted[-1] if accepted else None


def solve_transit(
    platform: Platform,
    group_id: str,
    calibrator: str,
    run_id: str,
    *,
    options: SolveOptions | None = None,
    progress: Progress | None = None,
) -> StageResult:
    """Solve one transit, register the tables with their verdict, and release the observations that wait for them.

    The tables are moved into place and registered under an exclusive lock (`lock_caltables`). So a reader gets one
    complete set of tables, and the registered one.
    """
    from dsa110_assets.calibration.antennas import figures_of_antennas

    config = platform.config
    source, destination = platform.paths.measurement_set(group_id), platform.paths.calibration_dir(group_id)
    star = calibrators.find(_catalog(platform.paths), calibrator)
    with platform.database.session() as session:
        inputs = versions_of(session, MEASUREMENT_SET.name, [group_id])
        for catalog in (CALIBRATOR_CATALOG.name, NVSS_CATALOG.name):
            inputs |= versions_of(session, catalog, ["all"])
    with ExitStack() as stack:
        with measured() as cost, publication.publish(destination) as staged:
            report = _solve(
                config, platform.paths, ms=source, out_dir=staged, star=star, options=options, threads=platform.threads, progress=progress
            )
            antennas = figures_of_antennas([read_caltable(path) for path in report.tables])
            session = stack.enter_context(platform.database.session())
            lock_caltables(session, exclusive=True)
        result = _result(group_id, calibrator, report, destination)
        measurement_set = session.get_one(MeasurementSetRow, str(source))
        validity = config.cal_borrow_days + 1
        register(session, platform, result, path=destination, inputs=inputs, cost=cost, run_id=run_id)
        upsert_caltables(
            session,
            directory=str(destination),
            group_id=group_id,
            night=date.fromisoformat(group_id[:10]),
            calibrator=calibrator,
            refant=report.refant,
            mid_mjd=measurement_set.mid_mjd,
            valid_from_mjd=measurement_set.mid_mjd - validity,
            valid_to_mjd=measurement_set.mid_mjd + validity,
            pointing_dec_deg=measurement_set.pointing_dec_deg,
            accepted=report.accepted,
            reasons=report.reasons,
            quality={**report.quality_figures(), ANTENNAS: antennas},
        )
        forget_considered(session, group_id)
        if session.scalar(select(may_be_used(CaltableRow)).where(CaltableRow.directory == str(destination))):
            released = ledger.release_awaiting(
                session,
                from_mjd=measurement_set.mid_mjd - validity,
                to_mjd=measurement_set.mid_mjd + validity,
                dec_deg=measurement_set.pointing_dec_deg,
                tolerance_deg=config.cal_declination_tolerance_deg,
                now=now(),
            )
            result.figures["observations_released"] = len(released)
            result.figures["observations_recalibrated"] = len(
                recalibrate_outdated(session, config, observations_near(session, group_id, 0.5))
            )
    return result


def solve_by_hand(
    config: PipelineConfig,
    ms: Path,
    output: Path,
    *,
    field: str | None = None,
    options: SolveOptions | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> SolveReport:
    """Solve any Measurement Set of `conversion` into a directory, without the registry.

    Refused tables are kept too, with the reasons in ``quality.json`` and in the report.

    Args:
        config: settings; the reference catalogs are those in its state directory.
        ms: uncalibrated Measurement Set.
        output: directory; replaced as a whole if it holds solutions, an error if it holds anything else.
        field: see `calibrator_of`.
        options, threads, progress: of the solver.

    Raises:
        ConfigurationError: ``output`` is something else.
        NoCalibratorError, FluxScaleError: no usable calibrator.
        CalibrationQualityError: no usable data or reference antenna.
    """
    if output.exists() and not (output / "quality.json").is_file() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigurationError(output, "exists and holds no solutions", "give another --output")
    paths = ProductPaths.of(config)
    star = calibrator_of(paths, ms, field)
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    staging.keep_journal_in(paths.staging_journal)
    with publication.publish(output.absolute()) as staged:
        report = _solve(config, paths, ms=ms, out_dir=staged, star=star, options=options, threads=threads, progress=progress)
    return report.moved(output.absolute())


def calibrator_of(paths: ProductPaths, ms: Path, field: str | None = None) -> calibrators.Calibrator:
    """Find the calibrator of a tile.

    Args:
        paths: of the platform; they include the calibrator catalog.
        ms: the tile.
        field: name of a calibrator. None, or the name or number of the tile's own field: the best one that transits.

    Raises:
        NoCalibratorError: the calibrator is unknown, or not in the tile.
        FluxScaleError: its flux density is unknown or varies (pitfall 10).
    """
    catalog, pointing = _catalog(paths), read_tile_pointing(ms)
    if field in (None, "0", read_summary(ms).field_name, "meridian"):
        return calibrators.require_in_tile(catalog, pointing, subject=ms)
    star = calibrators.find(catalog, str(field))
    star.flux_at_jy()
    if not calibrators.in_tile([star], pointing, min_flux_jy=0.0, min_beam=0.2, compact_only=False):
        raise NoCalibratorError(
            ms,
            f"{star.name} is not in this tile (RA {pointing.ra_deg.min():.2f} to {pointing.ra_deg.max():.2f}, Dec {pointing.dec_deg.mean():.2f} deg)",
            "leave --field out to take the calibrator that transits",
        )
    return star


def calibrator_sky(reference: pd.DataFrame, star: calibrators.Calibrator) -> pd.DataFrame:
    """Reference sky with the calibrator at its flux density, and with its structure if CASA has a model of it."""
    from dsa110_assets.calibration.resolved import with_structure

    return with_structure(sky.with_calibrators(reference, [star]))


def _catalog(paths: ProductPaths) -> list[calibrators.Calibrator]:
    return calibrators.load(paths.catalogs_dir / CALIBRATORS_FILE)


def _solve(
    config: PipelineConfig,
    paths: ProductPaths,
    *,
    ms: Path,
    out_dir: Path,
    star: calibrators.Calibrator,
    options: SolveOptions | None,
    threads: int,
    progress: Progress | None,
) -> SolveReport:
    from dsa110_assets.calibration.solve import solve

    wanted = options or SolveOptions.from_config(config)
    return solve(
        ms,
        out_dir,
        refant=wanted.refant,
        must_have_refant=wanted.must_have_refant,
        sky=calibrator_sky(sky.load_reference(paths.catalogs_dir / REFERENCE_FILE), star),
        calibrator=star.name,
        bp_minsnr=wanted.bp_minsnr,
        gain_solint=wanted.gain_solint,
        do_delay=wanted.do_delay,
        skip_bandpass=wanted.skip_bandpass,
        skip_gain=wanted.skip_gain,
        bandpass_table=wanted.bandpass_table,
        min_apparent_jy=config.cal_model_min_jy,
        radius_deg=config.cal_model_radius_deg,
        smearing=config.correct_smearing,
        threads=threads,
        progress=progress,
    )


def _result(group_id: str, calibrator: str, report: SolveReport, destination: Path) -> StageResult:
    pictures = dict(report.moved(destination).plots)
    first = next(iter(pictures), None)
    return StageResult(
        CALIBRATION_TABLES.name,
        group_id,
        figures={"calibrator": calibrator, **report.figures()},
        verdicts=report.verdicts(),
        preview=None if first is None else pictures.pop(first),
        pictures=pictures,
        tables=report.details(),
    )
