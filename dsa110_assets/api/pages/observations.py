"""Observations: the timeline of days and slots, the list, and one observation with all of its products."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_assets.api import files
from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import Cursor, ObservationId
from dsa110_assets.api.pages import fields
from dsa110_assets.api.pages.layout import page
from dsa110_assets.api.pages.observation_cells import EMPTY_AND_MISSING, LEGENDS, LEVELS, Cell, day_cell, slot_cell
from dsa110_assets.api.pages.visitor import Editor
from dsa110_assets.api.routes import images, operations, quality, timeline
from dsa110_assets.api.routes import observations as routes
from dsa110_assets.errors import InvalidRequestError, NotFoundError
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries import antenna_marks, marks
from dsa110_assets.registry.queries import pages as lists
from dsa110_assets.registry.queries.timeline import mosaics_of, neighbors
from dsa110_assets.registry.schema import GroupState, MarkKind
from dsa110_assets.stages.operations.marks import consequences
from dsa110_assets.stages.operations.staleness import partition_of
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.table import CALIBRATED_MS, CALIBRATION_TABLES, MEASUREMENT_SET, TABLE, TILE_IMAGE
from dsa110_assets.times import datetime_to_mjd

router = APIRouter()
ROWS = 50
OWN_PRODUCTS = (MEASUREMENT_SET, CALIBRATION_TABLES, CALIBRATED_MS, TILE_IMAGE)
"""Products whose key is the observation, in the order in which they are made."""
VERSIONS_SHOWN = 5
_STEP = r"^[a-z_]+$"
By = Literal["state", "quality", "calibrator"]


@router.get("/ui/observations")
def observations(
    request: Request,
    opened: Opened,
    day: str = "",
    month: str = "",
    by: By = "state",
    since: str = "",
    until: str = "",
    state: str = "",
    calibrator: fields.Text = None,
    order: fields.Order = None,
    cursor: Cursor = None,
) -> Response:
    """Show the timeline of three months, the slots of a day, and the list."""
    chosen = _date("day", day)
    last = _end_of_month(_date("month", month and f"{month}-01")) if month else None
    if last is None and chosen is not None:
        last = _end_of_month(chosen)
    end = _end_of_month(last or timeline.show_timeline(opened, None, 1, noise=False).last_ever)
    first = _months_before(end, 2)
    months = timeline.show_timeline(opened, end, (end - first).days + 1, noise=by == "quality")
    night = chosen or min(end, months.last_ever or end)
    listed = routes.list_observations(
        opened,
        request,
        _time("since", since),
        _time("until", until),
        _state(state),
        calibrator,
        cursor,
        ROWS,
        order,
    )
    known = {one.night: one for one in months.nights}
    limit = opened.config.qa_noise_over_thermal_max
    slots = timeline.show_night(opened, night)
    return page(
        request,
        "observations.html",
        by=by,
        night=night,
        months=[(day, _midnight(day), [day_cell(one, known.get(one), by, limit) for one in _days(day)]) for day in _months(first, end)],
        hours=[_hour(slots.slots, by, _midnight(night), hour) for hour in range(24)],
        gaps=slots.gaps,
        missing_s=sum(one.seconds for one in slots.gaps),
        legend=[*LEGENDS[by], *EMPTY_AND_MISSING],
        levels=LEVELS,
        of_night=known.get(night),
        ever=None if months.first_ever is None else (months.first_ever, months.last_ever),
        earlier=(first - timedelta(days=1)).strftime("%Y-%m"),
        later=_months_before(end, -3).strftime("%Y-%m") if months.last_ever and end < months.last_ever else None,
        listed=listed,
        asked={"since": since, "until": until, "state": state, "calibrator": calibrator or "", "order": order or ""},
        states=[one.value for one in GroupState],
        yesterday=_shifted(night, -1),
        tomorrow=_shifted(night, 1),
    )


@router.get("/ui/observations/{group_id}")
def observation(
    request: Request,
    opened: Opened,
    group_id: ObservationId,
    done: Literal["", "retry", "nothing"] = "",
    backfill: Annotated[str, Query(max_length=40, pattern=r"^[A-Za-z0-9-]*$")] = "",
) -> Response:
    """Show one observation: its raw files, products, verdicts, tables, runs and errors."""
    found = routes.show_observation(opened, group_id)
    image = images.show_image(opened, group_id) if found["image"] is not None else None
    try:
        solution = quality.show_calibration(opened, group_id)
    except NotFoundError:
        solution = None
    with opened.session() as session:
        before, after = neighbors(session, group_id)
        mosaics = mosaics_of(session, group_id)
        marked = marks.history(session, [group_id])
        bad_antennas = antenna_marks.of_observation(session, group_id)
        flagged_for = antenna_marks.flagged_for(session, group_id)
        changes = {one["kind"]: consequences(session, opened.config, MarkKind(one["kind"]), group_id) for one in marked}
        made = [_product(session, one.name, group_id) for one in OWN_PRODUCTS]
    return page(
        request,
        "observation.html",
        one=found,
        levels=LEVELS,
        image=image,
        solution=solution,
        made=[one for one in made if one["versions"]],
        bad_antennas=bad_antennas,
        flagged_for=flagged_for,
        kinds=[kind for kind, there in ((MarkKind.TILE, image), (MarkKind.SOLUTION, solution)) if there is not None],
        valid={one["kind"]: one for one in marked if one["removed_at"] is None},
        changes=changes,
        history=[one for one in marked if one["removed_at"] is not None],
        waiting=[one.name for one in OWN_PRODUCTS if one is not CALIBRATION_TABLES and one.name not in found["versions"]],
        before=before,
        after=after,
        mosaics=mosaics,
        partition=partition_of(TILE_IMAGE.name, group_id),
        hour_partition=f"{group_id[:10]}|{group_id[11:13]}",
        steps=[name for name in TABLE.made() if TABLE[name].level is not Level.WHOLE],
        done=done,
        backfill=backfill,
    )


@router.post("/ui/observations/{group_id}/retry")
def retry(opened: Opened, group_id: ObservationId, person: Editor) -> Response:
    """Process an observation again, from its raw files."""
    operations.retry(opened, person, group_id)
    return RedirectResponse(f"/ui/observations/{group_id}?done=retry", 303)


@router.get("/ui/observations/{group_id}/again")
def plan_again(
    request: Request, opened: Opened, group_id: ObservationId, start: Annotated[str, Query(max_length=100, pattern=_STEP)] = TILE_IMAGE.name
) -> Response:
    """Say what would be made again from a step on."""
    plan = operations.backfill(opened, "", operations.BackfillRequest.model_validate({"observation": group_id, "start_from": start}))
    return page(request, "observation_again.html", group_id=group_id, start=start, plan=plan)


@router.post("/ui/observations/{group_id}/again")
def make_again(
    opened: Opened, group_id: ObservationId, person: Editor, start: Annotated[str, Form(max_length=100, pattern=_STEP)]
) -> Response:
    """Make an observation's products again from a step on: a backfill of Dagster."""
    wanted = operations.BackfillRequest.model_validate({"observation": group_id, "start_from": start, "dry_run": False})
    answer = operations.backfill(opened, person, wanted)
    said = f"backfill={answer.backfill}" if answer.backfill else "done=nothing"
    return RedirectResponse(f"/ui/observations/{group_id}?{said}", 303)


