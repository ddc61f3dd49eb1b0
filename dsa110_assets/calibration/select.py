"""Which calibration tables an observation gets: a pure function of candidates and observation time (pitfall 14).

The ladder: same night, then neighbouring nights up to a limit, then an error. The nearest in observation time wins, before or
after alike; the declination strip must be the observation's. The same night is the same UTC date or 12 hours to either side, so that the
nearest tables are never on a lower rung just because midnight lies between. No clock is read and no file is opened here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from dsa110_assets.errors import NoCalibrationError
from dsa110_assets.strips import TOLERANCE_DEG, in_strip

SAME_NIGHT_DAYS = 0.5


class Rung(StrEnum):
    """Rungs of the ladder on which tables are found."""

    SAME_NIGHT = "same-night"
    BORROWED = "borrowed"


@dataclass(frozen=True)
class CalCandidate:
    """A registered set of tables. ``path``: its directory; ``mid_mjd``: middle of the calibrator's observation; ``night``: YYYY-MM-DD (UTC)."""

    path: Path
    mid_mjd: float
    declination_deg: float
    night: str
    accepted: bool = True


@dataclass(frozen=True)
class CalChoice:
    """The tables for an observation. ``nights_away`` and ``hours_away`` are signed (positive: later)."""

    candidate: CalCandidate
    rung: Rung
    nights_away: int
    hours_away: float


def select_tables(
    candidates: Iterable[CalCandidate],
    *,
    mid_mjd: float,
    declination_deg: float,
    night: str,
    borrow_days: int = 3,
    declination_tolerance_deg: float = TOLERANCE_DEG,
) -> CalChoice:
    """Choose the tables for an observation.

    Args:
        candidates: all sets that are registered; those not accepted are passed over.
        mid_mjd: middle of the observation (never "now").
        declination_deg: of its pointing.
        night: its UTC date, YYYY-MM-DD.
        borrow_days: farthest night from which tables are borrowed.
        declination_tolerance_deg: largest distance in declination.

    Raises:
        NoCalibrationError: says which rung failed and why; a later attempt may find tables that are solved in between.
    """
    known = list(candidates)
    accepted = [c for c in known if c.accepted]
    strip = [c for c in accepted if in_strip(c.declination_deg, declination_deg, declination_tolerance_deg)]
    here = date.fromisoformat(night)

    def away(c: CalCandidate) -> int:
        return (date.fromisoformat(c.night) - here).days

    near = [c for c in strip if abs(away(c)) <= borrow_days]
    if not near:
        if not accepted:
            cause = f"no accepted calibration tables exist ({len(known)} refused)"
        elif not strip:
            closest = min(abs(c.declination_deg - declination_deg) for c in accepted)
            cause = f"no tables for declination {declination_deg:.2f} +- {declination_tolerance_deg:g} deg (the closest are {closest:.2f} deg off)"
        else:
            cause = f"the nearest tables are {min(abs(away(c)) for c in strip)} nights away, allowed are {borrow_days}"
        raise NoCalibrationError(
            f"{night}, MJD {mid_mjd:.4f}",
            cause,
            "solve a calibrator tile of this night (`dsa110 calibrate --ms MS`) or raise PIPELINE_CAL_BORROW_DAYS",
        )

    def same_night(c: CalCandidate) -> bool:
        return away(c) == 0 or abs(c.mid_mjd - mid_mjd) <= SAME_NIGHT_DAYS

    best = min(near, key=lambda c: (abs(c.mid_mjd - mid_mjd), c.mid_mjd, str(c.path)))
    return CalChoice(best, Rung.SAME_NIGHT if same_night(best) else Rung.BORROWED, away(best), (best.mid_mjd - mid_mjd) * 24.0)
