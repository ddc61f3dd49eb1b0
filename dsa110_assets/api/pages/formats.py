"""How pages write times, fluxes, angles and sizes. Every number has its unit; a missing value is a dash."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import erfa
from markupsafe import Markup, escape

from dsa110_assets.times import JD_MINUS_MJD, datetime_to_mjd, group_time, mjd_to_datetime

SITE_LONGITUDE_DEG = -118.28
"""For the sidereal times that pages show, good to a second. Calculations take the site from the raw file's header."""
NOTHING = "–"


def utc(value: Any) -> str:
    """Time in UTC, to the second: of a datetime, of an MJD, of an observation's identifier."""
    when = moment(value)
    return NOTHING if when is None else when.strftime("%Y-%m-%d %H:%M:%S")


def clock(value: Any) -> str:
    """Time of day in UTC, to the second."""
    when = moment(value)
    return NOTHING if when is None else when.strftime("%H:%M:%S")


def mjd(value: Any) -> str:
    """UTC MJD, to 9 seconds."""
    when = moment(value)
    return NOTHING if when is None else f"{datetime_to_mjd(when):.4f}"


def lst(value: Any) -> str:
    """Local mean sidereal time at the telescope, hours and minutes: the right ascension on the meridian."""
    when = moment(value)
    return NOTHING if when is None else _hours(lst_hours(when))


def lst_hours(when: datetime) -> float:
    """Local mean sidereal time in hours. UT1 is taken as UTC: less than a second."""
    jd, day = JD_MINUS_MJD, datetime_to_mjd(when)
    return (math.degrees(erfa.gmst06(jd, day, jd, day)) + SITE_LONGITUDE_DEG) % 360.0 / 15.0


def moment(value: Any) -> datetime | None:
    """Datetime of a datetime, an MJD or an observation's identifier."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, str):
        return group_time(value)
    return None if value is None or not math.isfinite(value) else mjd_to_datetime(float(value))


def age(value: Any, now: datetime | None = None) -> str:
    """Time since a moment, in its two largest units: ``3 h 05 min``."""
    when = moment(value)
    return NOTHING if when is None else duration(((now or datetime.now(UTC)) - when) / timedelta(seconds=1))


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    if seconds < 60:
        return f"{sign}{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{sign}{minutes} min"
    if minutes < 48 * 60:
        return f"{sign}{minutes // 60} h {minutes % 60:02d} min"
    return f"{sign}{minutes // 1440} d {minutes % 1440 // 60} h"


def flux(value: float | None, digits: int = 3) -> str:
    """A flux density or brightness given in Jy: in Jy from 1 Jy on, in mJy from 1 mJy on, in µJy below."""
    if value is None or not math.isfinite(value):
        return NOTHING
    factor, unit = _flux_unit(value)
    return f"{_digits(value * factor, digits)} {unit}"


def measured(value: float | None, error: float | None) -> str:
    """A flux density with its error, both in the unit of the larger one: two digits of the error, as many decimals."""
    if value is None or error is None or not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return flux(value)
    factor, unit = _flux_unit(max(abs(value), error))
    decimals = max(0, 1 - math.floor(math.log10(error * factor)))
    return f"{value * factor:.{decimals}f} ± {error * factor:.{decimals}f} {unit}"


def _flux_unit(value: float) -> tuple[float, str]:
    size = abs(value)
    return (1.0, "Jy") if size >= 1 else (1e3, "mJy") if size >= 1e-3 or size == 0 else (1e6, "µJy")


def number(value: float | None, digits: int = 3) -> str:
    """A number without a unit, to some significant digits."""
    return NOTHING if value is None or not math.isfinite(value) else _digits(value, digits)


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent."""
    return NOTHING if value is None or not math.isfinite(value) else f"{_digits(100 * value, digits)} %"


def right_ascension(degrees: float | None) -> str:
    """Right ascension in hours, to 0.1 s."""
    if degrees is None or not math.isfinite(degrees):
        return NOTHING
    tenths = round(degrees % 360.0 / 15.0 * 36000) % 864_000
    return f"{tenths // 36000:02d}h{tenths // 600 % 60:02d}m{tenths % 600 / 10:04.1f}s"


def declination(degrees: float | None) -> str:
    """Declination in degrees, to 1 arcsec."""
    if degrees is None or not math.isfinite(degrees):
        return NOTHING
    seconds = round(abs(degrees) * 3600)
    return f"{'-' if degrees < 0 else '+'}{seconds // 3600:02d}°{seconds // 60 % 60:02d}′{seconds % 60:02d}″"


def size(n_bytes: float | None) -> str:
    """A number of bytes."""
    if n_bytes is None or not math.isfinite(n_bytes):
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n_bytes) < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def marked(text: str) -> Markup:
    """A text of ours as HTML: commands in backticks as code, addresses as links. Everything else is escaped."""
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"https?://[^\s;&<]+", r'<a href="\g<0>">\g<0></a>', escaped))  # noqa: S704 - escaped above


def _hours(hours: float) -> str:
    minutes = int(hours * 60) % 1440
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _digits(value: float, digits: int) -> str:
    """A number to some significant digits, without an exponent where it can be read easily."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits - 1}e}" if places > 6 or places < -6 else f"{round(value, places):.{max(places, 0)}f}"


FILTERS: dict[str, Callable[..., Any]] = {
    one.__name__: one
    for one in (utc, clock, mjd, lst, age, duration, flux, measured, number, percent, right_ascension, declination, size, marked)
}
"""All of them, under these names in templates."""
