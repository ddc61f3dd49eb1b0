"""Lists of positions that people write: read from CSV, FITS, Parquet or VOTable, and checked row by row.

Names are text as written. Right ascension and declination are ICRS, in degrees, or sexagesimal with hours of right
ascension; a unit may follow the number. Whatever cannot be a position is named with its row and its reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from dsa110_assets.common.table_files import read_table
from dsa110_assets.errors import PositionsError
from dsa110_assets.files import printable

POSITION_COLUMNS = ("name", "ra_deg", "dec_deg")
LONGEST_NAME = 200
MOST_NAMED_ROWS = 5
"""Number of wrong rows that a message quotes."""
_DEGREES = re.compile(r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?:deg|degree|degrees|d|°)?", re.IGNORECASE)
_SEXAGESIMAL = re.compile(
    r"(?P<sign>[+-]?)(?P<first>\d{1,3})\s*(?P<unit>[:hd°\s])\s*(?P<minutes>\d{1,2})\s*[:m'′\s]\s*(?P<seconds>\d{1,2}(?:\.\d*)?)\s*(?:s|\"|″)?",
    re.IGNORECASE,
)
_COMPACT = re.compile(r"J?\s?(?P<ra>\d{6}(?:\.\d*)?)\s?(?P<dec>[+-]\d{6}(?:\.\d*)?)", re.IGNORECASE)
_SIGNED = re.compile(r"(?P<ra>[^+-]+)(?P<dec>[+-][^+-]+)")


def read_positions(path: Path) -> pd.DataFrame:
    """Read a list of positions with the columns ``name, ra_deg, dec_deg`` and any others.

    Returns:
        All columns: ``name`` as text, ``ra_deg`` in [0, 360) and ``dec_deg`` as float64 degrees (ICRS).

    Raises:
        PositionsError: the file cannot be read, lacks a column, or has rows that are not positions. It names them.
    """
    table = read_table(path, PositionsError, next_step="give a table with name, ra_deg and dec_deg (ICRS, degrees)")
    return checked_positions(table, path)


def checked_positions(table: pd.DataFrame, subject: object) -> pd.DataFrame:
    """Check a table of positions and convert its ``name``, ``ra_deg``, ``dec_deg``; see `read_positions`.

    A name may occur twice only at one position.
    """
    missing = [column for column in POSITION_COLUMNS if column not in table.columns]
    if missing:
        found = ", ".join(printable(column) for column in list(table.columns)[:20]) or "none"
        raise PositionsError(
            subject,
            f"columns {', '.join(missing)} are missing (found: {found})",
            "give a table with name, ra_deg and dec_deg (ICRS, degrees); CSV with commas and decimal points",
        )
    wrong: list[str] = []
    names: list[str] = []
    places: list[tuple[float, float]] = []
    for row, (name, ra, dec) in enumerate(table[list(POSITION_COLUMNS)].itertuples(index=False, name=None), start=1):
        reasons = [
            reason for reason in (_why_no_name(name), _why_not(ra, "ra_deg", 0.0, 360.0), _why_not(dec, "dec_deg", -90.0, 90.0)) if reason
        ]
        if reasons:
            wrong.append(f"row {row} ({printable(name)[:LONGEST_NAME]}): {'; '.join(reasons)}")
        else:
            names.append(_text(name))
            places.append((_degrees(ra, is_ra=True) % 360.0, _degrees(dec, is_ra=False)))
    first: dict[Hashable, tuple[float, float]] = {}
    for name, place in zip(names, places, strict=True):
        if first.setdefault(name, place) != place:
            wrong.append(f"{printable(name)} names two positions: {first[name]} and {place}")
    if wrong:
        more = f"; and {len(wrong) - MOST_NAMED_ROWS} more" if len(wrong) > MOST_NAMED_ROWS else ""
        raise PositionsError(
            subject,
            f"{len(wrong)} of {len(table)} rows are not positions: {'; '.join(wrong[:MOST_NAMED_ROWS])}{more}",
            "correct these rows: a name, right ascension 0 to 360 and declination -90 to 90 degrees (ICRS), or 05:34:31.9 +22:00:52",
        )
    return table.assign(
        name=pd.Series(names, index=table.index, dtype="str"),
        ra_deg=pd.Series([ra for ra, _ in places], index=table.index, dtype="float64"),
        dec_deg=pd.Series([dec for _, dec in places], index=table.index, dtype="float64"),
    )


def position_of(text: str) -> tuple[float, float] | None:
    """An ICRS position as people write it: right ascension and declination in degrees; None if the text is none.

    >>> position_of("128.7 55.57")
    (128.7, 55.57)
    >>> position_of("08:34:54.0 +55:34:12") == position_of("08h34m54.0s, +55d34m12s") == position_of("J083454.0+553412")
    True
    >>> position_of("0834+555") is None
    True
    """
    plain = " ".join(text.replace("\N{MINUS SIGN}", "-").replace(",", " ").split())
    if (match := _COMPACT.fullmatch(plain)) is not None:
        pairs = [(" ".join(match["ra"][at : at + 2] for at in (0, 2)) + f" {match['ra'][4:]}", _spaced_declination(match["dec"]))]
    else:
        words = plain.split()
        pairs = [(" ".join(words[:at]), " ".join(words[at:])) for at in (len(words) // 2,) if len(words) % 2 == 0 and at]
        if (match := _SIGNED.fullmatch(plain)) is not None:
            pairs.append((match["ra"].strip(), match["dec"].strip()))
    for first, second in pairs:
        ra, dec = _degrees(first, is_ra=True), _degrees(second, is_ra=False)
        if 0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0:
            return ra % 360.0, dec
    return None


def _spaced_declination(text: str) -> str:
    return f"{text[:3]} {text[3:5]} {text[5:]}"


def _text(name: Any) -> str:
    return str(int(name)) if isinstance(name, float) and name.is_integer() else str(name).strip()


def _why_no_name(name: Any) -> str | None:
    if name is None or name is pd.NA or (isinstance(name, float) and math.isnan(name)) or not str(name).strip():
        return "no name"
    if len(_text(name)) > LONGEST_NAME:
        return f"the name has {len(_text(name))} characters, at most {LONGEST_NAME} are possible"
    return None if printable(_text(name)) == _text(name) else "the name has control characters"


def _why_not(value: Any, column: str, low: float, high: float) -> str | None:
    degrees = _degrees(value, is_ra=column == "ra_deg")
    if math.isnan(degrees):
        return f"{column} is missing" if _is_missing(value) else f"{column} {printable(value)!r} is no angle"
    return None if low <= degrees <= high else f"{column} {printable(value)} is not in {low:g} to {high:g}"


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()


def _degrees(value: Any, *, is_ra: bool) -> float:
    """An angle as written, in degrees; NaN if it is none. Sexagesimal right ascension is in hours."""
    if isinstance(value, bool) or _is_missing(value):
        return math.nan
    text = str(value).strip().replace("\N{MINUS SIGN}", "-")
    if (match := _DEGREES.fullmatch(text)) is not None:
        return float(match["number"])
    match = _SEXAGESIMAL.fullmatch(text)
    if match is None or float(match["minutes"]) >= 60 or float(match["seconds"]) >= 60 or (not is_ra and match["unit"].lower() == "h"):
        return math.nan
    in_hours = is_ra and match["unit"].lower() not in ("d", "°")
    size = float(match["first"]) + float(match["minutes"]) / 60 + float(match["seconds"]) / 3600
    return (-1.0 if match["sign"] == "-" else 1.0) * size * (15.0 if in_hours else 1.0)
