"""Solutions of a night: bandpass and gains on its calibrator transits."""

from __future__ import annotations

from datetime import date

from sqlalchemy import select

from dsa110_assets import products
from dsa110_assets.calibration.quality import CaltableQuality
from dsa110_assets.catalogs import calibrators, sky
from dsa110_assets.errors import CalibrationQualityError
from dsa110_assets.ingest import ledger
from dsa110_assets.quality.verdict import Verdict
from dsa110_assets.registry.queries.calibration import upsert_caltables
from dsa110_assets.registry.schema import CaltableRow, IngestGroup, MeasurementSetRow
from dsa110_assets.stages.attempts import now
from dsa110_assets.stages.nearest import observations_near, recalibrate_outdated
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.recording import StageResult, measured
from dsa110_assets.stages.references import calibrators_path, reference_path
from dsa110_assets.stages.versions import register, versions_of


def solve_night(platform: Platform, night: str, run_id: str) -> StageResult | None:
    """Solve every calibrator transit of a night whose Measurement Set is newer than its solutions; None when there is none.

    When all are up to date the newest one is solved again: somebody has asked for it.

    Raises:
        CalibrationQualityError: no transit of the night gave acceptable tables; all were registered as refused.
    """
    with platform.database.session() as session:
        query = (
            select(IngestGroup.group_id, IngestGroup.calibrator, MeasurementSetRow.created_at, CaltableRow.created_at)
            .join(MeasurementSetRow, (MeasurementSetRow.group_id == IngestGroup.group_id) & (MeasurementSetRow.kind == "raw"))
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


def solve_transit(platform: Platform, group_id: str, calibrator: str, run_id: str) -> StageResult:
    """Solve one transit and register the tables with their verdict; observations that waited for them go on."""
    from dsa110_assets.calibration.solve import solve

    config = platform.config
    source, destination = platform.paths.measurement_set(group_id), platform.paths.calibration_dir(group_id)
    star = calibrators.find(calibrators.load(calibrators_path(platform)), calibrator)
    model = sky.with_calibrators(sky.load_reference(reference_path(platform)), [star])
    with platform.database.session() as session:
        inputs = versions_of(session, "measurement_set", [group_id])
        for catalogue in ("calibrator_catalog", "nvss_catalog"):
            inputs |= versions_of(session, catalogue, ["all"])
    with measured() as cost, products.publish(destination) as staged:
        report = solve(
            source,
            staged,
            refant=config.default_refant,
            sky=model,
            bp_minsnr=config.cal_bp_minsnr,
            gain_solint=config.cal_gain_solint,
            min_apparent_jy=config.cal_model_min_jy,
            radius_deg=config.cal_model_radius_deg,
            threads=platform.threads,
        )
    reasons = [f"{name}: {reason}" for name, quality in report.quality.items() for reason in quality.reasons]
    figures = {f"{name}_{what}": value for name, q in report.quality.items() for what, value in _figures(q).items()}
    result = StageResult(
        "calibration_tables",
        group_id,
        figures={
            "calibrator": calibrator,
            "refant": report.refant,
            "accepted": report.accepted,
            "reasons": "; ".join(reasons) or "none",
            **figures,
        },
        verdicts=[Verdict.judge("tables_accepted", float(report.accepted), 1.0, None, "; ".join(reasons))],
        preview=destination / "solutions.png",
    )
    with platform.database.session() as session:
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
            reasons=reasons,
            quality=figures,
        )
        if report.accepted:
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


def _figures(quality: CaltableQuality) -> dict[str, float | int | str]:
    return {
        "flagged_fraction": quality.flagged_fraction_active,
        "dead_receptors": quality.dead_receptors,
        "median_amplitude": quality.median_amplitude,
        "median_snr": quality.median_snr,
    }
