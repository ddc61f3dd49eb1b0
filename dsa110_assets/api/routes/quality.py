"""Quality figures and verdicts of products; calibration tables with theirs."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, create_model

from dsa110_assets.api import files
from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import (
    MOST_EDGES,
    Cursor,
    Day,
    File,
    Limit,
    ObservationId,
    Order,
    ProductName,
    Since,
    Text,
    Until,
    group_of,
    key_of,
    model_of,
    page_of,
    paged,
)
from dsa110_assets.errors import NotFoundError
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries import pages
from dsa110_assets.stages.table import CALIBRATION_TABLES

router = APIRouter()


class Spread(BaseModel):
    """Spread of a quality figure over the images or mosaics of 30 days: 10 % are below ``low``, 10 % above ``high``."""

    n: int
    lowest: float
    low: float
    median: float
    high: float
    highest: float


Calibration = model_of("Calibration", pages.CALIBRATION)
Quality = model_of("QualityFigure", pages.QUALITY)
CalibrationDetails = create_model(
    "CalibrationDetails",
    __base__=Calibration,
    applied_to=(list[dict[str, Any]], ...),
    version_id=(int | None, ...),
    files=(list[File], ...),
)


@router.get("/api/calibrations", tags=["calibration"], response_model=page_of(Calibration))
def list_calibrations(
    opened: Opened,
    request: Request,
    since: Annotated[Day | None, Query(description="First night.")] = None,
    until: Annotated[Day | None, Query(description="Last night.")] = None,
    accepted: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
    order: Order = None,
) -> dict[str, Any]:
    """Calibration tables with their quality, newest night first or as ``order`` says; refused ones with the reasons."""
    after = key_of(cursor, date, str)
    with opened.session() as session:
        page = pages.calibrations(session, since=since, until=until, accepted=accepted, after=after, limit=limit, descending=order != "asc")
    return paged(request, page)


@router.get("/api/calibrations/{group_id}", tags=["calibration"], response_model=CalibrationDetails)
def show_calibration(opened: Opened, group_id: ObservationId) -> dict[str, Any]:
    """Tables solved on one observation: quality, files, and the observations to which they were applied."""
    with opened.session() as session:
        found = pages.calibration(session, group_id)
        if found is None:
            raise NotFoundError(f"calibration tables of {group_id}", "there are none", "list them: /api/calibrations")
        applied = pages.calibrated_with(session, group_id, limit=MOST_EDGES)
        version = current_version(session, CALIBRATION_TABLES.name, group_id)
    return found | {"applied_to": applied, "version_id": version.version_id if version else None, "files": files.listed(version)}


@router.get("/api/quality/{product}", tags=["quality"], response_model=page_of(Quality))
def list_quality(
    opened: Opened,
    request: Request,
    product: ProductName,
    metric: Text = None,
    since: Since = None,
    until: Until = None,
    cursor: Cursor = None,
    limit: Limit = 200,
    order: Order = None,
) -> dict[str, Any]:
    """Quality figures of a product with limits and verdicts, newest first; with ``metric``, its trend."""
    with opened.session() as session:
        page = pages.quality(
            session,
            product,
            metric=metric,
            since=group_of(since),
            until=group_of(until),
            after=key_of(cursor, str, str),
            limit=limit,
            descending=order != "asc",
        )
    return paged(request, page)


def quality_row(row: Any) -> dict[str, Any]:
    """Columns of a quality figure, for answers."""
    return {str(column.key): getattr(row, str(column.key)) for column in pages.QUALITY}
