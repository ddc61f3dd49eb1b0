"""The stages of a night: its mosaic, and light curves, variability and candidates up to that night."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets import products, publication
from dsa110_assets.errors import LightCurveError
from dsa110_assets.registry.queries.factors import forget_factors, lock_light_curves
from dsa110_assets.registry.queries.images import tiles_in_window
from dsa110_assets.registry.queries.measurements import channel_photometry, light_curve
from dsa110_assets.registry.queries.sources import source_table
from dsa110_assets.registry.queries.variability import replace_candidates, replace_variability
from dsa110_assets.registry.schema import LightCurvePoint, MosaicKind, ProductVersion, Source
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.candidates import describe_candidates, identify
from dsa110_assets.stages.products.combining import MosaicRequest, combine
from dsa110_assets.stages.products.examination import examine, light_curves_of
from dsa110_assets.stages.products.gates import good_tiles
from dsa110_assets.stages.products.light_curves import update_light_curves
from dsa110_assets.stages.provenance.recording import Measured, StageResult, measured
from dsa110_assets.stages.provenance.versions import register, versions_of
from dsa110_assets.stages.table import ESE_CANDIDATES, FORCED_PHOTOMETRY, LIGHT_CURVES, NIGHTLY_MOSAIC, VARIABILITY_METRICS
from dsa110_assets.strips import main_strip
from dsa110_assets.times import datetime_to_mjd, slot_window

if TYPE_CHECKING:
    from dsa110_assets.variability import LightCurves


def make_mosaic(platform: Platform, night: str, run_id: str) -> StageResult | None:
    """Mosaic of all tiles of a night, of the strip with most tiles; None if the night has no good tile."""
    low = datetime_to_mjd(slot_window(night, "00:00")[0])
    with platform.database.session() as session:
        tiles = tiles_in_window(session, low, low + 1)
        good = set(good_tiles(session, [tile.group_id for tile in tiles]))
    tiles = [tile for tile in tiles if tile.group_id in good]
    if not tiles:
        return None
    strip = main_strip([tile.pointing_dec_deg for tile in tiles], platform.config.mosaic_declination_tolerance_deg)
    return combine(platform, MosaicRequest(NIGHTLY_MOSAIC, night, products.nightly_mosaic_name(night), tiles, strip), run_id)


def update_metrics(platform: Platform, night: str, run_id: str) -> StageResult:
    """Compute variability indices and ESE scores of all sources; `rank_candidates` continues with the events.

    Only what is new since the last night is read, and the light curves of the sources that need a search
    (`examination`).
    """
    from dsa110_assets.variability import eta_v_png
    from dsa110_assets.variability.chromatic import MOST_CHANNEL_TESTS
    from dsa110_assets.variability.ese import trials_corrected
    from dsa110_assets.variability.reports import VariabilityReport

    destination, end = platform.paths.variability_dir(night), _end_of(night)
    with platform.database.session() as session:
        lock_light_curves(session)
        with measured() as cost:
            inputs = versions_of(session, LIGHT_CURVES.name, [night])
            found = examine(session, end)
            if found is None:
                nothing = StageResult(VARIABILITY_METRICS.name, night, figures={"sources": 0})
                return register(session, platform, nothing, path=None, inputs=inputs, cost=Measured(), run_id=run_id)
            channels = _event_channels(session, found.search.strongest(MOST_CHANNEL_TESTS), end)
            events = found.search.scores(channels, trials=found.trials, suspect_epochs=found.suspects)
            score = trials_corrected(found.significance, found.trials)[0]
            score[pd.Index(found.indices["source_id"].to_numpy()).get_indexer(events["source_id"].to_numpy())] = events["score"].to_numpy()
            table = found.indices.assign(ese_score=score)
            with publication.publish(destination) as staged:
                staged.mkdir()
                events[events["reasons"] != ""].to_parquet(staged / products.EVENTS, index=False)
                (staged / products.ETA_V_PICTURE).write_bytes(eta_v_png(table, small=True))
            replace_variability(session, night, table)
        figures = VariabilityReport(table, events).figures() | {"searched": len(events), "measurements_read": found.n_read}
        result = StageResult(VARIABILITY_METRICS.name, night, figures=figures, preview=destination / products.ETA_V_PICTURE)
        return register(session, platform, result, path=destination, inputs=inputs, cost=cost, run_id=run_id)


def rank_candidates(platform: Platform, night: str, run_id: str) -> StageResult:
    """Rank the ESE candidates among the events that `update_metrics` found.

    Raises:
        LightCurveError: the events of this night are missing.
    """
    from dsa110_assets.variability import ese_candidates, light_curve_png
    from dsa110_assets.variability.reports import CandidateReport

    threshold = platform.config.ese_threshold_sigma
    path, destination = platform.paths.variability_dir(night) / products.EVENTS, platform.paths.candidates_dir(night)
    with platform.database.session() as session:
        lock_light_curves(session)
        inputs = versions_of(session, LIGHT_CURVES.name, [night]) | versions_of(session, VARIABILITY_METRICS.name, [night])
        if session.scalar(select(LightCurvePoint.source_id).limit(1)) is None:
            nothing = StageResult(ESE_CANDIDATES.name, night, figures={"candidates": 0})
            return register(session, platform, nothing, path=None, inputs=inputs, cost=Measured(), run_id=run_id)
        if not path.is_file():
            raise LightCurveError(path, "the events of this night are not there", "make its asset `variability_metrics` first")
        with measured() as cost, publication.publish(destination) as staged:
            staged.mkdir()
            found = ese_candidates(pd.read_parquet(path), min_score=threshold)
            curves = light_curves_of(session, found["source_id"].tolist(), end_mjd=_end_of(night)) if len(found) else None
            sources = source_table(session, active_only=False).set_index("source_id")
            names = sources["name"].to_dict()
            described: list[int] = []
            if curves is not None:
                described = describe_candidates(platform, staged, found, curves, sources)
                best = found.iloc[0]
                title = f"{names.get(best['source_id'], best['source_id'])}: score {best['score']:.1f}"
                baseline, event = float(best["baseline_jy"]), float(best["epoch_mjd"])
                png = light_curve_png(curves, best["source_id"], title=title, baseline_jy=baseline, event_mjd=event, small=True)
                (staged / products.TOP_CANDIDATE_PICTURE).write_bytes(png)
        replace_candidates(session, night, identify(session, night, found))
        report = CandidateReport(found, names, threshold, described, destination)
        result = StageResult(
            ESE_CANDIDATES.name,
            night,
            figures=report.figures(),
            preview=destination / products.TOP_CANDIDATE_PICTURE if described else None,
            tables=report.details(),
        )
        return register(session, platform, result, path=destination, inputs=inputs, cost=cost, run_id=run_id)


def recompute(platform: Platform, run_id: str, *, night: str | None = None, from_start: bool = False) -> list[StageResult]:
    """Make light curves, variability and candidates of a night again; None: of the newest night with photometry.

    ``from_start``: fit all epochs again, not only those that have changed and those of the last nights.

    Raises:
        LightCurveError: there is no photometry yet.
    """
    if night is None:
        with platform.database.session() as session:
            key = session.scalar(select(func.max(ProductVersion.key)).where(ProductVersion.product == FORCED_PHOTOMETRY.name))
        if key is None:
            raise LightCurveError("light curves", "there is no photometry yet", "wait for the first hour, or run the job `hour`")
        night = key[:10]
    if from_start:
        with platform.database.session() as session:
            forget_factors(session)
    return [stage(platform, night, run_id) for stage in (update_light_curves, update_metrics, rank_candidates)]


def source_light_curve(platform: Platform, source_id: int) -> LightCurves:
    """Return the normalized light curve of a source; the measured one if it is not normalized yet.

    Raises:
        LightCurveError: the source was never measured.
    """
    from dsa110_assets.variability import LightCurves

    with platform.database.session() as session:
        table = light_curve(session, source_id)
    if table.empty:
        raise LightCurveError(f"source {source_id}", "was never measured", "look at `dsa110 lightcurve epochs`")
    table["source_id"] = source_id
    normalised = bool(table["normalised_flux_jy"].notna().any())
    if normalised:
        table = table.assign(flux_jy=table["normalised_flux_jy"], flux_err_jy=table["normalised_flux_err_jy"])
    return LightCurves.from_table(table, normalised=normalised)


def _event_channels(session: Session, events: Sequence[object], end_mjd: float) -> pd.DataFrame | None:
    """Normalized channel fluxes of sources with events; None if no channel was measured."""
    from dsa110_assets.variability import normalised_channels
    from dsa110_assets.variability.chromatic import references_for

    numbers = [int(str(one)) for one in events]
    own = channel_photometry(session, source_ids=numbers, end_mjd=end_mjd, mosaic_kind=MosaicKind.HOURLY, without_excluded=True)
    if own.empty:
        return None
    brightest = select(Source.source_id).where(Source.reference_flux_jy.is_not(None)).order_by(Source.reference_flux_jy.desc())
    most = references_for(len(set(own["mosaic_name"])) * len(set(own["channel"])))
    references = session.scalars(brightest.limit(most)).all()
    others = sorted(set(references) - set(numbers))
    rest = channel_photometry(session, source_ids=others, end_mjd=end_mjd, mosaic_kind=MosaicKind.HOURLY, without_excluded=True)
    table = pd.concat([own.astype({"mosaic_name": str}), rest.astype({"mosaic_name": str})], ignore_index=True)
    normalised = normalised_channels(table, np.array(references))
    return normalised.loc[normalised["source_id"].isin(numbers)]


def _end_of(night: str) -> float:
    return datetime_to_mjd(datetime.fromisoformat(f"{night}T00:00:00+00:00") + timedelta(days=1))
