"""State of the platform: health, queue, ingest's switch, alerts, stale products, metrics, backfills, retries."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Body, FastAPI, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from dsa110_assets.api import problems
from dsa110_assets.api.access import Access, Opened, Person
from dsa110_assets.api.answers import OBSERVATION_ID, Cursor, Day, ObservationId, cursor_of, key_of
from dsa110_assets.errors import DagsterUnreachableError, InvalidRequestError, RegistryError
from dsa110_assets.ingest import ledger, status
from dsa110_assets.registry.migrations import HEAD_REVISION
from dsa110_assets.registry.provenance import release
from dsa110_assets.registry.queries import people
from dsa110_assets.registry.schema import GroupState
from dsa110_assets.stages.operations.systemd import how_to_start

if TYPE_CHECKING:
    from dsa110_assets.stages.operations.staleness import StalePartition

router = APIRouter()


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]
    release: str


class Disk(BaseModel):
    """Free space of a directory's file system."""

    directory: Literal["input", "output", "scratch", "state"]
    free_gib: float | None
    total_gib: float | None


class PlatformStatus(BaseModel):
    """State of the platform."""

    release: str
    time: datetime
    queue: status.Backlog
    cpu_percent: float
    memory_percent: float
    disks: list[Disk]


class Streaming(BaseModel):
    """Ingest: its switch (null: the Dagster UI does not answer, see ``note``) and its queue."""

    running: bool | None
    note: str
    queue: status.Backlog


class Switched(BaseModel):
    """The switch of ingest after a request."""

    running: bool


class Stale(BaseModel):
    """A product that would come out differently today."""

    asset: str
    partition: str | None
    key: str
    reasons: list[str]
    made_at: datetime


class StaleList(BaseModel):
    """A page of stale products, upstream assets first; ``total``: of all pages; as of ``found_at``."""

    total: int
    found_at: datetime
    items: list[Stale]
    next: str | None


class BackfillRequest(BaseModel):
    """Which products to make again; see `dsa110 backfill`."""

    first_night: Day | None = Field(None, description="First night (UTC); optional with only_failed or only_stale.")
    last_night: Day | None = Field(None, description="Last night; default: the first.")
    start_from: str | None = Field(None, max_length=100, pattern=r"^[a-z_]+$", description="First asset to make again.")
    only_failed: bool = Field(False, description="Only failed observations.")
    only_stale: bool = Field(False, description="Only stale products.")
    only_marked: bool = Field(False, description="Only what people's marks have made stale.")
    observation: str | None = Field(None, pattern=OBSERVATION_ID, description="Only what is made from this observation.")
    dry_run: bool = Field(True, description="List what would be made; start nothing.")


class BackfillEstimate(BaseModel):
    """Products of an asset. ``each_s``: median time of the last ones, null without any; ``total_s``: of all."""

    asset: str
    products: int
    each_s: float | None
    total_s: float | None


class BackfillAnswer(BaseModel):
    """The chosen partitions by asset with the expected time, what was left out and why, and the backfill's identifier.

    ``backfill`` is null for a dry run.
    """

    partitions: dict[str, list[str]]
    expected: list[BackfillEstimate]
    left_out: list[str]
    backfill: str | None


class Retried(BaseModel):
    """State of an observation after a retry."""

    observation: str
    state: GroupState


@router.get("/api/health", tags=["operation"])
async def health() -> Health:
    """Tell that the process lives. It does not ask the database."""
    return Health(status="ok", release=release())


@router.get("/api/ready", tags=["operation"], response_model=Health)
def ready(opened: Opened, request: Request) -> Health | Response:
    """Tell whether the registry answers with the schema of this release, and long lists are prepared; else 503."""
    opened.platform.database.engine.dispose()  # a pooled connection may be of a server that has gone
    if (found := opened.platform.database.revision()) != HEAD_REVISION:
        raise RegistryError("registry", f"has the schema {found}, this release needs {HEAD_REVISION}", f"restart with {how_to_start()}")
    if request.app.state.preparing:
        reason, step = (
            "the API has just started and still looks for stale products",
            "try again in some seconds; all addresses answer meanwhile",
        )
        return problems.problem(503, "NotReady", reason, next_step=step, headers={"Retry-After": "2"})
    return Health(status="ok", release=release())


