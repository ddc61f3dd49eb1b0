"""Choice of the calibration tables for an observation: a pure function of candidates and observation time (pitfall 14).

The ladder: same night, then neighboring nights up to a limit, then an error. The tables nearest in observation time
win, earlier or later, unless the data say otherwise (`comparison`); they must be of the observation's declination
strip. The same night means the same UTC date or 12 hours to either side, so that the nearest tables never fall to a
lower rung just because midnight lies between. This module reads no clock and opens no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from dsa110_assets.common.figures import Figures
from dsa110_assets.errors import NoCalibrationError
from dsa110_assets.strips import TOLERANCE_DEG, in_strip

SAME_NIGHT_DAYS = 0.5


class Rung(StrEnum):
    """Rungs of the ladder on which tables are found."""

    SAME_NIGHT = "same-night"
    BORROWED = "borrowed"


@dataclass(frozen=True)
class CalCandidate:
    """A registered set of tables.

    ``path``: its directory. ``mid_mjd``: middle of the calibrator's observation. ``night``: YYYY-MM-DD (UTC).
    """

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

    def figures(self) -> Figures:
        """Named figures of the choice."""
        return {"tables": str(self.candidate.path), "tables_from": self.rung.value, "hours_away": self.hours_away}


def to_compare(choices: Sequence[CalChoice], applied: str | None = None) -> list[CalChoice]:
    """The tables that may fit an observation best, nearest first: the nearest on either side in time, and ``applied``.

    Args:
        choices: `valid_tables` of the observation.
        applied: directory of the tables that it has now.
    """
    sides = {later: next((one for one in choices if (one.hours_away > 0) is later), None) for later in (False, True)}
    return [one for one in choices if one in sides.values() or str(one.candidate.path) == applied]


def valid_tables(
    candidates: Iterable[CalCandidate],
    *,
    mid_mjd: float,
    declination_deg: float,
    night: str,
    borrow_days: int = 3,
    declination_tolerance_deg: float = TOLERANCE_DEG,
) -> list[CalChoice]:
    """All tables that are valid for an observation, nearest in time first; at least one.

    Args:
        candidates: all registered sets; those not accepted are skipped.
        mid_mjd: middle of the observation (never "now").
        declination_deg: of its pointing.
        night: its UTC date, YYYY-MM-DD.
        borrow_days: farthest night from which tables are borrowed.
        declination_tolerance_deg: largest distance in declination.

    Raises:
        NoCalibrationError: names the rung that failed and why; a later attempt may find new tables.
    """
    known = list(candidates)
    accepted = [c for c in known if c.accepted]
    strip = [c for c in accepted if in_strip(c.declination_deg, declination_deg, declination_tolerance_deg)]
    observed = date.fromisoformat(night)

    def nights_away(c: CalCandidate) -> int:
        return (date.fromisoformat(c.night) - observed).days

    near = [c for c in strip if abs(nights_away(c)) <= borrow_days]
    if not near:
        if not accepted:
            cause = f"no accepted calibration tables exist ({len(known)} refused)"
        elif not strip:
            closest = min(abs(c.declination_deg - declination_deg) for c in accepted)
            cause = f"no tables for declination {declination_deg:.2f} +- {declination_tolerance_deg:g} deg (the closest are {closest:.2f} deg off)"
        else:
            cause = f"the nearest tables are {min(abs(nights_away(c)) for c in strip)} nights away, the limit is {borrow_days}"
        raise NoCalibrationError(
            f"{night}, MJD {mid_mjd:.4f}",
            cause,
            "solve a calibrator tile of this night (`dsa110 calibrate --ms MS`) or raise PIPELINE_CAL_BORROW_DAYS",
        )

    def same_night(c: CalCandidate) -> bool:
        return nights_away(c) == 0 or abs(c.mid_mjd - mid_mjd) <= SAME_NIGHT_DAYS

    return [
        CalChoice(c, Rung.SAME_NIGHT if same_night(c) else Rung.BORROWED, nights_away(c), (c.mid_mjd - mid_mjd) * 24.0)
        for c in sorted(near, key=lambda c: (abs(c.mid_mjd - mid_mjd), c.mid_mjd, str(c.path)))
    ]
