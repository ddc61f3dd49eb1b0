"""Cells of the timeline: a sign, a color and words for a day or a slot, by state, quality or calibrator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from dsa110_assets.api.routes.timeline import NightOnTimeline, ObservationInSlot, SlotOnTimeline
from dsa110_assets.calibration.select import Rung
from dsa110_assets.ingest.timeline import SlotState
from dsa110_assets.quality.gate import TileWord
from dsa110_assets.registry.schema import GroupState
from dsa110_assets.times import datetime_to_mjd, group_time

MISSING_HOURS = 0.5
"""A day that misses more is amber."""


@dataclass(frozen=True)
class Cell:
    """``sign``: what stands in the cell. ``level``: its color. ``words``: for the tooltip and screen readers.

    ``target``: a day or an observation; empty without a link. ``mjd``: its beginning, UTC; None for a day, which has no
    sidereal time.
    """

    sign: str
    level: str
    words: str
    target: str = ""
    mjd: float | None = None


_STATES = {
    GroupState.COMPLETED: ("✓", "good"),
    GroupState.FAILED: ("✗", "bad"),
    GroupState.IN_PROGRESS: ("▶", "busy"),
    GroupState.PENDING: ("…", "busy"),
    GroupState.COLLECTING: ("+", "busy"),
}
LEVELS = {state: level for state, (_, level) in _STATES.items()}
"""Color of each state."""
_VERDICTS = {TileWord.GOOD: ("✓", "good"), TileWord.REFUSED: ("✗", "bad"), TileWord.NOT_MEASURED: ("?", "warning")}
_WITHOUT = {
    SlotState.EMPTY: ("·", "plain"),
    SlotState.MISSING: ("–", "missing"),
    SlotState.NOT_YET: ("", "future"),
    SlotState.BEFORE: ("", "future"),
}
_HARMLESS = {"good": 0, "plain": 1, "busy": 2, "warning": 3, "bad": 4}
LEGENDS = {
    "state": [("✓", "good", "completed"), ("✗", "bad", "failed"), ("▶", "busy", "in progress"), ("…", "busy", "waiting")],
    "quality": [("✓", "good", "good image"), ("✗", "bad", "refused"), ("?", "warning", "not measured"), ("·", "plain", "no image")],
    "calibrator": [
        ("C", "accent", "calibrator"),
        ("=", "good", "tables of the same night"),
        ("~", "warning", "borrowed tables"),
        ("·", "plain", "not calibrated"),
    ],
}
EMPTY_AND_MISSING = [("·", "plain", "empty: an observation runs through"), ("–", "missing", "missing: nothing observed")]


def day_cell(night: date, found: NightOnTimeline | None, by: str, noise_limit: float) -> Cell:
    """Cell of a day: the number of its observations, or what was asked for."""
    if found is None:
        return Cell("", "future", f"{night}: no observation")
    words = f"{night}: {found.observations} observations, {found.failed} failed, {found.missing_hours:.1f} h missing"
    sign, level = str(found.observations), "good"
    if by == "quality":
        ratio = found.noise_over_thermal
        if ratio is None:
            return Cell("·", "plain", f"{words}; no image", night.isoformat())
        level = "good" if ratio <= noise_limit else "bad"
        return Cell(f"{ratio:.1f}", level, f"{words}; median noise {ratio:.2f} times thermal", night.isoformat())
    if by == "calibrator":
        names = ", ".join(found.calibrators)
        sign, level = (str(len(found.calibrators)), "good") if names else ("0", "warning")
        return Cell(sign, level, f"{words}; calibrators: {names or 'none'}", night.isoformat())
    if found.failed:
        level = "bad"
    elif found.unfinished:
        level = "busy"
    elif found.missing_hours > MISSING_HOURS:
        level = "warning"
    return Cell(sign, level, words, night.isoformat())


def slot_cell(slot: SlotOnTimeline, by: str, start_mjd: float) -> Cell:
    """Cell of a slot that begins at a time: the worst of the observations that begin in it, or why there is none."""
    if not slot.observations:
        sign, level = _WITHOUT[slot.state]
        lost = f", {slot.missing_s:.0f} s" if slot.state is SlotState.MISSING else ""
        return Cell(sign, level, f"{slot.slot} {slot.state}{lost}", mjd=start_mjd)
    return max((_cell(one, by) for one in slot.observations), key=lambda cell: _HARMLESS.get(cell.level, 0))


def _cell(one: ObservationInSlot, by: str) -> Cell:
    sign, level = _STATES[one.state]
    words = f"{one.group_id}: {one.state.replace('_', ' ')}"
    if one.verdict is not None:
        words += f", image {one.verdict}"
    if one.calibrator:
        words += f", calibrator {one.calibrator}"
    if by == "quality":
        sign, level = ("·", "plain") if one.verdict is None else _VERDICTS[one.verdict]
    elif by == "calibrator":
        words += f", tables {one.tables or 'none'}"
        if one.calibrator:
            sign, level = "C", "accent"
        elif one.tables is None:
            sign, level = "·", "plain"
        else:
            sign, level = ("=", "good") if one.tables == Rung.SAME_NIGHT else ("~", "warning")
    return Cell(sign, level, words, one.group_id, datetime_to_mjd(group_time(one.group_id)))
