"""Monthly partitions of the `photometry` table, made when a measurement needs them.

There is no default partition. So a row outside all partitions is an error, and a new partition need not scan the
default one.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.times import datetime_to_mjd, mjd_to_datetime

_LOCK = 0x0D5A_0111
_FIRST_MJD = datetime_to_mjd(datetime(2000, 1, 1, tzinfo=UTC))
_LAST_MJD = datetime_to_mjd(datetime(2100, 1, 1, tzinfo=UTC))


def month_bounds(mjd: float) -> tuple[str, float, float]:
    """Name, first MJD (inclusive) and last MJD (exclusive) of the partition that holds a UTC MJD."""
    when = mjd_to_datetime(mjd)
    first = when.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return f"photometry_{first.year:04d}_{first.month:02d}", datetime_to_mjd(first), datetime_to_mjd(last)


def ensure(session: Session, mjd_min: float, mjd_max: float) -> list[str]:
    """Make the partitions from the month of ``mjd_min`` to that of ``mjd_max`` (UTC MJD). Return the new ones.

    Processes that need the same month wait for each other. Readers and writers of other months do not wait, because an
    empty table is attached; creating the partition in place would lock the whole table.

    Raises:
        NonRetriableError: the times are not finite, not in order, or not in this century.
    """
    if not (math.isfinite(mjd_min) and math.isfinite(mjd_max) and _FIRST_MJD <= mjd_min <= mjd_max < _LAST_MJD):
        raise NonRetriableError("photometry", f"times {mjd_min} to {mjd_max} are not MJD of 2000-2099", "check the mosaic's times")
    made: list[str] = []
    mjd = mjd_min
    while True:
        name, first, last = month_bounds(mjd)
        if not _exists(session, name):
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            if not _exists(session, name):  # still not made after the wait
                session.execute(text(f"CREATE TABLE {name} (LIKE photometry INCLUDING DEFAULTS)"))
                session.execute(text(f"ALTER TABLE photometry ATTACH PARTITION {name} FOR VALUES FROM ({first:.1f}) TO ({last:.1f})"))
                made.append(name)
        if last > mjd_max:
            return made
        mjd = last


def _exists(session: Session, name: str) -> bool:
    # not `to_regclass`: it may answer from a cache that is older than the lock
    query = text("SELECT EXISTS (SELECT FROM pg_class WHERE relname = :name AND relispartition AND pg_table_is_visible(oid))")
    return session.execute(query, {"name": name}).scalar_one()
