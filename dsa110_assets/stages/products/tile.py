"""The stages of one observation: Measurement Set, calibrated Measurement Set, image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dsa110_assets import products, publication
from dsa110_assets.calibration.caltable import CalTable
from dsa110_assets.calibration.select import CalChoice, to_compare
from dsa110_assets.catalogs import calibrators, sky
from dsa110_assets.common.figures import Figures
from dsa110_assets.errors import ChecksumError, NoCalibrationError, NoModelError, NonRetriableError, RetriableError
from dsa110_assets.ingest import checksums, ledger
from dsa110_assets.registry.queries import antenna_marks, sky_model
from dsa110_assets.registry.queries.calibration import lock_caltables, record_calibration_applied
from dsa110_assets.registry.queries.images import upsert_image
from dsa110_assets.registry.queries.observations import upsert_measurement_set
from dsa110_assets.registry.schema import (
    CalibrationApplied,
    GroupState,
    IngestGroup,
    MeasurementSetKind,
    MeasurementSetRow,
    MeasurementSetStatus,
    TileStage,
)
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import gates
from dsa110_assets.stages.products.nearest import read_registered, recalibrate_outdated, usable_tables
from dsa110_assets.stages.products.references import calibrators_path, imaging_sky, record_found, reference_path, transiting_calibrator
from dsa110_assets.stages.provenance.recording import StageResult, measured
from dsa110_assets.stages.provenance.versions import provenance, register, versions_of
from dsa110_assets.stages.queue.attempts import attempt, end_stage, now
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets.stages.table import CALIBRATED_MS, CALIBRATION_TABLES, CALIBRATOR_CATALOG, MEASUREMENT_SET, NVSS_CATALOG, TILE_IMAGE


def make_measurement_set(platform: Platform, run: TileRun) -> StageResult:
    """Convert and flag the accepted raw files of an observation. Antennas that people marked as bad are flagged."""
    from dsa110_assets.conversion import convert_observation, verify_ms
    from dsa110_assets.flagging.picture import plot_flags

    group_id, config = run.group_id, platform.config
    with attempt(platform, run) as number:
        with platform.database.session() as session:
            files = ledger.raw_files(session, group_id)
            bad_antennas = antenna_marks.bad_antennas(session, group_id)
        if not files:
            raise NonRetriableError(group_id, "none of its raw files is left", "put them back into the input directory, then retry")
        calibrator = transiting_calibrator(calibrators.load(calibrators_path(platform)), next(iter(files.values())))
        destination = platform.paths.measurement_set(group_id)
        marked = {"bad_antennas": ", ".join(bad_antennas)} if bad_antennas else {}
        history = provenance(platform, MEASUREMENT_SET.name, {}, observation=group_id, **marked)
        with (
            _leaving_out_damaged(platform, group_id),
            measured() as cost,
            publication.publish(destination) as staged,
        ):
            with platform.database.session() as session:
                sums = checksums.expected(session, files, config)
            report = convert_observation(
                files,
                staged,
                expected_subbands=config.expected_subbands,
                flag_rfi=config.flag_rfi,
                bad_antennas=bad_antennas,
                field_name=calibrator,
                telescope_name=config.telescope_name,
                threads=platform.threads,
                checksums=sums,
                history=[f"{name} = {value}" for name, value in history.items()],
            )
            verify_ms(staged, report)
            plot_flags(report.flags, staged / products.FLAG_PICTURE, title=group_id)
        result = StageResult(
            MEASUREMENT_SET.name,
            group_id,
            figures={"calibrator": calibrator or "none", "subbands": len(files), **report.figures(), **marked},
            preview=destination / products.FLAG_PICTURE,
            tables=report.details(),
        )
        with platform.database.session() as session:
            register(session, platform, result, path=destination, inputs={}, cost=cost, run_id=run.run_id)
            upsert_measurement_set(
                session,
                path=str(destination),
                group_id=group_id,
                kind=MeasurementSetKind.RAW,
                status=MeasurementSetStatus.FLAGGED,
                start_mjd=report.start_mjd,
                mid_mjd=report.mid_mjd,
                end_mjd=report.end_mjd,
                ra_deg=report.phase_ra_deg,
                dec_deg=report.phase_dec_deg,
                pointing_dec_deg=report.pointing_dec_deg,
                calibrator=calibrator,
                n_channels=report.n_channels,
                flagged_fraction=report.flags.fraction,
                size_bytes=publication.size_bytes(destination),
                bad_antennas=bad_antennas,
            )
            end_stage(session, run, number, TileStage.MEASUREMENT_SET, calibrator=calibrator)
    return result


@contextmanager
def _leaving_out_damaged(platform: Platform, group_id: str) -> Iterator[None]:
    """Reject raw files that do not have the bytes of their checksums; the next attempt works without them."""
    try:
        yield
    except ChecksumError as error:
        with platform.database.session() as session:
            checksums.reject_damaged(session, error, now())
        raise RetriableError(
            group_id,
            f"{len(error.reasons)} of its raw files were rejected ({error.subject}: {error.cause})",
            f"{error.next_step}; without them it is converted if PIPELINE_MIN_SUBBANDS are left",
        ) from error


@dataclass
class _Choice:
    """Tables that may be applied: where they come from, and their content as it was registered."""

    choice: CalChoice
    tables: list[CalTable]
    inputs: dict[str, int]


@dataclass
class _Choices:
    """Inputs of a calibration: the raw Measurement Set, and the tables to compare, nearest first.

    ``valid``: all valid tables, nearest first. ``inputs``: versions of what every choice uses.
    """

    raw: MeasurementSetRow
    compared: list[_Choice]
    valid: list[CalChoice]
    inputs: dict[str, int]

    def considered(self, used: CalChoice) -> list[str]:
        """Observations of the calibrators whose tables are nearer than those used, or were compared with them."""
        compared = [one.choice for one in self.compared]
        return [
            one.candidate.path.name
            for one in self.valid
            if one is not used and (one in compared or abs(one.hours_away) < abs(used.hours_away))
        ]


def calibrate(platform: Platform, run: TileRun) -> StageResult | None:
    """Apply the nearest valid tables, or others that fit the data better.

    Without any, return None and leave the observation waiting for them.
    """
    from dsa110_assets.calibration.apply import apply_calibration
    from dsa110_assets.calibration.verification import verify_calibrated

    group_id, config = run.group_id, platform.config
    with attempt(platform, run) as number:
        source, destination = platform.paths.measurement_set(group_id), platform.paths.calibrated_ms(group_id)
        choices = _choices(platform, group_id, number)
        if choices is None:
            return None
        raw = choices.raw
        with measured() as cost, publication.publish(destination) as staged:
            chosen, comparison = _best(platform, source, raw, choices.compared)
            choice, inputs = chosen.choice, {**choices.inputs, **chosen.inputs}
            phases = _add_tile_phases(platform, source, raw, chosen.tables) if config.tile_phase_solution else {}
            history = {name: str(value) for name, value in phases.items()}
            report = apply_calibration(
                source,
                chosen.tables,
                staged,
                sefd_jy=config.sefd_jy,
                max_smearing=config.max_smearing,
                declination_tolerance_deg=config.cal_declination_tolerance_deg,
                provenance=provenance(platform, CALIBRATED_MS.name, inputs, observation=group_id, **history),
            )
            verify_calibrated(staged, report)
        result = StageResult(CALIBRATED_MS.name, group_id, figures={**choice.figures(), **comparison, **report.figures(), **phases})
        with platform.database.session() as session:
            lock_caltables(session)
            register(session, platform, result, path=destination, inputs=inputs, cost=cost, run_id=run.run_id)
            upsert_measurement_set(
                session,
                path=str(destination),
                group_id=group_id,
                kind=MeasurementSetKind.CALIBRATED,
                status=MeasurementSetStatus.CALIBRATED,
                start_mjd=raw.start_mjd,
                mid_mjd=raw.mid_mjd,
                end_mjd=raw.end_mjd,
                ra_deg=raw.ra_deg,
                dec_deg=raw.dec_deg,
                pointing_dec_deg=raw.pointing_dec_deg,
                calibrator=raw.calibrator,
                n_channels=report.n_channels,
                flagged_fraction=report.flagged_fraction,
                size_bytes=publication.size_bytes(destination),
            )
            directory = str(choice.candidate.path)
            record_calibration_applied(
                session,
                group_id=group_id,
                caltable_directory=directory,
                rung=choice.rung,
                hours_away=choice.hours_away,
                considered=choices.considered(choice),
            )
            end_stage(session, run, number, TileStage.CALIBRATED)
            if run.final:
                recalibrate_outdated(session, config, [group_id])
    return result


def _choices(platform: Platform, group_id: str, number: int) -> _Choices | None:
    """Find and read the tables that may be applied. Without any, return None and leave the observation waiting."""
    with platform.database.session() as session:
        group = session.get_one(IngestGroup, group_id)
        raw = session.get(MeasurementSetRow, str(platform.paths.measurement_set(group_id)))
        if raw is None:
            raise NonRetriableError(group_id, "it has no Measurement Set", "make `measurement_set` first, from its raw files")
        try:
            valid = usable_tables(session, platform.config, group)
        except NoCalibrationError:
            if group.state == GroupState.IN_PROGRESS:
                ledger.await_calibration(session, group_id, number, now())
            return None
        inputs = versions_of(session, MEASUREMENT_SET.name, [group_id])
        applied = session.get(CalibrationApplied, group_id)
        candidates = to_compare(valid, None if applied is None else applied.caltable_directory)
        if platform.config.tile_phase_solution or len(candidates) > 1:
            inputs |= versions_of(session, NVSS_CATALOG.name, ["all"]) | versions_of(session, CALIBRATOR_CATALOG.name, ["all"])
        # read inside the transaction that found them, so that they cannot be replaced meanwhile
        compared = [
            _Choice(
                one, read_registered(session, one.candidate.path), versions_of(session, CALIBRATION_TABLES.name, [one.candidate.path.name])
            )
            for one in candidates
        ]
        return _Choices(raw, compared, valid, inputs)


def _best(platform: Platform, source: Path, raw: MeasurementSetRow, choices: list[_Choice]) -> tuple[_Choice, Figures]:
    """The tables that fit the tile best (`calibration.comparison`), and the figures of the comparison."""
    from dsa110_assets.calibration.comparison import compare_tables

    if len(choices) == 1:
        return choices[0], {}
    config = platform.config
    try:
        found = compare_tables(
            source,
            [one.tables for one in choices],
            imaging_sky(platform, raw.ra_deg, raw.dec_deg),
            min_apparent_jy=config.cal_model_min_jy,
            radius_deg=config.cal_model_radius_deg,
            smearing=config.correct_smearing,
        )
    except NoModelError:  # nothing to compare with: time decides
        return choices[0], {"tables_compared": 1}
    return choices[found.best], {"tables_compared": len(choices), "other_tables_better_sigma": found.significance}


def _add_tile_phases(platform: Platform, source: Path, raw: MeasurementSetRow, tables: list[CalTable]) -> Figures:
    """Solve for the tile's own phases and add them to the tables if they improve the data; return their figures."""
    from dsa110_assets.calibration.tile_phase import solve_tile_phases

    config = platform.config
    phases = solve_tile_phases(
        source,
        tables,
        imaging_sky(platform, raw.ra_deg, raw.dec_deg),
        sefd_jy=config.sefd_jy,
        min_apparent_jy=config.cal_model_min_jy,
        radius_deg=config.cal_model_radius_deg,
        smearing=config.correct_smearing,
    )
    if phases.solutions is not None:
        tables.append(phases.solutions)
    return phases.figures()


