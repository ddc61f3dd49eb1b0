"""How an asset runs a stage: observations of a partition, errors as Dagster failures, the result as metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

from dsa110_assets.errors import LeaseLostError, PipelineError, RetriableError
from dsa110_assets.orchestration.launcher import note_host
from dsa110_assets.orchestration.links import observation_page
from dsa110_assets.orchestration.metadata import metadata_of
from dsa110_assets.orchestration.partitions import dimensions_of
from dsa110_assets.quality.gate import WORST_FIRST, TileWord
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.provenance.recording import StageResult
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets.stages.table import TABLE
from dsa110_assets.times import slot_window

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

RUN_NAME = "dsa110-run"
"""What `ps -e` and `top` call the process of a run."""
GROUP_TAG = "dsa110/observation"
ATTEMPT_TAG = "dsa110/attempt"
WORK_TAG = "dsa110/work"
VERDICT_TAG = "dsa110/verdict"
"""Tag of a run that made images: `gate.TileWord`, the worst of several observations."""
NOTHING_TAG = "dsa110/made-nothing"
"""Tag of a run that succeeded without a product: why."""
IS_RETRIABLE = "may pass"
"""Metadata key of a failure: whether the same work may succeed later."""
TileStage = Callable[["Platform", TileRun], StageResult | None]
RETRY = dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL)
"""For assets that the ingest queue does not repeat. Permanent errors are not retried (`explained_failures`)."""


@contextmanager
def explained_failures() -> Iterator[None]:
    """Turn a typed error into a Dagster failure with subject, cause and next step; other errors pass unchanged."""
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
                IS_RETRIABLE: isinstance(error, (RetriableError, LeaseLostError)),  # another run has taken over, and may fail
            },
            allow_retries=isinstance(error, RetriableError),
        ) from error


@contextmanager
def failures_on_the_asset(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Record a failure as an observation of the asset's partition, with cause, next step and run."""
    try:
        yield
    except Exception as error:  # whatever it is, the asset's page says so; it is raised again
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
    """Tag the run with night, declination and calibrator, so that people can filter by them."""
    from dsa110_assets.stages.queue import intake

    labels = intake.labels_of(platform, group_id)
    if any(context.run.tags.get(name) != value for name, value in labels.items()):
        context.instance.add_run_tags(context.run.run_id, labels)


def observations_of(context: dg.AssetExecutionContext, platform: Platform) -> Sequence[str]:
    """Observations of this run: the one in its tag; for a backfill or a manual run, all of the slot."""
    from dsa110_assets.stages.queue import intake

    tagged = context.run.tags.get(GROUP_TAG)
    if tagged is not None:
        return [tagged]
    dimensions = dimensions_of(context)
    start, end = slot_window(dimensions["date"], dimensions["tile"])
    return intake.observations_between(platform, start, end)


def tile_run(context: dg.AssetExecutionContext, group_id: str) -> TileRun:
    """The run's attempt at an observation: leased by the sensor (its tag), or to be leased by the run itself."""
    selected = context.run.asset_selection
    made_here = [name for name in TABLE.made(Level.TILE) if selected is None or dg.AssetKey(name) in selected]
    # a re-execution has the tags of its parent, whose attempt has ended; it leases the observation again
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
    """Run a stage for each observation of the slot. Yield nothing for an empty slot, or if the stage has to wait."""
    results: list[StageResult] = []
    note_host(context.instance, context.run)
    with failures_on_the_asset(context), explained_failures():
        group_ids = observations_of(context, platform)
    for group_id in group_ids:
        with failures_on_the_asset(context), explained_failures():
            label_run(context, platform, group_id)
            if context.run.parent_run_id and VERDICT_TAG in context.run.tags:  # its parent's; this image is not judged yet
                context.instance.add_run_tags(context.run.run_id, {VERDICT_TAG: TileWord.NOT_MEASURED.value})
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
        page = dg.MetadataValue.url(observation_page(platform.config, results[-1].key))
        yield materialization(results, page=page)
    else:
        made_nothing(context, "the observation waits for calibration tables" if group_ids else "no observation starts in this slot")


def made_nothing(context: dg.AssetExecutionContext, why: str) -> None:
    """Say on the run and on the asset's partition that a success made nothing, and why."""
    context.log.info("nothing was made: %s", why)
    context.instance.add_run_tags(context.run.run_id, {NOTHING_TAG: why})
    if GROUP_TAG in context.run.tags or WORK_TAG in context.run.tags:
        return  # the platform asked, and asks again; the queue shows what waits
    context.instance.report_runless_asset_event(
        dg.AssetObservation(
            context.asset_key,
            description=f"Nothing was made: {why}.",
            metadata={"nothing was made": why, "run": dg.MetadataValue.dagster_run(context.run.run_id)},
            partition=context.partition_key if context.has_partition_key else None,
        )
    )


def run_stage(context: dg.AssetExecutionContext, stage: Callable[[], StageResult | None]) -> Iterator[dg.MaterializeResult]:
    """Run a stage that makes one product, or nothing."""
    with failures_on_the_asset(context), explained_failures():
        result = stage()
    if result is None:
        made_nothing(context, "there is nothing to make it from in this partition")
    else:
        yield materialization([result])


def materialization(results: Sequence[StageResult], **more: Any) -> dg.MaterializeResult:
    """Dagster's record of the results. Verdicts are metadata: checks for each partition would slow Dagster's pages."""
    return dg.MaterializeResult(metadata={**metadata_of(results), **more})
