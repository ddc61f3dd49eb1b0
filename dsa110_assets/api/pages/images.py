"""Images of tiles: a gallery of previews, and one image with its quality, files, cut-outs and provenance."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import Cursor, ObservationId
from dsa110_assets.api.pages import fields, names
from dsa110_assets.api.pages.layout import address, page
from dsa110_assets.api.pages.products import parts_of, preview
from dsa110_assets.api.routes.images import BEAM_RADIUS_DEG, list_images, show_image
from dsa110_assets.quality.gate import TILE_CHECKS, TileWord
from dsa110_assets.times import tile_partition

router = APIRouter()
CARDS = 60
"""Pictures of a page."""
_SMALL, _LARGE = "-preview.png", "-preview-large.png"


@router.get("/ui/images")
def images(
    opened: Opened,
    request: Request,
    since: fields.When = None,
    until: fields.When = None,
    position: fields.Text = None,
    radius_deg: fields.Optional[Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]] = None,
    noise_max_mjy: fields.Number = None,
    verdict: fields.Optional[TileWord] = None,
    sort: Literal["time", "noise"] = "time",
    order: fields.Order = None,
    noise_min_mjy: fields.Number = None,
    cursor: Cursor = None,
) -> Response:
    """Show a gallery of tile images."""
    ra_deg, dec_deg = names.position(opened, request, position)
    noise_min, noise_max = (None if one is None else one / 1e3 for one in (noise_min_mjy, noise_max_mjy))
    cone = (ra_deg, dec_deg, radius_deg or 1.5)
    found = list_images(opened, request, since, until, *cone, noise_max, verdict, sort, cursor, CARDS, noise_min, order)
    cards = [one | {"picture": preview(one["version_id"], f"{one['group_id']}{_SMALL}")} for one in found["items"]]
    selection = {
        "since": since, "until": until, "ra_deg": ra_deg, "dec_deg": dec_deg, "radius_deg": radius_deg or 1.5, "noise_min_jy": noise_min,
        "noise_max_jy": noise_max, "verdict": verdict, "sort": sort, "order": order,
    }  # fmt: skip
    files = address("/api/data/images/addresses", selection)
    chosen = request.query_params
    return page(request, "images.html", cards=cards, next=found["next"], words=list(TileWord), chosen=chosen, addresses=files)


@router.get("/ui/images/{group_id}")
def image(
    opened: Opened,
    request: Request,
    group_id: ObservationId,
    position: fields.Text = None,
    size_arcmin: fields.Size = None,
) -> Response:
    """Show one image of a tile."""
    found = show_image(opened, group_id)
    parts = parts_of(
        opened,
        request,
        found,
        group_id,
        f"/api/data/images/{group_id}",
        checks=TILE_CHECKS,
        previews=(_LARGE, _SMALL),
        position=position,
        size_arcmin=size_arcmin,
        reach_deg=(BEAM_RADIUS_DEG, BEAM_RADIUS_DEG),
    )
    return page(request, "image.html", image=found, partition="|".join(tile_partition(group_id)), **parts)
