"""Tables as files, read and written so that every column keeps its type, its missing cells and its text.

CSV, FITS, Parquet and VOTable by the suffix. CSV has no types: with a ``x.csv-metadata.json`` beside it (W3C CSV on the
Web) its columns get theirs, otherwise a column is a number only if every cell is one as a number is written. ``007``
is text. In CSV and FITS an empty text and a missing one are the same, and become missing. FITS cannot
hold missing booleans: such a column becomes 0 and 1.
"""

# astropy's tables ship no types:
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsa110_assets.errors import PipelineError
from dsa110_assets.files import printable, why_not_openable

SUFFIXES = (".csv", ".fits", ".parquet", ".vot", ".xml")
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|(?:0|[1-9]\d*))(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf)", re.IGNORECASE)
_LONG_INTEGER = re.compile(r"[+-]?\d{16,}")
"""Long identifiers lose digits as floats, so they stay text."""
_TEXT_COLUMNS = ("name", "alt_name", "mosaic_name", "epoch_name", "flags", "label", "comment", "reasons")
"""Columns that are text as written, whatever is in them."""
_UNITS_BY_ENDING = (
    ("_jy_per_beam", "Jy / beam"), ("_jy", "Jy"), ("_deg", "deg"), ("_arcsec", "arcsec"), ("_hz", "Hz"), ("_mjd", "d"), ("_pixel", "pixel"), ("_d", "d"),
)  # fmt: skip
_SAME_UNIT = {"degree": "deg", "degrees": "deg", "degs": "deg", "jansky": "Jy", "jy/beam": "Jy / beam", "day": "d", "days": "d",
              "pixels": "pixel", "pix": "pixel", "hertz": "Hz", "arcseconds": "arcsec", "asec": "arcsec"}  # fmt: skip
"""How people spell units, in small letters."""
_BOOLEAN = {"True": True, "False": False, "true": True, "false": False}
_KINDS = {"b": "boolean", "i": "integer", "u": "integer", "f": "double"}


def read_table(path: Path, error: type[PipelineError], *, next_step: str) -> pd.DataFrame:
    """Read a table; integers and booleans with missing cells have pandas' nullable types.

    Raises:
        PipelineError: of the type ``error``: it cannot be read, or its format is unknown.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise error(path, f"tables are not read from {suffix or 'a file without suffix'}", f"use one of {', '.join(SUFFIXES)}")
    if (why := why_not_openable(path)) is not None:
        raise error(path, why, next_step)
    from astropy.io.fits import VerifyError

    try:
        if suffix == ".csv":
            return _read_csv(path)
        if suffix == ".parquet":
            return _read_parquet(path)
        return _read_fits(path) if suffix == ".fits" else _read_votable(path)
    except PipelineError:
        raise
    except (
        VerifyError,
        OSError,
        csv.Error,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        MemoryError,
        SyntaxError,
        RecursionError,
    ) as reason:
        # the readers of foreign formats raise any of these for damaged files
        raise error(path, f"cannot be read as {suffix[1:]} ({printable(str(reason).split(chr(10))[0])[:200]})", next_step) from reason


def kind_of(column: Any) -> str:
    """Kind of a column of a table: ``boolean``, ``integer``, ``double`` or ``string``, also of nullable types."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return "boolean"
    if pd.api.types.is_integer_dtype(column.dtype):
        return "integer"
    return "double" if pd.api.types.is_float_dtype(column.dtype) else "string"


def unit_of(column: str) -> str:
    """Unit at the end of a column's name, in FITS notation; empty if there is none."""
    return next((unit for ending, unit in _UNITS_BY_ENDING if column.endswith(ending)), "")


# --- CSV ------------------------------------------------------------------------------------------------------------
def _read_csv(path: Path) -> pd.DataFrame:
    text = path.read_bytes().decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    rows = [row for row in rows if row and not (len(row) == 1 and not row[0].strip())]
    if not rows:
        message = "it is empty"
        raise ValueError(message)
    names, cells = [name.strip() for name in rows[0]], rows[1:]
    for number, row in enumerate(cells, start=1):
        if len(row) != len(names):
            message = f"row {number} has {len(row)} cells, the header {len(names)}; commas separate cells"
            raise ValueError(message)
    _refuse_repeated(names)
    kinds = _kinds_beside(path, names)
    columns = {
        name: _typed([row[place] for row in cells], "string" if name in _TEXT_COLUMNS else kinds.get(name))
        for place, name in enumerate(names)
    }
    return pd.DataFrame(columns, columns=names)


