"""Checks of tile images: blocking, for each partition, with numbers that the UI plots.

A check shows the verdict that was recorded with the image; run on its own (after the limits or the catalogue have changed) it measures the image again and
records the new verdict. A bad verdict keeps what follows in the same run from starting, and the tile out of mosaics (`stages.products.gates`). What cannot be measured fails as
a warning, or blocks where every image has it. What does not belong here: measuring, limits.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import explained_failures, observations_of
from dsa110_assets.quality import gate
from dsa110_assets.stages.table import TILE_IMAGE

if TYPE_CHECKING:
    from dsa110_assets.quality.verdict import Verdict

IMAGE = dg.AssetKey(TILE_IMAGE.name)


def build(partitions: Partitions) -> dg.AssetChecksDefinition:
    """The checks."""
    specs = [
        dg.AssetCheckSpec(name, asset=IMAGE, description=meaning, blocking=True, partitions_def=partitions.tile)
        for name, meaning in gate.TILE_CHECKS.items()
    ]

    @dg.multi_asset_check(name="tile_image_quality", specs=specs, can_subset=True, description=__doc__, pool="cpu")
    def tile_image_quality(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> Iterator[dg.AssetCheckResult]:
        from dsa110_assets.stages.products import gates

        opened = platform.open()
        with_image = context.run.asset_selection is None or IMAGE in context.run.asset_selection
        judged: dict[str, Sequence[Verdict]] = {}
        with explained_failures():
            for group_id in observations_of(context, opened):
                judged[group_id] = gates.tile_verdicts(opened, group_id) if with_image else gates.judge_again(opened, group_id)
        for key in sorted(context.selected_asset_check_keys):
            yield check_result(key.name, judged)

    return tile_image_quality


def check_result(name: str, judged: dict[str, "Sequence[Verdict]"]) -> dg.AssetCheckResult:
    """One check for all observations of a slot: the worst of them counts.

    Args:
        name: of the check.
        judged: verdicts of each observation.
    """
    found = {group_id: next((v for v in verdicts if v.name == name), None) for group_id, verdicts in judged.items()}
    if not found:
        return dg.AssetCheckResult(
            check_name=name,
            asset_key=IMAGE,
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description="not measured: no image in this slot",
        )
    ranked = sorted(found, key=lambda group_id: _badness(name, found[group_id]))
    worst = found[ranked[-1]]
    passed = worst is not None and worst.passed is True
    blocks = gate.blocks(name, None if worst is None else worst.passed)
    words = "never judged" if worst is None else worst.reason if worst.passed is not None else f"not measured: {worst.reason}"
    numbers = {} if worst is None else {"value": worst.value, "lowest": worst.low, "highest": worst.high}
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=IMAGE,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        description=words if len(found) == 1 else f"{ranked[-1]}: {words}",
        metadata={
            **{label: dg.MetadataValue.float(float(number)) for label, number in numbers.items() if number is not None},
            "observation": ranked[-1],
            "verdict": "not measured" if worst is None else worst.outcome.value,
        },
    )


def _badness(name: str, verdict: "Verdict | None") -> int:
    passed = None if verdict is None else verdict.passed
    return 0 if passed is True else 2 if gate.blocks(name, passed) else 1
