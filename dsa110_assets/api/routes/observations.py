"""Observations: lists, and one with all that was made from it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import create_model

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import (
    Cursor,
    Limit,
    ObservationId,
    Order,
    Since,
    Text,
    Until,
    group_of,
    key_of,
    model_of,
    or_none,
    page_of,
    paged,
)
from dsa110_assets.api.routes.images import Image, image_columns, with_verdicts
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries import pages
from dsa110_assets.registry.queries.images import image_of
from dsa110_assets.registry.queries.observations import observation
from dsa110_assets.registry.schema import GroupState
from dsa110_assets.stages.table import CALIBRATED_MS, MEASUREMENT_SET, TILE_IMAGE

router = APIRouter()
Observation = model_of("Observation", pages.OBSERVATION)
ObservationDetails = create_model(
    "ObservationDetails",
    __base__=Observation,
    files=(list[dict[str, Any]], ...),
    measurement_sets=(list[dict[str, Any]], ...),
    tables=(dict[str, Any] | None, ...),
    image=(or_none(Image), ...),
    versions=(dict[str, int], ...),
)


@router.get("/api/data/observations", tags=["observations"], response_model=page_of(Observation))
def list_observations(
    opened: Opened,
    request: Request,
    since: Since = None,
    until: Until = None,
    state: GroupState | None = None,
    calibrator: Text = None,
    cursor: Cursor = None,
    limit: Limit = 100,
    order: Order = None,
) -> dict[str, Any]:
    """Observations, newest first; with ``order=asc`` oldest first."""
    with opened.session() as session:
        page = pages.observations(
            session,
            since=group_of(since),
            until=group_of(until),
            state=None if state is None else state.value,
            calibrator=calibrator,
            after=key_of(cursor, str),
            limit=limit,
            descending=order != "asc",
        )
    return paged(request, page)


@router.get("/api/data/observations/{group_id}", tags=["observations"], response_model=ObservationDetails)
def show_observation(opened: Opened, group_id: ObservationId) -> dict[str, Any]:
    """One observation: its raw files, Measurement Sets, tables, image, and the current versions of its products."""
    from dsa110_assets.ingest.status import observation_details

    with opened.session() as session:
        row = observation(session, group_id)
        details = observation_details(session, group_id, expected_subbands=opened.config.expected_subbands)
        image = image_of(session, group_id)
        found = {str(column.key): getattr(row, str(column.key)) for column in pages.OBSERVATION}
        versions = {
            product.name: version.version_id
            for product in (MEASUREMENT_SET, CALIBRATED_MS, TILE_IMAGE)
            if (version := current_version(session, product.name, group_id)) is not None
        }
        return found | {
            "files": [asdict(one) for one in details.files] if details else [],
            "measurement_sets": pages.measurement_sets_of(session, group_id),
            "tables": pages.tables_of(session, group_id),
            "image": None if image is None else with_verdicts(session, [image_columns(image)])[0],
            "versions": versions,
        }
