"""The job `mosaic_build`: makes a mosaic on demand, as `dsa110 mosaic build` does."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from dsa110_assets.errors import ConfigurationError
from dsa110_assets.orchestration.metadata import metadata_of
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import explained_failures

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.products.mosaics import MosaicPlan


class MosaicRequest(dg.Config):
    """Which mosaic to make."""

    name: str = Field(description="Name of a saved plan; or, with times, of the mosaic.")
    since: str = Field(default="", description="Start, UTC, such as 2025-12-01T05:00; empty: use the saved plan.")
    until: str = Field(default="", description="End, UTC, exclusive; with since.")


@dg.op(description="Makes a planned mosaic and registers it; the same as the command `mosaic build`.", pool="cpu")
def build_mosaic(context: dg.OpExecutionContext, config: MosaicRequest, platform: PlatformResource) -> None:
    """Make the mosaic."""
    from dsa110_assets.stages.products import mosaics

    with explained_failures():
        opened = platform.open()
        result = mosaics.build_mosaic(opened, _plan(opened, config), context.run_id)
    metadata: dict[str, Any] = dict(metadata_of([result]))
    context.add_output_metadata(metadata)


def _plan(opened: "Platform", config: MosaicRequest) -> "MosaicPlan":
    from dsa110_assets.stages.products import mosaics

    if not config.since and not config.until:
        return mosaics.load_plan(opened, config.name)
    return mosaics.plan_mosaic(opened, config.name, _time(config.since), _time(config.until))


def _time(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            "time of the mosaic", f"{text!r} is not a time", "write it as 2025-12-01T05:00 in the launchpad"
        ) from error
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


mosaic_build_job = dg.GraphDefinition(
    name="mosaic_on_demand",
    node_defs=[build_mosaic],
    description="Makes a mosaic on demand: of a saved plan or of a time range; fill in the launchpad.",
).to_job(name="mosaic_build")