def _kinds_beside(path: Path, names: list[str]) -> dict[str, str]:
    """Types of the columns from the metadata beside a CSV file, if they are about these columns."""
    beside = path.with_name(f"{path.name}-metadata.json")
    if why_not_openable(beside) is not None:
        return {}
    try:
        columns = json.loads(beside.read_text(encoding="utf-8"))["tableSchema"]["columns"]
        kinds = {str(column["titles"]): str(column["datatype"]) for column in columns}
        units = {str(column["titles"]): str(column.get("unit", "")) for column in columns}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
    if list(kinds) != names:
        return {}
    for name, unit in units.items():
        _refuse_other_unit(name, unit)
    return kinds


def _typed(cells: list[str], kind: str | None) -> pd.Series:
    present = [cell for cell in cells if cell]
    fits = {
        "boolean": all(cell in _BOOLEAN for cell in present),
        "integer": all(_INTEGER.fullmatch(cell) for cell in present),
        "double": all(_FLOAT.fullmatch(cell) and not _LONG_INTEGER.fullmatch(cell) for cell in present),
    }
    if kind is None or not fits.get(kind, True):
        kind = next((one for one, possible in fits.items() if possible and present), "string")
    if kind == "string":
        return pd.Series([cell or None for cell in cells], dtype="str")
    if kind == "double":
        return pd.Series([float(cell) if cell else np.nan for cell in cells], dtype="float64")
    values = [None if not cell else _BOOLEAN[cell] if kind == "boolean" else int(cell) for cell in cells]
    series = pd.Series(values, dtype="boolean" if kind == "boolean" else "Int64")
    return series if len(present) < len(cells) else series.astype("bool" if kind == "boolean" else "int64")


# --- FITS and VOTable -----------------------------------------------------------------------------------------------
def _read_fits(path: Path) -> pd.DataFrame:
    import warnings

    from astropy.io import fits
    from astropy.table import Table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of foreign files: obsolete units, deprecated versions
        place = _only_table(path)
        table = Table.read(path, format="fits", hdu=place)
        with fits.open(path) as hdus:
            # astropy takes the value for "none" of a scaled column for a number
            none = {
                column.name: float(column.null) * float(column.bscale or 1) + float(column.bzero or 0)
                for column in hdus[place].columns
                if isinstance(column.null, int) and (column.bscale or column.bzero)
            }
            header = hdus[place].header
            lists = [column.name for column in hdus[place].columns if str(column.format).lstrip("01")[:2] in ("PA", "QA")]
    for name, value in none.items():
        table[name] = np.ma.masked_equal(np.ma.asarray(table[name], dtype=np.float64), value)
    for name in lists:
        table[name] = ["".join(map(str, np.ravel(cell))) for cell in table[name]]
    for name in table.colnames:
        if unit_of(name) == "deg" and str(header.get("RADESYS", "")).strip():
            _refuse_other_frame(name, str(header["RADESYS"]), str(header.get("EQUINOX", "")))
    return _from_astropy(table)


