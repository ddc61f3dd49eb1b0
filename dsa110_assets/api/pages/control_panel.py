"""The control panel: what can be started, stopped, retried, tried and restarted. Each action first says what it does.

What Dagster knows comes in parts of its own, so that the page is there at once and works without Dagster.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response

from dsa110_assets.api import problems
from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import Text, utc_now
from dsa110_assets.api.pages.layout import page
from dsa110_assets.api.routes import control
from dsa110_assets.api.routes.operations import found_stale
from dsa110_assets.api.routes.tasks import TaskId, TaskState, list_tasks, partition_tags
from dsa110_assets.errors import InvalidRequestError, PipelineError
from dsa110_assets.ingest import status
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.schema import GroupState
from dsa110_assets.stages.operations import services, trial_images
from dsa110_assets.stages.operations.services import ServiceName
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.table import TABLE

MOST_FAILED = 50
MOST_RUNS = 50
MOST_BACKFILLS = 5
JOBS = {
    "backfill": ("Nights again", {"ops": {"request_nights": {"config": {"first_night": "", "dry_run": True}}}}),
    "judge_again": ("Judge images again", {"ops": {"judge_images": {"config": {"observation": ""}}}}),
    "mosaic_build": ("Mosaic of a time range", {"ops": {"build_mosaic": {"config": {"name": "", "since": "", "until": ""}}}}),
    "solve_again": ("Another reference antenna", {"ops": {"solve_with_reference": {"config": {"night": "", "refant": ""}}}}),
    "trial_image": ("Trial image", {"ops": {"image_on_trial": {"config": {"observation": ""}}}}),
}
"""Jobs that Dagster's launchpad starts with any setting: title, and the configuration to fill in."""


class Launchpad(NamedTuple):
    """A link to the launchpad. ``run_config``, ``tags`` (a partition is one): what it has filled in."""

    job: str
    title: str
    run_config: dict[str, Any]
    tags: dict[str, str]


router = APIRouter()


@router.get("/ui/control-panel")
def control_panel(request: Request, opened: Opened, observation: Text = None, night: Text = None, done: Text = None) -> Response:
    """Show the panel. ``observation``, ``night``: what the forms begin with. ``done``: what was just started."""
    with opened.session() as session:
        failed = status.observations(session, state=GroupState.FAILED, limit=MOST_FAILED + 1)
        on_hosts = workers.states(session)
    return page(
        request,
        "control_panel.html",
        failed=failed[:MOST_FAILED],
        more_failed=len(failed) > MOST_FAILED,
        services=control.list_services(opened),
        workers=on_hosts,
        trials=control.trials(opened),
        most_trials=trial_images.MOST,
        settings=trial_images.SETTINGS,
        defaults=trial_images.defaults(opened.config),
        assets=TABLE.made(),
        launchpads=launchpads(observation or "", night or ""),
        observation=observation or "",
        night=night or "",
        done=done or "",
    )


def launchpads(observation: str, night: str) -> list[Launchpad]:
    """Jobs that the launchpad starts: those with any setting, and those of the observation and the night, if given."""
    given = {"observation": observation, "night": night, "first_night": night}
    found: list[Launchpad] = []
    for job, (title, run_config) in JOBS.items():
        ((op, config),) = run_config["ops"].items()
        fields = {name: given.get(name) or value for name, value in config["config"].items()}
        found.append(Launchpad(job, title, {"ops": {op: {"config": fields}}}, {}))
    of_partitions = {
        Level.TILE: ("Observation {}", {"observation": observation}),
        Level.NIGHT: ("Night {}", {"night": night}),
    }
    for job, assets in TABLE.jobs().items():
        title, payload = of_partitions.get(TABLE[assets[0]].level, ("", {}))
        with suppress(InvalidRequestError):  # nothing was given, or what was given names no partition
            if payload:
                tags = partition_tags(job, payload)
                made = ", ".join(one.replace("_", " ") for one in assets)
                found.append(Launchpad(job, f"{title.format(*payload.values())}: {made}", {}, tags))
    return found


@router.get("/ui/control-panel/switches")
def switches_part(request: Request, opened: Opened) -> Response:
    """Switches of sensors and schedules."""
    return _part(request, "control_switches.html", lambda: {"switches": control.switches(opened)})


@router.get("/ui/control-panel/runs")
def runs_part(request: Request, opened: Opened) -> Response:
    """Runs in progress and in the queue."""

    def find() -> dict[str, Any]:
        running, waiting = (list_tasks(opened, state=state, limit=MOST_RUNS) for state in (TaskState.RUNNING, TaskState.PENDING))
        return {"runs": [*running.items, *waiting.items], "more": running.next or waiting.next}

    return _part(request, "control_runs.html", find)


@router.get("/ui/control-panel/backfills")
def backfills_part(request: Request, opened: Opened) -> Response:
    """The newest backfills and their progress."""
    return _part(request, "control_backfills.html", lambda: {"backfills": control.backfills(opened, MOST_BACKFILLS)})


@router.get("/ui/control-panel/stale")
def stale_part(request: Request, opened: Opened) -> Response:
    """How many products of each asset are stale, and why."""

    def find() -> dict[str, Any]:
        found = found_stale(opened, request)
        numbers = {asset: len(places) for asset, places in found.of_asset.items()}
        age = timedelta(seconds=request.app.state.stale.age_s)
        return {"total": len(found.partitions), "found_at": utc_now() - age, "counts": found.reasons, "numbers": numbers}

    return _part(request, "control_stale.html", find)


@router.get("/ui/control-panel/services/{service}/log")
def service_log(request: Request, opened: Opened, service: ServiceName) -> Response:
    """The end of a service's log."""
    text = services.log_tail(opened.config, service)
    return page(request, "control_log.html", title=f"Log of {service}", text=text, run_id="")


@router.get("/ui/control-panel/runs/{task_id}/log")
def run_log(request: Request, opened: Opened, task_id: TaskId) -> Response:
    """The end of a run's output."""
    text = services.run_log_tail(opened.config, task_id)
    return page(request, "control_log.html", title=f"Output of run {task_id[:8]}", text=text, run_id=task_id)


def _part(request: Request, template: str, find: Callable[[], dict[str, Any]]) -> Response:
    """Render a part; if what it needs does not answer, its place says so with the next step, and the page goes on."""
    try:
        return page(request, template, **find())
    except PipelineError as error:
        return page(request, "control_unanswered.html", problem=json.loads(bytes(problems.of_pipeline_error(error).body)))
