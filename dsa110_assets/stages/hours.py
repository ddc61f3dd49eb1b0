"""Hours that a tile takes part in: mosaics overlap, so there may be two."""

from __future__ import annotations

from datetime import timedelta

from dsa110_assets.times import mjd_to_datetime


def hours_near(mid_mjd: float, reach_minutes: float) -> list[str]:
    """Hours, ``YYYY-MM-DDTHH``, that contain a time (a tile's middle) when they reach so far on both sides.

    >>> hours_near(61100.0, 10)  # midnight
    ['2026-02-28T23', '2026-03-01T00']
    """
    when, reach = mjd_to_datetime(mid_mjd), timedelta(minutes=reach_minutes)
    first = (when - reach).replace(minute=0, second=0, microsecond=0)
    hours = [first + timedelta(hours=number) for number in range(int(2 * reach / timedelta(hours=1)) + 2)]
    return [f"{hour:%Y-%m-%dT%H}" for hour in hours if hour - reach <= when < hour + timedelta(hours=1) + reach]
