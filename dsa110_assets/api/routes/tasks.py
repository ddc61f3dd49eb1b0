"""Tasks and mosaics on demand: runs in Dagster's queue, under the addresses of the earlier task manager.

A task is a run. Its identifier, state and priority are the run's, so they survive every restart.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Query
from fastapi import Path as InPath
from pydantic import BaseModel, Field, model_validator

from dsa110_assets.api.access import Access, Opened, Person
from dsa110_assets.api.answers import Day, Moment, MosaicName, model_of, utc
from dsa110_assets.errors import DagsterUnreachableError, InvalidRequestError, NonRetriableError, NotFoundError
from dsa110_assets.registry.queries import people
from dsa110_assets.registry.queries.pages import MOSAIC
from dsa110_assets.registry.schema import MosaicRow
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.table import TABLE
from dsa110_assets.times import hour_partition, tile_partition

if TYPE_CHECKING:
    from dsa110_assets.stages.products.mosaics import MosaicPlan

router = APIRouter()

DEFAULT_QUEUE = "dsa110-pipeline"
QUEUE_TAG, TASK_TAG, PAYLOAD_TAG, PERSON_TAG, MOSAIC_TAG = (
    "dsa110/queue", "dsa110/task", "dsa110/payload", "dsa110/person", "dsa110/mosaic",
)  # fmt: skip
MOSAIC_BUILD = "mosaic_build"
MEASURE_POSITION = "measure_position"
_OP_JOBS = {
    MOSAIC_BUILD: "build_mosaic",
    "backfill": "request_nights",
    "backfill_stale": "request_backfill",
    "backfill_failed": "request_backfill",
    "judge_again": "judge_images",
    "trial_image": "image_on_trial",
    "solve_again": "solve_with_reference",
    MEASURE_POSITION: "fluxes_at_position",
    "housekeeping": "",
}
"""Jobs that take a configuration instead of a partition, and the op that takes it; empty: the job itself."""
_LONGEST_PAYLOAD = 4000
_QUEUED = ("NOT_STARTED", "QUEUED", "MANAGED")
_RUNNING = ("STARTING", "STARTED", "CANCELING")


class TaskState(StrEnum):
    """States of a task."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_STATES = {
    TaskState.PENDING: _QUEUED,
    TaskState.RUNNING: _RUNNING,
    TaskState.COMPLETED: ("SUCCESS",),
    TaskState.FAILED: ("FAILURE",),
    TaskState.CANCELLED: ("CANCELED",),
}


class TaskRequest(BaseModel):
    """A task: a job of the platform and what it works on."""

    queue: str = Field(DEFAULT_QUEUE, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$", description="A name to list tasks by.")
    task_type: str = Field(max_length=60, pattern=r"^[a-z_]+$", description="A job, such as mosaic_build, hour or night.")
    payload: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description='What it works on: {"name": ...} for mosaic_build; {"observation": ...}, {"night": ...}, or {"night": ..., "hour": ...}.',
    )
    priority: int = Field(0, ge=-1000, le=1000, description="Larger goes first; live observations have 10.")


class Task(BaseModel):
    """A task and its state. ``id``: the run's. ``url``: the run in the Dagster UI.

    ``partition``: what a run of the platform itself works on: an observation, hour or night.
    """

    id: str
    queue: str
    task_type: str
    payload: dict[str, Any]
    partition: str | None
    priority: int
    state: TaskState
    person: str | None
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    url: str


class TaskPage(BaseModel):
    """A page of tasks, newest first."""

    items: list[Task]
    next: str | None


class TaskMetrics(BaseModel):
    """Number of tasks in each state."""

    queue: str | None
    counts: dict[TaskState, int]


