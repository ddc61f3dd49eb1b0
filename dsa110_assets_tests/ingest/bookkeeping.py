"""Facts about raw files that do not exist, for tests of the queue's rules."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest.arrivals import Booked, FileFacts, accept_files

START = datetime(2026, 3, 1, 5, 10, 11, tzinfo=UTC)
INTEGRATION_DAYS = 12.884901888 / 86400


def julian_date(when: datetime) -> float:
    """UTC Julian date by the definition: JD 2440587.5 is 1970-01-01T00:00 UTC."""
    return 2440587.5 + when.timestamp() / 86400


def facts(
    subband: int, start: datetime = START, *, path: str | None = None, n_times: int = 24, size: int = 145_000_000, mtime_ns: int = 1
) -> FileFacts:
    """Facts about a valid file of one subband. Its name has the start's second unless ``path`` is given."""
    start_jd = julian_date(start)
    return FileFacts(
        path=path or f"/incoming/{start:%Y-%m-%dT%H:%M:%S}_sb{subband:02d}.hdf5",
        subband=subband,
        size_bytes=size,
        mtime_ns=mtime_ns,
        start_jd=start_jd,
        end_jd=start_jd + (n_times - 1) * INTEGRATION_DAYS,
        n_times=n_times,
        dec_deg=54.6,
    )


def observation(subbands: Iterable[int] = range(16), start: datetime = START) -> list[FileFacts]:
    """Facts about files of several subbands of one observation."""
    return [facts(subband, start) for subband in subbands]


def settings(**changes: object) -> PipelineConfig:
    """Configuration with the documented defaults, independent of the environment."""
    values: dict[str, object] = {
        "expected_subbands": 16,
        "min_subbands": 12,
        "group_deadline_s": 600.0,
        "lease_s": 1800.0,
        "max_attempts": 3,
    }
    return PipelineConfig(_env_file=None, **(values | changes))  # type: ignore[arg-type, call-arg]


def accept_file(session: Session, file: FileFacts, now: datetime) -> Booked:
    """Book one file."""
    return accept_files(session, [file], now)[0]
