"""Sources: lists, the population, light curves."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from dsa110_assets.api.access import Access, Opened
from dsa110_assets.api.answers import (
    Cursor,
    DecDeg,
    Limit,
    Number,
    Order,
    RaDeg,
    RadiusDeg,
    SourceId,
    TableFormat,
    Text,
    descending,
    key_of,
    model_of,
    near,
    page_of,
    paged,
    records,
    table,
)
from dsa110_assets.errors import NotFoundError
from dsa110_assets.registry.queries import pages, population
from dsa110_assets.registry.queries.measurements import (
    channel_photometry,
    excluded_epochs,
    light_curve,
)

router = APIRouter()
Source = model_of("Source", pages.SOURCE, optional=pages.FIGURES)


class Point(BaseModel):
    """A flux at one epoch: as measured and, if the night's light curves were made, normalized. Jy; times UTC MJD.

    ``calibration_err_jy``: the part of ``flux_err_jy`` that is not noise; null if it was not measured.
    """

    time_mjd: float
    mosaic_name: str
    mosaic_kind: str | None
    flux_jy: float
    flux_err_jy: float
    calibration_err_jy: float | None
    snr: float
    upper_limit_jy: float | None
    is_limit: bool
    flags: str
    normalised_flux_jy: float | None
    normalised_flux_err_jy: float | None
    normalisation: float | None
    excluded: bool


class LightCurve(BaseModel):
    """All fluxes of a source in order of time."""

    source_id: int
    name: str
    ra_deg: float
    dec_deg: float
    points: list[Point]


class Bins(BaseModel):
    """Numbers of sources in bins: ``i, j, n``. Bin ``i, j`` begins at ``i`` and ``j`` times the steps."""

    step_x: float
    step_y: float
    cells: list[tuple[int, int, int]]


class Outlier(BaseModel):
    """A source where few others are, or with a high score."""

    source_id: int
    name: str
    ra_deg: float
    dec_deg: float
    eta: float
    v: float
    mean_flux_jy: float
    ese_score: float | None


class Population(BaseModel):
    """All sources in bins of log10 eta and log10 V (as of ``night``) and on the sky (degrees); the outliers."""

    night: date | None
    threshold: float
    eta_v: Bins
    outliers: list[Outlier]
    sky: Bins


@router.get("/api/sources", tags=["sources"], response_model=page_of(Source))
def list_sources(
    opened: Opened,
    request: Request,
    ra_deg: RaDeg = None,
    dec_deg: DecDeg = None,
    radius_deg: RadiusDeg = 0.1,
    name: Text = None,
    origin: Literal["nvss", "calibrator", "monitored", "blind"] | None = None,
    min_eta: Number = None,
    min_v: Number = None,
    min_score: Number = None,
    min_flux_jy: Number = None,
    max_eta: Number = None,
    max_v: Number = None,
    sort: Literal["number", "eta", "v", "score", "flux"] = "number",
    cursor: Cursor = None,
    limit: Limit = 100,
    max_score: Number = None,
    max_flux_jy: Number = None,
    order: Order = None,
) -> dict[str, Any]:
    """Sources with their variability figures as of the newest night.

    ``name`` is the beginning of a name. Sorted by number, or by the largest eta, V, score or mean flux first, or as
    ``order`` says.
    """
    cone = near(ra_deg, dec_deg, radius_deg)
    chosen = pages.SourceFilter(
        cone, name, origin, min_eta, min_v, min_score, min_flux_jy, max_eta, max_v, max_score=max_score, max_flux_jy=max_flux_jy
    )
    kinds = (int,) if sort == "number" else (float, int)
    with opened.session() as session:
        page = pages.sources(session, chosen, sort=sort, after=key_of(cursor, *kinds), limit=limit, descending=descending(order))
    return paged(request, page)


@router.get("/api/sources/population", tags=["sources"], response_model=Population)
def show_population(opened: Opened) -> dict[str, Any]:
    """All sources in bins of eta and V and on the sky, for plots, and those that stand apart, at most 5000."""
    threshold = opened.config.ese_threshold_sigma
    with opened.session() as session:
        night = pages.newest_night(session)
        eta_v = [] if night is None else population.eta_v_cells(session, night)
        outliers = [] if night is None else population.outliers(session, night, min_score=threshold)
        sky = population.sky_cells(session)
    return {
        "night": night,
        "threshold": threshold,
        "eta_v": {"step_x": population.STEP_DEX, "step_y": population.STEP_DEX, "cells": eta_v},
        "outliers": outliers,
        "sky": {"step_x": population.RA_STEP_DEG, "step_y": population.DEC_STEP_DEG, "cells": sky},
    }


@router.get("/api/sources/{source_id}", tags=["sources"], response_model=Source)
def show_source(opened: Opened, source_id: SourceId) -> dict[str, Any]:
    """One source with its variability figures as of the newest night."""
    return _source(opened, source_id)


@router.get(
    "/api/sources/{source_id}/lightcurve",
    tags=["light curves"],
    response_model=LightCurve,
    responses={200: {"content": {"text/csv": {}, "application/x-votable+xml": {}, "application/vnd.apache.parquet": {}}}},
)
def show_light_curve(
    opened: Opened, source_id: SourceId, form: Annotated[TableFormat, Query(alias="format")] = TableFormat.JSON
) -> dict[str, Any] | Response:
    """Light curve of a source: measured and normalized fluxes, limits, excluded epochs."""
    found = _source(opened, source_id)
    with opened.session() as session:
        curve = light_curve(session, source_id)
        curve["excluded"] = curve["mosaic_name"].isin(excluded_epochs(session)["mosaic_name"])
    if form is not TableFormat.JSON:
        return table(curve, form, f"lightcurve_{source_id}")
    return {name: found[name] for name in ("source_id", "name", "ra_deg", "dec_deg")} | {"points": records(curve)}


@router.get("/api/sources/{source_id}/channels", tags=["light curves"])
def show_channels(opened: Opened, source_id: SourceId) -> list[dict[str, Any]]:
    """Fluxes of a source in channel images, as measured, in order of time and channel."""
    _source(opened, source_id)
    with opened.session() as session:
        return records(channel_photometry(session, source_ids=[source_id]))


def _source(opened: Access, source_id: int) -> dict[str, Any]:
    with opened.session() as session:
        found = pages.source(session, source_id)
    if found is None:
        raise NotFoundError(f"source {source_id}", "there is no source of this number", "search them: /api/sources")
    return found
