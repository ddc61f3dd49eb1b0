"""Search: a position, the name of a source, an observation, a mosaic, or words of the documentation.

A position gets every image and mosaic that covers it, the fluxes that are known, its next transit, and two actions:
measure it in past mosaics, and add it to the list of positions.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_assets.api import documentation
from dsa110_assets.api.access import Access, Opened
from dsa110_assets.api.answers import OBSERVATION_ID, Cursor, cursor_of, key_of
from dsa110_assets.api.pages import fields, names
from dsa110_assets.api.pages.layout import address, page
from dsa110_assets.api.pages.visitor import Editor
from dsa110_assets.api.routes.positions import list_covering, show_transit
from dsa110_assets.api.routes.science import list_sources
from dsa110_assets.api.routes.targets import MOST_MOSAICS, NewTarget, PositionRequest, add_target, spawn_measurement
from dsa110_assets.api.routes.tasks import MEASURE_POSITION, TASK_TAG, Task
from dsa110_assets.common.position_lists import position_of
from dsa110_assets.errors import DagsterUnreachableError, InvalidRequestError, NonRetriableError, NotFoundError
from dsa110_assets.registry.queries import observations, positions
from dsa110_assets.registry.queries.sources import SAME_POSITION_ARCSEC
from dsa110_assets.registry.schema import MosaicRow

router = APIRouter()
NEAR_DEG = 5.0 / 60.0
"""Sources this close to a position are listed beside it."""
_ROWS = 40
_RECENT_RUNS = 50
_GROUP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+:-]{0,99}")
_RA = Annotated[float, Form(ge=0, lt=360, allow_inf_nan=False)]
_DEC = Annotated[float, Form(ge=-90, le=90, allow_inf_nan=False)]


@router.get("/ui/search")
def search(opened: Opened, request: Request, q: fields.Text = None, cursor: Cursor = None) -> Response:
    """Show what a text finds."""
    words = (q or "").strip()
    found: dict[str, Any] = {"observation": None, "mosaic": None, "sources": [], "docs": [], "position": None, "calibrator": None}
    if words:
        found |= _named(opened, request, words)
        where = position_of(words) or found["calibrator_position"]
        exact = [one for one in found["sources"] if str(one["name"]).casefold() == words.casefold()]
        if where is None and (exact or len(found["sources"]) == 1):
            one = (exact or found["sources"])[0]
            where = one["ra_deg"], one["dec_deg"]
        if where is not None:
            found["position"] = _at(opened, request, where, cursor)
    nothing = words and not any(found[name] for name in ("observation", "mosaic", "sources", "docs", "position"))
    return page(request, "search.html", q=words, nothing=nothing, **found)


@router.post("/ui/search/measure")
def measure(
    opened: Opened,
    person: Editor,
    ra_deg: _RA,
    dec_deg: _DEC,
    mosaics: Annotated[int, Form(ge=1, le=MOST_MOSAICS)] = 30,
    before: Annotated[str | None, Form(pattern=OBSERVATION_ID), fields.EMPTY_IS_NONE] = None,
) -> Response:
    """Put measuring a position into the queue; stay on the page of older images if it was asked for from there."""
    spawn_measurement(opened, person, PositionRequest(ra_deg=ra_deg, dec_deg=dec_deg, mosaics=mosaics, before=before))
    cursor = None if before is None else cursor_of([before])
    return RedirectResponse(address("/ui/search", q=_text(ra_deg, dec_deg), cursor=cursor), 303)


@router.post("/ui/search/target")
def new_target(
    opened: Opened,
    person: Editor,
    ra_deg: _RA,
    dec_deg: _DEC,
    name: Annotated[str, Form(max_length=200)] = "",
    reason: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Add a target, and show its source."""
    if not name.strip():
        raise InvalidRequestError("target", "it has no name", "give a new name, such as that of the object")
    added = add_target(opened, person, NewTarget(name=name.strip(), ra_deg=ra_deg, dec_deg=dec_deg, reason=reason))
    return RedirectResponse(address("/ui/search", q=added.name), 303)