def make_image(platform: Platform, run: TileRun) -> StageResult:
    """Image the calibrated observation and judge the image."""
    from dsa110_assets.imaging import ImagingOptions, image_tile
    from dsa110_assets.quality.image import ImageLimits, judge_tile, read_tile

    group_id = run.group_id
    with attempt(platform, run) as number:
        reference = sky.load_reference(reference_path(platform))
        source, destination = platform.paths.calibrated_ms(group_id), platform.paths.image_dir(group_id)
        with platform.database.session() as session:
            row = session.get(MeasurementSetRow, str(source))
            if row is None:
                raise NonRetriableError(group_id, "it has no calibrated Measurement Set", "make `calibrated_ms` first")
            inputs = versions_of(session, CALIBRATED_MS.name, [group_id]) | versions_of(session, NVSS_CATALOG.name, ["all"])
            inputs |= versions_of(session, CALIBRATOR_CATALOG.name, ["all"])
        options = ImagingOptions.from_config(platform.config)
        near = sky.cone(reference, row.ra_deg, row.dec_deg, options.field_radius_deg)
        known = imaging_sky(platform, row.ra_deg, row.dec_deg)
        own = [str(name) for name in known["name"] if str(name).startswith(sky_model.PREFIX)]
        headers = provenance(platform, TILE_IMAGE.name, inputs, DSAGROUP=group_id, own_sky_model=", ".join(own) or "nothing")
        with measured() as cost, publication.publish(destination) as staged:
            staged.mkdir()
            report = image_tile(source, staged, group_id, options, mask_sky=known, provenance=headers)
            verdicts = judge_tile(read_tile(staged, group_id), near, ImageLimits.from_config(platform.config))
        # the report always has a dynamic range; its check may have none
        measurements = {verdict.name: verdict.value for verdict in verdicts if verdict.name != "dynamic_range"}
        result = StageResult(
            TILE_IMAGE.name,
            group_id,
            figures={**report.figures(), **measurements, "own_sources": len(own)},
            verdicts=verdicts,
            preview=destination / report.preview.name,
            tables={"quality": [verdict.row() for verdict in verdicts], **report.details()},
        )
        with platform.database.session() as session:
            lock_caltables(session)
            result.verdict = gates.verdict_on(session, group_id, verdicts)
            register(session, platform, result, path=destination, inputs=inputs, cost=cost, run_id=run.run_id)
            upsert_image(
                session,
                directory=str(destination),
                group_id=group_id,
                mid_mjd=row.mid_mjd,
                ra_deg=row.ra_deg,
                dec_deg=row.dec_deg,
                pointing_dec_deg=row.pointing_dec_deg,
                noise_jy_per_beam=report.noise_jy_per_beam,
                thermal_jy_per_beam=report.thermal_jy_per_beam,
                peak_jy_per_beam=report.peak_jy_per_beam,
                bmaj_arcsec=report.beam.major_arcsec,
                bmin_arcsec=report.beam.minor_arcsec,
                bpa_deg=report.beam.pa_deg,
            )
            if result.verdict.is_good:  # artifacts of a bad calibration must not serve other images
                found = [sky_model.Found(one.ra_deg, one.dec_deg, one.flux_jy, one.flux_error_jy, one.beam) for one in report.outside]
                record_found(platform, session, row, found)
            end_stage(session, run, number, TileStage.IMAGED)
            recalibrate_outdated(session, platform.config, [group_id])
    return result
