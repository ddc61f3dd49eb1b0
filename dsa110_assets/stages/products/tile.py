"""The stages of one observation: Measurement Set, calibrated Measurement Set, image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dsa110_assets import products, publication
from dsa110_assets.calibration.caltable import CalTable
from dsa110_assets.catalogs import calibrators, sky
from dsa110_assets.errors import NoCalibrationError, NonRetriableError
from dsa110_assets.ingest import ledger
from dsa110_assets.quality import gate
from dsa110_assets.quality.verdict import Verdict
from dsa110_assets.rawfile import pointing_of, read_raw_header
from dsa110_assets.registry.queries.calibration import lock_caltables, record_calibration_applied
from dsa110_assets.registry.queries.images import upsert_image
from dsa110_assets.registry.queries.observations import upsert_measurement_set
from dsa110_assets.registry.schema import GroupState, IngestGroup, MeasurementSetKind, MeasurementSetRow, MeasurementSetStatus, TileStage
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import gates
from dsa110_assets.stages.products.nearest import nearest_tables, read_registered, recalibrate_outdated
from dsa110_assets.stages.products.references import calibrators_path, reference_path
from dsa110_assets.stages.provenance.recording import Figure, StageResult, measured
from dsa110_assets.stages.provenance.versions import provenance, register, versions_of
from dsa110_assets.stages.queue.attempts import attempt, end_stage, now
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets.stages.table import CALIBRATED_MS, CALIBRATION_TABLES, MEASUREMENT_SET, NVSS_CATALOG, TILE_IMAGE


def make_measurement_set(platform: Platform, run: TileRun) -> StageResult:
    """Convert and flag the accepted raw files of an observation."""
    from dsa110_assets.conversion import convert_observation, verify_ms
    from dsa110_assets.flagging.picture import plot_flags

    group_id, config = run.group_id, platform.config
    with attempt(platform, run) as number:
        with platform.database.session() as session:
            files = ledger.group_files(session, group_id)
        if not files:
            raise NonRetriableError(group_id, "none of its raw files is left", "put them back into the input directory, then retry")
        transiting = calibrators.in_tile(
            calibrators.load(calibrators_path(platform)), pointing_of(read_raw_header(next(iter(files.values()))))
        )
        calibrator = transiting[0].name if transiting else None
        destination = platform.paths.measurement_set(group_id)
        with measured() as cost, publication.publish(destination) as staged:
            report = convert_observation(
                files,
                staged,
                expected_subbands=config.expected_subbands,
                flag_rfi=config.flag_rfi,
                field_name=calibrator,
                telescope_name=config.telescope_name,
                threads=platform.threads,
                history=[
                    f"{name} = {value}" for name, value in provenance(platform, MEASUREMENT_SET.name, {}, observation=group_id).items()
                ],
            )
            verify_ms(staged, report)
            plot_flags(report.flags, staged / products.FLAG_PICTURE, title=group_id)
        result = StageResult(
            MEASUREMENT_SET.name,
            group_id,
            figures={
                "calibrator": calibrator or "none",
                "subbands": len(files),
                "missing_subbands": ", ".join(f"sb{n:02d}" for n in report.missing_subbands) or "none",
                "channels": report.n_channels,
                "rows": report.n_rows,
                "flagged_fraction": report.flags.fraction,
                "dead_antennas": ", ".join(report.flags.dead_antennas) or "none",
                "declination_deg": report.pointing_dec_deg,
                "phase_ra_deg": report.phase_ra_deg,
                "phase_dec_deg": report.phase_dec_deg,
                "notes": "; ".join(report.notes) or "none",
            },
            preview=destination / products.FLAG_PICTURE,
            tables={
                "flagged by reason": [{"reason": reason, "fraction": share} for reason, share in report.flags.by_reason.items()],
                "flagged by baseline length": [
                    {"from_m": low, "to_m": high, "fraction": share} for low, high, share in report.flags.by_baseline_m
                ],
                "flagged by antenna": [{"antenna": name, "fraction": share} for name, share in report.flags.by_antenna.items()],
                "steps": [{"step": step, "seconds": seconds} for step, seconds in report.seconds.items()],
            },
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
            )
            end_stage(session, run, number, TileStage.MEASUREMENT_SET, calibrator=calibrator)
    return result


def calibrate(platform: Platform, run: TileRun) -> StageResult | None:
    """Apply the nearest valid solutions; None when there are none yet, and the observation then waits for them."""
    from dsa110_assets.calibration.apply import apply_calibration
    from dsa110_assets.calibration.verification import verify_calibrated

    group_id, config = run.group_id, platform.config
    with attempt(platform, run) as number:
        source, destination = platform.paths.measurement_set(group_id), platform.paths.calibrated_ms(group_id)
        with platform.database.session() as session:
            group = session.get_one(IngestGroup, group_id)
            raw = session.get(MeasurementSetRow, str(source))
            if raw is None:
                raise NonRetriableError(group_id, "it has no Measurement Set", "make `measurement_set` first, from its raw files")
            try:
                choice = nearest_tables(session, platform.config, group)
            except NoCalibrationError:
                if group.state == GroupState.IN_PROGRESS:
                    ledger.await_calibration(session, group_id, number, now())
                return None
            directory = choice.candidate.path
            inputs = versions_of(session, MEASUREMENT_SET.name, [group_id]) | versions_of(
                session, CALIBRATION_TABLES.name, [directory.name]
            )
            if config.tile_phase_solution:
                inputs |= versions_of(session, NVSS_CATALOG.name, ["all"])
            tables = read_registered(session, directory)  # inside of the transaction that chose them: nobody replaces them meanwhile
        phases: dict[str, Figure] = {}
        with measured() as cost, publication.publish(destination) as staged:
            if config.tile_phase_solution:
                phases = _add_tile_phases(platform, source, tables)
            report = apply_calibration(
                source,
                tables,
                staged,
                sefd_jy=config.sefd_jy,
                max_smearing=config.max_smearing,
                declination_tolerance_deg=config.cal_declination_tolerance_deg,
                provenance=provenance(
                    platform, CALIBRATED_MS.name, inputs, observation=group_id, **{name: str(value) for name, value in phases.items()}
                ),
            )
            verify_calibrated(staged, report)
        result = StageResult(
            CALIBRATED_MS.name,
            group_id,
            figures={
                "tables": str(directory),
                "borrowed_from": choice.rung.value,
                "hours_away": choice.hours_away,
                "channels": report.n_channels,
                "channels_averaged": report.channels_averaged,
                "smearing_loss": report.smearing_loss,
                "flagged_fraction": report.flagged_fraction,
                "lost_to_solutions": report.lost_to_solutions,
                "median_amplitude_jy": report.median_amplitude_jy,
                **phases,
            },
        )
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
            record_calibration_applied(
                session, group_id=group_id, caltable_directory=str(directory), rung=choice.rung, hours_away=choice.hours_away
            )
            end_stage(session, run, number, TileStage.CALIBRATED)
            if run.final:
                recalibrate_outdated(session, config, [group_id])
    return result


def _add_tile_phases(platform: Platform, source: Path, tables: list[CalTable]) -> dict[str, Figure]:
    """Solve for the tile's own phases; add them to the tables when they improve. Returns what is worth recording."""
    from dsa110_assets.calibration.tile_phase import solve_tile_phases

    config = platform.config
    phases = solve_tile_phases(
        source,
        tables,
        sky.load_reference(reference_path(platform)),
        sefd_jy=config.sefd_jy,
        min_apparent_jy=config.cal_model_min_jy,
        radius_deg=config.cal_model_radius_deg,
        smearing=config.correct_smearing,
    )
    if phases.solutions is not None:
        tables.append(phases.solutions)
    return {"tile_phases_kept": phases.kept, "tile_phases_significance": phases.significance, "tile_phases_rms_deg": phases.rms_deg}


