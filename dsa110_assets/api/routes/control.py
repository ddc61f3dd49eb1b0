"""Control: switches of sensors and schedules, backfills in progress, services and their logs, trial images."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import BaseModel

from dsa110_assets.api.access import Access, Opened, Person
from dsa110_assets.api.dagster import BackfillState
from dsa110_assets.api.routes.tasks import TaskId
from dsa110_assets.registry.queries import people
from dsa110_assets.stages.operations import services, trial_images
from dsa110_assets.stages.operations.services import TAIL_BYTES, ServiceName

router = APIRouter()

SwitchName = Annotated[str, InPath(pattern=r"^[a-z0-9_]{1,80}$", description="Name of a sensor or schedule.")]
BackfillId = Annotated[str, InPath(pattern=r"^[a-z0-9]{4,20}$", description="Identifier of a backfill.")]
TrialName = Annotated[str, InPath(pattern=r"^[0-9T:-]{19}_[0-9a-z-]{8}$", description="Name of a trial image.")]
TailBytes = Annotated[int, Query(alias="bytes", ge=1, le=TAIL_BYTES, description="At most so many bytes from the end.")]


class SwitchState(BaseModel):
    """A sensor or schedule, what it does, and whether it is on. ``cron``: times of a schedule, UTC."""

    name: str
    kind: Literal["sensor", "schedule"]
    description: str
    running: bool
    cron: str


class Turned(BaseModel):
    """A switch after a request."""

    name: str
    running: bool


class AssetProgress(BaseModel):
    """Numbers of partitions of an asset in a backfill."""

    asset: str
    targeted: int
    in_progress: int
    made: int
    failed: int


class BackfillProgress(BaseModel):
    """A backfill. ``done``: fraction that was made or failed. ``url``: in the Dagster UI."""

    id: str
    title: str
    status: str
    active: bool
    person: str | None
    begun_at: datetime | None
    ended_at: datetime | None
    done: float
    assets: list[AssetProgress]
    url: str


class ServiceState(BaseModel):
    """A service on this machine. ``waiting``: for a requested restart. ``log_bytes``: null under systemd."""

    name: ServiceName
    log_bytes: int | None
    waiting: bool
    restart_means: str


class ServiceList(BaseModel):
    """The services. ``manager``: who restarts them, or null. ``supervisor``: process of `dsa110 up`, or null."""

    manager: Literal["dsa110 up", "systemd"] | None
    supervisor: int | None
    items: list[ServiceState]


class RestartRequested(BaseModel):
    """A restart that the supervisor or systemd carries out within some seconds."""

    name: ServiceName
    means: str


class Trial(BaseModel):
    """A trial image: settings that differ from the platform's, its figures and its verdict. It is no product."""

    name: str
    observation: str
    settings: dict[str, float]
    verdict: str
    reason: str
    figures: dict[str, Any]
    made_at: datetime
    run_id: str
    preview: str


@router.get("/api/switches", tags=["operation"])
def switches(opened: Opened) -> list[SwitchState]:
    """All sensors and schedules."""
    return [SwitchState.model_validate(one, from_attributes=True) for one in opened.dagster.switches()]


@router.post("/api/switches/{switch_name}/on", tags=["operation"])
def switch_on(opened: Opened, person: Person, switch_name: SwitchName) -> Turned:
    """Switch a sensor or schedule on."""
    return turn(opened, person, switch_name, on=True)


@router.post("/api/switches/{switch_name}/off", tags=["operation"])
def switch_off(opened: Opened, person: Person, switch_name: SwitchName) -> Turned:
    """Switch a sensor or schedule off. What it has requested goes on."""
    return turn(opened, person, switch_name, on=False)


@router.get("/api/backfills", tags=["runs"])
def backfills(opened: Opened, limit: Annotated[int, Query(ge=1, le=100)] = 10) -> list[BackfillProgress]:
    """The newest backfills and their progress."""
    return [_progress(opened, one) for one in opened.dagster.backfills(limit)]


