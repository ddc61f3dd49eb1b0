"""The log of the shifts, and the morning report, which prints on paper."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import Cursor, utc_now
from dsa110_assets.api.pages import fields
from dsa110_assets.api.pages.layout import address, page
from dsa110_assets.api.pages.visitor import Editor
from dsa110_assets.api.routes import shift as routes
from dsa110_assets.api.routes.attention import list_actions
from dsa110_assets.errors import InvalidRequestError
from dsa110_assets.quality.gate import TILE_CHECKS
from dsa110_assets.stages.operations.morning_report import last_night
from dsa110_assets.stages.operations.shift import LONGEST_TEXT

router = APIRouter()
_Text = Annotated[str | None, Query(max_length=40)]


@router.get("/ui/shift")
def shift_log(
    request: Request, opened: Opened, night: _Text = None, group_id: _Text = None, source_id: _Text = None, cursor: Cursor = None
) -> Response:
    """Show the log, all or about one night, observation or source, and a form for a new entry."""
    about = _entry("filter", night, group_id, source_id)
    found = routes.list_entries(opened, request, about.night, about.group_id, about.source_id, cursor, 50)
    return page(
        request,
        "shift.html",
        entries=found["items"],
        next=found["next"],
        about=about,
        filtered=bool(night or group_id or source_id),
        last_night=last_night(utc_now()),
        longest=LONGEST_TEXT,
    )


@router.post("/ui/shift")
def write(
    opened: Opened,
    person: Editor,
    text: Annotated[str, Form(max_length=LONGEST_TEXT)],
    night: Annotated[str, Form(max_length=40)] = "",
    group_id: Annotated[str, Form(max_length=40)] = "",
    source_id: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    """Add an entry."""
    routes.write_as(opened, person, _entry(text, night, group_id, source_id))
    return RedirectResponse("/ui/shift", 303)


@router.get("/ui/shift/actions")
def actions(request: Request, opened: Opened, person: fields.Text = None, cursor: Cursor = None) -> Response:
    """Show what people changed, all or one person."""
    found = list_actions(opened, request, person or None, None, cursor, 100)
    return page(request, "shift_actions.html", actions=found["items"], next=found["next"], of=person)


@router.get("/ui/shift/report")
def morning_report(request: Request, opened: Opened, night: date | None = None) -> Response:
    """Show one night in figures."""
    chosen = night or last_night(utc_now())
    made = routes.show_report(opened, request, chosen)
    days = {"before": chosen - timedelta(days=1), "after": chosen + timedelta(days=1)}
    return page(request, "shift_report.html", report=made, days=days, names={name: check.subject for name, check in TILE_CHECKS.items()})


def _entry(text: str, night: str | None, group_id: str | None, source_id: str | None) -> routes.NewEntry:
    """An entry from the fields of a form, where nothing is an empty text."""
    fields = {"text": text, "night": night or None, "group_id": (group_id or "").strip() or None, "source_id": source_id or None}
    try:
        return routes.NewEntry.model_validate(fields)
    except ValidationError as error:
        where = ", ".join(str(one["loc"][0]) for one in error.errors())
        step = f"a night is YYYY-MM-DD, an observation YYYY-MM-DDTHH:MM:SS, a source a number; go back to {address('/ui/shift')}"
        raise InvalidRequestError(f"entry: {where}", "cannot be read", step) from error