def make_image(platform: Platform, run: TileRun) -> StageResult:
    """Image the calibrated observation and judge the image."""
    from dsa110_assets.imaging import ImagingOptions, image_tile
    from dsa110_assets.quality.image import ImageLimits, judge_tile, read_tile

    group_id = run.group_id
    with attempt(platform, run) as number:
        reference = sky.load_reference(reference_path(platform))
        destination = platform.paths.image_dir(group_id)
        with platform.database.session() as session:
            raw = session.get(MeasurementSetRow, str(platform.paths.calibrated_ms(group_id)))
            if raw is None:
                raise NonRetriableError(group_id, "it has no calibrated Measurement Set", "make `calibrated_ms` first")
            inputs = versions_of(session, CALIBRATED_MS.name, [group_id]) | versions_of(session, NVSS_CATALOG.name, ["all"])
        options = ImagingOptions.from_config(platform.config)
        near = sky.cone(reference, raw.ra_deg, raw.dec_deg, options.field_radius_deg)
        with measured() as cost, publication.publish(destination) as staged:
            staged.mkdir()
            report = image_tile(
                platform.paths.calibrated_ms(group_id),
                staged,
                group_id,
                options,
                mask_sky=near,
                provenance=provenance(platform, TILE_IMAGE.name, inputs, DSAGROUP=group_id),
            )
            verdicts = judge_tile(read_tile(staged, group_id), near, ImageLimits.from_config(platform.config))
        result = StageResult(
            TILE_IMAGE.name,
            group_id,
            figures={
                "noise_mjy_per_beam": report.noise_jy_per_beam * 1e3,
                "thermal_mjy_per_beam": report.thermal_jy_per_beam * 1e3,
                "peak_jy_per_beam": report.peak_jy_per_beam,
                "dynamic_range": report.dynamic_range,
                "beam_major_arcsec": report.beam.major_arcsec,
                "beam_minor_arcsec": report.beam.minor_arcsec,
                "beam_angle_deg": report.beam.pa_deg,
                "major_cycles": report.major_cycles,
                "used_fraction": report.used_fraction,
                "channel_images": len(report.channels),
                **({"self_calibration": report.selfcal.summary} if report.selfcal else {}),
                **{verdict.name: verdict.value for verdict in verdicts if verdict.name not in ("dynamic_range",)},
            },
            verdicts=verdicts,
            preview=destination / report.preview.name,
            tables={
                "quality": [_row_of(verdict) for verdict in verdicts],
                "channels": [
                    {
                        "channel": one.number,
                        "frequency_mhz": one.frequency_hz / 1e6,
                        "noise_mjy_per_beam": one.noise_jy_per_beam * 1e3,
                        "thermal_mjy_per_beam": one.thermal_jy_per_beam * 1e3,
                        "beam_major_arcsec": one.beam.major_arcsec,
                        "beam_minor_arcsec": one.beam.minor_arcsec,
                    }
                    for one in report.channels
                ],
                "spectral indices of the brightest": [
                    {
                        "ra_deg": one.ra_deg,
                        "dec_deg": one.dec_deg,
                        "peak_jy_per_beam": one.peak_jy_per_beam,
                        "alpha": one.alpha,
                        "error": one.alpha_error,
                    }
                    for one in report.spectra
                ],
            },
        )
        with platform.database.session() as session:
            lock_caltables(session)
            result.verdict = gate.verdict_on(verdicts, provisional=gates.is_provisional(session, group_id))
            register(session, platform, result, path=destination, inputs=inputs, cost=cost, run_id=run.run_id)
            upsert_image(
                session,
                directory=str(destination),
                group_id=group_id,
                mid_mjd=raw.mid_mjd,
                ra_deg=raw.ra_deg,
                dec_deg=raw.dec_deg,
                pointing_dec_deg=raw.pointing_dec_deg,
                noise_jy_per_beam=report.noise_jy_per_beam,
                thermal_jy_per_beam=report.thermal_jy_per_beam,
                peak_jy_per_beam=report.peak_jy_per_beam,
                bmaj_arcsec=report.beam.major_arcsec,
                bmin_arcsec=report.beam.minor_arcsec,
                bpa_deg=report.beam.pa_deg,
            )
            end_stage(session, run, number, TileStage.IMAGED)
            recalibrate_outdated(session, platform.config, [group_id])
    return result


def _row_of(verdict: Verdict) -> Mapping[str, float | str | None]:
    return {
        "metric": verdict.name,
        "value": verdict.value,
        "lowest": verdict.low,
        "highest": verdict.high,
        "verdict": verdict.outcome.value,
        "reason": verdict.reason,
    }
