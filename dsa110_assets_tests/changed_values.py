"""Change one random value of a file in place: a pixel, a cell, a keyword."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from PIL import Image

from dsa110_assets.content import NOT_CONTENT

STRUCTURE = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "NAXIS4", "EXTEND", "BZERO", "BSCALE", "XTENSION", "COMMENT", "")


def change_one_value(path: Path, rng: np.random.Generator) -> str:
    """Change one value of a file or table directory by the least amount; return the name of its part."""
    return CHANGES[".ms" if path.is_dir() else path.suffix](path, rng)


def _image(path: Path, rng: np.random.Generator) -> str:
    with fits.open(path, mode="update") as hdus:
        hdu: Any = hdus[0]
        if rng.random() < 0.5:
            pixel = tuple(int(rng.integers(size)) for size in hdu.data.shape)
            hdu.data[pixel] = _next(hdu.data[pixel])
            return "0/pixels"
        keyword = str(rng.choice([one for one in hdu.header if one not in (*STRUCTURE, *NOT_CONTENT)]))
        value = hdu.header[keyword]
        hdu.header[keyword] = value * 1.000001 + 1e-9 if isinstance(value, float) else _changed(value)  # 16 digits are stored
        return f"0/{keyword}"


def _table(path: Path, rng: np.random.Generator) -> str:
    from casacore.tables import table

    with table(str(path), ack=False) as opened:
        inside = [name for name, value in opened.getkeywords().items() if str(value).startswith("Table: ") and name not in NOT_CONTENT]
    place, prefix = str(path), ""
    if inside and rng.random() < 0.4:
        prefix = f"{rng.choice(inside)}/"
        place = f"{path}::{prefix[:-1]}"
    with table(place, ack=False, readonly=False) as opened:
        words = {
            name: value for name, value in opened.getkeywords().items() if isinstance(value, float | int) and not isinstance(value, bool)
        }
        cells = [
            (name, row)
            for name in opened.colnames()
            for row in rng.permutation(opened.nrows())[:3].tolist()
            if opened.iscelldefined(name, row) and np.size(_plain(opened.getcell(name, row)))
        ]
        if words and (not cells or rng.random() < 0.2):
            name = str(rng.choice(list(words)))
            opened.putkeyword(name, words[name] + 1)
            return prefix + name
        if not cells:
            return _table(path, rng)
        name, row = cells[int(rng.integers(len(cells)))]
        cell = opened.getcell(name, row)
        if isinstance(cell, dict):
            cell["array"][0] = _changed(cell["array"][0])
        elif isinstance(cell, np.ndarray):
            place_in = tuple(int(rng.integers(size)) for size in cell.shape)
            cell[place_in] = _next(cell[place_in])
        else:
            cell = _changed(cell)
        opened.putcell(name, row, cell)
        return prefix + name


def _plain(cell: Any) -> Any:
    return cell["array"] if isinstance(cell, dict) else cell


def _picture(path: Path, rng: np.random.Generator) -> str:
    with Image.open(path) as opened:
        mode, pixels = opened.mode, np.array(opened)
    pixel = tuple(int(rng.integers(size)) for size in pixels.shape)
    pixels[pixel] ^= 1
    Image.fromarray(pixels, mode).save(path)
    return "pixels"


def _parquet(path: Path, rng: np.random.Generator) -> str:
    frame = pd.read_parquet(path)
    if frame.empty:
        frame.assign(another=1.0).to_parquet(path, index=False)
        return "another"
    name, row = str(rng.choice(frame.columns)), int(rng.integers(len(frame)))
    values = frame[name].tolist()
    values[row] = _changed(None if pd.isna(values[row]) and not isinstance(values[row], float) else values[row])
    frame[name] = pd.Series(values, dtype=frame[name].dtype, index=frame.index)
    frame.to_parquet(path, index=False)
    return f"column {name}"


def _lines(path: Path, rng: np.random.Generator) -> str:
    text = path.read_text()
    digits = [place for place, letter in enumerate(text) if letter.isalnum()]
    place = digits[int(rng.integers(len(digits)))]
    path.write_text(f"{text[:place]}{'1' if text[place] != '1' else '2'}{text[place + 1 :]}")
    return "bytes"


def _json(path: Path, rng: np.random.Generator) -> str:
    record = json.loads(path.read_text())
    name = str(rng.choice(list(record)))
    record[name] = [record[name], "changed"]
    path.write_text(json.dumps(record))
    return "entries"


def _sqlite(path: Path, rng: np.random.Generator) -> str:
    with sqlite3.connect(path) as connection:
        (table,) = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchone()
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        column, row = str(rng.choice(columns)), int(rng.integers(rows))
        connection.execute(
            f"UPDATE {table} SET {column} = coalesce({column}, 0) || '1' WHERE rowid = (SELECT rowid FROM {table} LIMIT 1 OFFSET {row})"
        )
    connection.close()
    return f"{table} rows"


def _next(value: Any) -> Any:
    """The next value of the same type."""
    array = np.asarray(value)
    if array.dtype.kind == "c":
        part = array.real.dtype
        return array.dtype.type(complex(np.nextafter(array.real, part.type(np.inf)), array.imag))
    if array.dtype.kind == "f":
        return array.dtype.type(0) if np.isnan(array) else np.nextafter(array, array.dtype.type(np.inf))
    return ~array if array.dtype.kind == "b" else array + array.dtype.type(1)


def _changed(value: Any) -> Any:
    if value is None:
        return "set"
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, bool | np.bool_):
        return not value
    if isinstance(value, float):
        return 0.0 if np.isnan(value) else float(np.nextafter(value, np.inf))
    return value + 1


CHANGES: dict[str, Callable[[Path, np.random.Generator], str]] = {
    ".fits": _image,
    ".ms": _table,
    ".png": _picture,
    ".parquet": _parquet,
    ".csv": _lines,
    ".json": _json,
    ".sqlite3": _sqlite,
}
