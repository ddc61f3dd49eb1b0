"""Indices and events of all sources as of a night, from what is new since the last night.

`source_totals` holds the totals of the epochs whose factors are settled, `event_searches` the result of each source's
last search, `examined_epochs` the epochs that were seen. Epochs that were excluded, included, measured again or made
late change their own sources: the whole light curves of these are read again.
"""

# pandas' stubs do not know the type of a selection:
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.registry.bulk import read_frame_bulk
from dsa110_assets.registry.queries import examination as tables
from dsa110_assets.registry.schema import LightCurvePoint

if TYPE_CHECKING:
    from dsa110_assets.variability import EventSearch, LightCurves
    from dsa110_assets.variability.totals import Totals

_COLUMNS = ("source_id", "mosaic_name", "time_mjd", "flux_jy", "flux_err_jy", "is_limit")


@dataclass(frozen=True)
class Examination:
    """Outcome of `examine`.

    ``indices``: of all sources, see `indices.metrics`. ``search``: of the sources that were searched now.
    ``significance``: |z| of the last search of each row of ``indices``, NaN if there was none. ``trials``: tests on all
    sources. ``suspects``: epochs in which many sources deviate. ``n_read``: measurements that were read.
    """

    indices: pd.DataFrame
    search: EventSearch
    significance: NDArray[np.float64]
    trials: float
    suspects: Collection[object]
    n_read: int


def light_curves_of(
    session: Session,
    source_ids: Sequence[int] | tuple[int, int],
    *,
    end_mjd: float,
    start_mjd: float | None = None,
    without: Collection[str] = (),
) -> LightCurves | None:
    """Normalized light curves of sources in a range of time; None if there are none.

    ``source_ids``: a list, or the first and the last identifier. ``without``: names of epochs to leave out.
    """
    from dsa110_assets.variability import LightCurves

    query = select(*[getattr(LightCurvePoint, name) for name in _COLUMNS]).where(LightCurvePoint.time_mjd < end_mjd)
    if start_mjd is not None:
        query = query.where(LightCurvePoint.time_mjd >= start_mjd)
    if isinstance(source_ids, tuple):
        query = query.where(LightCurvePoint.source_id.between(*source_ids))
    else:
        query = query.where(LightCurvePoint.source_id.in_(list(source_ids)))
    if without:
        query = query.where(LightCurvePoint.mosaic_name.not_in(sorted(without)))
    points = read_frame_bulk(session, query, categories=["mosaic_name"])
    return LightCurves.from_table(points, normalised=True) if len(points) else None


def examine(session: Session, end_mjd: float) -> Examination | None:
    """Examine all sources over the epochs before a time and remember the outcome; None without light curves.

    If later epochs have been examined, everything is computed from the light curves and nothing is remembered.
    """
    from dsa110_assets.variability import lightcurves
    from dsa110_assets.variability.ese import suspects
    from dsa110_assets.variability.totals import MOMENTS

    epochs = tables.epochs(session, end_mjd)
    state = _State(session, end_mjd, epochs)
    for part in tables.parts(session, epochs, lightcurves.POINTS_AT_ONCE):
        state.examine_recent(part)
    state.read_others()
    if not state.n_read and not state.totals.source_id.size:
        return None
    totals = state.new_totals()
    everything = totals.plus(state.lag)
    table = everything.select(np.flatnonzero(everything.n_epochs > 0)).indices()
    searched = state.search.states()
    states = pd.concat([state.states.loc[~state.states.index.isin(searched["source_id"])], searched.set_index("source_id")])
    states = states.loc[states.index.isin(table["source_id"])]
    counted = state.deviations()
    if epochs.remembered:
        changed = totals.select(
            np.flatnonzero(np.isin(totals.source_id, np.concatenate([state.grown.source_id[state.grown.n_epochs > 0], state.replaced])))
        )
        changed = changed.select(np.flatnonzero(changed.n_epochs > 0))
        numbers = pd.DataFrame(
            {"source_id": changed.source_id, "n_epochs": changed.n_epochs, **dict(zip(MOMENTS, changed.moments, strict=True))}
        )
        tables.save_totals(session, numbers, changed.offsets, [changed.flux_jy, changed.flux_err_jy, changed.time_mjd])
        tables.save_searches(session, searched)
        tables.save_epochs(session, epochs, counted)
        tables.forget(session, np.setdiff1d(state.replaced, table["source_id"].to_numpy()))
    return Examination(
        table,
        state.search,
        states["significance"].reindex(table["source_id"]).to_numpy(np.float64),
        float(states["trials"].sum()),
        suspects(counted),
        state.n_read,
    )