class MosaicRequest(BaseModel):
    """A mosaic of a time range, or around the transit of a calibrator."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}$", description="Needed with a time range.")
    since: Moment | None = Field(None, description="Start, UTC unless it names an offset. Also `start_time`.")
    until: Moment | None = Field(None, description="End, exclusive. Also `end_time`.")
    calibrator: str | None = Field(None, max_length=80, pattern=r"^[A-Za-z0-9+._ -]+$")
    timespan_minutes: float = Field(50.0, gt=0, le=1440, allow_inf_nan=False)
    night: Day | None = Field(None, description="UTC date of the transit; default: the newest.")
    declination_deg: float | None = Field(
        None, ge=-90, le=90, allow_inf_nan=False, description="The strip; default: the one with most tiles."
    )

    @model_validator(mode="before")
    @classmethod
    def _earlier_names(cls, given: Any) -> Any:
        """Accept `start_time` and `end_time`, as the earlier pipeline called them."""
        if isinstance(given, dict):
            names = {"start_time": "since", "end_time": "until"}
            return {names.get(str(name), str(name)): value for name, value in given.items()}
        return given


class MosaicRequested(BaseModel):
    """A planned mosaic: its tiles, those left out and why, and the task that makes it."""

    name: str
    declination_deg: float
    tiles: list[str]
    left_out: dict[str, str]
    task: Task


Mosaic = model_of("Mosaic", MOSAIC)


class MosaicStatus(BaseModel):
    """State of a mosaic on demand, or of the platform's own; ``mosaic``: null until it was made."""

    name: str
    state: TaskState
    mosaic: Mosaic | None  # pyright: ignore[reportInvalidTypeForm]
    task: Task | None
    note: str


