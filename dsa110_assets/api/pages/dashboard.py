"""The dashboard: what is wrong now, where the newest data are in the chain, and what needs a person.

It is made of parts, each of which reloads by itself when its subject changes (`static/live.js`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_assets.api.access import Access, Opened
from dsa110_assets.api.answers import Cursor, group_of, utc_now
from dsa110_assets.api.pages import antennas, drawings, formats
from dsa110_assets.api.pages.layout import page
from dsa110_assets.api.pages.visitor import Editor
from dsa110_assets.api.problems import of_pipeline_error, problem
from dsa110_assets.api.routes import attention as attention_routes
from dsa110_assets.api.routes.operations import platform_status, queue_of
from dsa110_assets.errors import NotFoundError, PipelineError
from dsa110_assets.ingest import status
from dsa110_assets.ingest.grouping import Reason
from dsa110_assets.registry.queries import pages, today
from dsa110_assets.stages.operations import disk
from dsa110_assets.stages.operations.chain import chain
from dsa110_assets.stages.pages import page_of
from dsa110_assets.stages.table import TILE_IMAGE

MIN_SIGMA = 5.0
MOST_FILES = 12
MOST_CANDIDATES = 8
_MONTH_DAYS = 30.0
_FIGURES = {"noise_over_thermal": "Noise over thermal noise", "flux_ratio_to_catalog": "Flux over catalog flux"}
router = APIRouter()


@dataclass(frozen=True)
class Part:
    """A part of the dashboard: title, subjects of `/api/events` after which it reloads, and what finds its content."""

    title: str
    subjects: tuple[str, ...]
    find: Callable[[Request, Access], dict[str, Any]]
    wide: bool = False
    every_s: int = 60

    @property
    def trigger(self) -> str:
        """When htmx reloads it."""
        return ", ".join([*(f"live-{one} from:body" for one in self.subjects), f"every {self.every_s}s"])


@router.get("/ui/dashboard")
def dashboard(request: Request, opened: Opened) -> Response:
    """Show the state of the platform."""
    found = {name: _content(request, opened, part) for name, part in PARTS.items()}
    return page(request, "dashboard.html", parts=PARTS, found=found)


@router.get("/ui/dashboard/parts/{name}")
def dashboard_part(request: Request, opened: Opened, name: str) -> Response:
    """Show one part again."""
    if name not in PARTS:
        raise NotFoundError(f"part {name[:40]}", "is not on the dashboard", "load the page again")
    return page(
        request, "dashboard_part.html", name=name, part=PARTS[name], here="/ui/dashboard", found=_content(request, opened, PARTS[name])
    )


@router.post("/ui/alerts/acknowledge")
def acknowledge(
    opened: Opened,
    person: Editor,
    key: Annotated[str, Form(max_length=400)],
    reason: Annotated[str, Form(max_length=1000)],
    hours: Annotated[int, Form(ge=0, le=720)] = 0,
) -> Response:
    """Make an alert quiet; ``hours`` 0: as long as it lasts."""
    until = utc_now() + timedelta(hours=hours) if hours else None
    attention_routes.acknowledge_as(opened, person, attention_routes.Acknowledgement(key=key, reason=reason, until=until))
    return RedirectResponse("/ui/dashboard", 303)


@router.post("/ui/alerts/take-back")
def take_back(opened: Opened, person: Editor, key: Annotated[str, Form(max_length=400)]) -> Response:
    """Take an acknowledgement back."""
    attention_routes.take_back_as(opened, person, attention_routes.TakenBack(key=key))
    return RedirectResponse("/ui/dashboard", 303)


@router.get("/ui/refused-files")
def refused_files(request: Request, opened: Opened, kind: Reason | None = None, cursor: Cursor = None) -> Response:
    """List raw files that were refused, with names and reasons."""
    with opened.session() as session:
        counts = status.rejected_by_kind(session)
    found = attention_routes.list_refused_files(opened, request, kind, cursor, 100)
    return page(request, "refused_files.html", files=found["items"], next=found["next"], counts=counts, kind=kind)


def _content(request: Request, opened: Access, part: Part) -> dict[str, Any]:
    try:
        return part.find(request, opened)
    except PipelineError as error:  # one part without an answer does not hide the others
        return {"problem": json.loads(bytes(of_pipeline_error(error).body))}
    except OSError as error:  # a mount that does not answer
        where = f" {error.filename}" if error.filename else ""
        answer = problem(
            503,
            "StorageError",
            f"a disk does not answer{where} ({error.strerror or error})",
            next_step="check the mounts of the directories",
        )
        return {"problem": json.loads(bytes(answer.body))}


def _attention(request: Request, opened: Access) -> dict[str, Any]:
    found = attention_routes.alerts(opened, request)
    with opened.session() as session:
        files = today.refused_files(session, limit=MOST_FILES).rows
        counts = status.rejected_by_kind(session)
    return {
        "alerts": [one for one in found if one.acknowledged is None],
        "quiet": [one for one in found if one.acknowledged is not None],
        "files": files,
        "counts": counts,
    }


def _chain(request: Request, opened: Access) -> dict[str, Any]:
    del request
    with opened.session() as session:
        return {"links": chain(session, utc_now()), "newest": today.newest_observation(session), "page_of": page_of}


def _sky(request: Request, opened: Access) -> dict[str, Any]:
    def find() -> dict[str, Any]:
        with opened.session() as session:
            newest = today.newest_observation(session)
            if newest is None:
                return {"newest": None, "covered": []}
            end = newest["end_mjd"]
            return {"newest": newest, "covered": today.covered(session, end - _MONTH_DAYS, end - 1.0, drawings.SKY_STEP_DEG)}

    opened.ping()
    found = request.app.state.sky.get(find)
    newest = found["newest"]
    strip = None if newest is None else newest["dec_deg"]
    return {
        "newest": newest,
        "strip": strip,
        "sky": drawings.sky(found["covered"], utc_now(), strip),
        "tiles": sum(one[2] for one in found["covered"]),
        "tiles_today": sum(one[3] for one in found["covered"]),
    }


def _queue(request: Request, opened: Access) -> dict[str, Any]:
    queue = queue_of(request.app)
    with opened.session() as session:
        return {"queue": queue, "stages": today.waiting_by_stage(session)}


def _calibrations(request: Request, opened: Access) -> dict[str, Any]:
    with opened.session() as session:
        newest = today.newest_observation(session)
        in_use = [] if newest is None else today.calibrations_in_use(session, newest["end_mjd"] - 1.0)
        tables = pages.calibrations(session, since=None, until=None, accepted=None, after=None, limit=3).rows
    (living,) = request.app.state.antennas.get(lambda: (antennas.living(opened),))
    levels = {word.value: level for word, level in antennas.LEVELS.items()}
    return {"in_use": in_use, "newest": tables, "living": living, "levels": levels}


def _quality(request: Request, opened: Access) -> dict[str, Any]:
    del request
    with opened.session() as session:
        newest = today.newest_observation(session)
        if newest is None:
            return {"trends": []}
        since = group_of(formats.moment(newest["end_mjd"] - 1.0))
        rows = {
            name: pages.quality(session, TILE_IMAGE.name, metric=name, since=since, until=None, after=None, limit=400).rows
            for name in _FIGURES
        }
    trends = [(title, drawings.trend(rows[name], "/ui/observations/{}"), rows[name][:1]) for name, title in _FIGURES.items()]
    return {"trends": trends, "until": newest["group_id"]}


def _machine(request: Request, opened: Access) -> dict[str, Any]:
    found: dict[str, Any] = {"status": platform_status(opened, request), "full": None}
    days = request.app.state.forecast.get(lambda: disk.forecast(opened.platform, utc_now()))
    return found | {"full": sorted(days.items())}


def _candidates(request: Request, opened: Access) -> dict[str, Any]:
    del request
    with opened.session() as session:
        return {"events": today.newest_events(session, MIN_SIGMA, MOST_CANDIDATES), "min_sigma": MIN_SIGMA}


PARTS = {
    "attention": Part("What needs a person", ("alerts", "observations", "files"), _attention, wide=True),
    "chain": Part("From raw file to candidate", ("products", "observations"), _chain, wide=True),
    "queue": Part("Queue", ("observations",), _queue),
    "sky": Part("Sky now", ("products",), _sky),
    "quality": Part("Images of the newest 24 h", ("products",), _quality),
    "candidates": Part("Newest candidates above 5 sigma", ("candidates", "actions"), _candidates),
    "calibrations": Part("Calibrations in use", ("products",), _calibrations),
    "machine": Part("Machine", (), _machine, every_s=30),
}