@router.get("/api/status", tags=["operation"])
def platform_status(opened: Opened, request: Request) -> PlatformStatus:
    """State of queue, machine and disks."""
    import psutil

    disks: list[Disk] = []
    for name in ("input", "output", "scratch", "state"):
        try:
            usage = psutil.disk_usage(str(getattr(opened.config, f"{name}_dir")))
            disks.append(Disk(directory=name, free_gib=usage.free / 2**30, total_gib=usage.total / 2**30))  # pyright: ignore[reportArgumentType]
        except OSError:
            disks.append(Disk(directory=name, free_gib=None, total_gib=None))  # pyright: ignore[reportArgumentType]
    return PlatformStatus(
        release=release(),
        time=_now(),
        queue=queue_of(request.app),
        cpu_percent=psutil.cpu_percent(),
        memory_percent=psutil.virtual_memory().percent,
        disks=disks,
    )


@router.get("/api/streaming/status", tags=["ingest"])
def streaming_status(opened: Opened, request: Request) -> Streaming:
    """Whether ingest is switched on, and its queue."""
    queue = queue_of(request.app)
    try:
        return Streaming(running=opened.dagster.sensor_is_running(), note="", queue=queue)
    except DagsterUnreachableError as error:
        return Streaming(running=None, note=f"{error.cause}. Next: {error.next_step}", queue=queue)


@router.post("/api/streaming/start", tags=["ingest"])
def start_streaming(opened: Opened, person: Person) -> Switched:
    """Switch ingest on: the sensor `raw_files`."""
    return _switch(opened, person, on=True)


@router.post("/api/streaming/stop", tags=["ingest"])
def stop_streaming(opened: Opened, person: Person) -> Switched:
    """Switch ingest off. Running work finishes; files that arrive meanwhile are found after the next start."""
    return _switch(opened, person, on=False)


@router.post("/api/data/observations/{group_id}/retry", tags=["observations"], status_code=202)
def retry(opened: Opened, person: Person, group_id: ObservationId) -> Retried:
    """Process an observation again, from its raw files."""
    with opened.session() as session:
        ledger.retry(session, group_id, _now(), opened.config)
        people.record_action(session, person, "retry", group_id, {})
    return Retried(observation=group_id, state=GroupState.PENDING)


