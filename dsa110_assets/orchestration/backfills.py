"""Jobs that start a backfill: of a night, of stale products, of failed observations; and the nights being backfilled.

`dsa110 backfill` starts the same backfills through the web server. `stages.operations.backfill` chooses the partitions.
"""

from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from dsa110_assets.errors import ConfigurationError
from dsa110_assets.orchestration.metadata import table
from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.private import add_backfill, partitions_in_backfills
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import explained_failures
from dsa110_assets.stages.table import TABLE

if TYPE_CHECKING:
    from dsa110_assets.stages.operations.backfill import Backfill


class BackfillRequest(dg.Config):
    """What to make again, at lower priority than live data."""

    first_night: str = Field(default="", description="First night, UTC, such as 2025-12-01; may be empty with only_stale or only_failed.")
    last_night: str = Field(default="", description="Last night; empty: the first.")
    start_from: str = Field(default="", description="First asset to make again, such as calibrated_ms; empty: from the raw files.")
    only_failed: bool = Field(default=False, description="Only observations that failed.")
    only_stale: bool = Field(default=False, description="Only products that are stale.")
    dry_run: bool = Field(default=False, description="Show what would be made; start nothing.")


class NightsRequest(BackfillRequest):
    """Which nights to make again, at lower priority than live data."""

    first_night: str = Field(description="First night, UTC, such as 2025-12-01.")


@dg.op(description="Finds the partitions and starts a Dagster backfill of them; see Runs > Backfills.")
def request_backfill(context: dg.OpExecutionContext, config: BackfillRequest, platform: PlatformResource) -> None:
    """Start a backfill of the requested partitions."""
    _request(context, config, platform)


@dg.op(description="Finds the partitions of the nights and starts a Dagster backfill of them; see Runs > Backfills.")
def request_nights(context: dg.OpExecutionContext, config: NightsRequest, platform: PlatformResource) -> None:
    """Start a backfill of the nights. Without a night, Dagster refuses the configuration before anything runs."""
    _request(context, config, platform)


def _request(context: dg.OpExecutionContext, config: BackfillRequest, platform: PlatformResource) -> None:
    from dsa110_assets.stages.operations import backfill

    with explained_failures():
        opened = platform.open()
        chosen = backfill.plan(
            opened,
            _night(config.first_night),
            _night(config.last_night),
            start=config.start_from or None,
            only_failed=config.only_failed,
            only_stale=config.only_stale,
        )
    metadata: dict[str, Any] = {"products": chosen.size, "left out": "; ".join(chosen.left_out) or "none"}
    if rows := chosen.rows():
        metadata["partitions"] = table(rows)
    if chosen.partitions and not config.dry_run:
        partitions = Partitions.starting(opened.config.partition_start)
        title = "stale products" if config.only_stale else f"{config.first_night} {config.last_night}".strip()
        backfill_id = launch(context.instance, partitions, chosen, title)
        metadata["backfill"] = dg.MetadataValue.text(backfill_id)
        context.log.info("backfill %s of %d products", backfill_id, chosen.size)
    else:
        context.log.info("%d products; nothing was started", chosen.size)
    context.add_output_metadata(metadata)


backfill_job = dg.GraphDefinition(
    name="request",
    node_defs=[request_nights],
    description="Makes a night or a range of nights again; fill in the launchpad. The same as `dsa110 backfill NIGHT`.",
).to_job(name="backfill")
backfill_stale_job = dg.GraphDefinition(
    name="request_stale",
    node_defs=[request_backfill],
    description="Makes the stale products again, and nothing else; the asset `stale_products` lists them.",
).to_job(name="backfill_stale", config=dg.RunConfig(ops={"request_backfill": BackfillRequest(only_stale=True)}))
backfill_failed_job = dg.GraphDefinition(
    name="request_failed",
    node_defs=[request_backfill],
    description="Tries failed observations again: all, or those of the given nights.",
).to_job(name="backfill_failed", config=dg.RunConfig(ops={"request_backfill": BackfillRequest(only_failed=True)}))
JOBS = (backfill_job, backfill_stale_job, backfill_failed_job)


def launch(instance: dg.DagsterInstance, partitions: Partitions, chosen: "Backfill", title: str) -> str:
    """Request a backfill from the daemon; return its identifier."""
    subsets: dict[str, dg.PartitionsSubset | None] = {}
    for asset, keys in chosen.partitions.items():
        definition = partitions.of(TABLE[asset])
        subsets[asset] = definition.subset_with_partition_keys(keys) if definition is not None and keys else None
    tags = {"dagster/max_retries": "0", "dsa110/because": f"backfill of {title}"}
    return add_backfill(instance, subsets, title=f"{title}: {chosen.size} products", tags=tags)


def nights_in_backfills(instance: dg.DagsterInstance) -> frozenset[str]:
    """Nights of running backfills; nothing that follows from them is made until these have ended."""
    return frozenset(key[:10] for key in partitions_in_backfills(instance))


def _night(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise ConfigurationError("night of the backfill", f"{text!r} is not a date", "write it as 2025-12-01 in the launchpad") from error