@router.delete("/api/backfills/{backfill_id}", tags=["runs"], status_code=204)
def cancel_backfill(opened: Opened, person: Person, backfill_id: BackfillId) -> None:
    """Cancel a backfill: its runs end, and no new ones begin. What it has made stays."""
    opened.dagster.cancel_backfill(backfill_id)
    with opened.session() as session:
        people.record_action(session, person, "cancel_backfill", backfill_id, {})


@router.get("/api/services", tags=["operation"])
def list_services(opened: Opened) -> ServiceList:
    """The services on this machine, of `dsa110 up` or of systemd."""
    items = [
        ServiceState(name=one.name, log_bytes=one.log_bytes, waiting=one.waiting, restart_means=services.restart_means(one.name))
        for one in services.services(opened.config)
    ]
    by = services.manager(opened.config)
    return ServiceList.model_validate({"manager": by, "supervisor": services.running_pid(opened.config), "items": items})


@router.post("/api/services/{service}/restart", tags=["operation"], status_code=202)
def restart_service(opened: Opened, person: Person, service: ServiceName) -> RestartRequested:
    """Restart a service, through the supervisor of `dsa110 up` or through systemd."""
    services.request_restart(opened.config, service)
    with opened.session() as session:
        people.record_action(session, person, "restart_service", service, {})
    return RestartRequested(name=service, means=services.restart_means(service))


@router.get("/api/services/{service}/log", tags=["operation"], response_class=PlainTextResponse)
def service_log(opened: Opened, service: ServiceName, most: TailBytes = TAIL_BYTES) -> str:
    """The end of a service's log."""
    return services.log_tail(opened.config, service, most=most)


@router.get("/api/runs/{task_id}/log", tags=["runs"], response_class=PlainTextResponse)
def run_log(opened: Opened, task_id: TaskId, most: TailBytes = TAIL_BYTES) -> str:
    """The end of what a run wrote to its standard error."""
    return services.run_log_tail(opened.config, task_id, most=most)


@router.get("/api/trials", tags=["observations"])
def trials(opened: Opened) -> list[Trial]:
    """Trial images, newest first. A task of the type `trial_image` makes one."""
    return [_trial(one) for one in trial_images.trials(opened.paths)]


@router.get("/api/trials/{trial}/preview.png", tags=["observations"], response_class=FileResponse)
def trial_preview(opened: Opened, trial: TrialName) -> Response:
    """Preview of a trial image."""
    return FileResponse(trial_images.preview(opened.paths, trial), media_type="image/png")


@router.delete("/api/trials/{trial}", tags=["observations"], status_code=204)
def throw_trial_away(opened: Opened, person: Person, trial: TrialName) -> None:
    """Throw a trial image away."""
    trial_images.throw_away(opened.paths, trial)
    with opened.session() as session:
        people.record_action(session, person, "throw_trial_away", trial, {})


def turn(opened: Access, person: str, name: str, *, on: bool) -> Turned:
    """Turn a switch, and record who did it."""
    running = opened.dagster.switch(name, on=on)
    with opened.session() as session:
        people.record_action(session, person, "switch_on" if on else "switch_off", name, {})
    return Turned(name=name, running=running)


def _progress(opened: Access, one: BackfillState) -> BackfillProgress:
    assets = [AssetProgress.model_validate(asset, from_attributes=True) for asset in one.assets]
    return BackfillProgress(
        id=one.id, title=one.title, status=one.status, active=one.active, person=one.person, begun_at=one.begun_at, ended_at=one.ended_at,
        done=one.done, assets=assets, url=f"{opened.config.ui_url.rstrip('/')}/runs/b/{one.id}",
    )  # fmt: skip


def _trial(one: trial_images.TrialImage) -> Trial:
    return Trial(
        name=one.name, observation=one.observation, settings=dict(one.settings), verdict=one.verdict, reason=one.reason,
        figures=dict(one.figures), made_at=one.made_at, run_id=one.run_id, preview=f"/api/trials/{one.name}/preview.png",
    )  # fmt: skip
