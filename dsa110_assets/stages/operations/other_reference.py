"""Solve the calibrator transits of a night again with another reference antenna, because a person asked for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from dsa110_assets.errors import InvalidRequestError
from dsa110_assets.registry.queries.control import transits_of_night
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.calibrator import SolveOptions, solve_transit
from dsa110_assets.stages.provenance.recording import StageResult


def solve_with(platform: Platform, night: str, refant: str, run_id: str) -> list[StageResult]:
    """Solve all transits of a night with a reference antenna, and register the tables with their verdicts.

    New tables replace those of the same transit, accepted or not. Observations that used them are calibrated again.

    Args:
        platform: the platform.
        night: UTC date.
        refant: name of the antenna, such as ``103``. If it is mostly flagged, a fallback is taken and named.
        run_id: of the run.

    Raises:
        InvalidRequestError: no calibrator transit of this night has a Measurement Set.
        ConfigurationError: the array has no such antenna.
    """
    with platform.database.session() as session:
        transits = transits_of_night(session, date.fromisoformat(night))
    if not transits:
        raise InvalidRequestError(night, "no calibrator transit of this night has a Measurement Set", "choose another night")
    options = replace(SolveOptions.from_config(platform.config), refant=refant, must_have_refant=True)
    return [solve_transit(platform, group_id, calibrator, run_id, options=options) for group_id, calibrator in transits]
