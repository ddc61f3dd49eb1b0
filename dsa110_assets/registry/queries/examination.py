"""What the examination of all sources remembers from night to night.

`source_totals`, `event_searches` (one row for each source) and `examined_epochs`.
"""

# pandas' stubs do not know the type of a selection:
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from dsa110_assets.registry.bulk import array_texts, arrays_of, read_frame_bulk, table_of, upsert_rows
from dsa110_assets.registry.schema import EventSearchRow, ExaminedEpoch, SourceTotals

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

EXTREMES = ("extreme_jy", "extreme_err_jy", "extreme_mjd")

_EPOCHS = """
SELECT e.mosaic_name, e.time_mjd, e.settled, e.updated_at, e.n_measured, x.mosaic_name AS examined, x.time_mjd AS examined_mjd, x.in_totals,
    x.factor_at, x.photometry_version, x.tested, x.deviating
FROM (
    SELECT * FROM epoch_factors f
    WHERE f.usable AND f.time_mjd < :end AND NOT EXISTS (SELECT FROM excluded_epochs o WHERE o.mosaic_name = f.mosaic_name)
) e FULL JOIN examined_epochs x ON x.mosaic_name = e.mosaic_name
"""
_VERSIONS = """
SELECT asked.name, newest.version_id FROM unnest(CAST(:names AS text[])) AS asked(name) CROSS JOIN LATERAL (
    SELECT version_id FROM product_versions WHERE product = 'forced_photometry' AND key = substr(asked.name, 8) ORDER BY version_id DESC LIMIT 1
) AS newest
"""


@dataclass(frozen=True)
class Epochs:
    """Epochs before a time. Sets of names of mosaics.

    ``table``: of the epochs that have usable factors. ``settled``: whose factors do not change any more.
    ``not_recent``: in the totals, or read with the whole light curves of their sources (``touching``: excluded,
    included, changed or late). ``gone``: examined before, and no epochs any more.
    ``unchanged``: in the totals as they are. ``new``: recent, and not examined as
    they are. ``start_mjd``: time of the first recent epoch. ``deviations``: earlier counts of `ExaminedEpoch`.
    ``remembered``: False if later epochs have been examined; then all epochs are new, and nothing may be written.
    """

    table: pd.DataFrame
    settled: frozenset[str]
    not_recent: frozenset[str]
    touching: frozenset[str]
    gone: frozenset[str]
    unchanged: frozenset[str]
    new: frozenset[str]
    start_mjd: float
    n_recent: int
    deviations: pd.DataFrame
    remembered: bool


def epochs(session: Session, end_mjd: float) -> Epochs:
    """Compare the epochs that have usable factors with those that were examined. Reads one row for each epoch."""
    import numpy as np
    import pandas as pd

    found = pd.read_sql(text(_EPOCHS), session.connection(), params={"end": float(end_mjd)})
    remembered = not bool((found["examined_mjd"] >= end_mjd).any())
    if not remembered:
        found = found.assign(examined=None, in_totals=None, factor_at=None, tested=0, deviating=0)
    found["name"] = found["mosaic_name"].fillna(found["examined"]).astype(str)
    present, seen = found["mosaic_name"].notna(), found["examined"].notna()
    if not remembered:
        found, present, seen = found[present], present[present], seen[present]
    summed = seen & (found["in_totals"] == True)  # noqa: E712 - None is neither
    settled = present & (found["settled"] == True)  # noqa: E712
    same = present & (found["updated_at"] == found["factor_at"]) & settled
    newest = float(found.loc[summed, "examined_mjd"].max()) if summed.any() else -np.inf
    late = settled & ~summed & (found["time_mjd"] < newest)
    touching = (summed & ~same) | late
    recent = present & ~summed & ~late
    versions = dict(session.execute(text(_VERSIONS), {"names": found.loc[recent, "name"].tolist()}).tuples().all())
    version = found["name"].map(versions).fillna(0).astype(np.int64)
    new = recent & (~seen | (found["photometry_version"].fillna(-1).astype(np.int64) != version))
    times = found.loc[recent, "time_mjd"]
    start = float(times.min()) if len(times) else float(end_mjd)

    def names(chosen: Any) -> frozenset[str]:
        return frozenset(found.loc[chosen, "name"].tolist())

    counts = found.loc[seen & ~new & ~touching, ["name", "tested", "deviating"]].rename(columns={"name": "mosaic_name"})
    return Epochs(
        found.loc[present].assign(photometry_version=version[present]),
        settled=names(settled),
        not_recent=names(present & ~recent & (found["time_mjd"] >= start)),
        touching=names(touching),
        gone=names(seen & ~present),
        unchanged=names(summed & same),
        new=names(new),
        start_mjd=start,
        n_recent=int(found.loc[recent, "n_measured"].sum()),
        deviations=counts.astype({"tested": np.int64, "deviating": np.int64}),
        remembered=remembered,
    )


