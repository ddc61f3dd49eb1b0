"""The asset `stale_products`: a table of what is stale, with a check."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dsa110_assets.orchestration.assets import OWNERS
from dsa110_assets.orchestration.metadata import table
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import explained_failures
from dsa110_assets.stages.table import STALE_PRODUCTS

MOST_ROWS = 200


def build() -> dg.AssetsDefinition:
    """Return the asset."""

    @dg.asset(
        name=STALE_PRODUCTS.name,
        description=STALE_PRODUCTS.description(),
        group_name=STALE_PRODUCTS.group,
        kinds=set(STALE_PRODUCTS.kinds),
        owners=OWNERS,
        check_specs=[dg.AssetCheckSpec("nothing_is_stale", asset=STALE_PRODUCTS.name, description="No product is stale")],
    )
    def stale_products(platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.operations.staleness import stale_partitions, summary

        with explained_failures():
            stale = stale_partitions(platform.open(validate_paths=False))
        metadata: dict[str, Any] = {"stale": dg.MetadataValue.int(len(stale))}
        if stale:
            metadata["what makes them again"] = dg.MetadataValue.job("backfill_stale", location_name="dsa110_assets")
            metadata["by asset"] = table(summary(stale))
            metadata["partitions"] = table(
                [
                    {
                        "asset": one.asset,
                        "partition": one.partition or one.key,
                        "reasons": ", ".join(one.reasons),
                        "made": f"{one.made_at:%F %T}",
                    }
                    for one in stale[:MOST_ROWS]
                ]
            )
        verdict = dg.AssetCheckResult(
            check_name="nothing_is_stale",
            passed=not stale,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{len(stale)} products are stale; the job `backfill_stale` makes them again" if stale else None,
        )
        yield dg.MaterializeResult(metadata=metadata, check_results=[verdict])

    return stale_products
