"""Questions about a position: which images and mosaics cover it, and how two of them differ there."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, create_model

from dsa110_assets.api import files
from dsa110_assets.api.access import Access, Opened
from dsa110_assets.api.answers import BINARY, Cursor, CutoutDec, CutoutRa, SizeArcmin, key_of, page_of, paged
from dsa110_assets.api.routes.images import BEAM_RADIUS_DEG, Image, with_verdicts
from dsa110_assets.errors import InvalidRequestError, NotFoundError
from dsa110_assets.products import image_path
from dsa110_assets.registry.queries.coverage import Extent, covering_images
from dsa110_assets.registry.queries.images import image_of, mosaics_with
from dsa110_assets.registry.schema import MosaicRow

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig

router = APIRouter()


class Transit(BaseModel):
    """Next transit of a position. ``in_beam``: the telescope sees it then if it keeps its present declination."""

    at: datetime
    pointing_dec_deg: float
    in_beam: bool


Covering = create_model("Covering", __base__=Image, mosaics=(list[dict[str, Any]], ...))
EpochGroup = Annotated[str | None, Query(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}$", description="Observation of a tile image.")]
EpochMosaic = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+:-]{0,99}$", description="Name of a mosaic.")]


@router.get("/api/positions/images", tags=["positions"], response_model=page_of(Covering))
def list_covering(
    opened: Opened,
    request: Request,
    ra_deg: CutoutRa,
    dec_deg: CutoutDec,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Images of a page, at most; a page may have fewer.")] = 50,
) -> dict[str, Any]:
    """Images that cover a position, newest first, and the mosaics that each is in."""
    after = key_of(cursor, str)
    with opened.session() as session:
        page = covering_images(session, ra_deg, dec_deg, extent_of(opened.config), before=None if after is None else after[0], limit=limit)
        mosaics = mosaics_with(session, [row["group_id"] for row in page.rows])
        rows = with_verdicts(session, page.rows)
    return paged(request, page, [row | {"mosaics": [dict(one) for one in mosaics[row["group_id"]]]} for row in rows])


@router.get("/api/positions/transit", tags=["positions"])
def show_transit(opened: Opened, ra_deg: CutoutRa, dec_deg: CutoutDec) -> Transit | None:
    """Next transit of a position, to some seconds, and whether the present pointing sees it; null before any image."""
    from dsa110_assets.stages.operations.positions import next_transit

    with opened.session() as session:
        found = next_transit(session, ra_deg, dec_deg)
    return None if found is None else Transit(at=found.at, pointing_dec_deg=found.pointing_dec_deg, in_beam=found.in_beam)


@router.get("/api/positions/difference", tags=["positions"], responses=BINARY, response_class=Response)
def cut_out_difference(
    opened: Opened,
    ra_deg: CutoutRa,
    dec_deg: CutoutDec,
    image: EpochGroup = None,
    mosaic: EpochMosaic = None,
    minus_image: EpochGroup = None,
    minus_mosaic: EpochMosaic = None,
    size_arcmin: SizeArcmin = 10.0,
    form: Annotated[Literal["fits", "png"], Query(alias="format")] = "fits",
) -> Response:
    """Difference of two epochs around a position: an image or mosaic minus another one, on the grid of the first.

    If their grids differ, the second is interpolated. Images whose units or beams differ too much are refused.
    """
    first, noise = _plane(opened, image, mosaic, "image or mosaic")
    second, other_noise = _plane(opened, minus_image, minus_mosaic, "minus_image or minus_mosaic")
    return files.difference(first, second, ra_deg, dec_deg, size_arcmin, form, math.hypot(noise, other_noise))


def extent_of(config: PipelineConfig) -> Extent:
    """How far tile images of this configuration reach."""
    return Extent(config.image_size * config.cell_arcsec / 7200.0, BEAM_RADIUS_DEG)


def _plane(opened: Access, group_id: str | None, name: str | None, what: str) -> tuple[Path, float]:
    """FITS file and noise of a tile image, corrected for the beam, or of a mosaic."""
    if (group_id is None) == (name is None):
        raise InvalidRequestError("difference", f"needs one {what}", "give one of the two")
    with opened.session() as session:
        if group_id is not None:
            row = image_of(session, group_id)
            path = None if row is None else image_path(files.as_path(row.directory), group_id, "image-pb")
        else:
            row = session.get(MosaicRow, name)
            path = None if row is None else image_path(files.as_path(row.directory), str(name), "image")
        if row is None or path is None:
            raise NotFoundError(f"image {group_id or name}", "there is none", "list them: /api/data/images, /api/data/mosaics")
        return path, row.noise_jy_per_beam
