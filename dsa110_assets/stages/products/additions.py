"""Measure positions that are new on the list in past mosaics.

A run measures a bounded number of mosaics, the newest first, and the sensor requests the next one until all are done.
What was measured before stays, and nothing becomes stale.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets import products
from dsa110_assets.errors import PipelineError
from dsa110_assets.photometry.additions import may_cover, near_any
from dsa110_assets.registry.provenance import record_version
from dsa110_assets.registry.queries.measurements import add_photometry
from dsa110_assets.registry.queries.sources import open_addition, past_mosaics, source_table
from dsa110_assets.registry.schema import MosaicRow, PositionAddition
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.hour import measure_positions, own_positions
from dsa110_assets.stages.provenance.recipes import recipe_of
from dsa110_assets.stages.provenance.recording import StageResult, measured
from dsa110_assets.stages.provenance.versions import amend_content, versions_of
from dsa110_assets.stages.table import ADDED_PHOTOMETRY, FORCED_PHOTOMETRY, HOURLY_MOSAIC, MONITORED_SOURCES

MEASURED_AT_ONCE = 48
"""Mosaics that one run measures: some minutes."""
SEEN_AT_ONCE = 2000
"""Mosaics whose coverage one run looks at; a list with few positions is in few of them."""


def measure_added(platform: Platform, run_id: str) -> StageResult | None:
    """Measure the positions of the oldest addition in the next past mosaics that cover them; None if nothing is left.

    A run that is killed has changed whole mosaics only, and the next one measures the last of them again. A mosaic that
    cannot be measured, because its files were removed, is left out and named. It has the recipe of
    `forced_photometry`, which measures a past hour as a whole when that is made again.
    """
    with platform.database.session() as session:
        addition = open_addition(session)
        if addition is None:
            return None
        listed_at = addition.listed_at
        mosaics = past_mosaics(session, addition.before_mjd, SEEN_AT_ONCE)
        positions = source_table(session, listed_at=listed_at)
    covering = [one for one, covers in zip(mosaics, _covered(mosaics, positions), strict=True) if covers]
    chosen = covering[:MEASURED_AT_ONCE]
    is_last = len(mosaics) < SEEN_AT_ONCE and len(chosen) == len(covering)
    left_out: dict[str, str] = {}
    inputs: dict[str, int] = {}
    fluxes = 0
    with measured() as cost:
        for row in chosen:
            try:
                fluxes += _measure(platform, row, listed_at, pd.Series(positions["source_id"]), inputs)
            except PipelineError as error:
                left_out[row.name] = str(error)
            _advance(platform, listed_at, row.mid_mjd)
    with platform.database.session() as session:
        addition = session.get_one(PositionAddition, listed_at, with_for_update=True)
        if is_last:
            addition.finished_at = datetime.now(UTC)
        elif len(chosen) == len(covering):
            addition.before_mjd = min(addition.before_mjd, mosaics[-1].mid_mjd)
        result = StageResult(
            ADDED_PHOTOMETRY.name,
            f"{listed_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S} to {addition.before_mjd:.4f}",
            figures={
                "positions": len(positions),
                "mosaics": len(chosen) - len(left_out),
                "mosaics_left_out": len(left_out),
                "fluxes": fluxes,
                "mosaics_so_far": addition.mosaics,
                "finished": is_last,
            },
            tables={"left out": [{"mosaic": name, "reason": reason} for name, reason in left_out.items()]},
        )
        result.version_id = record_version(
            session,
            result.product,
            result.key,
            inputs=inputs | versions_of(session, MONITORED_SOURCES.name, ["all"]),
            recipe=recipe_of(FORCED_PHOTOMETRY.name, platform.config),
            duration_s=cost.duration_s,
            peak_memory_mb=cost.peak_memory_mb,
            run_id=run_id,
        )
    return result


def _measure(platform: Platform, mosaic: MosaicRow, listed_at: datetime, added: pd.Series, inputs: dict[str, int]) -> int:
    """Measure the added positions (``source_id``) of a mosaic; return the number of fluxes.

    Positions near them are measured too, because blends are fitted together, but not kept. The mosaic's version is
    added to ``inputs``.
    """
    key = "T".join(products.hour_of_mosaic(mosaic.name))
    with platform.database.session() as session:
        versions = versions_of(session, HOURLY_MOSAIC.name, [key])
        own = own_positions(session, platform, mosaic)
    is_added = own["source_id"].isin(added).to_numpy()
    if not np.any(is_added):
        return 0
    report = measure_positions(mosaic, pd.DataFrame(own.loc[near_any(own, is_added)]))
    with platform.database.session() as session:
        if versions_of(session, HOURLY_MOSAIC.name, [key]) != versions:
            return 0  # the hour is being made again, with these positions
        rows, channels = (
            pd.DataFrame(one.loc[one["source_id"].isin(added)]) if len(one) else one for one in (report.measured, report.channel_fluxes)
        )
        session.get_one(PositionAddition, listed_at, with_for_update=True).unexamined = True
        fluxes = add_photometry(session, mosaic.name, added.tolist(), rows, channels)
        amend_content(session, FORCED_PHOTOMETRY.name, key)
    inputs.update(versions)
    return fluxes


def _covered(mosaics: list[MosaicRow], positions: pd.DataFrame) -> NDArray[np.bool_]:
    return may_cover(
        positions,
        np.array([row.ra_deg for row in mosaics]),
        np.array([row.dec_deg for row in mosaics]),
        np.array([row.end_mjd - row.start_mjd for row in mosaics]),
    )


def _advance(platform: Platform, listed_at: datetime, mid_mjd: float) -> None:
    with platform.database.session() as session:
        addition = session.get_one(PositionAddition, listed_at, with_for_update=True)
        addition.before_mjd, addition.mosaics = min(addition.before_mjd, mid_mjd), addition.mosaics + 1
