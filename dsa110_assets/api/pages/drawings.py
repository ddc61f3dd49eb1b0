"""Small drawings (SVG) in the coordinates of their frame: figures over time, and the sky. Templates draw them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dsa110_assets.api.pages import formats

WIDTH, HEIGHT = 560.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 8.0, 8.0, 24.0
_MOST_TICKS = 6
_DAYS_FROM_MINUTES = 2880.0
"""Over longer times the axis has days, not hours."""
_SOUTH_DEG, _NORTH_DEG = -40.0, 90.0
SKY_STEP_DEG = 2.0
"""Cells of the sky."""
_TILE_HEIGHT_DEG = 3.4


@dataclass(frozen=True)
class Dot:
    """A point of a drawing: place, what a person reads when pointing at it, address, whether it is as it should be."""

    x: float
    y: float
    title: str
    url: str
    good: bool | None


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Trend:
    """A quality figure over time. ``limits``: heights of its limits. ``outside``: points drawn at the frame's edge."""

    dots: list[Dot]
    limits: list[float]
    times: list[Tick]
    values: list[Tick]
    outside: int
    width: float = WIDTH
    height: float = HEIGHT


def trend(rows: Sequence[dict[str, Any]], url: str) -> Trend | None:
    """Draw the measured values of rows of `pages.quality`, oldest first or last. ``url``: of a row's key, by ``{}``."""
    known = [row for row in rows if row["value"] is not None and math.isfinite(row["value"])]
    if not known:
        return None
    times = [formats.moment(row["key"]) for row in known]
    first, last = min(one for one in times if one), max(one for one in times if one)
    limits = sorted({row[name] for row in known for name in ("limit_low", "limit_high") if row[name] is not None})
    ordinary = _without_outliers(sorted(row["value"] for row in known))
    low, high = min([ordinary[0], *limits]), max([ordinary[-1], *limits])
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    x = _scale(0.0, max((last - first) / timedelta(seconds=1), 1.0), LEFT, WIDTH - RIGHT)
    y = _scale(low - pad, high + pad, HEIGHT - BOTTOM, TOP)
    dots = [
        Dot(
            x((when - first) / timedelta(seconds=1)),
            min(max(y(row["value"]), TOP), HEIGHT - BOTTOM),
            f"{row['key']} UTC: {formats.number(row['value'])}" + (f" ({row['reason']})" if row["reason"] else ""),
            url.format(row["key"]),
            row["passed"],
        )
        for row, when in zip(known, times, strict=True)
        if when is not None
    ]
    outside = sum(not low - pad <= row["value"] <= high + pad for row in known)
    return Trend(dots, [y(one) for one in limits], _time_ticks(first, last, x), _ticks(low - pad, high + pad, y), outside)


@dataclass(frozen=True)
class Cell:
    """A part of the sky. ``today``: covered in the newest day."""

    x: float
    y: float
    width: float
    height: float
    title: str
    today: bool


@dataclass(frozen=True)
class Sky:
    """The sky in right ascension (hours, growing to the left) and declination, with the meridian and the strip."""

    cells: list[Cell]
    meridian: float
    strip: float | None
    hours: list[Tick]
    declinations: list[Tick]
    width: float = WIDTH
    height: float = HEIGHT


def sky(covered: Sequence[tuple[float, float, int, int]], now: datetime, strip_deg: float | None) -> Sky:
    """Draw cells of `today.covered`, the meridian now and the declination of the strip."""
    x = _scale(0.0, 360.0, WIDTH - RIGHT, LEFT)
    y = _scale(_SOUTH_DEG, _NORTH_DEG, HEIGHT - BOTTOM, TOP)
    half = _TILE_HEIGHT_DEG / 2
    cells = [
        Cell(
            x(ra + SKY_STEP_DEG / 2),
            y(min(dec + half, _NORTH_DEG)),
            x(0) - x(SKY_STEP_DEG),
            y(0) - y(_TILE_HEIGHT_DEG),
            f"RA {ra / 15:.1f} h, Dec {dec:+.0f}°: {n} tiles in 30 days, {day} in the newest day",
            day > 0,
        )
        for ra, dec, n, day in sorted(covered, key=lambda one: one[3])
    ]
    return Sky(
        cells,
        x(formats.lst_hours(now) * 15.0),
        None if strip_deg is None else y(strip_deg),
        [Tick(x(hour * 15.0), f"{hour} h") for hour in range(0, 25, 4)],
        [Tick(y(float(dec)), f"{dec:+d}°") for dec in (-30, 0, 30, 60, 90)],
    )


def _scale(low: float, high: float, at_low: float, at_high: float) -> Callable[[float], float]:
    return lambda value: round(at_low + (value - low) / (high - low) * (at_high - at_low), 1)


def _without_outliers(values: Sequence[float]) -> Sequence[float]:
    """The values, in order, within four quartile ranges of the quartiles."""
    lower, upper = values[len(values) // 4], values[3 * len(values) // 4]
    reach = 4 * (upper - lower)
    return [one for one in values if lower - reach <= one <= upper + reach]


def _ticks(low: float, high: float, y: Callable[[float], float]) -> list[Tick]:
    raw = (high - low) / 3
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * one for one in (1, 2, 5, 10) if size * one >= raw)
    first = math.ceil(low / step)
    return [Tick(y(n * step), f"{n * step:g}") for n in range(first, first + _MOST_TICKS) if n * step <= high]


def _time_ticks(first: datetime, last: datetime, x: Callable[[float], float]) -> list[Tick]:
    span = max((last - first) / timedelta(minutes=1), 1.0)
    if span > _DAYS_FROM_MINUTES:
        step = math.ceil(span / 1440.0 / _MOST_TICKS)
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
        days = [midnight + timedelta(days=step * n) for n in range(1, _MOST_TICKS + 2)]
        return [Tick(x((one - first) / timedelta(seconds=1)), f"{one:%b %d}") for one in days if one <= last]
    step = next((one for one in (5, 10, 15, 30, 60, 120, 180, 360) if span / one <= _MOST_TICKS), 720)
    begin = first.replace(minute=0, second=0, microsecond=0)
    moments = [begin + timedelta(minutes=step * n) for n in range(int(span // step) + 15)]
    return [Tick(x((one - first) / timedelta(seconds=1)), f"{one:%H:%M}") for one in moments if first <= one <= last]
