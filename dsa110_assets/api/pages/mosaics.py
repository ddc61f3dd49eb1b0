"""Mosaics: a gallery, one mosaic, and mosaics on demand with their progress."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import NOT_BLANK, Cursor, MosaicName
from dsa110_assets.api.pages import fields, names
from dsa110_assets.api.pages.images import CARDS
from dsa110_assets.api.pages.layout import address, page
from dsa110_assets.api.pages.products import partition_of, parts_of, preview
from dsa110_assets.api.pages.sources import follow_now
from dsa110_assets.api.pages.visitor import Editor
from dsa110_assets.api.routes.epochs import EpochName
from dsa110_assets.api.routes.images import BEAM_RADIUS_DEG
from dsa110_assets.api.routes.mosaics import list_mosaics, show_mosaic
from dsa110_assets.api.routes.tasks import MosaicRequest, TaskState, create_mosaic, mosaic_status, planned_mosaic
from dsa110_assets.common.interferometry import SIDEREAL_DAY_DAYS
from dsa110_assets.errors import InvalidRequestError, NotFoundError, PipelineError
from dsa110_assets.quality.gate import CATALOG_CHECKS
from dsa110_assets.quality.verdict import Outcome
from dsa110_assets.registry.queries import epochs
from dsa110_assets.registry.schema import MosaicKind
from dsa110_assets.stages.operations import epochs as operations

router = APIRouter()
_SMALL, _LARGE = "-preview-small.png", "-preview.png"
_SHORT = Annotated[str, Form(max_length=80)]


@router.get("/ui/mosaics")
def mosaics(
    opened: Opened,
    request: Request,
    since: fields.When = None,
    until: fields.When = None,
    kind: fields.Optional[MosaicKind] = None,
    position: fields.Text = None,
    noise_max_mjy: fields.Number = None,
    noise_min_mjy: fields.Number = None,
    verdict: fields.Optional[Outcome] = None,
    sort: Literal["time", "noise"] = "time",
    order: fields.Order = None,
    cursor: Cursor = None,
) -> Response:
    """Show a gallery of mosaics."""
    ra_deg, dec_deg = names.position(opened, request, position)
    noise_min, noise_max = (None if one is None else one / 1e3 for one in (noise_min_mjy, noise_max_mjy))
    found = list_mosaics(
        opened, request, since, until, kind, ra_deg, dec_deg, 8.0, noise_max, cursor, CARDS, noise_min, verdict, sort, order
    )
    cards = [one | {"picture": preview(one["version_id"], f"{one['name']}{_SMALL}")} for one in found["items"]]
    selection = {
        "since": since, "until": until, "kind": kind, "ra_deg": ra_deg, "dec_deg": dec_deg, "noise_min_jy": noise_min,
        "noise_max_jy": noise_max, "verdict": verdict, "sort": sort, "order": order,
    }  # fmt: skip
    files = address("/api/data/mosaics/addresses", selection)
    return page(
        request,
        "mosaics.html",
        cards=cards,
        next=found["next"],
        kinds=list(MosaicKind),
        words=list(Outcome),
        chosen=request.query_params,
        addresses=files,
    )


@router.get("/ui/mosaics/new")
def new_mosaic(
    opened: Opened,
    request: Request,
    name: fields.Text = None,
    since: fields.When = None,
    until: fields.When = None,
    calibrator: fields.Text = None,
    timespan_minutes: fields.Number = None,
    night: fields.Optional[date] = None,
) -> Response:
    """Ask for a mosaic of a time range or around a calibrator; show which tiles it would have."""
    given = {"name": name, "since": since, "until": until, "calibrator": calibrator, "timespan_minutes": timespan_minutes, "night": night}
    given = {key: value for key, value in given.items() if value is not None}
    plan, wrong = None, None
    if given:
        try:
            plan = planned_mosaic(opened, _wanted(given), keep=False)
        except PipelineError as error:
            wrong = error
    return page(request, "mosaic_new.html", plan=plan, wrong=wrong, chosen=request.query_params)


@router.post("/ui/mosaics/new")
def make_mosaic(
    opened: Opened,
    person: Editor,
    name: _SHORT = "",
    since: _SHORT = "",
    until: _SHORT = "",
    calibrator: _SHORT = "",
    timespan_minutes: _SHORT = "",
    night: _SHORT = "",
) -> Response:
    """Put the making of a mosaic into the queue, and show its progress."""
    given = {"name": name, "since": since, "until": until, "calibrator": calibrator, "timespan_minutes": timespan_minutes, "night": night}
    requested = create_mosaic(opened, person, _wanted({key: value for key, value in given.items() if value}))
    return RedirectResponse(f"/ui/mosaics/{requested.name}", 303)


@router.get("/ui/mosaics/{name}/progress")
def progress(opened: Opened, request: Request, name: MosaicName) -> Response:
    """Show how far a mosaic on demand is; htmx loads this part again and again until it is made."""
    status = mosaic_status(opened, name)
    answer = page(request, "mosaic_progress.html", status_now=status, waits=status.state in (TaskState.PENDING, TaskState.RUNNING))
    if status.state is TaskState.COMPLETED and "HX-Request" in request.headers:
        answer.headers["HX-Refresh"] = "true"
    return answer


@router.get("/ui/mosaics/{name}")
def mosaic(
    opened: Opened,
    request: Request,
    name: MosaicName,
    position: fields.Text = None,
    size_arcmin: fields.Size = None,
) -> Response:
    """Show one mosaic; its progress until it is made."""
    try:
        found = show_mosaic(opened, name)
    except NotFoundError:
        status = mosaic_status(opened, name)
        waits = status.state in (TaskState.PENDING, TaskState.RUNNING)
        return page(request, "mosaic_waits.html", status_now=status, waits=waits, name=name)
    kind = MosaicKind(found["kind"])
    drifted_deg = (found["end_mjd"] - found["start_mjd"]) * 180.0 / SIDEREAL_DAY_DAYS
    parts = parts_of(
        opened,
        request,
        found,
        name,
        f"/api/data/mosaics/{name}",
        checks=CATALOG_CHECKS,
        previews=(_LARGE, _SMALL),
        position=position,
        size_arcmin=size_arcmin,
        reach_deg=(drifted_deg + BEAM_RADIUS_DEG, BEAM_RADIUS_DEG + 1.0),
    )
    asset = None if kind is MosaicKind.CUSTOM else f"{kind}_mosaic"
    partition = None if kind is MosaicKind.CUSTOM else partition_of(name.partition("_")[2])
    with opened.session() as session:
        epoch = epochs.epoch(session, name)
        waits = None if epoch is None else operations.waiting(session, epoch)
    return page(request, "mosaic.html", mosaic=found, asset=asset, partition=partition, epoch=epoch, waits=waits, **parts)


@router.post("/ui/mosaics/{name}/exclude")
def exclude(
    opened: Opened, person: Editor, name: EpochName, reason: Annotated[str, Form(min_length=1, max_length=1000, pattern=NOT_BLANK)]
) -> Response:
    """Exclude the mosaic's epoch from all light curves."""
    with opened.session() as session:
        operations.exclude(session, name, reason=reason, person=person)
    return RedirectResponse(f"/ui/mosaics/{name}#epoch", 303)


@router.post("/ui/mosaics/{name}/include")
def include(opened: Opened, person: Editor, name: EpochName) -> Response:
    """Include an excluded epoch again."""
    with opened.session() as session:
        operations.include(session, name, person=person)
    return RedirectResponse(f"/ui/mosaics/{name}#epoch", 303)


@router.post("/ui/mosaics/{name}/follow")
def follow(opened: Opened, person: Editor, name: EpochName) -> Response:
    """Put the light curves, which do not agree with the epoch, into the queue."""
    follow_now(opened, person, name)
    return RedirectResponse(f"/ui/mosaics/{name}#epoch", 303)


def _wanted(given: dict[str, Any]) -> MosaicRequest:
    try:
        return MosaicRequest(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequestError(
            str(first["loc"][0]), f"{first['msg']} (found {str(first['input'])[:80]!r})", "correct the form"
        ) from None