TaskId = Annotated[str, InPath(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]


@router.get("/api/absurd/task-types", tags=["tasks"])
async def task_types() -> list[str]:
    """Names of all task types: the jobs of the platform."""
    return sorted((*TABLE.jobs(), *_OP_JOBS))


@router.get("/api/absurd/metrics", tags=["tasks"])
def task_metrics(opened: Opened, queue: Annotated[str | None, Query(max_length=63, pattern=r"^[A-Za-z0-9_.-]+$")] = None) -> TaskMetrics:
    """Number of runs in each state: of all runs, or of the tasks of a queue."""
    tags = None if queue is None else {QUEUE_TAG: queue}
    return TaskMetrics(
        queue=queue, counts={state: opened.dagster.count(tags=tags, statuses=statuses) for state, statuses in _STATES.items()}
    )


@router.get("/api/absurd/tasks", tags=["tasks"])
def list_tasks(
    opened: Opened,
    queue: Annotated[str | None, Query(max_length=63, pattern=r"^[A-Za-z0-9_.-]+$")] = None,
    state: TaskState | None = None,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9a-f-]{36}$")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> TaskPage:
    """Runs as tasks, newest first; those of a queue were spawned through the API."""
    runs = opened.dagster.runs(
        tags=None if queue is None else {QUEUE_TAG: queue}, statuses=_STATES[state] if state else (), cursor=cursor, limit=limit + 1
    )
    following = None
    if len(runs) > limit:
        names = {"queue": queue, "state": state, "limit": limit, "cursor": runs[limit - 1]["runId"]}
        following = "/api/absurd/tasks?" + "&".join(f"{name}={value}" for name, value in names.items() if value is not None)
    return TaskPage(items=[task_of(opened, run) for run in runs[:limit]], next=following)


@router.post("/api/absurd/tasks", tags=["tasks"], status_code=201)
def spawn_task(opened: Opened, person: Person, wanted: Annotated[TaskRequest, Body()]) -> Task:
    """Put a run of a job into the queue."""
    return spawn(opened, person, wanted)


@router.get("/api/absurd/tasks/{task_id}", tags=["tasks"])
def show_task(opened: Opened, task_id: TaskId) -> Task:
    """One task."""
    return task_of(opened, opened.dagster.run(task_id))


@router.delete("/api/absurd/tasks/{task_id}", tags=["tasks"])
def cancel_task(opened: Opened, person: Person, task_id: TaskId) -> Task:
    """Cancel a queued or running task."""
    opened.dagster.terminate(task_id)
    with opened.session() as session:
        people.record_action(session, person, "cancel_task", task_id, {})
    return task_of(opened, opened.dagster.run(task_id))


@router.post("/api/mosaic/create", tags=["mosaics"], status_code=202)
def create_mosaic(opened: Opened, person: Person, wanted: Annotated[MosaicRequest, Body()]) -> MosaicRequested:
    """Plan a mosaic of a time range or around a calibrator's transit, and put its making into the queue."""
    planned = planned_mosaic(opened, wanted, keep=True)
    task = spawn(opened, person, TaskRequest(queue=DEFAULT_QUEUE, task_type=MOSAIC_BUILD, payload={"name": planned.name}, priority=5))
    return MosaicRequested(
        name=planned.name, declination_deg=planned.declination_deg, tiles=list(planned.tiles), left_out=planned.left_out, task=task
    )


def planned_mosaic(opened: Access, wanted: MosaicRequest, *, keep: bool) -> MosaicPlan:
    """Choose the tiles of a mosaic; ``keep``: save the plan, so that a run can make it.

    Raises:
        InvalidRequestError: neither a time range with a name nor a calibrator, or both.
        MosaicError: no good tile, or an impossible name.
        NoCalibratorError: no imaged tile observed the calibrator's transit.
    """
    from dsa110_assets.stages.products.mosaics import plan_around_calibrator, plan_mosaic

    if wanted.calibrator is not None:
        if wanted.since is not None or wanted.until is not None:
            raise InvalidRequestError("mosaic", "has both a calibrator and a time range", "give one of them")
        night = None if wanted.night is None else wanted.night.isoformat()
        return plan_around_calibrator(opened.platform, wanted.calibrator, wanted.timespan_minutes, night=night, name=wanted.name, keep=keep)
    if wanted.name is None or wanted.since is None or wanted.until is None:
        raise InvalidRequestError("mosaic", "needs name, since and until, or a calibrator", "add what is missing")
    since, until = utc(wanted.since), utc(wanted.until)
    return plan_mosaic(opened.platform, wanted.name, since, until, declination_deg=wanted.declination_deg, keep=keep)


@router.get("/api/mosaic/status/{name}", tags=["mosaics"])
def mosaic_status(opened: Opened, name: MosaicName) -> MosaicStatus:
    """State of a mosaic: planned, in the queue, being made, or made."""
    with opened.session() as session:
        row = session.get(MosaicRow, name)
        made = None if row is None else {str(column.key): getattr(row, str(column.key)) for column in MOSAIC}
    task, note = None, ""
    try:
        found = opened.dagster.runs(tags={MOSAIC_TAG: name}, limit=1)
        task = task_of(opened, found[0]) if found else None
    except DagsterUnreachableError as error:
        note = f"{error.cause}. Next: {error.next_step}"
    if made is None and task is None:
        if not opened.paths.mosaic_plan(name).is_file():
            raise NotFoundError(f"mosaic {name}", "there is neither a mosaic nor a plan of this name", "make one: POST /api/mosaic/create")
        return MosaicStatus(name=name, state=TaskState.PENDING, mosaic=None, task=None, note=note or "planned; no task makes it")
    newer = task is not None and task.state in (TaskState.PENDING, TaskState.RUNNING)
    state = task.state if task is not None and (made is None or newer) else TaskState.COMPLETED
    return MosaicStatus(name=name, state=state, mosaic=made, task=task, note=note)


def spawn(opened: Access, person: str, wanted: TaskRequest) -> Task:
    """Put a run of a job into the queue, and record who asked for it."""
    encoded = payload_text(wanted.payload)
    if len(encoded) > _LONGEST_PAYLOAD:
        raise InvalidRequestError("payload", f"is longer than {_LONGEST_PAYLOAD} characters", "send less")
    tags = {
        QUEUE_TAG: wanted.queue,
        TASK_TAG: wanted.task_type,
        PAYLOAD_TAG: encoded,
        PERSON_TAG: person,
        "dagster/priority": str(wanted.priority),
    }
    run_config: dict[str, Any] = {}
    if (op := _OP_JOBS.get(wanted.task_type)) is not None:
        run_config = {"ops": {op: {"config": wanted.payload}}} if op and wanted.payload else wanted.payload
        if wanted.task_type == MOSAIC_BUILD:
            tags |= _mosaic_tags(opened, wanted.payload)
    elif wanted.task_type in TABLE.jobs():
        tags |= partition_tags(wanted.task_type, wanted.payload)
    else:
        raise InvalidRequestError(f"task type {wanted.task_type}", "does not exist", "list them: GET /api/absurd/task-types")
    run = opened.dagster.launch_run(wanted.task_type, run_config=run_config, tags=tags)
    with opened.session() as session:
        people.record_action(session, person, "spawn_task", run["runId"], wanted.model_dump(mode="json"))
    return task_of(opened, run)


def payload_text(payload: dict[str, Any]) -> str:
    """A payload as its run's tag has it, by which runs of equal work are found."""
    return json.dumps(payload, separators=(",", ":"))


def _mosaic_tags(opened: Access, payload: dict[str, Any]) -> dict[str, str]:
    from dsa110_assets.stages.products.mosaics import is_name, load_plan

    name = payload.get("name")
    if not isinstance(name, str) or not is_name(name):
        raise InvalidRequestError(
            "payload", "has no name of a mosaic on demand", 'send {"name": ...}; hourly_... and nightly_... are reserved'
        )
    if "since" not in payload:
        load_plan(opened.platform, name)  # an error here is better than a run that fails
    return {MOSAIC_TAG: name}


def partition_tags(job: str, payload: dict[str, Any]) -> dict[str, str]:
    """Tags that give a run its partition.

    Raises:
        InvalidRequestError: the payload does not name a partition of the job's assets.
    """
    level = TABLE[TABLE.jobs()[job][0]].level
    if level is Level.WHOLE:
        return {}
    example = {
        Level.TILE: '{"observation": "2026-03-01T05:10:00"}',
        Level.HOUR: '{"night": "2026-03-01", "hour": "05"}',
        Level.NIGHT: '{"night": "2026-03-01"}',
    }[level]
    try:
        if level is Level.TILE:
            name, (night, slot) = "tile", tile_partition(str(payload["observation"]))
        elif level is Level.HOUR:
            wanted = f"{date.fromisoformat(str(payload['night']))}T{int(payload['hour']):02d}:00:00"
            name, (night, slot) = "hour", hour_partition(wanted)
        else:
            return {"dagster/partition": date.fromisoformat(str(payload["night"])).isoformat()}
    except (KeyError, TypeError, ValueError, NonRetriableError) as error:
        raise InvalidRequestError(f"payload of {job}", "names no partition", f"send one like {example}") from error
    return {"dagster/partition": f"{night}|{slot}", "dagster/partition/date": night, f"dagster/partition/{name}": slot}


def task_of(opened: Access, run: dict[str, Any]) -> Task:
    """A run of Dagster as a task."""
    tags = {one["key"]: one["value"] for one in run["tags"]}
    state = next((state for state, statuses in _STATES.items() if run["status"] in statuses), TaskState.PENDING)
    priority = tags.get("dagster/priority", "0")
    try:
        payload = json.loads(tags.get(PAYLOAD_TAG, "{}"))
    except ValueError:
        payload = {}
    return Task(
        id=run["runId"],
        queue=tags.get(QUEUE_TAG, ""),
        task_type=tags.get(TASK_TAG, run["jobName"]),
        payload=payload if isinstance(payload, dict) else {},
        partition=tags.get("dsa110/observation") or tags.get("dagster/partition"),
        priority=int(priority) if priority.lstrip("-").isdecimal() else 0,
        state=state,
        person=tags.get(PERSON_TAG),
        created_at=_time(run.get("creationTime")),
        started_at=_time(run.get("startTime")),
        ended_at=_time(run.get("endTime")),
        url=f"{opened.dagster.url}/runs/{run['runId']}",
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