class _State:
    """What is known of all sources while the parts are examined."""

    def __init__(self, session: Session, end_mjd: float, epochs: tables.Epochs) -> None:
        from dsa110_assets.variability import EventSearch
        from dsa110_assets.variability.recent import KEEP_SIGMA
        from dsa110_assets.variability.totals import Totals

        self._session, self._end_mjd, self._epochs = session, end_mjd, epochs
        self.totals = _totals(session) if epochs.remembered else Totals.none()
        self.states = tables.states(session) if epochs.remembered else tables.no_states()
        self.touched = tables.touched_sources(session, epochs)
        self.search, self.n_read = EventSearch(), 0
        self.grown, self.lag, self.renewed = Totals.none(), Totals.none(), Totals.none()
        self.replaced = np.zeros(0, dtype=np.int64)
        self._deviations: list[pd.DataFrame] = []
        loud = self.states["significance"].to_numpy(np.float64) >= KEEP_SIGMA
        self._to_search = set(self.touched.tolist()) | set(self.states.index[loud].tolist())

    def examine_recent(self, part: tuple[int, int]) -> None:
        """Examine the recent epochs of a part of the sources; read whole light curves where that is needed."""
        from dsa110_assets.variability.recent import worth_a_search
        from dsa110_assets.variability.totals import Totals

        recent = light_curves_of(
            self._session, part, end_mjd=self._end_mjd, start_mjd=self._epochs.start_mjd, without=self._epochs.not_recent
        )
        if recent is None:
            return
        self.n_read += int(recent.counts.sum())
        ids = recent.source_id
        before = pd.Series(self.totals.n_epochs, index=self.totals.source_id).reindex(ids, fill_value=0).to_numpy(np.int64)
        states = self.states.reindex(ids).reset_index()
        is_new = np.isin(recent.epoch_name, list(self._epochs.new))
        wanted, deviations = worth_a_search(recent, states, before + recent.counts, is_new)
        self._deviations.append(deviations)
        touched = np.isin(ids, self.touched)
        is_first = states["n_epochs"].isna().to_numpy()
        complete = (before == 0) & ~touched
        for chosen, counts in ((wanted & complete & is_first, True), (wanted & complete & ~is_first, False)):
            if chosen.any():
                self.search.add(recent.select(np.flatnonzero(chosen)), counts_epochs=counts)
        whole = touched | (wanted & ~complete)
        rest = recent.select(np.flatnonzero(~whole))
        self._to_search -= set(ids[whole | wanted].tolist())
        settled = np.isin(rest.epoch_name, list(self._epochs.settled))
        self.grown = self.grown.plus(Totals.of(rest.during(settled)))
        self.lag = self.lag.plus(Totals.of(rest.during(~settled)))
        self._read_whole(ids[whole].astype(np.int64), (before + recent.counts)[whole])

    def read_others(self) -> None:
        """Read the light curves of sources that were touched, or have an event, and have no recent epoch."""
        ids = np.array(sorted(self._to_search), dtype=np.int64)
        self._read_whole(ids, pd.Series(self.totals.n_epochs, index=self.totals.source_id).reindex(ids, fill_value=1).to_numpy(np.int64))

    def _read_whole(self, ids: NDArray[np.int64], n_epochs: NDArray[np.int64]) -> None:
        from dsa110_assets.variability import lightcurves
        from dsa110_assets.variability.totals import Totals

        part = np.cumsum(n_epochs) // lightcurves.POINTS_AT_ONCE
        for number in np.unique(part):
            some = ids[part == number]
            self.replaced = np.concatenate([self.replaced, some])
            curves = light_curves_of(self._session, some.tolist(), end_mjd=self._end_mjd)
            if curves is None:
                continue
            self.n_read += int(curves.counts.sum())
            self.search.add(curves, counts_epochs=False)
            settled = np.isin(curves.epoch_name, list(self._epochs.settled))
            self.renewed = self.renewed.plus(Totals.of(curves.during(settled)))
            self.lag = self.lag.plus(Totals.of(curves.during(~settled)))

    def new_totals(self) -> Totals:
        """Totals of the settled epochs of all sources."""
        kept = self.totals.select(np.flatnonzero(~np.isin(self.totals.source_id, self.replaced)))
        return kept.plus(self.grown).plus(self.renewed)

    def deviations(self) -> pd.DataFrame:
        """Of each epoch: ``mosaic_name, tested, deviating``, earlier counts included."""
        counted = pd.concat([self._epochs.deviations, *self._deviations, self.search.deviations()], ignore_index=True)
        return counted.astype({"mosaic_name": str}).groupby("mosaic_name", as_index=False)[["tested", "deviating"]].sum()


def _totals(session: Session) -> Totals:
    from dsa110_assets.variability.totals import MOMENTS, Totals

    numbers, offsets, extremes = tables.totals(session)
    moments = numbers[list(MOMENTS)].to_numpy(np.float64).T.copy()
    return Totals(numbers["source_id"].to_numpy(np.int64), numbers["n_epochs"].to_numpy(np.int64), moments, offsets, *extremes)
