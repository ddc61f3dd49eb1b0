"""Targets of people, and measuring any position on demand."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from dsa110_assets.api.access import Access, Opened, Person
from dsa110_assets.api.answers import OBSERVATION_ID, CutoutDec, CutoutRa
from dsa110_assets.api.routes.tasks import DEFAULT_QUEUE, MEASURE_POSITION, Task, TaskRequest, spawn
from dsa110_assets.registry.queries import people, positions

router = APIRouter()
_TEXT = r"^[^\x00-\x1f\x7f]+$"
TargetName = Annotated[str, InPath(min_length=1, max_length=200, pattern=_TEXT, description="Name of the target.")]


class Target(BaseModel):
    """A position that a person added to the list of monitored positions. ``source_id``: its source."""

    name: str
    ra_deg: float
    dec_deg: float
    person: str
    reason: str
    added_at: datetime
    source_id: int | None


class NewTarget(BaseModel):
    """A position to measure from now on, and in past mosaics."""

    name: str = Field(min_length=1, max_length=200, pattern=_TEXT)
    ra_deg: float = Field(ge=0, lt=360, allow_inf_nan=False, description="ICRS.")
    dec_deg: float = Field(ge=-90, le=90, allow_inf_nan=False, description="ICRS.")
    reason: str = Field("", max_length=1000, pattern=r"^[^\x00]*$")


class AddedTarget(BaseModel):
    """A target that was added. ``past_mosaics``: whether there are past mosaics, which runs now measure."""

    name: str
    source_id: int
    past_mosaics: bool


MOST_MOSAICS = 200
"""In one run."""


class PositionRequest(BaseModel):
    """A position to measure in the newest hourly mosaics that cover it."""

    ra_deg: float = Field(ge=0, lt=360, allow_inf_nan=False)
    dec_deg: float = Field(ge=-90, le=90, allow_inf_nan=False)
    mosaics: int = Field(30, ge=1, le=MOST_MOSAICS)
    before: str | None = Field(None, pattern=OBSERVATION_ID, description="Only mosaics with a tile before this observation.")


class PositionFlux(BaseModel):
    """Flux or limit at a position in one mosaic."""

    mosaic_name: str
    time_mjd: float
    flux_jy: float
    flux_err_jy: float
    snr: float
    upper_limit_jy: float | None
    is_limit: bool
    flags: str
    run_id: str
    measured_at: datetime


@router.get("/api/targets", tags=["positions"])
def list_targets(opened: Opened) -> list[Target]:
    """Targets that people added, newest first; those of the observer's file are sources of the origin `monitored`."""
    with opened.session() as session:
        return [Target(**one) for one in positions.targets(session)]


@router.post("/api/targets", tags=["positions"], status_code=201)
def create_target(opened: Opened, person: Person, wanted: Annotated[NewTarget, Body()]) -> AddedTarget:
    """Add a target. It is measured in each new mosaic, and runs measure it back in past ones."""
    return add_target(opened, person, wanted)


@router.delete("/api/targets/{name}", tags=["positions"], status_code=204)
def delete_target(opened: Opened, person: Person, name: TargetName) -> None:
    """Remove a target. Its light curve stays, and gets no new points."""
    from dsa110_assets.stages.operations import targets as stage

    stage.remove_target(opened.platform, name)
    with opened.session() as session:
        people.record_action(session, person, "remove_target", name, {})


@router.get("/api/positions/fluxes", tags=["positions"])
def list_fluxes(opened: Opened, ra_deg: CutoutRa, dec_deg: CutoutDec) -> list[PositionFlux]:
    """Fluxes that were measured at a position on demand, newest first."""
    with opened.session() as session:
        return [PositionFlux(**one) for one in positions.fluxes_at(session, ra_deg, dec_deg)]


@router.post("/api/positions/fluxes", tags=["positions"], status_code=202)
def measure_position(opened: Opened, person: Person, wanted: Annotated[PositionRequest, Body()]) -> Task:
    """Put measuring a position in past mosaics into the queue."""
    return spawn_measurement(opened, person, wanted)


def add_target(opened: Access, person: str, wanted: NewTarget) -> AddedTarget:
    """Add a target, and record who did."""
    from dsa110_assets.stages.operations import targets as stage

    added = stage.add_target(opened.platform, wanted.name, wanted.ra_deg, wanted.dec_deg, person=person, reason=wanted.reason)
    with opened.session() as session:
        people.record_action(session, person, "add_target", added.name, wanted.model_dump())
    return AddedTarget(name=added.name, source_id=added.source_id, past_mosaics=added.past_mosaics)


def spawn_measurement(opened: Access, person: str, wanted: PositionRequest) -> Task:
    """Put a run that measures a position into the queue."""
    payload: dict[str, Any] = wanted.model_dump(exclude_none=True)
    return spawn(opened, person, TaskRequest(queue=DEFAULT_QUEUE, task_type=MEASURE_POSITION, payload=payload, priority=5))
