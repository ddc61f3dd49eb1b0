"""The viewer: a cut-out of an image or mosaic with catalogs over it, and two epochs blinked or subtracted; CARTA."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from dsa110_assets.api.access import Access, Opened
from dsa110_assets.api.pages import fields, names
from dsa110_assets.api.pages.layout import VIEWER_POLICY, address, page
from dsa110_assets.api.pages.products import CUTOUT_ARCMIN, partition_of
from dsa110_assets.api.routes.images import list_images, show_image
from dsa110_assets.api.routes.mosaics import show_mosaic
from dsa110_assets.api.routes.positions import EpochGroup, EpochMosaic, list_covering
from dsa110_assets.products import image_path
from dsa110_assets.registry.schema import MosaicKind
from dsa110_assets.stages.table import TILE_IMAGE
from dsa110_assets.times import tile_partition

router = APIRouter()
EPOCHS = 30
"""Other epochs to choose from."""
COLORS = ("inferno", "grayscale", "viridis", "magma")
STRETCHES = ("asinh", "linear", "sqrt", "log")


@router.get("/ui/viewer")
def viewer(
    opened: Opened,
    request: Request,
    image: EpochGroup = None,
    mosaic: EpochMosaic = None,
    position: fields.Text = None,
    ra_deg: fields.Number = None,
    dec_deg: fields.Number = None,
    size_arcmin: fields.Size = None,
    epoch: fields.Text = None,
    how: Literal["blink", "subtract"] = "blink",
    colors: Literal["inferno", "grayscale", "viridis", "magma"] = "inferno",
    stretch: Literal["asinh", "linear", "sqrt", "log"] = "asinh",
) -> Response:
    """Show a cut-out of an image or a mosaic; without one, ask which."""
    from dsa110_assets.common.cut_outs import MOST_PIXELS

    found = _shown(opened, image, mosaic)
    recent = [] if found else list_images(opened, request, limit=EPOCHS)["items"]
    context: dict[str, Any] = {"found": found, "recent": recent, "chosen": request.query_params}
    if found is None:
        return page(request, "viewer.html", policy=VIEWER_POLICY, **context)
    typed = names.position(opened, request, position)
    ra = typed[0] if typed[0] is not None else ra_deg if ra_deg is not None else found["ra_deg"]
    dec = typed[1] if typed[1] is not None else dec_deg if dec_deg is not None else found["dec_deg"]
    most = MOST_PIXELS * opened.config.cell_arcsec / 60.0
    size = min(size_arcmin or 2 * CUTOUT_ARCMIN, most)
    where = {"ra_deg": f"{ra:.6f}", "dec_deg": f"{dec:.6f}", "size_arcmin": f"{size:g}"}
    own = {"mosaic": mosaic} if mosaic else {"image": image}
    other = _other(epoch)
    first = address(_cutouts(own), where)
    second = address(_cutouts(other), where) if other else None
    subtracted = other is not None and how == "subtract"
    if other is not None and subtracted:
        minus = {f"minus_{key}": value for key, value in other.items()}
        first, second = address("/api/positions/difference", {**where, **own, **minus}), None
    return page(
        request,
        "viewer.html",
        policy=VIEWER_POLICY,
        **context,
        ra_deg=ra,
        dec_deg=dec,
        size_arcmin=size,
        most_arcmin=most,
        first=first,
        second=second,
        epochs=_epochs(opened, request, ra, dec, own),
        epoch=epoch or "",
        how=how,
        subtracted=subtracted,
        color="rdbu" if subtracted else colors,
        colors=COLORS,
        stretch="linear" if subtracted else stretch,
        stretches=STRETCHES,
        own=own,
        asset=_asset(found, None if mosaic else image),
        where=where,
    )


@router.get("/ui/carta")
def carta(opened: Opened, request: Request, image: EpochGroup = None, mosaic: EpochMosaic = None) -> Response:
    """Lead to the configured CARTA server, with the file opened; say how to configure one."""
    config, link = opened.config, None
    if config.carta_url and (image or mosaic):
        directory = opened.paths.image_dir(image) if image else opened.paths.mosaic_dir(str(mosaic))
        path = image_path(directory, image or str(mosaic), "image-pb" if image else "image")
        folder = path.parent
        inside = folder.relative_to(config.carta_folder) if folder.is_relative_to(config.carta_folder) else None
        link = None if inside is None else f"{config.carta_url.rstrip('/')}/?{urlencode({'folder': str(inside), 'file': path.name})}"
    return page(request, "carta.html", link=link, image=image, mosaic=mosaic)


def _shown(opened: Access, image: str | None, mosaic: str | None) -> dict[str, Any] | None:
    if mosaic is not None:
        found = show_mosaic(opened, mosaic)
        return found | {"title": f"mosaic {mosaic}", "page": f"/ui/mosaics/{mosaic}"}
    if image is not None:
        found = show_image(opened, image)
        return found | {"title": f"image of {image}", "page": f"/ui/images/{image}"}
    return None


def _asset(found: dict[str, Any], image: str | None) -> tuple[str, str | None] | None:
    """Asset and partition in Dagster of what is shown; None for a mosaic on demand."""
    if image is not None:
        return TILE_IMAGE.name, "|".join(tile_partition(image))
    if found["kind"] == MosaicKind.CUSTOM:
        return None
    return f"{found['kind']}_mosaic", partition_of(str(found["name"]).partition("_")[2])


def _other(epoch: str | None) -> dict[str, str] | None:
    """An epoch of the list: ``image NAME`` or ``mosaic NAME``."""
    kind, _, name = (epoch or "").partition(" ")
    return {kind: name} if kind in ("image", "mosaic") and name and not set(name) & set("/?#%") else None


def _cutouts(of: dict[str, Any]) -> str:
    return f"/api/data/images/{of['image']}/cutout" if "image" in of else f"/api/data/mosaics/{of['mosaic']}/cutout"


def _epochs(opened: Access, request: Request, ra: float, dec: float, own: dict[str, Any]) -> list[str]:
    """Other images, or mosaics, that cover a position, newest first."""
    found = list_covering(opened, request, ra, dec, None, EPOCHS)["items"]
    if "image" in own:
        return [f"image {one['group_id']}" for one in found if one["group_id"] != own["image"]]
    names = dict.fromkeys(str(mosaic["name"]) for one in found for mosaic in one["mosaics"])
    return [f"mosaic {name}" for name in names if name != own["mosaic"]]
