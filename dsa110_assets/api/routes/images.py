"""Tile images: lists, details, cut-outs, with the verdicts on them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, create_model

from dsa110_assets.api import files
from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import (
    BINARY,
    MOST_EDGES,
    Cursor,
    CutoutDec,
    CutoutRa,
    DecDeg,
    File,
    Limit,
    Number,
    ObservationId,
    Order,
    RaDeg,
    RadiusDeg,
    Since,
    SizeArcmin,
    Until,
    descending,
    group_of,
    key_of,
    list_of,
    model_of,
    near,
    page_of,
    paged,
)
from dsa110_assets.api.routes.quality import Quality, Spread, quality_row
from dsa110_assets.errors import NotFoundError
from dsa110_assets.products import IMAGE_SUFFIXES, image_path
from dsa110_assets.quality.gate import TileWord
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries import pages
from dsa110_assets.registry.queries.images import image_of, images_of_month, listed_sources_within, mosaics_with
from dsa110_assets.registry.queries.quality import qa_metrics, spread_of
from dsa110_assets.registry.schema import ImageRow
from dsa110_assets.stages.provenance.versions import version_ids
from dsa110_assets.stages.table import TILE_IMAGE

router = APIRouter()
BEAM_RADIUS_DEG = 2.0
"""At 1.4 GHz the power beam falls to `instrument.BEAM_CUTOFF`, where images end, this far from the axis."""


class TileVerdict(BaseModel):
    """Whether mosaics use a tile, why not, and what to do."""

    word: TileWord
    reason: str
    next_step: str
    provisional: bool


class ImageKind(StrEnum):
    """Kinds of FITS images."""

    DIRTY = "dirty"
    PSF = "psf"
    MODEL = "model"
    RESIDUAL = "residual"
    IMAGE = "image"
    IMAGE_PB = "image-pb"
    PB = "pb"
    WEIGHT = "weight"
    NOISE = "noise"


assert {kind.value for kind in ImageKind} == set(IMAGE_SUFFIXES)

Image = model_of("Image", pages.IMAGE, verdict=(TileVerdict | None, ...), version_id=(int | None, ...))
ImageDetails = create_model(
    "ImageDetails",
    __base__=Image,
    quality=(list_of(Quality), ...),
    month=(dict[str, Spread], ...),
    tables=(dict[str, Any] | None, ...),
    mosaics=(list[str], ...),
    listed_sources=(int, ...),
    files=(list[File], ...),
)


@router.get("/api/data/images", tags=["images"], response_model=page_of(Image))
def list_images(
    opened: Opened,
    request: Request,
    since: Since = None,
    until: Until = None,
    ra_deg: RaDeg = None,
    dec_deg: DecDeg = None,
    radius_deg: RadiusDeg = 1.5,
    noise_max_jy: Number = None,
    verdict: TileWord | None = None,
    sort: Literal["time", "noise"] = "time",
    cursor: Cursor = None,
    limit: Limit = 100,
    noise_min_jy: Number = None,
    order: Order = None,
) -> dict[str, Any]:
    """Tile images with their verdicts: newest or least noisy first, or as ``order`` says.

    The position is that of the centers.

    With ``verdict``, a page looks at 500 images and gives those with this verdict; it may be empty, and `next` goes on.
    """
    with opened.session() as session:
        rows = limit if verdict is None else MOST_EDGES
        page = pages.images(
            session,
            since=group_of(since),
            until=group_of(until),
            near=near(ra_deg, dec_deg, radius_deg),
            noise_min=noise_min_jy,
            noise_max=noise_max_jy,
            sort=sort,
            descending=descending(order),
            after=key_of(cursor, *((float, str) if sort == "noise" else (str,))),
            limit=rows,
        )
        found = with_verdicts(session, page.rows)
        if verdict is not None:
            found = [one for one in found if one["verdict"] is not None and one["verdict"]["word"] == verdict]
        return paged(request, page, found)


@router.get("/api/data/images/addresses", tags=["images"], response_class=PlainTextResponse)
def list_image_addresses(
    opened: Opened,
    request: Request,
    since: Since = None,
    until: Until = None,
    ra_deg: RaDeg = None,
    dec_deg: DecDeg = None,
    radius_deg: RadiusDeg = 1.5,
    noise_max_jy: Number = None,
    verdict: TileWord | None = None,
    sort: Literal["time", "noise"] = "time",
    kind: ImageKind = ImageKind.IMAGE_PB,
    cursor: Cursor = None,
    limit: Limit = 1000,
    noise_min_jy: Number = None,
    order: Order = None,
) -> PlainTextResponse:
    """Addresses of the FITS files of the images of this selection, one on each line, for `wget -i`.

    The header `Link` names the next page.
    """
    cone = (ra_deg, dec_deg, radius_deg)
    found = list_images(opened, request, since, until, *cone, noise_max_jy, verdict, sort, cursor, limit, noise_min_jy, order)
    names = ((one["version_id"], f"{one['group_id']}-{kind.value}.fits") for one in found["items"])
    return files.addresses(request, names, found["next"])


@router.get("/api/data/images/{group_id}", tags=["images"], response_model=ImageDetails)
def show_image(opened: Opened, group_id: ObservationId) -> dict[str, Any]:
    """One image: all quality figures and their spread over 30 days, applied tables, mosaics that have it, and files.

    ``listed_sources``: positions within the beam that are measured in mosaics.
    """
    with opened.session() as session:
        row = _image_row(session, group_id)
        found = with_verdicts(session, [image_columns(row)])[0] | {
            "quality": [quality_row(one) for one in qa_metrics(session, TILE_IMAGE.name, group_id).values()],
            "month": spread_of(session, TILE_IMAGE.name, images_of_month(session, row.mid_mjd)),
            "tables": pages.tables_of(session, group_id),
            "mosaics": [str(one["name"]) for one in mosaics_with(session, [group_id])[group_id]],
            "listed_sources": listed_sources_within(session, row.ra_deg, row.dec_deg, BEAM_RADIUS_DEG),
        }
        version = current_version(session, TILE_IMAGE.name, group_id)
    return found | {"files": files.listed(version)}


@router.get("/api/data/images/{group_id}/cutout", tags=["images"], responses=BINARY, response_class=Response)
def cut_out_image(
    opened: Opened,
    group_id: ObservationId,
    ra_deg: CutoutRa,
    dec_deg: CutoutDec,
    size_arcmin: SizeArcmin = 10.0,
    kind: ImageKind = ImageKind.IMAGE_PB,
    form: Annotated[Literal["fits", "png"], Query(alias="format")] = "fits",
) -> Response:
    """Cut a square out of a tile image, as FITS with two axes, or as PNG in units of the noise."""
    with opened.session() as session:
        row = _image_row(session, group_id)
        path, noise = image_path(files.as_path(row.directory), group_id, kind.value), row.noise_jy_per_beam
    return files.cut_out(path, ra_deg, dec_deg, size_arcmin, form, noise)


def with_verdicts(session: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add verdict and current version to rows of images."""
    from dsa110_assets.stages.products.gates import verdicts

    names = [row["group_id"] for row in rows]
    judged = verdicts(session, names)
    versions = version_ids(session, TILE_IMAGE.name, names)
    return [
        row
        | {
            "verdict": None
            if (verdict := judged.get(row["group_id"])) is None
            else {"word": verdict.word, "reason": verdict.reason, "next_step": verdict.next_step, "provisional": verdict.provisional},
            "version_id": versions.get(row["group_id"]),
        }
        for row in rows
    ]


def _image_row(session: Any, group_id: str) -> ImageRow:
    row = image_of(session, group_id)
    if row is None:
        raise NotFoundError(f"image of {group_id}", "the observation has no image", "list images: /api/data/images")
    return row


def image_columns(row: ImageRow) -> dict[str, Any]:
    """Columns of an image, for answers."""
    return {str(column.key): getattr(row, str(column.key)) for column in pages.IMAGE}
