"""The quick look at an hour: new events among the sources of the hour, minutes after its photometry.

It reads the hour's fluxes, what is remembered of their sources (`examination`), and their recent light curves. The
epoch's factor is a first estimate from the sources' levels; the night's update fits it with all other epochs, compares
channels, and ranks all candidates again.
"""

# pandas' stubs do not know the type of a selection:
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import products
from dsa110_assets.common.figures import Figures
from dsa110_assets.registry.bulk import read_frame
from dsa110_assets.registry.queries import examination as tables
from dsa110_assets.registry.queries.factors import lock_light_curves
from dsa110_assets.registry.queries.variability import add_candidates
from dsa110_assets.registry.schema import Photometry
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.candidates import identify
from dsa110_assets.stages.products.examination import light_curves_of
from dsa110_assets.stages.provenance.recording import StageResult
from dsa110_assets.stages.table import HOUR_EVENTS

if TYPE_CHECKING:
    from dsa110_assets.variability import LightCurves


def look_at_hour(platform: Platform, night: str, hour: str, run_id: str) -> StageResult | None:
    """Look for new events among the sources of an hour; None if nothing was measured in it.

    Events above the threshold join the candidates of the night. An hour in which many sources deviate adds none: its
    calibration is the likely cause, and the night's update decides.
    """
    from dsa110_assets.variability import ese_candidates

    name, key = products.hourly_mosaic_name(night, hour), f"{night}T{hour}"
    threshold = platform.config.ese_threshold_sigma
    with platform.database.session() as session:
        fluxes = _fluxes(session, name)
        if fluxes.empty:
            return None
        time = float(fluxes["time_mjd"].iloc[0])
        if (newest := tables.newest_examined(session)) is None or newest >= time:
            note = (
                "no night has been examined yet" if newest is None else "later epochs were examined: the night's update looks at this hour"
            )
            return StageResult(HOUR_EVENTS.name, key, figures={"sources": len(fluxes), "note": note})
        figures, found = _strongest(session, name, fluxes)
    if found is None:
        return StageResult(HOUR_EVENTS.name, key, figures=figures)
    found = ese_candidates(found, min_score=threshold)
    with platform.database.session() as session:
        lock_light_curves(session)
        add_candidates(session, night, identify(session, night, found))
    rows = [
        {name: row[name] for name in ("source_id", "score", "depth", "kind", "duration_d", "reasons")} for row in found.to_dict("records")
    ]
    return StageResult(HOUR_EVENTS.name, key, figures=figures | {"events": len(found)}, tables={"events": rows})


def _strongest(session: Session, name: str, fluxes: pd.DataFrame) -> tuple[Figures, pd.DataFrame | None]:
    """Figures of the look, and the scores (`ese_scores`) of the sources that deviate; None if nothing can be said."""
    from dsa110_assets.variability import EventSearch
    from dsa110_assets.variability.ese import suspects
    from dsa110_assets.variability.recent import LOOK_SIGMA, RECENT_D, deviations, factor_from_levels

    ids, time = fluxes["source_id"].to_numpy(np.int64), float(fluxes["time_mjd"].iloc[0])
    states = tables.states_of(session, ids.tolist()).reindex(pd.Index(ids, name="source_id"))
    level, intrinsic = (states[column].to_numpy(np.float64) for column in ("level_jy", "intrinsic"))
    flux, error = (fluxes[column].to_numpy(np.float64) for column in ("flux_jy", "flux_err_jy"))
    factor = factor_from_levels(flux, error, level, intrinsic)
    figures: Figures = {"sources": len(ids), "factor": None if factor is None else factor[0], "deviating": 0}
    if factor is None:
        return figures | {"note": "too few of the sources have been measured before"}, None
    normalized = flux / factor[0]
    new = fluxes.assign(mosaic_name=name, flux_jy=normalized, flux_err_jy=np.hypot(error, normalized * factor[1]) / factor[0])
    recent = _with(light_curves_of(session, ids.tolist(), end_mjd=time, start_mjd=time - RECENT_D), new)
    states = states.reindex(recent.source_id)
    after = recent.time_mjd > np.repeat(np.nan_to_num(states["last_mjd"].to_numpy(np.float64)), recent.counts)
    n_epochs = np.nan_to_num(states["n_epochs"].to_numpy(np.float64)).astype(np.int64) + np.add.reduceat(after, recent.offsets[:-1])
    deviation, epochs = deviations(recent, states.reset_index(), n_epochs, recent.epoch_mjd == recent.epoch_mjd[-1])
    chosen = recent.source_id[deviation >= LOOK_SIGMA].astype(np.int64)
    figures["deviating"] = int(epochs["deviating"].sum())
    if suspects(epochs):
        return figures | {"note": "many sources deviate: check the calibration of the hour first"}, None
    if not chosen.size:
        return figures | {"events": 0}, None
    search = EventSearch()
    whole = light_curves_of(session, chosen.tolist(), end_mjd=time)
    search.add(_with(whole, new.loc[new["source_id"].isin(chosen)]))
    return figures, search.scores(trials=tables.trials(session), suspect_epochs=())


def _fluxes(session: Session, name: str) -> pd.DataFrame:
    columns = Photometry.source_id, Photometry.time_mjd, Photometry.flux_jy, Photometry.flux_err_jy, Photometry.is_limit
    return read_frame(
        session, select(*columns).where(Photometry.mosaic_name == name, Photometry.flux_err_jy > 0).order_by(Photometry.source_id)
    )


def _with(curves: LightCurves | None, new: pd.DataFrame) -> LightCurves:
    """Light curves and one more epoch."""
    from dsa110_assets.variability import LightCurves

    before = [] if curves is None else [curves.to_table()]
    return LightCurves.from_table(
        pd.concat([*before, new[["source_id", "mosaic_name", "time_mjd", "flux_jy", "flux_err_jy", "is_limit"]]], ignore_index=True),
        normalised=True,
    )