@router.get("/ui/search/progress")
def progress(opened: Opened, request: Request, ra_deg: float, dec_deg: float) -> Response:
    """Show the runs that measure a position; htmx loads this part again until they end."""
    tasks = _tasks(opened, ra_deg, dec_deg)
    waits = any(one.state in ("pending", "running") for one in tasks)
    answer = page(request, "search_progress.html", tasks=tasks, waits=waits, ra_deg=ra_deg, dec_deg=dec_deg)
    if not waits and "HX-Request" in request.headers:
        answer.headers["HX-Refresh"] = "true"
    return answer


def _named(opened: Access, request: Request, words: str) -> dict[str, Any]:
    """What has this text as its identifier or name, or as the beginning of one."""
    found: dict[str, Any] = {"calibrator_position": None}
    if _GROUP.fullmatch(words):
        with suppress(NonRetriableError), opened.session() as session:
            found["observation"] = observations.observation(session, words).group_id
        return found
    with opened.session() as session:
        mosaic = session.get(MosaicRow, words) if _NAME.fullmatch(words) else None
        found["mosaic"] = None if mosaic is None else mosaic.name
    if position_of(words) is None:
        found["sources"] = list_sources(opened, request, name=words, limit=_ROWS)["items"]
        if not found["sources"]:
            star = names.calibrator(opened, words)
            found |= {} if star is None else {"calibrator": star[0], "calibrator_position": star[1:]}
        with suppress(NotFoundError):
            found["docs"] = documentation.search(words, limit=8)
    return found


def _at(opened: Access, request: Request, where: tuple[float, float], cursor: str | None) -> dict[str, Any]:
    """All about a position."""
    ra_deg, dec_deg = where
    covering = list_covering(opened, request, ra_deg, dec_deg, cursor, _ROWS)
    mosaics = [mosaic for one in covering["items"] for mosaic in one["mosaics"]]
    with opened.session() as session:
        near = positions.sources_at(session, ra_deg, dec_deg, NEAR_DEG)
        same = near[0] if near and near[0]["separation_arcsec"] <= SAME_POSITION_ARCSEC else None
        fluxes = {} if same is None else positions.fluxes_of_source(session, same["source_id"], mosaics)
        asked = positions.fluxes_at(session, ra_deg, dec_deg)
    fluxes = {one["mosaic_name"]: one for one in asked} | fluxes
    tasks, dagster_note = [], ""
    try:
        tasks = _tasks(opened, ra_deg, dec_deg)
    except DagsterUnreachableError as error:
        dagster_note = f"{error.subject} {error.cause}. Next: {error.next_step}"
    return {
        "ra_deg": ra_deg,
        "dec_deg": dec_deg,
        "text": _text(ra_deg, dec_deg),
        "covering": covering,
        "near": near,
        "same": same,
        "fluxes": fluxes,
        "asked": asked,
        "transit": show_transit(opened, ra_deg, dec_deg),
        "tasks": tasks,
        "waits": any(one.state in ("pending", "running") for one in tasks),
        "dagster_note": dagster_note,
        "before": (key_of(cursor, str) or (None,))[0],
    }


def _tasks(opened: Access, ra_deg: float, dec_deg: float) -> list[Task]:
    """The newest runs that measure a position."""
    from dsa110_assets.api.routes.tasks import task_of

    recent = [task_of(opened, run) for run in opened.dagster.runs(tags={TASK_TAG: MEASURE_POSITION}, limit=_RECENT_RUNS)]
    return [one for one in recent if (one.payload.get("ra_deg"), one.payload.get("dec_deg")) == (ra_deg, dec_deg)][:3]


def _text(ra_deg: float, dec_deg: float) -> str:
    return f"{ra_deg:.6f} {dec_deg:+.6f}"