def parts(session: Session, found: Epochs, at_once: int) -> list[tuple[int, int]]:
    """First and last identifier of runs of sources with about ``at_once`` recent measurements or fewer."""
    limits = session.execute(text("SELECT min(source_id), max(source_id), count(*) FROM sources")).one()
    if limits[0] is None or not found.n_recent:
        return []
    number = -(-found.n_recent // at_once)
    edges = [limits[0] + (limits[1] + 1 - limits[0]) * k // number for k in range(number + 1)]
    return [(first, after - 1) for first, after in itertools.pairwise(edges) if after > first]


def touched_sources(session: Session, found: Epochs) -> NDArray[np.int64]:
    """Sources that were measured in epochs whose points in the totals are not right any more, or added to past epochs.

    What was added counts as examined once this transaction commits.
    """
    import numpy as np

    measured = "SELECT source_id FROM photometry WHERE mosaic_name = ANY(:names)"
    summed = "SELECT unnest(source_ids) FROM examined_epochs WHERE mosaic_name = ANY(:names)"
    ids = set(session.scalars(text(f"{measured} UNION {summed}"), {"names": sorted(found.touching)})) if found.touching else set[int]()
    if found.remembered:
        added = (
            "WITH added AS (UPDATE position_additions SET unexamined = false WHERE unexamined RETURNING listed_at) "
            "SELECT s.source_id FROM sources s JOIN added USING (listed_at)"
        )
        ids |= set(session.scalars(text(added)))
    return np.array(sorted(ids), dtype=np.int64)


def totals(session: Session) -> tuple[pd.DataFrame, NDArray[np.int64], list[NDArray[np.float64]]]:
    """`SourceTotals` of all sources by identifier: the numbers; offsets and values of the extremes."""
    import numpy as np

    frame = read_frame_bulk(session, select(*table_of(SourceTotals).columns).order_by(SourceTotals.source_id))
    lists = [arrays_of(frame[name]) for name in EXTREMES]
    return frame, lists[0][0] if len(frame) else np.zeros(1, dtype=np.int64), [values for _, values in lists]


def states(session: Session) -> pd.DataFrame:
    """`EventSearchRow` of all sources, by ``source_id`` (index)."""
    return read_frame_bulk(session, select(*table_of(EventSearchRow).columns)).set_index("source_id")


def no_states() -> pd.DataFrame:
    """The same without a source."""
    import pandas as pd

    names = [column.name for column in table_of(EventSearchRow).columns if column.name != "source_id"]
    return pd.DataFrame(columns=names, index=pd.Index([], name="source_id", dtype="int64"), dtype=float)


def trials(session: Session) -> float:
    """Number of tests on all sources so far."""
    return float(session.scalar(text("SELECT coalesce(sum(trials), 0) FROM event_searches")))


def newest_examined(session: Session) -> float | None:
    """Time of the newest epoch that was examined, UTC MJD."""
    return session.scalar(select(ExaminedEpoch.time_mjd).order_by(ExaminedEpoch.time_mjd.desc()).limit(1))


def states_of(session: Session, source_ids: list[int]) -> pd.DataFrame:
    """`EventSearchRow` of some sources, by ``source_id`` (index)."""
    query = select(*table_of(EventSearchRow).columns).where(EventSearchRow.source_id.in_(source_ids))
    return read_frame_bulk(session, query).set_index("source_id")


def save_epochs(session: Session, found: Epochs, counted: pd.DataFrame) -> None:
    """Remember the epochs as examined; ``counted``: ``mosaic_name, tested, deviating``."""
    by_name = counted.set_index("mosaic_name")
    table = found.table
    changes = ~table["name"].isin(found.unchanged)
    rows = table.loc[changes].assign(in_totals=table["settled"], factor_at=table["updated_at"])
    for name in ("tested", "deviating"):
        rows[name] = by_name[name].reindex(rows["name"]).fillna(0).astype(int).to_numpy()
    upsert_rows(
        session,
        ExaminedEpoch,
        rows,
        ("mosaic_name", "time_mjd", "in_totals", "factor_at", "photometry_version", "tested", "deviating"),
    )
    session.execute(
        text(
            "UPDATE examined_epochs x SET source_ids = (SELECT array_agg(p.source_id ORDER BY p.source_id) FROM photometry p "
            "WHERE p.mosaic_name = x.mosaic_name) WHERE x.mosaic_name = ANY(:names)"
        ),
        {"names": rows.loc[rows["in_totals"].astype(bool), "name"].tolist()},
    )
    if found.gone:
        session.execute(delete(ExaminedEpoch).where(ExaminedEpoch.mosaic_name.in_(sorted(found.gone))))


def save_totals(session: Session, numbers: pd.DataFrame, offsets: NDArray[np.int64], extremes: list[NDArray[np.float64]]) -> None:
    """Insert or replace rows of `SourceTotals`."""
    lists = {name: array_texts(offsets, values) for name, values in zip(EXTREMES, extremes, strict=True)}
    upsert_rows(session, SourceTotals, numbers.assign(**lists), [column.name for column in table_of(SourceTotals).columns])


def save_searches(session: Session, searched: pd.DataFrame) -> None:
    """Insert or replace rows of `EventSearchRow`."""
    upsert_rows(session, EventSearchRow, searched, [column.name for column in table_of(EventSearchRow).columns])


def forget(session: Session, source_ids: NDArray[np.int64]) -> None:
    """Delete what is remembered of sources that have no light curve any more."""
    numbers = source_ids.tolist()
    if numbers:
        session.execute(delete(SourceTotals).where(SourceTotals.source_id.in_(numbers)))
        session.execute(delete(EventSearchRow).where(EventSearchRow.source_id.in_(numbers)))
