"""The platform's own sky model: bright sources that images found and no catalog has."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import Cursor, DecDeg, Limit, RaDeg, RadiusDeg, key_of, model_of, near, page_of, paged
from dsa110_assets.registry.queries import sky_model
from dsa110_assets.times import mjd_to_datetime

router = APIRouter()
OwnSource = model_of("OwnSource", sky_model.SOURCE, first_night=(str, ...), last_night=(str, ...))


@router.get("/api/sky-model", tags=["sources"], response_model=page_of(OwnSource))
def list_sky_model(
    opened: Opened,
    request: Request,
    ra_deg: RaDeg = None,
    dec_deg: DecDeg = None,
    radius_deg: RadiusDeg = 2.0,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Bright sources that images found outside their frames and no catalog has, the newest first.

    Calibration and imaging take them for known. Flux and position are from ``group_id``, which saw the source best.
    ``origin``: how it was found. ``first_night``, ``last_night``: UTC dates on which images saw it.
    """
    with opened.session() as session:
        page = sky_model.newest(session, near=near(ra_deg, dec_deg, radius_deg), after=key_of(cursor, int), limit=limit)
    nights = {"first_night": "first_mjd", "last_night": "last_mjd"}
    rows = [row | {name: mjd_to_datetime(row[column]).date().isoformat() for name, column in nights.items()} for row in page.rows]
    return paged(request, page, rows)
