"""The strip of declination: which pointings belong together. One rule for calibration tables, mosaics and the queue.

The telescope drifts at one declination for days; a strip is what it observes there. Pointings belong to the strip at a
declination when they lie within a tolerance of it (`cal_declination_tolerance_deg`, `mosaic_declination_tolerance_deg`).
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
    """Whether a pointing belongs to the strip at ``strip_dec_deg``; all in degrees. For columns it is a condition of a query.

    >>> in_strip(54.6, 54.2, 0.5), in_strip(54.6, 54.0, 0.5)
    (True, False)
    """
    return (dec_deg >= strip_dec_deg - tolerance_deg) & (dec_deg <= strip_dec_deg + tolerance_deg)


def main_strip(declinations_deg: Sequence[float], tolerance_deg: float) -> float:
    """The declination of the strip with most pointings; it is the declination of one of them.

    Of strips with equally many pointings it is the one whose pointings lie closest together; then the southern one.

    >>> main_strip([54.57, 54.58, 16.0, 54.56, 16.1], 0.5)
    54.57

    Raises:
        ValueError: there is no pointing.
    """

    def rank(strip: float) -> tuple[int, float, float]:
        members = [dec for dec in declinations_deg if in_strip(dec, strip, tolerance_deg)]
        return -len(members), sum(abs(dec - strip) for dec in members), strip

    return min(declinations_deg, key=rank)


def is_one_strip(declinations_deg: Sequence[float], tolerance_deg: float) -> bool:
    """Whether there is a strip that holds all pointings: one at the middle of their range, if any.

    >>> is_one_strip([54.0, 54.9], 0.5), is_one_strip([54.0, 55.1], 0.5)
    (True, False)
    """
    middle = 0.5 * (min(declinations_deg) + max(declinations_deg))
    return in_strip(max(declinations_deg), middle, tolerance_deg)