def _read_votable(path: Path) -> pd.DataFrame:
    import warnings

    from astropy.io.votable import parse

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document = parse(path, verify="ignore")
    for info in [info for resource in document.resources for info in resource.infos]:
        if info.name == "QUERY_STATUS" and str(info.value).upper() in ("ERROR", "OVERFLOW"):
            told = f": {info.content}" if info.content else ""
            message = f"its server says {info.value}{told}: the table is not complete"
            raise ValueError(message)
    tables = list(document.iter_tables())
    if len(tables) != 1:
        message = f"it holds {len(tables)} tables; write the one to use into its own file" if tables else "it holds no table"
        raise ValueError(message)
    systems = {str(one.ID): one for one in document.iter_coosys()}
    for column in tables[0].fields:
        system = systems.get(str(column.ref))
        if system is None and len(systems) == 1 and unit_of(str(column.name)) == "deg":
            system = next(iter(systems.values()))
        if system is not None and unit_of(str(column.name)) == "deg":
            _refuse_other_frame(str(column.name), str(system.system or ""), str(system.equinox or ""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _from_astropy(tables[0].to_table(use_names_over_ids=True))


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    if b"table_meta_yaml" in (schema.metadata or {}):  # astropy wrote it: masks and units lie in columns and metadata of its own
        from astropy.table import Table

        return _from_astropy(Table.read(path, format="parquet"))
    for one in schema:
        _refuse_other_unit(one.name.strip(), (one.metadata or {}).get(b"unit", b"").decode("utf-8", "replace"))
    return _plain(pd.read_parquet(path))


def _from_astropy(table: Any) -> pd.DataFrame:
    columns: dict[str, pd.Series] = {}
    _refuse_repeated([name.strip() for name in table.colnames])
    for name in table.colnames:
        column = table[name]
        if column.ndim > 1:
            message = f"column {name} has several values in a cell"
            raise ValueError(message)
        _refuse_other_unit(name.strip(), getattr(column, "unit", None))
        values = getattr(column, "unmasked", column)  # of a quantity
        mask = np.broadcast_to(np.asarray(getattr(column, "mask", False)), column.shape)
        columns[name.strip()] = _unmasked(np.asarray(getattr(values, "value", values)), mask)
    return pd.DataFrame(columns)


def _unmasked(values: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> pd.Series:
    values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind in "biu":
        if not mask.any():
            return pd.Series(values)
        array = pd.arrays.BooleanArray if values.dtype.kind == "b" else pd.arrays.IntegerArray
        return pd.Series(array(values if values.dtype.kind == "b" else values.astype(np.int64), mask.copy()))
    if values.dtype.kind == "f":
        return pd.Series(np.where(mask, np.nan, values))
    texts = [cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell) for cell in values.tolist()]
    return pd.Series([None if gone or not text else text for text, gone in zip(texts, mask.tolist(), strict=True)], dtype="str")


def _refuse_other_unit(name: str, unit: Any) -> None:
    """A column whose name says degrees and whose unit says hours is no number that can be used."""
    wanted, text = unit_of(name), "" if unit is None else str(unit).strip()
    if not text or not wanted or _SAME_UNIT.get(text.lower(), text.lower()) in (wanted, wanted.lower()):
        return
    from astropy.units import Unit, UnrecognizedUnit

    unit_class: Any = Unit  # its constructor has no types
    written = unit_class(unit, parse_strict="silent")
    if isinstance(written, UnrecognizedUnit) or written != Unit(wanted):
        message = f"column {name} is in {text if isinstance(written, UnrecognizedUnit) else written}, its name says {wanted}"
        raise ValueError(message)


def _refuse_other_frame(name: str, system: str, equinox: str) -> None:
    """Columns ``ra_deg`` and ``dec_deg`` are ICRS; FK5 of 2000 is the same to 0.03 arcsec."""
    kind, year = system.strip().lower().removeprefix("eq_"), equinox.strip().upper().lstrip("J")
    if not kind or kind == "icrs" or (kind == "fk5" and year in ("", "2000", "2000.0")):
        return
    message = f"column {name} is in {' '.join((system, equinox)).strip()}, ICRS was expected"
    raise ValueError(message)


def _only_table(path: Path) -> int:
    from astropy.io import fits

    with fits.open(path) as hdus:
        found = [
            place
            for place, hdu in enumerate(hdus)
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and not isinstance(hdu, fits.CompImageHDU)
        ]
    if not found:
        message = "it holds no table; an image is no list of positions"
        raise ValueError(message)
    if len(found) > 1:
        message = f"it holds {len(found)} tables (extensions {', '.join(map(str, found))}); write the one to use into its own file"
        raise ValueError(message)
    return found[0]


def astropy_table(table: pd.DataFrame, *, masks_booleans: bool = True) -> Any:
    """The same columns as an astropy table, with masks instead of missing cells.

    Without ``masks_booleans`` (FITS cannot), a boolean column with missing cells becomes 0 and 1.
    """
    from astropy.table import MaskedColumn, Table

    columns: list[Any] = []
    for name in table.columns:
        column, kind = table[name], kind_of(table[name])
        gone = column.isna().to_numpy()
        if kind == "double":
            columns.append(MaskedColumn(column.to_numpy(dtype=np.float64, na_value=np.nan), name=str(name)))
            continue
        if kind == "string":
            values = np.array(["" if missing else str(cell) for cell, missing in zip(column, gone, strict=True)], dtype=np.str_)
        else:
            as_boolean = kind == "boolean" and (masks_booleans or not gone.any())
            values = column.fillna(value=False if kind == "boolean" else 0).to_numpy(dtype=np.bool_ if as_boolean else np.int64)
        columns.append(MaskedColumn(values, name=str(name), mask=gone) if gone.any() else MaskedColumn(values, name=str(name)))
    return Table(columns)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """A table of Parquet with text as text, whatever wrote it."""
    names = [str(name) for name in table.columns]
    _refuse_repeated(names)
    table = table.set_axis(names, axis=1).reset_index(drop=True)
    for name in names:
        if table[name].dtype == object and any(isinstance(cell, bytes) for cell in table[name]):
            table[name] = [cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else cell for cell in table[name]]
        if table[name].dtype == object and all(isinstance(cell, str) or cell is None or cell is pd.NA for cell in table[name]):
            table[name] = table[name].astype("str")
    return table


def _refuse_repeated(names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        message = f"columns occur twice: {', '.join(map(printable, repeated))}"
        raise ValueError(message)
