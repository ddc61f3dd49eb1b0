"""Sources: the population in plots and as a table; one source with its light curve and what each point comes from."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_assets.api.access import Access, Opened
from dsa110_assets.api.answers import NOT_BLANK, Cursor, SourceId, utc_now
from dsa110_assets.api.pages import fields
from dsa110_assets.api.pages.curves import small_curve
from dsa110_assets.api.pages.layout import address, page
from dsa110_assets.api.pages.visitor import Editor
from dsa110_assets.api.routes.epochs import EpochName, cutout_address, list_epochs_of_source, show_epoch
from dsa110_assets.api.routes.science import list_sources, show_source
from dsa110_assets.api.routes.tasks import DEFAULT_QUEUE, TaskRequest, spawn
from dsa110_assets.errors import NotFoundError
from dsa110_assets.registry.queries import epochs, events
from dsa110_assets.registry.schema import MosaicKind
from dsa110_assets.stages.operations import epochs as operations
from dsa110_assets.times import datetime_to_mjd

router = APIRouter()
NEIGHBORS_DEG = 0.5
MOST_NEIGHBORS = 12
DAYS_OF_CURVE = 365.0
STRIP = 24
"""Cut-outs in one part of the film strip."""
Sort = Literal["number", "eta", "v", "score", "flux"]
Origin = Annotated[Literal["nvss", "calibrator", "monitored", "blind"] | None, fields.EMPTY_IS_NONE]
Radius = Annotated[float | None, Query(gt=0, le=10, allow_inf_nan=False), fields.EMPTY_IS_NONE]
Epoch = Annotated[str | None, Query(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:+-]*$"), fields.EMPTY_IS_NONE]


@router.get("/ui/sources")
def sources(
    request: Request,
    opened: Opened,
    name: fields.Text = None,
    origin: Origin = None,
    ra_deg: fields.Ra = None,
    dec_deg: fields.Dec = None,
    radius_deg: Radius = None,
    min_eta: fields.Number = None,
    max_eta: fields.Number = None,
    min_v: fields.Number = None,
    max_v: fields.Number = None,
    min_score: fields.Number = None,
    max_score: fields.Number = None,
    min_flux_jy: fields.Number = None,
    max_flux_jy: fields.Number = None,
    sort: Sort = "score",
    order: fields.Order = None,
    cursor: Cursor = None,
) -> Response:
    """Show the population and a table of sources; only the table for a form of the page."""
    filters: dict[str, Any] = {
        "name": name, "origin": origin, "ra_deg": ra_deg, "dec_deg": dec_deg, "radius_deg": radius_deg, "min_eta": min_eta,
        "max_eta": max_eta, "min_v": min_v, "max_v": max_v, "min_score": min_score, "max_score": max_score, "min_flux_jy": min_flux_jy,
        "max_flux_jy": max_flux_jy,
    }  # fmt: skip
    chosen: dict[str, Any] = filters | {"radius_deg": radius_deg or 0.1}
    listed = list_sources(opened, request, sort=sort, order=order, cursor=cursor, limit=50, **chosen)
    part = "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers
    return page(
        request,
        "sources_list.html" if part else "sources.html",
        listed=listed,
        filters=filters,
        filtered=any(value is not None for value in filters.values()),
        sort=sort,
        order=order or ("asc" if sort == "number" else "desc"),
        threshold=opened.config.ese_threshold_sigma,
    )


@router.get("/ui/sources/{source_id}")
def source(request: Request, opened: Opened, source_id: SourceId, epoch: Epoch = None, kind: MosaicKind = MosaicKind.HOURLY) -> Response:
    """Show one source; ``epoch``: with the origin of this point; ``kind``: of the mosaics of the cut-outs."""
    found = show_source(opened, source_id)
    with opened.session() as session:
        known = events.events_of_source(session, source_id)
    return page(
        request,
        "source.html",
        events=known,
        source=found,
        threshold=opened.config.ese_threshold_sigma,
        neighbors=nearby(request, opened, found),
        strip=_strip(request, opened, found, kind, None),
        kinds=list(MosaicKind),
        point=None if epoch is None else _point(opened, found, epoch),
    )


@router.get("/ui/sources/{source_id}/strip")
def strip(request: Request, opened: Opened, source_id: SourceId, kind: MosaicKind = MosaicKind.HOURLY, cursor: Cursor = None) -> Response:
    """More cut-outs of a source, as a part of its page."""
    found = show_source(opened, source_id)
    return page(request, "source_strip.html", source=found, strip=_strip(request, opened, found, kind, cursor))


@router.get("/ui/sources/{source_id}/curve")
def curve(request: Request, opened: Opened, source_id: SourceId) -> Response:
    """Draw a small light curve of a source, of the year before its figures, as a part of another page."""
    found = show_source(opened, source_id)
    end = datetime_to_mjd(datetime.combine(found["night"] or utc_now().date(), time(), UTC)) + 1.0
    with opened.session() as session:
        points = events.curve_between(session, source_id, end - DAYS_OF_CURVE, end)
    answer = page(request, "source_curve.html", source=found, curve=small_curve(points), days=DAYS_OF_CURVE)
    answer.headers["Cache-Control"] = "private, max-age=300"
    return answer


@router.get("/ui/sources/{source_id}/point")
def point(request: Request, opened: Opened, source_id: SourceId, epoch: Epoch = None) -> Response:
    """What one point of a light curve comes from, as a part of the page."""
    found = show_source(opened, source_id)
    return page(request, "source_point.html", source=found, point=None if epoch is None else _point(opened, found, epoch))


@router.post("/ui/sources/{source_id}/epochs/{mosaic_name}/exclude")
def exclude(
    opened: Opened,
    person: Editor,
    source_id: SourceId,
    mosaic_name: EpochName,
    reason: Annotated[str, Form(min_length=1, max_length=1000, pattern=NOT_BLANK)],
) -> Response:
    """Exclude an epoch from all light curves."""
    with opened.session() as session:
        operations.exclude(session, mosaic_name, reason=reason, person=person)
    return RedirectResponse(address(f"/ui/sources/{source_id}", epoch=mosaic_name), 303)


@router.post("/ui/sources/{source_id}/epochs/{mosaic_name}/include")
def include(opened: Opened, person: Editor, source_id: SourceId, mosaic_name: EpochName) -> Response:
    """Include an excluded epoch again."""
    with opened.session() as session:
        operations.include(session, mosaic_name, person=person)
    return RedirectResponse(address(f"/ui/sources/{source_id}", epoch=mosaic_name), 303)


@router.post("/ui/sources/{source_id}/epochs/{mosaic_name}/follow")
def follow(opened: Opened, person: Editor, source_id: SourceId, mosaic_name: EpochName) -> Response:
    """Put the light curves, which do not agree with an epoch, into the queue."""
    follow_now(opened, person, mosaic_name)
    return RedirectResponse(address(f"/ui/sources/{source_id}", epoch=mosaic_name), 303)


def follow_now(opened: Access, person: str, mosaic_name: str) -> None:
    """Put the job that makes light curves into the queue, if an excluded or included epoch waits for it.

    Raises:
        NotFoundError: nothing waits.
    """
    with opened.session() as session:
        found = epochs.epoch(session, mosaic_name)
        waits = None if found is None else operations.waiting(session, found)
    if waits is None:
        raise NotFoundError(f"epoch {mosaic_name}", "light curves agree with it", "look at the page of a source")
    payload = {"night": waits.night}
    spawn(opened, person, TaskRequest(queue=DEFAULT_QUEUE, task_type=operations.NIGHT_JOB, payload=payload, priority=5))


def shades(level_jy: float | None) -> tuple[float, float]:
    """Brightness of the first and the last color of all cut-outs of a source, Jy/beam."""
    high = max(1.25 * (level_jy or 0.0), 0.005)
    return -0.1 * high, high


def _strip(request: Request, opened: Access, found: dict[str, Any], kind: MosaicKind, cursor: str | None) -> dict[str, Any]:
    low, high = shades(found["mean_flux_jy"] or found["reference_flux_jy"])
    number = found["source_id"]
    listed = list_epochs_of_source(opened, request, number, kind, low, high, cursor, STRIP)
    following = dict(parse_qsl((listed["next"] or "").partition("?")[2])).get("cursor")
    more = None if following is None else address(f"/ui/sources/{number}/strip", kind=kind.value, cursor=following)
    return listed | {"next": more, "low": low, "high": high, "kind": kind}


def _point(opened: Access, found: dict[str, Any], mosaic_name: str) -> dict[str, Any]:
    """An epoch with its cut-out of a source; ``image`` is None if the source was not measured in it."""
    low, high = shades(found["mean_flux_jy"] or found["reference_flux_jy"])
    with opened.session() as session:
        place = epochs.place_of(session, found["source_id"], mosaic_name)
        waits = operations.waiting(session, known) if (known := epochs.epoch(session, mosaic_name)) is not None else None
    one = show_epoch(opened, mosaic_name)
    made = int(one["created_at"].timestamp())
    image = None if place is None else cutout_address(found["source_id"], mosaic_name, made, low, high) + "&beams=12"
    return one | {
        "waits": waits,
        "image": image,
        "flux_jy": None if place is None else place[4],
        "product": operations.MOSAIC_PRODUCT[one["kind"]],
    }


def nearby(request: Request, opened: Access, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Other sources near a source, nearest first."""
    listed = list_sources(opened, request, ra_deg=found["ra_deg"], dec_deg=found["dec_deg"], radius_deg=NEIGHBORS_DEG, limit=200)
    others = [
        one | {"separation_arcmin": 60 * _separation_deg(found, one), "flux_jy": one["mean_flux_jy"] or one["reference_flux_jy"]}
        for one in listed["items"]
        if one["source_id"] != found["source_id"]
    ]
    return sorted(others, key=lambda one: one["separation_arcmin"])[:MOST_NEIGHBORS]


def _separation_deg(one: dict[str, Any], other: dict[str, Any]) -> float:
    ra1, dec1, ra2, dec2 = (math.radians(place[axis]) for place in (one, other) for axis in ("ra_deg", "dec_deg"))
    haversine = math.sin((dec2 - dec1) / 2) ** 2 + math.cos(dec1) * math.cos(dec2) * math.sin((ra2 - ra1) / 2) ** 2
    return math.degrees(2 * math.asin(math.sqrt(haversine)))
