"""How an asset runs a stage: which observations a partition holds, metadata of a result, errors as Dagster failures.

What does not belong here: what the stage does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

from dsa110_assets.errors import PipelineError, RetriableError
from dsa110_assets.orchestration.metadata import metadata_of
from dsa110_assets.orchestration.partitions import dimensions_of
from dsa110_assets.quality.gate import WORST_FIRST
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.provenance.recording import StageResult
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets.stages.table import TABLE
from dsa110_assets.times import slot_window

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

GROUP_TAG = "dsa110/observation"
ATTEMPT_TAG = "dsa110/attempt"
VERDICT_TAG = "dsa110/verdict"
"""On the run of an image: `gate.TileWord`; of several observations the worst."""
PASSES = "may pass"
"""Name of a failure's metadata: whether the same work may succeed later."""
TileStage = Callable[["Platform", TileRun], StageResult | None]
RETRY = dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL)
"""For assets that no queue repeats. A typed error that cannot pass is not retried (`explained_failures`)."""


@contextmanager
def explained_failures() -> Iterator[None]:
    """Turn a typed error into a Dagster failure that names subject, cause and next step; other errors pass unchanged."""
    try:
        yield
    except PipelineError as error:
        raise dg.Failure(
            description=str(error),
            metadata={
                "subject": error.subject,
                "cause": error.cause,
                "next step": error.next_step,
                "type": type(error).__name__,
                PASSES: isinstance(error, RetriableError),
            },
            allow_retries=isinstance(error, RetriableError),
        ) from error


@contextmanager
def failures_on_the_asset(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Show a failure where people look for a product: as an observation of the asset's partition, with cause, next step and run."""
    try:
        yield
    except Exception as error:
        metadata: dict[str, Any] = {"failed": str(error) or type(error).__name__, "type": type(error).__name__}
        if isinstance(error, dg.Failure):
            metadata |= {"failed": error.description or "", **error.metadata}
        metadata["run"] = dg.MetadataValue.dagster_run(context.run.run_id)
        context.instance.report_runless_asset_event(
            dg.AssetObservation(
                context.asset_key,
                description=f"Failed: {metadata['failed']}"[:1000],
                metadata=metadata,
                partition=context.partition_key if context.has_partition_key else None,
            )
        )
        raise


def label_run(context: dg.AssetExecutionContext, platform: Platform, group_id: str) -> None:
    """Tag the run with what people filter runs by: observation, night, declination, calibrator."""
    from dsa110_assets.stages.queue import intake

    labels = intake.labels_of(platform, group_id)
    if any(context.run.tags.get(name) != value for name, value in labels.items()):
        context.instance.add_run_tags(context.run.run_id, labels)


def observations_of(context: dg.AssetExecutionContext, platform: Platform) -> Sequence[str]:
    """Observations that this run is about: the one in its tag, or (a backfill, a click) all of the slot."""
    from dsa110_assets.stages.queue import intake

    tagged = context.run.tags.get(GROUP_TAG)
    if tagged is not None:
        return [tagged]
    dimensions = dimensions_of(context)
    start, end = slot_window(dimensions["date"], dimensions["tile"])
    return intake.observations_between(platform, start, end)


def tile_run(context: dg.AssetExecutionContext, group_id: str) -> TileRun:
    """Who works: the attempt that the sensor leased (its tag), or a run that takes the observation itself."""
    selected = context.run.asset_selection
    made_here = [name for name in TABLE.made(Level.TILE) if selected is None or dg.AssetKey(name) in selected]
    # a re-execution copies the tags of its parent, whose attempt has ended: it takes the observation anew
    attempt = None if context.run.parent_run_id else context.run.tags.get(ATTEMPT_TAG)

    def is_cancelled() -> bool:
        run = context.instance.get_run_by_id(context.run.run_id)
        return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)

    return TileRun(
        group_id=group_id,
        run_id=context.run.run_id,
        attempt=None if attempt is None else int(attempt),
        final=not made_here or context.asset_key == dg.AssetKey(made_here[-1]),
        is_cancelled=is_cancelled,
    )


def run_tile_stage(context: dg.AssetExecutionContext, platform: Platform, stage: TileStage) -> Iterator[dg.MaterializeResult]:
    """Run a stage for each observation of the slot; an empty slot, or a stage that has to wait, yields nothing."""
    results: list[StageResult] = []
    for group_id in observations_of(context, platform):
        label_run(context, platform, group_id)
        with failures_on_the_asset(context), explained_failures():
            result = stage(platform, tile_run(context, group_id))
        label_run(context, platform, group_id)  # the first stage has found the calibrator
        if result is None:
            context.log.info("%s: nothing to make yet", group_id)
        else:
            results.append(result)
    words = {result.verdict.word for result in results if result.verdict is not None}
    if words:
        context.instance.add_run_tags(context.run.run_id, {VERDICT_TAG: next(word.value for word in WORST_FIRST if word in words)})
    if results:
        yield materialization(results)
    else:
        context.log.info("no observation to process in this slot")


def run_stage(context: dg.AssetExecutionContext, stage: Callable[[], StageResult | None]) -> Iterator[dg.MaterializeResult]:
    """Run a stage that makes one product, or nothing."""
    with failures_on_the_asset(context), explained_failures():
        result = stage()
    if result is None:
        context.log.info("nothing to make in this partition")
    else:
        yield materialization([result])


def materialization(results: Sequence[StageResult]) -> dg.MaterializeResult:
    """Dagster's record of what was made. Quality verdicts are metadata: a check for each partition would make Dagster's pages slow."""
    return dg.MaterializeResult(metadata=dict[str, Any](metadata_of(results)))