def _product(session: Any, product: str, group_id: str) -> dict[str, Any]:
    """Versions of a product, the newest first, and files and pictures of the current one; where it is on disk."""
    found = lists.versions(session, product, key=group_id, after=None, limit=VERSIONS_SHOWN).rows
    current = current_version(session, product, group_id)
    own, path = files.listed(current), None if current is None or current.path is None else Path(current.path)
    pictures = [one for one in own if one["name"].endswith(".png")]
    return {
        "product": product,
        "versions": found,
        "files": own,
        "pictures": pictures,
        "partition": partition_of(product, group_id),
        "measurement_set": str(path) if path is not None and path.suffix == ".ms" and path.is_dir() else None,
        "export_kind": "raw" if product == MEASUREMENT_SET.name else "calibrated",
    }


def _date(name: str, text: str) -> date | None:
    """A date from the address; None for an empty field.

    Raises:
        InvalidRequestError: it is not a date.
    """
    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequestError(name, f"{text[:40]!r} is not a date", "write it as 2026-03-01") from error
    if not 1900 < found.year < 9900:
        raise InvalidRequestError(name, f"{found} is out of range", "choose a day with observations")
    return found


def _time(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequestError(name, f"{text[:40]!r} is not a time", "write it as 2026-03-01T05:00") from error


def _state(text: str) -> GroupState | None:
    if not text:
        return None
    try:
        return GroupState(text)
    except ValueError as error:
        raise InvalidRequestError("state", f"{text[:40]!r} is not a state", f"choose one of {', '.join(GroupState)}") from error


def _midnight(day: date) -> float:
    """MJD of the beginning of a UTC day."""
    return datetime_to_mjd(datetime.combine(day, time(), UTC))


def _hour(slots: Sequence[timeline.SlotOnTimeline], by: By, midnight_mjd: float, hour: int) -> tuple[str, float, list[Cell]]:
    """Name, beginning (MJD) and cells of an hour."""
    of_hour = range(12 * hour, 12 * hour + 12)
    return f"{hour:02d}", midnight_mjd + hour / 24, [slot_cell(slots[number], by, midnight_mjd + number / 288) for number in of_hour]


def _end_of_month(day: date | None) -> date:
    day = day or datetime.now(UTC).date()
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def _months_before(day: date, number: int) -> date:
    """First day of the month ``number`` months before."""
    index = day.year * 12 + day.month - 1 - number
    return date(index // 12, index % 12 + 1, 1)


def _months(first: date, last: date) -> list[date]:
    found: list[date] = []
    while first <= last:
        found.append(first)
        first = _months_before(first, -1)
    return found


def _days(month: date) -> list[date]:
    return [month + timedelta(days=number) for number in range(_end_of_month(month).day)]


def _shifted(day: date, days: int) -> date:
    return day + timedelta(days=days)
