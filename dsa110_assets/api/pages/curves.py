"""Small light curves for lists, drawn on the server: places of points, bars and arrows in a box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsa110_assets.api.pages.formats import flux, utc

WIDTH, HEIGHT, MARGIN = 360, 90, 6


@dataclass(frozen=True)
class Curve:
    """A light curve in pixels, y downward.

    ``points``: x, y, half a bar, whether a limit. ``event``: its left side and width; None without an event.
    """

    points: list[tuple[float, float, float, bool]]
    event: tuple[float, float] | None
    summary: str
    width: int = WIDTH
    height: int = HEIGHT


def small_curve(points: Sequence[Mapping[str, Any]], event_mjd: tuple[float, float] | None = None) -> Curve | None:
    """Place fluxes, and the range of an event, in a box; None without fluxes."""
    if not points:
        return None
    times = [point["time_mjd"] for point in points]
    start, end = min(*times, *(event_mjd or times)), max(*times, *(event_mjd or times))
    low = min(point["flux_jy"] - point["flux_err_jy"] for point in points)
    high = max(point["flux_jy"] + point["flux_err_jy"] for point in points)
    per_day = (WIDTH - 2 * MARGIN) / max(end - start, 1e-3)
    per_jy = (HEIGHT - 2 * MARGIN) / max(high - low, 1e-9)

    def x(mjd: float) -> float:
        return round(MARGIN + (mjd - start) * per_day, 1)

    placed = [
        (
            x(one["time_mjd"]),
            round(HEIGHT - MARGIN - (one["flux_jy"] - low) * per_jy, 1),
            round(one["flux_err_jy"] * per_jy, 1),
            one["is_limit"],
        )
        for one in points
    ]
    event = None if event_mjd is None else (x(event_mjd[0]) - 3, x(event_mjd[1]) - x(event_mjd[0]) + 6)
    summary = f"{len(points)} flux{'es' if len(points) != 1 else ''} from {flux(low)} to {flux(high)}, {utc(start)[:10]} to {utc(end)[:10]}"
    return Curve(placed, event, summary)
