"""The stage of the light curves: the factors of the epochs.

A night's update fits the epochs of the last `normalisation.LAG_DAYS` together. Older epochs are settled: their factors
stay, and they take part through the sums that they left for each reference (`registry.queries.factors`). A settled
epoch that was measured again, or is excluded or included again, is taken out of the sums and fitted again. So an update
reads what the lag holds and what has changed, however long the history is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.registry.queries.factors import (
    claim_epochs,
    lock_light_curves,
    merge_gauge,
    noise_scale_before,
    reference_levels,
    replace_factors,
    settle,
    unsettled_epochs,
)
from dsa110_assets.registry.queries.measurements import excluded_epochs, photometry, sources_since
from dsa110_assets.registry.queries.sources import source_table
from dsa110_assets.registry.schema import ProductVersion
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.provenance.recording import Measured, StageResult, measured
from dsa110_assets.stages.provenance.versions import register, versions_of
from dsa110_assets.stages.table import FORCED_PHOTOMETRY, LIGHT_CURVES
from dsa110_assets.times import datetime_to_mjd

if TYPE_CHECKING:
    from dsa110_assets.variability import LightCurves
    from dsa110_assets.variability.normalisation import Normalisation


def update_light_curves(platform: Platform, night: str, run_id: str) -> StageResult:
    """Find the factors of the epochs up to and including a night; the view `light_curves` divides the fluxes by them.

    There are none before a source has two epochs. With many measurements, they come from the brightest cataloged
    sources and a sample of all. So memory does not grow with the number of sources.
    """
    from dsa110_assets.variability.normalisation import window_of
    from dsa110_assets.variability.reports import LightCurveReport

    end = datetime_to_mjd(datetime.fromisoformat(f"{night}T00:00:00+00:00") + timedelta(days=1))
    with platform.database.session() as session:
        lock_light_curves(session)
        with measured() as cost:
            excluded = excluded_epochs(session)
            new = claim_epochs(session, end)
            epochs = unsettled_epochs(session, end)
            new |= set(epochs.loc[epochs["factor"].isna(), "mosaic_name"])
            sources = source_table(session, active_only=False)
            fitted: tuple[LightCurves, Normalisation] | None = None
            while len(epochs):
                window, cut = window_of(epochs["time_mjd"].to_numpy(float))
                some = epochs.iloc[:window]
                fitted = _fit(session, some, sources)
                old = some.loc[some["time_mjd"] < cut, "mosaic_name"].tolist()
                _write(session, some, fitted, new | set(old))
                settle(session, old)
                epochs = epochs.loc[~epochs["mosaic_name"].isin(old)]
                if window >= len(epochs) + len(old):
                    break
            inputs = _inputs(session, night, new | set(epochs["mosaic_name"]))
        if fitted is None:
            note = "no source has two epochs yet: nothing to compare"
            empty = StageResult(LIGHT_CURVES.name, night, figures={"sources": 0, "note": note})
            return register(session, platform, empty, path=None, inputs=inputs, cost=Measured(), run_id=run_id)
        curves, scale = fitted
        n_points = int(epochs.loc[epochs["mosaic_name"].isin(scale.epoch_name[scale.usable].tolist()), "n_measured"].sum())
        report = LightCurveReport(
            curves,
            scale,
            n_sources=_number_of_sources(session, epochs),
            n_points=n_points,
            n_excluded=len(excluded),
            names=sources.set_index("source_id")["name"].to_dict(),
        )
        result = StageResult(LIGHT_CURVES.name, night, figures=report.figures(), tables=report.details())
        return register(session, platform, result, path=None, inputs=inputs, cost=cost, run_id=run_id)


def _number_of_sources(session: Session, epochs: pd.DataFrame) -> int:
    """Number of sources that were measured since the first of these epochs."""
    return 0 if epochs.empty else sources_since(session, float(epochs["time_mjd"].to_numpy(float).min()) - 0.5)


def _fit(session: Session, epochs: pd.DataFrame, sources: pd.DataFrame) -> tuple[LightCurves, Normalisation] | None:
    """Fit epochs with the history of their sources; None while no source has two epochs."""
    from dsa110_assets.variability import LightCurves, fit_normalisation
    from dsa110_assets.variability.lightcurves import parts_of
    from dsa110_assets.variability.normalisation import History, sample_of

    whole = len(parts_of(sources["source_id"].to_numpy(), len(epochs))) < 2
    fluxes = _fluxes(session, epochs, None if whole else sample_of(sources))
    levels = reference_levels(session)
    if fluxes.empty or (levels.empty and int(fluxes["source_id"].value_counts().max()) < 2):
        return None
    curves = LightCurves.from_table(fluxes)
    known = sources.set_index("source_id").reindex(curves.source_id)
    history = None
    if len(levels):
        columns = {name: levels[name].to_numpy() for name in ("source_id", "weight", "weighted_flux", "gauge")}
        history = History(**columns, noise_scale=noise_scale_before(session, float(epochs["time_mjd"].iloc[0])))
    scale = fit_normalisation(
        curves,
        reference=known["reference_flux_jy"].notna().to_numpy(),
        position_deg=known[["ra_deg", "dec_deg"]].to_numpy(float),
        history=history,
    )
    return curves, scale


def _fluxes(session: Session, epochs: pd.DataFrame, source_ids: Sequence[int] | None) -> pd.DataFrame:
    """Fluxes of epochs, read run by run: few months of a long history are touched when an old epoch is among them."""
    time = epochs["time_mjd"].to_numpy(float)
    run = np.cumsum(np.diff(time, prepend=time[0]) > 2.0)
    parts = [
        photometry(
            session,
            start_mjd=float(part["time_mjd"].iloc[0]) - 0.5,
            end_mjd=float(part["time_mjd"].iloc[-1]) + 0.5,
            source_ids=source_ids,
            mosaic_names=part["mosaic_name"].tolist(),
            columns=("source_id", "mosaic_name", "time_mjd", "flux_jy", "flux_err_jy", "is_limit"),
        ).astype({"mosaic_name": str})
        for _, part in epochs.groupby(run)
    ]
    return pd.concat(parts, ignore_index=True)


def _write(session: Session, epochs: pd.DataFrame, fitted: tuple[LightCurves, Normalisation] | None, always: set[str]) -> None:
    """Write the factors that have changed, and all of the epochs in ``always``."""
    if fitted is None:
        return
    from dsa110_assets.variability.normalisation import moved

    _, scale = fitted
    for gauge, (into, factor) in scale.merged.items():
        merge_gauge(session, gauge, into, factor)
    now = scale.epochs().set_index("mosaic_name").reindex(epochs["mosaic_name"])
    now = now.fillna({"n_reference": 0, "usable": False, "noise_scale": scale.noise_scale, "gauge": -1})
    now = now.astype({"n_reference": "int64", "usable": "bool", "gauge": "int64"})
    written = now.loc[moved(epochs.set_index("mosaic_name"), now) | now.index.isin(list(always))]
    references = scale.references()
    replace_factors(session, written.reset_index(), references.loc[references["mosaic_name"].isin(written.index)])


def _inputs(session: Session, night: str, epochs: set[str]) -> dict[str, int]:
    """Versions that the light curves were made from.

    They are the photometry of the lag and of what was fitted again, and the night before, which stands for the rest.
    """
    inputs = versions_of(session, FORCED_PHOTOMETRY.name, sorted(name.removeprefix("hourly_") for name in epochs))
    before = select(ProductVersion.key).where(ProductVersion.product == LIGHT_CURVES.name, ProductVersion.key < night)
    previous = session.scalar(before.order_by(ProductVersion.key.desc()).limit(1))
    return inputs if previous is None else inputs | versions_of(session, LIGHT_CURVES.name, [previous])