@router.get("/api/stale", tags=["provenance"])
def stale(
    opened: Opened,
    request: Request,
    asset: Annotated[str | None, Query(max_length=100, pattern=r"^[a-z_]+$", description="Only this asset.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    cursor: Cursor = None,
) -> StaleList:
    """Products that would come out differently today. A list older than five minutes is found anew meanwhile."""
    known = found_stale(opened, request)
    chosen = range(len(known.partitions)) if asset is None else known.of_asset.get(asset, range(0))
    after = key_of(cursor, str, str)
    start = chosen.start if after is None else max(chosen.start, known.place_after(str(after[0]), str(after[1])))
    rows = known.partitions[start : min(start + limit, chosen.stop)]
    following = None
    if rows and start + len(rows) < chosen.stop:
        url = request.url.include_query_params(cursor=cursor_of((rows[-1].asset, rows[-1].key)))
        following = f"{url.path}?{url.query}"
    return StaleList(
        total=len(chosen),
        found_at=_now() - timedelta(seconds=request.app.state.stale.age_s),
        items=[
            Stale(asset=one.asset, partition=one.partition, key=one.key, reasons=[str(word) for word in one.reasons], made_at=one.made_at)
            for one in rows
        ],
        next=following,
    )


@dataclass(frozen=True)
class FoundStale:
    """Stale products, upstream assets first, then by key.

    ``order``: place of each asset. ``of_asset``: where the products of an asset stand. ``reasons``: their numbers, by
    asset.
    """

    partitions: Sequence[StalePartition]
    order: Mapping[str, int]
    of_asset: Mapping[str, range]
    reasons: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, partitions: Sequence[StalePartition], order: Mapping[str, int]) -> FoundStale:
        """Count products in their order."""
        begins: dict[str, int] = {}
        reasons: dict[str, dict[str, int]] = {}
        for place, one in enumerate(partitions):
            if one.asset not in begins:
                begins[one.asset], reasons[one.asset] = place, {}
            counts = reasons[one.asset]
            for reason in one.reasons:
                counts[reason] = counts.get(reason, 0) + 1
        edges = itertools.pairwise([*begins.values(), len(partitions)])
        return cls(partitions, order, {asset: range(low, high) for asset, (low, high) in zip(begins, edges, strict=True)}, reasons)

    def place_after(self, asset: str, key: str) -> int:
        """Place of the first product after one that may have left the list.

        Raises:
            InvalidRequestError: there is no such asset.
        """
        if asset not in self.order:
            raise InvalidRequestError("cursor", "belongs to another list or order", "take `next` of the page before, unchanged")
        return bisect_right(self.partitions, (self.order[asset], key), key=lambda one: (self.order[one.asset], one.key))


def stale_now(opened: Access, request: Request) -> Sequence[StalePartition]:
    """All stale products as of the last five minutes. The plan of a backfill has to list what its start makes."""
    return found_stale(opened, request, old_is_fine=False).partitions


def found_stale(opened: Access, request: Request, *, old_is_fine: bool = True) -> FoundStale:
    """All stale products with their numbers. A list older than five minutes is given, and found anew meanwhile."""
    from dsa110_assets.stages.operations import staleness
    from dsa110_assets.stages.provenance.recipes import recipes

    def find() -> FoundStale:
        order = {name: number for number, name in enumerate(recipes(opened.config))}
        return FoundStale.of(staleness.stale_partitions(opened.platform), order)

    opened.ping()
    return request.app.state.stale.get(find, old_is_fine=old_is_fine)


@router.post("/api/backfills", tags=["runs"], status_code=202)
def backfill(opened: Opened, person: Person, wanted: Annotated[BackfillRequest, Body()]) -> BackfillAnswer:
    """Make products of a night or of a range of nights again, or only list them (the default)."""
    return answer_backfill(opened, person, wanted)


def answer_backfill(
    opened: Access, person: str, wanted: BackfillRequest, known_stale: Sequence[StalePartition] | None = None
) -> BackfillAnswer:
    """Plan a backfill, and start it unless the request is a dry run; ``known_stale``: see `plan`."""
    from dsa110_assets.stages.operations.backfill import estimates, plan

    chosen = plan(
        opened.platform,
        wanted.first_night,
        wanted.last_night,
        start=wanted.start_from,
        only_failed=wanted.only_failed,
        only_stale=wanted.only_stale,
        only_marked=wanted.only_marked,
        observation=wanted.observation,
        known_stale=known_stale,
    )
    started = None
    if chosen.partitions and not wanted.dry_run:
        nights = f"{wanted.first_night or 'failed observations'} .. {wanted.last_night or ''}".rstrip(" .")
        kind = "stale products" if wanted.only_stale else "marked products" if wanted.only_marked else wanted.observation
        title = kind or nights
        started = opened.dagster.launch_backfill(chosen, title, tags={"dsa110/person": person})
        with opened.session() as session:
            people.record_action(session, person, "backfill", started, wanted.model_dump(mode="json"))
    return BackfillAnswer(
        partitions={name: list(keys) for name, keys in chosen.partitions.items()},
        expected=[
            BackfillEstimate(asset=one.asset, products=one.products, each_s=one.each_s, total_s=one.total_s)
            for one in estimates(opened.platform, chosen)
        ],
        left_out=list(chosen.left_out),
        backfill=started,
    )


@router.get("/metrics", tags=["operation"], response_class=Response)
def metrics(request: Request) -> Response:
    """Metrics for Prometheus: requests, queue, products, quality of images, alerts, disks, runs, Dagster's daemon."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


def _switch(opened: Access, person: str, *, on: bool) -> Switched:
    running = opened.dagster.switch_sensor(on=on)
    with opened.session() as session:
        people.record_action(session, person, "start_streaming" if on else "stop_streaming", "raw_files", {})
    return Switched(running=running)


def queue_of(app: FastAPI) -> status.Backlog:
    """The ingest queue, at most two seconds old.

    Raises:
        RegistryError: the database does not answer.
    """
    opened: Access = app.state.access
    opened.ping()

    def find() -> status.Backlog:
        with opened.session() as session:
            return status.backlog(session, _now())

    return app.state.queue.get(find)


def _now() -> datetime:
    return datetime.now(UTC)
