"""Actions of the control panel: forms. What takes long, or replaces something, shows its plan first."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import ObservationId
from dsa110_assets.api.pages.layout import address, page
from dsa110_assets.api.pages.visitor import Editor
from dsa110_assets.api.routes import control, operations, tasks
from dsa110_assets.api.routes.control import BackfillId, SwitchName, TrialName
from dsa110_assets.api.routes.operations import BackfillRequest
from dsa110_assets.api.routes.tasks import TaskId, TaskRequest
from dsa110_assets.errors import InvalidRequestError, PipelineError
from dsa110_assets.ingest import status
from dsa110_assets.registry.queries.control import transits_of_night
from dsa110_assets.registry.schema import GroupState
from dsa110_assets.stages.operations import trial_images
from dsa110_assets.stages.operations.services import ServiceName

HOME = "/ui/control-panel"
MOST_RETRIES = 50
router = APIRouter()
Word = Annotated[str, Query(max_length=60)]
Field = Annotated[str, Form(max_length=60)]


@router.post("/ui/control-panel/switches/{switch_name}/{position}")
def turn_switch(opened: Opened, person: Editor, switch_name: SwitchName, position: Literal["on", "off"]) -> Response:
    """Turn a switch on or off."""
    turned = control.turn(opened, person, switch_name, on=position == "on")
    return _back("switches", f"{turned.name} is {'on' if turned.running else 'off'}")


@router.post("/ui/control-panel/runs/{task_id}/cancel")
def cancel_run(opened: Opened, person: Editor, task_id: TaskId) -> Response:
    """Cancel a run."""
    tasks.cancel_task(opened, person, task_id)
    return _back("runs", f"run {task_id[:8]} is being canceled")


@router.post("/ui/control-panel/observations/{group_id}/retry")
def retry(opened: Opened, person: Editor, group_id: ObservationId) -> Response:
    """Process an observation again."""
    operations.retry(opened, person, group_id)
    return _back("failed", f"{group_id} waits in the queue")


@router.post("/ui/control-panel/retry-failed")
def retry_failed(opened: Opened, person: Editor) -> Response:
    """Process the newest failed observations again, as many as the panel shows."""
    with opened.session() as session:
        chosen = [one.group_id for one in status.observations(session, state=GroupState.FAILED, limit=MOST_RETRIES)]
    done, refused = 0, ""
    for group_id in chosen:
        try:
            operations.retry(opened, person, group_id)
            done += 1
        except PipelineError as error:  # such as one that somebody else has just retried
            refused = f"; {error}"
    return _back("failed", f"{done} observations wait in the queue{refused}"[:190])


@router.get("/ui/control-panel/backfill")
def plan_backfill(
    request: Request, opened: Opened, first_night: Word = "", last_night: Word = "", start_from: Word = "", only: Word = ""
) -> Response:
    """List what a backfill would make, and how long it takes; start nothing."""
    wanted = _backfill(first_night, last_night, start_from, only, dry_run=True)
    known_stale = operations.stale_now(opened, request) if wanted.only_stale else None
    answer = operations.answer_backfill(opened, "", wanted, known_stale)
    known = [one.total_s for one in answer.expected if one.total_s is not None]
    fields = {"first_night": first_night, "last_night": last_night, "start_from": start_from, "only": only}
    total = sum(known) if known else None
    return page(request, "control_backfill.html", answer=answer, total_s=total, fields=fields, wanted=wanted, url=address("", fields))


@router.post("/ui/control-panel/backfill")
def start_backfill(
    opened: Opened, person: Editor, first_night: Field = "", last_night: Field = "", start_from: Field = "", only: Field = ""
) -> Response:
    """Start a backfill."""
    answer = operations.backfill(opened, person, _backfill(first_night, last_night, start_from, only, dry_run=False))
    return _back("backfills", f"backfill {answer.backfill} has begun" if answer.backfill else "there was nothing to make")


@router.post("/ui/control-panel/backfills/{backfill_id}/cancel")
def cancel_backfill(opened: Opened, person: Editor, backfill_id: BackfillId) -> Response:
    """Cancel a backfill."""
    control.cancel_backfill(opened, person, backfill_id)
    return _back("backfills", f"backfill {backfill_id} is being canceled")


@router.get("/ui/control-panel/solve")
def plan_solve(request: Request, opened: Opened, night: Word = "", refant: Word = "") -> Response:
    """Show which transits would be solved again with another reference antenna."""
    when = _night(night)
    with opened.session() as session:
        transits = transits_of_night(session, when)
    return page(request, "control_solve.html", transits=transits, night=when.isoformat(), refant=_antenna(refant))


@router.post("/ui/control-panel/solve")
def start_solve(opened: Opened, person: Editor, night: Field, refant: Field) -> Response:
    """Put the solving of a night into the queue."""
    payload = {"night": _night(night).isoformat(), "refant": _antenna(refant)}
    task = tasks.spawn_task(opened, person, TaskRequest(queue=tasks.DEFAULT_QUEUE, task_type="solve_again", payload=payload, priority=15))
    return _back("runs", f"run {task.id[:8]} solves {payload['night']} with antenna {payload['refant']}")


@router.post("/ui/control-panel/trial")
async def start_trial(request: Request, opened: Opened, person: Editor, observation: Field) -> Response:
    """Put a trial image into the queue."""
    from fastapi.concurrency import run_in_threadpool

    given = {name: str(value) for name, value in (await request.form()).items() if name in trial_images.SETTINGS and str(value).strip()}
    return await run_in_threadpool(_start_trial, opened, person, observation.strip(), given)


@router.post("/ui/control-panel/trials/{trial}/throw-away")
def throw_trial_away(opened: Opened, person: Editor, trial: TrialName) -> Response:
    """Throw a trial image away."""
    control.throw_trial_away(opened, person, trial)
    return _back("trials", f"the trial of {trial[:19]} is gone")


@router.post("/ui/control-panel/services/{service}/restart")
def restart_service(opened: Opened, person: Editor, service: ServiceName) -> Response:
    """Restart a service."""
    control.restart_service(opened, person, service)
    return _back("services", f"{service} restarts within some seconds")


def _start_trial(opened: Any, person: str, observation: str, given: dict[str, str]) -> Response:
    payload: dict[str, Any] = {
        "observation": observation,
        **trial_images.checked({name: _number(name, text) for name, text in given.items()}),
    }
    task = tasks.spawn_task(opened, person, TaskRequest(queue=tasks.DEFAULT_QUEUE, task_type="trial_image", payload=payload, priority=5))
    return _back("trials", f"run {task.id[:8]} images {observation}; the result appears here")


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise InvalidRequestError(f"setting {name}", f"{text[:30]!r} is not a number", "correct it") from error
    return int(value) if value.is_integer() else value


def _backfill(first_night: str, last_night: str, start_from: str, only: str, *, dry_run: bool) -> BackfillRequest:
    return BackfillRequest(
        first_night=_night(first_night) if first_night else None,
        last_night=_night(last_night) if last_night else None,
        start_from=start_from or None,
        only_failed=only == "failed",
        only_stale=only == "stale",
        only_marked=False,
        observation=None,
        dry_run=dry_run,
    )


def _night(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequestError("night", f"{text[:30]!r} is not a date", "give a UTC date, such as 2025-12-01") from error


def _antenna(name: str) -> str:
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise InvalidRequestError("reference antenna", f"{name[:30]!r} is not a name", "give the antenna's name, such as 103")
    return name


def _back(section: str, done: str) -> Response:
    return RedirectResponse(f"{address(HOME, done=done)}#{section}", 303)
