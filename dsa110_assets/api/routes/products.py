"""Observations, images, mosaics, calibrations: lists, details, quality, provenance, files, cut-outs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import BaseModel, create_model

from dsa110_assets.api import files
from dsa110_assets.api.access import Access, Opened
from dsa110_assets.api.answers import (
    Cursor,
    DecDeg,
    Limit,
    Number,
    ObservationId,
    RaDeg,
    RadiusDeg,
    Since,
    Text,
    Until,
    VersionId,
    group_of,
    key_of,
    list_of,
    model_of,
    near,
    or_none,
    page_of,
    paged,
)
from dsa110_assets.errors import NotFoundError
from dsa110_assets.products import IMAGE_SUFFIXES, image_path
from dsa110_assets.quality.gate import TileWord
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries import pages
from dsa110_assets.registry.queries.images import (
    image_of,
    images_of_month,
    listed_sources_within,
    mosaics_with,
)
from dsa110_assets.registry.queries.observations import observation
from dsa110_assets.registry.queries.quality import qa_metrics, spread_of
from dsa110_assets.registry.schema import GroupState, ImageRow, ProductVersion
from dsa110_assets.stages.provenance.versions import versions_of
from dsa110_assets.stages.table import (
    CALIBRATED_MS,
    CALIBRATION_TABLES,
    MEASUREMENT_SET,
    TILE_IMAGE,
)

router = APIRouter()
BEAM_RADIUS_DEG = 2.0
"""At 1.4 GHz the power beam falls to `instrument.BEAM_CUTOFF`, where images end, this far from the axis."""
MOST_EDGES = 500
"""Largest number of inputs, or of products made from one, in an answer."""


class TileVerdict(BaseModel):
    """Whether mosaics use a tile, why not, and what to do."""

    word: TileWord
    reason: str
    next_step: str
    provisional: bool


class Spread(BaseModel):
    """Spread of a quality figure over the images or mosaics of 30 days: 10 % are below ``low``, 10 % above ``high``."""

    n: int
    lowest: float
    low: float
    median: float
    high: float
    highest: float


class File(BaseModel):
    """A file of a product and its address."""

    name: str
    size_bytes: int
    url: str


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

Observation = model_of("Observation", pages.OBSERVATION)
Image = model_of("Image", pages.IMAGE, verdict=(TileVerdict | None, ...), version_id=(int | None, ...))
Calibration = model_of("Calibration", pages.CALIBRATION)
Quality = model_of("QualityFigure", pages.QUALITY)
Version = model_of("Version", pages.VERSION)
ObservationDetails = create_model(
    "ObservationDetails",
    __base__=Observation,
    files=(list[dict[str, Any]], ...),
    measurement_sets=(list[dict[str, Any]], ...),
    tables=(dict[str, Any] | None, ...),
    image=(or_none(Image), ...),
    versions=(dict[str, int], ...),
)
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
CalibrationDetails = create_model(
    "CalibrationDetails",
    __base__=Calibration,
    applied_to=(list[dict[str, Any]], ...),
    version_id=(int | None, ...),
    files=(list[File], ...),
)
Provenance = create_model(
    "Provenance",
    __base__=Version,
    is_current=(bool, ...),
    n_inputs=(int, ...),
    made_from=(list_of(Version), ...),
    used_for=(list_of(Version), ...),
)
ProductName = Annotated[str, InPath(max_length=100, pattern=r"^[a-z_]+$", description="Name of the asset.")]
SizeArcmin = Annotated[float, Query(gt=0, le=600, allow_inf_nan=False, description="Width and height; at most 1024 pixels.")]
CutoutRa = Annotated[float, Query(ge=0, lt=360, allow_inf_nan=False)]
CutoutDec = Annotated[float, Query(ge=-90, le=90, allow_inf_nan=False)]
BINARY: dict[int | str, dict[str, Any]] = {200: {"content": {"application/fits": {}, "image/png": {}, "application/octet-stream": {}}}}


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
) -> dict[str, Any]:
    """Observations, newest first."""
    with opened.session() as session:
        page = pages.observations(
            session,
            since=group_of(since),
            until=group_of(until),
            state=None if state is None else state.value,
            calibrator=calibrator,
            after=key_of(cursor, str),
            limit=limit,
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
            "image": None if image is None else with_verdicts(opened, session, [_image(image)])[0],
            "versions": versions,
        }


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
) -> dict[str, Any]:
    """Tile images with their verdicts: newest or least noisy first. The position is that of the centers.

    With ``verdict``, a page looks at 500 images and gives those with this verdict; it may be empty, and `next` goes on.
    """
    with opened.session() as session:
        rows = limit if verdict is None else MOST_EDGES
        page = _selection(opened, session, since, until, near(ra_deg, dec_deg, radius_deg), noise_max_jy, sort, cursor, rows)
        found = with_verdicts(opened, session, page.rows)
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
    kind: ImageKind = ImageKind.IMAGE_PB,
    limit: Limit = 1000,
) -> PlainTextResponse:
    """Addresses of the FITS files of a selection of images, one on each line, for `wget -i` or `curl`."""
    with opened.session() as session:
        page = _selection(opened, session, since, until, near(ra_deg, dec_deg, radius_deg), None, "time", None, limit)
        found = with_verdicts(opened, session, page.rows)
    base = str(request.base_url).rstrip("/")
    lines: list[str] = []
    for one in found:
        name = f"{one['group_id']}-{kind.value}.fits"
        if one["version_id"] is not None:
            lines.append(f"{base}{files.address(one['version_id'], name)}")
    return PlainTextResponse("".join(f"{line}\n" for line in lines))


@router.get("/api/data/images/{group_id}", tags=["images"], response_model=ImageDetails)
def show_image(opened: Opened, group_id: ObservationId) -> dict[str, Any]:
    """One image: all quality figures and their spread over 30 days, applied tables, mosaics that have it, and files.

    ``listed_sources``: positions within the beam that are measured in mosaics.
    """
    with opened.session() as session:
        row = _image_row(session, group_id)
        found = with_verdicts(opened, session, [_image(row)])[0] | {
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


@router.get("/api/calibrations", tags=["calibration"], response_model=page_of(Calibration))
def list_calibrations(
    opened: Opened,
    request: Request,
    since: Annotated[date | None, Query(description="First night.")] = None,
    until: Annotated[date | None, Query(description="Last night.")] = None,
    accepted: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Calibration tables with their quality, newest night first; refused ones with the reasons."""
    with opened.session() as session:
        page = pages.calibrations(session, since=since, until=until, accepted=accepted, after=key_of(cursor, date, str), limit=limit)
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
) -> dict[str, Any]:
    """Quality figures of a product with limits and verdicts, newest first; with ``metric``, its trend."""
    with opened.session() as session:
        page = pages.quality(
            session, product, metric=metric, since=group_of(since), until=group_of(until), after=key_of(cursor, str, str), limit=limit
        )
    return paged(request, page)


