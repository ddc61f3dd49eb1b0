"""Mosaics: list, details, catalogs of their sources, cut-outs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, create_model
from sqlalchemy import select

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
    MosaicName,
    Number,
    Order,
    RaDeg,
    RadiusDeg,
    Since,
    SizeArcmin,
    TableFormat,
    Until,
    descending,
    json_of,
    key_of,
    list_of,
    mjd_of,
    model_of,
    near,
    page_of,
    paged,
    table,
)
from dsa110_assets.api.routes.quality import Quality, Spread, quality_row
from dsa110_assets.errors import NotFoundError
from dsa110_assets.products import image_path
from dsa110_assets.quality.verdict import Outcome
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries import pages
from dsa110_assets.registry.queries.images import measured_in_mosaics, mosaic_tiles, mosaics_of_month, sources_in_mosaic
from dsa110_assets.registry.queries.measurements import sources_measured_in
from dsa110_assets.registry.queries.quality import qa_metrics, spread_of
from dsa110_assets.registry.queries.sources import detections
from dsa110_assets.registry.schema import MosaicKind, MosaicRow, ProductVersion
from dsa110_assets.stages.products.mosaic_verdicts import PRODUCTS, key_of_mosaic, mosaic_verdicts
from dsa110_assets.stages.provenance.versions import versions_of
from dsa110_assets.stages.table import SOURCE_CATALOG

router = APIRouter()


class Judged(BaseModel):
    """The verdict on a mosaic, why, and what to do."""

    word: Outcome
    reason: str
    next_step: str


Mosaic = model_of("Mosaic", pages.MOSAIC, verdict=(Judged, ...), version_id=(int | None, ...), measured=(int | None, ...))
MosaicDetails = create_model(
    "MosaicDetails",
    __base__=Mosaic,
    tiles=(list[str], ...),
    detections=(int, ...),
    quality=(list_of(Quality), ...),
    month=(dict[str, Spread], ...),
    files=(list[File], ...),
)
MosaicPlane = Literal["image", "noise", "weight", "coverage"]
_TABLES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {}, "application/x-votable+xml": {}, "application/vnd.apache.parquet": {}}}
}


@router.get("/api/data/mosaics", tags=["mosaics"], response_model=page_of(Mosaic))
def list_mosaics(
    opened: Opened,
    request: Request,
    since: Since = None,
    until: Until = None,
    kind: MosaicKind | None = None,
    ra_deg: RaDeg = None,
    dec_deg: DecDeg = None,
    radius_deg: RadiusDeg = 8.0,
    noise_max_jy: Number = None,
    cursor: Cursor = None,
    limit: Limit = 100,
    noise_min_jy: Number = None,
    verdict: Outcome | None = None,
    sort: Literal["time", "noise"] = "time",
    order: Order = None,
) -> dict[str, Any]:
    """Mosaics with their verdicts, newest or least noisy first, or as ``order`` says.

    The position is that of the centers; an hour is 15 degrees of right ascension wide. ``measured``: positions with a
    flux or limit; null if never measured. With ``verdict``, a page looks at 500 mosaics and gives those with this
    verdict; it may be empty, and `next` goes on.
    """
    with opened.session() as session:
        page = pages.mosaics(
            session,
            since_mjd=mjd_of(since),
            until_mjd=mjd_of(until),
            kind=None if kind is None else kind.value,
            near=near(ra_deg, dec_deg, radius_deg),
            noise_min=noise_min_jy,
            noise_max=noise_max_jy,
            sort=sort,
            descending=descending(order),
            after=key_of(cursor, float, str),
            limit=limit if verdict is None else MOST_EDGES,
        )
        judged = mosaic_verdicts(session, page.rows)
        rows: list[dict[str, Any]] = [row | {"verdict": asdict(judged[row["name"]])} for row in page.rows]
        if verdict is not None:
            rows = [row for row in rows if row["verdict"]["word"] == verdict]
        versions: dict[str, int] = {}
        for one, product in PRODUCTS.items():
            keys = [key_of_mosaic(row["kind"], row["name"]) for row in rows if row["kind"] == one]
            versions |= versions_of(session, product, keys) if keys else {}
        measured = measured_in_mosaics(session, [row["name"] for row in rows])
    more = [{"version_id": versions.get(str(opened.paths.mosaic_dir(row["name"]))), "measured": measured.get(row["name"])} for row in rows]
    return paged(request, page, [row | of_row for row, of_row in zip(rows, more, strict=True)])


@router.get("/api/data/mosaics/addresses", tags=["mosaics"], response_class=PlainTextResponse)
def list_mosaic_addresses(
    opened: Opened,
    request: Request,
    since: Since = None,
    until: Until = None,
    kind: MosaicKind | None = None,
    ra_deg: RaDeg = None,
    dec_deg: DecDeg = None,
    radius_deg: RadiusDeg = 8.0,
    noise_max_jy: Number = None,
    plane: MosaicPlane = "image",
    cursor: Cursor = None,
    limit: Limit = 1000,
    noise_min_jy: Number = None,
    verdict: Outcome | None = None,
    sort: Literal["time", "noise"] = "time",
    order: Order = None,
) -> PlainTextResponse:
    """Addresses of the FITS files of the mosaics of this selection, one on each line, for `wget -i`.

    The header `Link` names the next page.
    """
    found = list_mosaics(
        opened, request, since, until, kind, ra_deg, dec_deg, radius_deg, noise_max_jy, cursor, limit, noise_min_jy, verdict, sort, order
    )
    names = ((one["version_id"], f"{one['name']}-{plane}.fits") for one in found["items"])
    return files.addresses(request, names, found["next"])


@router.get("/api/data/mosaics/{name}", tags=["mosaics"], response_model=MosaicDetails)
def show_mosaic(opened: Opened, name: MosaicName) -> dict[str, Any]:
    """One mosaic: its tiles, numbers of sources, quality figures and their spread over 30 days, and files.

    ``detections``: reliable ones of the blind source finder. ``measured``: positions with a flux or limit; null if
    never measured. The quality of an hour's mosaic includes that of its blind source catalog.
    """
    with opened.session() as session:
        row = _mosaic_row(session, name)
        kind = MosaicKind(row.kind)
        judged = [PRODUCTS[kind], *([SOURCE_CATALOG.name] if kind is MosaicKind.HOURLY else [])]
        month = [key_of_mosaic(kind, one) for one in mosaics_of_month(session, kind, row.mid_mjd)]
        found = {str(column.key): getattr(row, str(column.key)) for column in pages.MOSAIC} | {
            "verdict": asdict(mosaic_verdicts(session, [{"name": name, "kind": row.kind}])[name]),
            "tiles": [one.group_id for one in mosaic_tiles(session, name)],
            **sources_in_mosaic(session, name),
            "quality": [quality_row(one) for product in judged for one in qa_metrics(session, product, key_of_mosaic(kind, name)).values()],
            "month": {metric: spread for product in judged for metric, spread in spread_of(session, product, month).items()},
        }
        version = _version_of_mosaic(session, row)
    return found | {"version_id": version.version_id if version else None, "files": files.listed(version)}


@router.get("/api/data/mosaics/{name}/sources", tags=["mosaics"], response_model=None, responses=_TABLES)
def list_mosaic_sources(
    opened: Opened, name: MosaicName, form: Annotated[TableFormat, Query(alias="format")] = TableFormat.JSON
) -> Response:
    """Catalog of the sources measured in a mosaic: name, position, flux or limit, flags."""
    with opened.session() as session:
        _mosaic_row(session, name)
        found = sources_measured_in(session, name)
    return json_of(found) if form is TableFormat.JSON else table(found, form, f"{name}_sources")


@router.get("/api/data/mosaics/{name}/detections", tags=["mosaics"], response_model=None, responses=_TABLES)
def list_mosaic_detections(
    opened: Opened, name: MosaicName, form: Annotated[TableFormat, Query(alias="format")] = TableFormat.JSON
) -> Response:
    """Detections of the blind source finder in a mosaic, with the nearest entry of the catalog."""
    with opened.session() as session:
        _mosaic_row(session, name)
        found = detections(session, name)
    return json_of(found) if form is TableFormat.JSON else table(found, form, f"{name}_detections")


@router.get("/api/data/mosaics/{name}/cutout", tags=["mosaics"], responses=BINARY, response_class=Response)
def cut_out_mosaic(
    opened: Opened,
    name: MosaicName,
    ra_deg: CutoutRa,
    dec_deg: CutoutDec,
    size_arcmin: SizeArcmin = 10.0,
    kind: MosaicPlane = "image",
    form: Annotated[Literal["fits", "png"], Query(alias="format")] = "fits",
) -> Response:
    """Cut a square out of a mosaic, as FITS with two axes, or as PNG in units of the noise."""
    with opened.session() as session:
        row = _mosaic_row(session, name)
        path, noise = image_path(files.as_path(row.directory), name, kind), row.noise_jy_per_beam
    return files.cut_out(path, ra_deg, dec_deg, size_arcmin, form, noise)


def _mosaic_row(session: Any, name: str) -> MosaicRow:
    row = session.scalars(select(MosaicRow).where(MosaicRow.name == name)).one_or_none()
    if row is None:
        raise NotFoundError(f"mosaic {name}", "there is no mosaic of this name", "list mosaics: /api/data/mosaics")
    return row


def _version_of_mosaic(session: Any, row: MosaicRow) -> ProductVersion | None:
    return current_version(session, PRODUCTS[MosaicKind(row.kind)], key_of_mosaic(row.kind, row.name))
