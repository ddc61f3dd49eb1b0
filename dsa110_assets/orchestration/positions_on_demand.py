"""The job `measure_position`: fluxes at a position in past mosaics, as `dsa110 photometry position` measures them."""

from typing import Any

import dagster as dg
from pydantic import Field

from dsa110_assets.orchestration.metadata import table
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import explained_failures

_MOST_ROWS = 200


class PositionRequest(dg.Config):
    """Which position to measure."""

    ra_deg: float = Field(ge=0.0, lt=360.0, description="Right ascension, degrees, ICRS.")
    dec_deg: float = Field(ge=-90.0, le=90.0, description="Declination, degrees, ICRS.")
    mosaics: int = Field(default=30, ge=1, le=_MOST_ROWS, description="Number of hourly mosaics, the newest first.")
    before: str | None = Field(default=None, description="Only mosaics before this observation.")


@dg.op(description="Measures a position in the newest hourly mosaics that cover it; the search page shows the fluxes.", pool="cpu")
def fluxes_at_position(context: dg.OpExecutionContext, config: PositionRequest, platform: PlatformResource) -> None:
    """Measure the position."""
    from dsa110_assets.stages.operations import positions

    with explained_failures():
        found = positions.measure_at(
            platform.open(), config.ra_deg, config.dec_deg, context.run_id, most=config.mosaics, before=config.before
        )
    metadata: dict[str, Any] = {"mosaics": len(found.rows), "left_out": len(found.left_out)}
    if found.rows:
        metadata["fluxes"] = table([{key: "" if value is None else value for key, value in row.items()} for row in found.rows])
    if found.left_out:
        metadata["left out"] = table([{"mosaic": name, "reason": reason} for name, reason in found.left_out.items()])
    context.add_output_metadata(metadata)


measure_position_job = dg.GraphDefinition(
    name="position_on_demand",
    node_defs=[fluxes_at_position],
    description="Measures any position in past mosaics; fill in the launchpad, or ask on the search page.",
).to_job(name="measure_position")