@router.get("/api/products/{product}/versions", tags=["provenance"], response_model=page_of(Version))
def list_versions(
    opened: Opened, request: Request, product: ProductName, key: Text = None, cursor: Cursor = None, limit: Limit = 100
) -> dict[str, Any]:
    """Versions of a product, the newest key first; with ``key`` (observation, hour or night), its own, newest first."""
    kinds = (int,) if key is not None else (str, int)
    with opened.session() as session:
        page = pages.versions(session, product, key=key, after=key_of(cursor, *kinds), limit=limit)
    return paged(request, page)


@router.get("/api/versions/{version_id}", tags=["provenance"], response_model=Provenance)
def show_version(opened: Opened, version_id: VersionId) -> dict[str, Any]:
    """Provenance of one version, up and down: the versions it was made from, and those that were made from it."""
    with opened.session() as session:
        version = _version(session, version_id)
        current = current_version(session, version.product, version.key)
        return {str(column.key): getattr(version, str(column.key)) for column in pages.VERSION} | {
            "is_current": current is not None and current.version_id == version_id,
            "n_inputs": len(version.inputs),
            "made_from": pages.inputs_of(session, version, limit=MOST_EDGES),
            "used_for": pages.made_from(session, version, limit=MOST_EDGES),
        }


@router.get("/api/versions/{version_id}/files", tags=["files"])
def list_files(opened: Opened, version_id: VersionId) -> list[File]:
    """Files of a version: FITS images, pictures, tables."""
    with opened.session() as session:
        version = _version(session, version_id)
        files.check_current(session, version)
    return [File(**one) for one in files.listed(version)]


@router.get("/api/versions/{version_id}/files/{name}", tags=["files"], responses=BINARY, response_class=FileResponse)
def download(
    opened: Opened, version_id: VersionId, name: Annotated[str, InPath(max_length=200, pattern=files.FILE_NAME.pattern)]
) -> FileResponse:
    """Download a file of a version; ranges work. The address never changes its content: 410 once it was replaced."""
    with opened.session() as session:
        version = _version(session, version_id)
        files.check_current(session, version)
    return files.download(version, name)


def _selection(
    opened: Access,
    session: Any,
    since: Any,
    until: Any,
    cone: tuple[float, float, float] | None,
    noise_max: float | None,
    sort: str,
    cursor: str | None,
    limit: int,
) -> pages.Page:
    kinds = (float, str) if sort == "noise" else (str,)
    return pages.images(
        session,
        since=group_of(since),
        until=group_of(until),
        near=cone,
        noise_max=noise_max,
        sort=sort,
        after=key_of(cursor, *kinds),
        limit=limit,
    )


def with_verdicts(opened: Access, session: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add verdict and current version to rows of images."""
    from dsa110_assets.stages.products.gates import verdicts

    names = [row["group_id"] for row in rows]
    judged = verdicts(session, names)
    versions = versions_of(session, TILE_IMAGE.name, names)
    return [
        row
        | {
            "verdict": None
            if (verdict := judged.get(row["group_id"])) is None
            else {"word": verdict.word, "reason": verdict.reason, "next_step": verdict.next_step, "provisional": verdict.provisional},
            "version_id": versions.get(str(opened.paths.image_dir(row["group_id"]))),
        }
        for row in rows
    ]


def _image_row(session: Any, group_id: str) -> ImageRow:
    row = image_of(session, group_id)
    if row is None:
        raise NotFoundError(f"image of {group_id}", "the observation has no image", "list images: /api/data/images")
    return row


def _image(row: ImageRow) -> dict[str, Any]:
    return {str(column.key): getattr(row, str(column.key)) for column in pages.IMAGE}


def quality_row(row: Any) -> dict[str, Any]:
    """Columns of a quality figure, for answers."""
    return {str(column.key): getattr(row, str(column.key)) for column in pages.QUALITY}


def _version(session: Any, version_id: int) -> ProductVersion:
    version = pages.version(session, version_id)
    if version is None:
        raise NotFoundError(f"version {version_id}", "there is no version of this number", "list them: /api/products/PRODUCT/versions")
    return version
