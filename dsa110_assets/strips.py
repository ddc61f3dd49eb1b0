"""Strips: which pointings belong together. One rule for calibration tables, mosaics and the queue.

The telescope drifts at one pointing declination for days. A strip is the sky that it observes there. A pointing belongs
to a strip when it is within a tolerance of the strip's declination (`cal_declination_tolerance_deg`,
`mosaic_declination_tolerance_deg`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute

TOLERANCE_DEG = 0.5
"""Default of both settings."""


@overload
def in_strip(dec_deg: float, strip_dec_deg: float, tolerance_deg: float) -> bool: ...
@overload
def in_strip(dec_deg: InstrumentedAttribute[Any], strip_dec_deg: Any, tolerance_deg: float) -> ColumnElement[bool]: ...
def in_strip(dec_deg: Any, strip_dec_deg: Any, tolerance_deg: float) -> Any:
    """Whether a pointing belongs to the strip at ``strip_dec_deg``; all in degrees. Columns give a query's condition.

    >>> in_strip(54.6, 54.2, 0.5), in_strip(54.6, 54.0, 0.5)
    (True, False)
    """
    return (dec_deg >= strip_dec_deg - tolerance_deg) & (dec_deg <= strip_dec_deg + tolerance_deg)


def main_strip(declinations_deg: Sequence[float], tolerance_deg: float) -> float:
    """Declination of the strip with most pointings, which is the declination of one of them.

    Among strips with equally many pointings, take the one whose pointings lie closest together, then the southern one.

    >>> main_strip([54.57, 54.58, 16.0, 54.56, 16.1], 0.5)
    54.57

    Raises:
        ValueError: there are no pointings.
    """

    def rank(strip: float) -> tuple[int, float, float]:
        members = [dec for dec in declinations_deg if in_strip(dec, strip, tolerance_deg)]
        return -len(members), sum(abs(dec - strip) for dec in members), strip

    return min(declinations_deg, key=rank)


def is_one_strip(declinations_deg: Sequence[float], tolerance_deg: float) -> bool:
    """Whether one strip holds all pointings. If any does, so does the one in the middle of their range.

    >>> is_one_strip([54.0, 54.9], 0.5), is_one_strip([54.0, 55.1], 0.5)
    (True, False)
    """
    middle = 0.5 * (min(declinations_deg) + max(declinations_deg))
    return in_strip(max(declinations_deg), middle, tolerance_deg)
