"""The table of the Earth's rotation (UT1 - UTC, polar motion): where it is, and until when it is known.

It comes with the package ``astropy-iers-data`` of the lock, and holds a year of predictions (IERS Bulletin A). Later
times get the last value: astropy then only warns, and right ascensions drift by up to 3 arcsec a year. Nothing is
fetched from the network. To refresh it, install a newer ``astropy-iers-data``, from the index or from a wheel file.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path

from dsa110_assets.times import datetime_to_mjd, mjd_to_datetime

WARN_DAYS = 60
"""An end that is nearer than this needs a person."""
REFRESH = "refresh it with `.venv/bin/uv pip install --upgrade astropy-iers-data` (or the file of its wheel), and restart"


def configure() -> None:
    """Let astropy use the packaged table alone, and warn instead of failing after its end."""
    from astropy.utils import iers

    iers.conf.auto_download = False
    iers.conf.auto_max_age = None
    iers.conf.iers_degraded_accuracy = "warn"


@cache
def table_end() -> datetime:
    """Last time (UTC) that the table knows, predictions included.

    It is read from the file itself (finals2000A: MJD in columns 8 to 15, kind of UT1 - UTC in column 58), because
    astropy takes a second to load it.
    """
    import astropy_iers_data

    lines = Path(astropy_iers_data.IERS_A_FILE).read_text(encoding="ascii").splitlines()
    last = next(line for line in reversed(lines) if line[57:58] in ("I", "P"))
    return mjd_to_datetime(float(last[7:15]))


def why_not_known(when: datetime) -> str | None:
    """Why the Earth's rotation is not known at a time, or will soon not be; None if the table lasts.

    Args:
        when: aware time.
    """
    end = table_end()
    days = (end - when).total_seconds() / 86400
    if days < 0:
        return f"the table of the Earth's rotation ended on {end:%Y-%m-%d}; right ascensions drift by up to 3 arcsec a year"
    return f"the table of the Earth's rotation ends on {end:%Y-%m-%d}, in {days:.0f} days" if days < WARN_DAYS else None


def remark(mjd: float) -> str:
    """What a verdict on positions at a UTC MJD must say about the table; empty before its end."""
    ended = mjd > datetime_to_mjd(table_end())
    return f"; {why_not_known(mjd_to_datetime(mjd))}" if ended else ""
