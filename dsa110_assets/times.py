"""Times and the names made from them: MJD and UTC, identifiers of observations, 5-minute slots, hours.

An observation and all its products are named by its start time, ``YYYY-MM-DDTHH:MM:SS`` (UTC; the first integration in
the header, pitfall 25).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from dsa110_assets.errors import NonRetriableError

MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
JD_MINUS_MJD = 2_400_000.5
SLOT_MINUTES = 5
_GROUP_ID = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})")


def mjd_to_datetime(mjd: float) -> datetime:
    """UTC datetime of a UTC MJD, to the microsecond."""
    return MJD_EPOCH + timedelta(days=mjd)


def datetime_to_mjd(when: datetime) -> float:
    """UTC MJD of an aware datetime."""
    return (when - MJD_EPOCH) / timedelta(days=1)


def group_id_of(start_jd: float) -> str:
    """Identifier of the observation whose first integration is centered on ``start_jd`` (UTC), to the second."""
    return (mjd_to_datetime(start_jd - JD_MINUS_MJD) + timedelta(seconds=0.5)).strftime("%Y-%m-%dT%H:%M:%S")


def group_time(group_id: str) -> datetime:
    """Start of an observation (UTC), from its identifier.

    Raises:
        NonRetriableError: the text is not an identifier.
    """
    if not _GROUP_ID.fullmatch(group_id):
        raise NonRetriableError(group_id, "not an observation's identifier (YYYY-MM-DDTHH:MM:SS)", "list them with `dsa110 ingest status`")
    return datetime.fromisoformat(group_id).replace(tzinfo=UTC)  # C code: pages do it a thousand times


def tile_partition(group_id: str) -> tuple[str, str]:
    """(night, slot) of an observation: ``("2026-03-01", "05:10")``, the 5-minute slot of its start."""
    start = group_time(group_id)
    return group_id[:10], f"{start.hour:02d}:{start.minute - start.minute % SLOT_MINUTES:02d}"


def hour_partition(group_id: str) -> tuple[str, str]:
    """(night, hour) of an observation: ``("2026-03-01", "05")``."""
    start = group_time(group_id)
    return group_id[:10], f"{start.hour:02d}"


def slot_window(night: str, slot: str) -> tuple[datetime, datetime]:
    """Half-open UTC window of a 5-minute slot."""
    start = datetime.strptime(f"{night} {slot}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    return start, start + timedelta(minutes=SLOT_MINUTES)


def hour_window(night: str, hour: str) -> tuple[datetime, datetime]:
    """Half-open UTC window of an hour."""
    start = datetime.strptime(f"{night} {hour}", "%Y-%m-%d %H").replace(tzinfo=UTC)
    return start, start + timedelta(hours=1)
