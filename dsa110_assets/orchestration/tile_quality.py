"""The asset `tile_quality`, with the checks of tiles, and the job `judge_again`.

The checks belong to this asset, which has no partitions and is made once an hour, and not to `tile_image`: Dagster
keeps a row for each check of each run and reads all of them for its pages. The verdict on each tile is in the registry,
in the metadata of its materialization, and on its run (`dsa110/verdict`).
"""

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from dsa110_assets.errors import ConfigurationError
from dsa110_assets.orchestration.assets import OWNERS
from dsa110_assets.orchestration.metadata import table
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import explained_failures
from dsa110_assets.quality import gate
from dsa110_assets.quality.verdict import Outcome
from dsa110_assets.stages.table import TILE_QUALITY

if TYPE_CHECKING:
    from dsa110_assets.stages.operations.tile_quality import CheckOfTiles, TileQuality

MOST_ROWS = 200


def build() -> dg.AssetsDefinition:
    """Return the asset."""

    @dg.asset(
        name=TILE_QUALITY.name,
        description=TILE_QUALITY.description(),
        group_name=TILE_QUALITY.group,
        kinds=set(TILE_QUALITY.kinds),
        owners=OWNERS,
        check_specs=[
            dg.AssetCheckSpec(name, asset=TILE_QUALITY.name, description=check.meaning) for name, check in gate.TILE_CHECKS.items()
        ],
    )
    def tile_quality(platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.operations.tile_quality import quality_of_last_day
        from dsa110_assets.stages.queue.attempts import now

        with explained_failures():
            quality = quality_of_last_day(platform.open(), now())
        yield dg.MaterializeResult(metadata=_metadata(quality), check_results=[check_result(check) for check in quality.checks])

    return tile_quality


def _metadata(quality: "TileQuality") -> dict[str, Any]:
    refused = quality.refused()
    provisional = sum(verdict.provisional for verdict in refused.values())
    metadata: dict[str, Any] = {
        "tiles": len(quality.verdicts),
        "refused": len(refused) - provisional,
        "provisional": provisional,
        "causes": gate.count_bad_checks(verdict for verdict in refused.values() if not verdict.provisional) or "none",
    }
    if refused:
        metadata["not used in mosaics"] = table(
            [
                {"observation": group_id, "verdict": str(verdict.word), "reason": verdict.reason, "next step": verdict.next_step}
                for group_id, verdict in list(refused.items())[:MOST_ROWS]
            ]
        )
    return metadata


def check_result(check: "CheckOfTiles") -> dg.AssetCheckResult:
    """One check over the tiles of the last day, with the value of the newest bad tile, or of the newest one."""
    metadata: dict[str, Any] = {"verdict": str(check.outcome), "refused": len(check.bad), "measured": check.measured, "tiles": check.tiles}
    if check.shown is not None:
        group_id, verdict = check.shown
        numbers = {"value": verdict.value, "lowest": verdict.low, "highest": verdict.high}
        metadata |= {label: dg.MetadataValue.float(float(number)) for label, number in numbers.items() if number is not None}
        metadata["observation"] = group_id
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=check.outcome is Outcome.GOOD,
        severity=dg.AssetCheckSeverity.ERROR if check.bad else dg.AssetCheckSeverity.WARN,
        description=check.line(),
        metadata=metadata,
    )


class JudgeRequest(dg.Config):
    """Which images to judge again."""

    observation: str = Field(default="", description="One observation, such as 2025-12-01T05:03:21.")
    first_night: str = Field(default="", description="Or all images of a night, UTC, such as 2025-12-01.")
    last_night: str = Field(default="", description="Last night; empty: the first.")


@dg.op(description="Judges images by the current limits and catalog, and records the new verdicts.", pool="cpu")
def judge_images(context: dg.OpExecutionContext, config: JudgeRequest, platform: PlatformResource) -> None:
    """Judge the images again and list their verdicts."""
    from dsa110_assets.stages.products import gates

    with explained_failures():
        opened = platform.open()
        if config.observation:
            chosen = [config.observation]
        else:
            chosen = gates.imaged_between(opened, _night(config.first_night), _night(config.last_night or config.first_night))
        rows = [_judged(opened, group_id) for group_id in chosen]
    metadata: dict[str, Any] = {"judged": len(rows), "changed": sum(row["before"] != row["verdict"] for row in rows)}
    if rows:
        metadata["verdicts"] = table(rows[:MOST_ROWS])
    context.add_output_metadata(metadata)


def _judged(opened: Any, group_id: str) -> dict[str, str]:
    from dsa110_assets.stages.products import gates

    with opened.database.session() as session:
        before = gates.verdicts(session, [group_id]).get(group_id)
    after = gates.judge_again(opened, group_id)
    return {"observation": group_id, "before": "" if before is None else str(before.word), "verdict": str(after.word), "line": after.line()}


def _night(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError("night to judge", f"{text!r} is not a date", "write it as 2025-12-01 in the launchpad") from error


judge_again_job = dg.GraphDefinition(
    name="judge",
    node_defs=[judge_images],
    description="Judges images again, after a change of limits (`PIPELINE_QA_...`) or of the catalog; fill in the launchpad.",
).to_job(name="judge_again")
