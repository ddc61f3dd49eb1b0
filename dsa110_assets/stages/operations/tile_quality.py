"""Quality of the tiles of the last day: each check over all tiles, and the tiles that mosaics do not take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from dsa110_assets.quality import gate
from dsa110_assets.quality.verdict import Outcome, Verdict
from dsa110_assets.registry.schema import GroupState, ImageRow, IngestGroup
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import gates

LAST_DAY = timedelta(days=1)


@dataclass(frozen=True)
class CheckOfTiles:
    """One check over several tiles.

    ``bad``: tiles that the check keeps out of mosaics. ``measured``: number of tiles with a value. ``shown``: the
    newest bad tile, or else the newest one with a value, and its outcome; None if there is none.
    """

    name: str
    bad: tuple[str, ...]
    measured: int
    tiles: int
    shown: tuple[str, Verdict] | None

    @property
    def outcome(self) -> Outcome:
        """Bad if one tile is bad; not measured if no tile has a value."""
        return Outcome.BAD if self.bad else Outcome.GOOD if self.measured else Outcome.NOT_MEASURED

    def line(self) -> str:
        """Return in one line how many are bad, the value of the newest one, and what to do."""
        if self.bad:
            figure = "it was never judged" if self.shown is None else gate.describe(self.shown[1])
            step = gate.TILE_CHECKS[self.name].next_step
            return f"bad: {len(self.bad)} of {self.tiles} tiles; {self.bad[0]}: {figure}. Next: {step}"
        if not self.measured:
            return f"not measured in any of {self.tiles} tiles" if self.tiles else "no tile was made in the last day"
        return f"good: {self.measured} of {self.tiles} tiles" + (f"; not measured: {left}" if (left := self.tiles - self.measured) else "")


@dataclass(frozen=True)
class TileQuality:
    """Verdicts (of all tiles, newest first) and checks (over the tiles that are not provisional)."""

    verdicts: Mapping[str, gate.TileVerdict]
    checks: Sequence[CheckOfTiles]

    def refused(self) -> dict[str, gate.TileVerdict]:
        """Tiles that mosaics do not take."""
        return {group_id: verdict for group_id, verdict in self.verdicts.items() if not verdict.is_good}


def quality_of_last_day(platform: Platform, now: datetime) -> TileQuality:
    """Quality of the tiles whose observations were completed in the day before ``now``."""
    query = (
        select(ImageRow.group_id)
        .join(IngestGroup, IngestGroup.group_id == ImageRow.group_id)
        .where(IngestGroup.state == GroupState.COMPLETED, IngestGroup.completed_at > now - LAST_DAY)
        .order_by(ImageRow.group_id.desc())
    )
    with platform.database.session() as session:
        group_ids = session.scalars(query).all()
        verdicts = gates.verdicts(session, group_ids)
        checks = gates.checks_of(session, group_ids)
    final = [group_id for group_id in group_ids if group_id in verdicts and not verdicts[group_id].provisional]
    return TileQuality(verdicts, [_over(name, {group_id: checks[group_id] for group_id in final}) for name in gate.TILE_CHECKS])


def _over(name: str, checks: Mapping[str, Collection[Verdict]]) -> CheckOfTiles:
    found = {group_id: next((one for one in outcomes if one.name == name), None) for group_id, outcomes in checks.items()}
    bad = tuple(group_id for group_id, one in found.items() if gate.refuses(name, None if one is None else one.passed))
    measured = [group_id for group_id, one in found.items() if one is not None and one.passed is not None]
    shown = next(((group_id, one) for group_id in (*bad, *measured) if (one := found[group_id]) is not None), None)
    return CheckOfTiles(name, bad, len(measured), len(found), shown)
