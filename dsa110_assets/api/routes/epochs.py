"""Epochs: which are excluded from light curves, what their fluxes come from, cut-outs of a source over time."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from dsa110_assets.api import files
from dsa110_assets.api.access import Opened, Person
from dsa110_assets.api.answers import NOT_BLANK, Cursor, Limit, Number, SourceId, key_of, paged, records
from dsa110_assets.api.routes.images import TileVerdict
from dsa110_assets.errors import NotFoundError
from dsa110_assets.registry.queries import epochs
from dsa110_assets.registry.queries.measurements import excluded_epochs
from dsa110_assets.registry.schema import MosaicKind
from dsa110_assets.stages.operations import epochs as operations

router = APIRouter()


class Excluded(BaseModel):
    """An epoch that a person excluded from light curves."""

    mosaic_name: str
    reason: str
    excluded_by: str
    excluded_at: datetime


class Exclusion(BaseModel):
    """Why an epoch is excluded."""

    reason: str = Field(min_length=1, max_length=1000, pattern=NOT_BLANK)


class TileOfEpoch(BaseModel):
    """A tile of a mosaic: its verdict, the calibration tables that were applied, and the run that imaged it."""

    group_id: str
    verdict: TileVerdict | None
    calibrator_observation: str | None
    calibrator: str | None
    rung: str | None
    hours_away: float | None
    run_id: str | None


class Made(BaseModel):
    """The current version of a product and the run that made it."""

    key: str
    version_id: int
    run_id: str | None
    created_at: datetime


class Epoch(BaseModel):
    """An epoch: its mosaic, the scale of its fluxes, who excluded it, and what it was made from."""

    name: str
    kind: MosaicKind
    start_mjd: float
    mid_mjd: float
    end_mjd: float
    n_tiles: int
    noise_jy_per_beam: float
    created_at: datetime
    n_measured: int | None
    factor: float | None
    factor_err: float | None
    n_reference: int | None
    usable: bool | None
    reason: str | None
    excluded_by: str | None
    excluded_at: datetime | None
    key: str
    tiles: list[TileOfEpoch]
    products: dict[str, Made]


class EpochOfSource(BaseModel):
    """A source in one epoch, as measured; ``image``: address of its cut-out. ``reason``: why the epoch is excluded."""

    time_mjd: float
    mosaic_name: str
    flux_jy: float
    flux_err_jy: float
    snr: float
    is_limit: bool
    reason: str | None
    image: str


class EpochsOfSource(BaseModel):
    """A page of epochs, newest first."""

    items: list[EpochOfSource]
    next: str | None


EpochName = Annotated[str, InPath(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:+-]*$", description="Name of the epoch's mosaic.")]


@router.get("/api/epochs/excluded", tags=["light curves"])
def list_excluded(opened: Opened) -> list[Excluded]:
    """Epochs that people excluded from light curves, with reasons."""
    with opened.session() as session:
        return [Excluded(**one) for one in records(excluded_epochs(session))]


@router.get("/api/epochs/{mosaic_name}", tags=["light curves"], response_model=Epoch)
def show_epoch(opened: Opened, mosaic_name: EpochName) -> dict[str, Any]:
    """One epoch: its mosaic and factor, its tiles with their verdicts and tables, and the runs that made them."""
    with opened.session() as session:
        found = operations.origin(session, mosaic_name)
    if found is None:
        raise NotFoundError(f"epoch {mosaic_name}", "there is no mosaic of this name", "list mosaics: /api/data/mosaics")
    for tile in found["tiles"]:
        if (verdict := tile["verdict"]) is not None:
            tile["verdict"] = {name: getattr(verdict, name) for name in TileVerdict.model_fields}
    return found


@router.put("/api/epochs/{mosaic_name}/exclusion", tags=["light curves"], status_code=204)
def put_exclusion(opened: Opened, person: Person, mosaic_name: EpochName, wanted: Annotated[Exclusion, Body()]) -> None:
    """Exclude an epoch from light curves. They follow with the next night; a task of the type `night` is quicker."""
    with opened.session() as session:
        operations.exclude(session, mosaic_name, reason=wanted.reason, person=person)


@router.delete("/api/epochs/{mosaic_name}/exclusion", tags=["light curves"], status_code=204)
def delete_exclusion(opened: Opened, person: Person, mosaic_name: EpochName) -> None:
    """Include an excluded epoch again."""
    with opened.session() as session:
        operations.include(session, mosaic_name, person=person)


@router.get("/api/sources/{source_id}/epochs", tags=["light curves"], response_model=EpochsOfSource)
def list_epochs_of_source(
    opened: Opened,
    request: Request,
    source_id: SourceId,
    kind: MosaicKind = MosaicKind.HOURLY,
    low_jy: Number = None,
    high_jy: Number = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Epochs of a source, newest first, with its cut-outs, which all have the colors of ``low_jy`` and ``high_jy``."""
    with opened.session() as session:
        page = epochs.epochs_of_source(session, source_id, kind=kind.value, after=key_of(cursor, float, str), limit=limit)
    for row in page.rows:
        made = int(row.pop("created_at").timestamp())
        row["image"] = cutout_address(source_id, row["mosaic_name"], made, low_jy, high_jy)
    return paged(request, page)


def cutout_address(source_id: int, mosaic_name: str, made: int, low_jy: float | None, high_jy: float | None) -> str:
    """Address of a source's cut-out in an epoch, which a browser may keep for ever."""
    colors = "" if low_jy is None or high_jy is None else f"&low_jy={low_jy:.6g}&high_jy={high_jy:.6g}"
    return f"/api/sources/{source_id}/epochs/{mosaic_name}/cutout?made={made}{colors}"


@router.get(
    "/api/sources/{source_id}/epochs/{mosaic_name}/cutout",
    tags=["light curves"],
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def show_cutout_of_source(
    opened: Opened,
    source_id: SourceId,
    mosaic_name: EpochName,
    low_jy: Number = None,
    high_jy: Number = None,
    beams: Annotated[float, Query(ge=4, le=40, description="Width in major axes of the beam.")] = files.BEAMS,
    made: Annotated[int | None, Query(ge=0, le=2**40, description="When the mosaic was made; a browser then keeps the picture.")] = None,
) -> Response:
    """The source in one epoch as PNG, one pixel for each of the mosaic. Without the mosaic's image, the stored cut-out.

    Colors go linearly from ``low_jy`` to ``high_jy`` per beam; without them from -5 times the noise to the flux.
    """
    with opened.session() as session:
        found = epochs.place_of(session, source_id, mosaic_name)
    if found is None:
        raise NotFoundError(
            f"source {source_id}", f"was not measured in {mosaic_name}", f"list its epochs: /api/sources/{source_id}/epochs"
        )
    mosaic, ra_deg, dec_deg, noise, flux = found
    low = -5 * noise if low_jy is None else low_jy
    high = max(10 * noise, flux) if high_jy is None else high_jy
    kept = made is not None and made == int(mosaic.created_at.timestamp())
    return files.stamp(mosaic.directory, mosaic.name, source_id, (ra_deg, dec_deg), beams=beams, colors=(low, high), kept=kept)
