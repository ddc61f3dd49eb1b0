"""Shapes of requests and answers: parameters with limits, models made from columns, pages with cursors, tables."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Path as InPath
from fastapi import Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, create_model
from sqlalchemy import ColumnElement
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from dsa110_assets.errors import InvalidRequestError
from dsa110_assets.registry.queries.pages import MOST_ROWS, Column, Page
from dsa110_assets.times import datetime_to_mjd

if TYPE_CHECKING:
    import pandas as pd

_TEXT = r"^[^\x00-\x1f\x7f]+$"
"""No control characters: PostgreSQL refuses NUL, and logs stay readable."""
NOT_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"
"""What a person writes, on one or more lines: not only blanks, and no NUL."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_LARGEST = 2**62
Text = Annotated[str | None, Query(min_length=1, max_length=200, pattern=_TEXT)]
Order = Annotated[
    Literal["asc", "desc"] | None, Query(description="Smallest or oldest first, or largest or newest first. Default: as the list says.")
]
Number = Annotated[float | None, Query(ge=-1e12, le=1e12, allow_inf_nan=False)]
OBSERVATION_ID = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}$"
ObservationId = Annotated[str, InPath(pattern=OBSERVATION_ID, description="Start of the observation, UTC.")]
MosaicName = Annotated[str, InPath(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+:-]{0,99}$", description="Name of the mosaic.")]
SourceId = Annotated[int, InPath(ge=0, le=_LARGEST, description="Number of the source.")]
VersionId = Annotated[int, InPath(ge=0, le=_LARGEST, description="Number of the product's version.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows of a page.")]
Cursor = Annotated[str | None, Query(max_length=600, description="Position in the list, from `next` of the page before.")]


def _written(value: Any) -> Any:
    """Refuse a number where a date or time belongs: seconds or milliseconds since 1970, by its size, is a guess."""
    if isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        message = "a date or time is written as 2026-03-01 or 2026-03-01T05:10:00"
        raise ValueError(message)
    return value


Day = Annotated[date, BeforeValidator(_written)]
Moment = Annotated[datetime, BeforeValidator(_written)]
Since = Annotated[Moment | None, Query(description="From this time, UTC unless it names an offset.")]
Until = Annotated[Moment | None, Query(description="Before this time.")]
RaDeg = Annotated[float | None, Query(ge=0, lt=360, allow_inf_nan=False, description="Right ascension, degrees, ICRS.")]
DecDeg = Annotated[float | None, Query(ge=-90, le=90, allow_inf_nan=False, description="Declination, degrees, ICRS.")]
RadiusDeg = Annotated[float, Query(gt=0, le=10, allow_inf_nan=False, description="Radius, degrees.")]
ProductName = Annotated[str, InPath(max_length=100, pattern=r"^[a-z_]+$", description="Name of the asset.")]
SizeArcmin = Annotated[float, Query(gt=0, le=600, allow_inf_nan=False, description="Width and height; at most 1024 pixels.")]
CutoutRa = Annotated[float, Query(ge=0, lt=360, allow_inf_nan=False)]
CutoutDec = Annotated[float, Query(ge=-90, le=90, allow_inf_nan=False)]
BINARY: dict[int | str, dict[str, Any]] = {200: {"content": {"application/fits": {}, "image/png": {}, "application/octet-stream": {}}}}
"""Answers that are files."""
MOST_EDGES = 500
"""Largest number of inputs, or of products made from one, in an answer."""


class File(BaseModel):
    """A file of a product and its address."""

    name: str
    size_bytes: int
    url: str


class TableFormat(StrEnum):
    """Formats of tables."""

    JSON = "json"
    CSV = "csv"
    VOTABLE = "votable"
    PARQUET = "parquet"


_MEDIA = {
    TableFormat.CSV: (".csv", "text/csv; charset=utf-8"),
    TableFormat.VOTABLE: (".vot", "application/x-votable+xml"),
    TableFormat.PARQUET: (".parquet", "application/vnd.apache.parquet"),
}


def model_of(name: str, columns: Sequence[Column], *, optional: Sequence[Column] = (), **more: Any) -> type[BaseModel]:
    """Make a model with one field for each column. ``optional``: columns of an outer join. ``more``: further fields."""
    fields: dict[str, Any] = {}
    for column in (*columns, *optional):
        kind = _python_type(column)
        nullable = bool(getattr(column, "nullable", True)) or any(column is one for one in optional)
        fields[str(column.key)] = (kind | None if nullable else kind, ...)
    return create_model(name, **fields, **more)


def page_of(model: type[BaseModel]) -> type[BaseModel]:
    """Make the model of a page: ``items`` and ``next``, the address of the page after it."""
    return create_model(f"{model.__name__}Page", items=(list_of(model), ...), next=(str | None, ...))


def list_of(model: type[BaseModel]) -> Any:
    """Type of a list of a model that was made here."""
    return list.__class_getitem__(model)


def or_none(model: type[BaseModel]) -> Any:
    """Type of a model that was made here, or None."""
    return model | None


def paged(request: Request, page: Page, rows: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return the content of a page, with the address of the next one. ``rows``: instead of the page's own."""
    following = None
    if page.next_key is not None:
        url = request.url.include_query_params(cursor=cursor_of(page.next_key))
        following = f"{url.path}?{url.query}"
    return {"items": page.rows if rows is None else list(rows), "next": following}


def cursor_of(key: Sequence[Any]) -> str:
    """Cursor of a key: opaque to clients."""
    text = json.dumps([one.isoformat() if isinstance(one, date) else one for one in key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def key_of(cursor: str | None, *kinds: type) -> tuple[Any, ...] | None:
    """Key of a cursor, whose parts are of these types; None without a cursor.

    Raises:
        InvalidRequestError: the cursor is not one of this list.
    """
    if cursor is None:
        return None
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(parts, list) or len(parts) != len(kinds):
            raise ValueError
        return tuple(_part(one, kind) for one, kind in zip(parts, kinds, strict=True))
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise InvalidRequestError("cursor", "belongs to another list or order", "take `next` of the page before, unchanged") from error


def _part(value: Any, kind: type) -> Any:
    if kind is datetime and isinstance(value, str):
        when = datetime.fromisoformat(value)
        if when.tzinfo is None:
            raise ValueError
        return when
    if kind is date and isinstance(value, str):
        return date.fromisoformat(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return value
    if kind is str and isinstance(value, str) and len(value) <= 400 and value.isprintable():
        value.encode()  # no lone surrogates
        return value
    raise ValueError


def utc(when: datetime) -> datetime:
    """Time in UTC; a time without an offset is UTC.

    Raises:
        InvalidRequestError: the time has no UTC date.
    """
    try:
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequestError("time", f"{when.isoformat()} has no UTC date", "give a time between the years 1 and 9999") from error


def utc_now() -> datetime:
    """Time now, UTC."""
    return datetime.now(UTC)


def group_of(when: datetime | None) -> str | None:
    """Identifier that an observation starting at a time has, to compare with others."""
    return None if when is None else utc(when).replace(tzinfo=None, microsecond=0).isoformat()


def mjd_of(when: datetime | None) -> float | None:
    """UTC MJD of a time."""
    return None if when is None else datetime_to_mjd(utc(when))


def descending(order: str | None) -> bool | None:
    """An `Order` as a query takes it; None for the list's own."""
    return None if order is None else order == "desc"


def near(ra_deg: float | None, dec_deg: float | None, radius_deg: float) -> tuple[float, float, float] | None:
    """Center and radius of a cone; None without a position.

    Raises:
        InvalidRequestError: only one of the coordinates was given.
    """
    if (ra_deg is None) != (dec_deg is None):
        raise InvalidRequestError("position", "has only one coordinate", "give both ra_deg and dec_deg")
    return None if ra_deg is None or dec_deg is None else (ra_deg, dec_deg, radius_deg)


def table(frame: pd.DataFrame, form: TableFormat, name: str) -> Response:
    """Return a table as a file with units and UCDs."""
    from dsa110_assets.photometry import write_table

    suffix, media = _MEDIA[form]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        write_table(frame, path)
        content = path.read_bytes()
    return Response(content, media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}{suffix}"'})


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a data frame; what is missing or infinite becomes None."""
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*(_plain(column) for _, column in frame.items()), strict=True)]


def json_of(frame: pd.DataFrame) -> Response:
    """Rows of a data frame as JSON, for answers that no model checks."""
    return JSONResponse(records(frame))


def _plain(column: pd.Series) -> list[Any]:
    missing = column.isna() | (column.abs() == math.inf) if column.dtype.kind == "f" else column.isna()
    return column.astype(object).where(~missing, None).tolist()


def _python_type(column: Column) -> Any:
    kind = column.type if isinstance(column, ColumnElement) else column.property.columns[0].type
    if isinstance(kind, ARRAY):
        return list[kind.item_type.python_type]
    return dict[str, Any] if isinstance(kind, JSONB) else kind.python_type
