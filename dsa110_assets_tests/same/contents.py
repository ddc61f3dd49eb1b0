"""Contents of a night's files and of its registry as named arrays: ``contents[product][name]``.

A product is a path below the night's root, ``registry/<table>`` or ``stage/<product> <key>``. A name is a column, a
dataset, a header keyword or an HDU. `VOLATILE` lists what differs between two runs of the same code and is left out.
`plain` removes the root's path, versions of inputs, and digests of code and settings from texts.
"""

from __future__ import annotations

import fnmatch
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from sqlalchemy import create_engine, text

Arrays = dict[str, np.ndarray]
Contents = dict[str, Arrays]

VOLATILE = (
    ("*.ms::HISTORY", "TIME", "when the line was written"),
    ("*.ms::HISTORY", "ORIGIN", "name of the module that wrote the line"),
    ("*.hdf5", "*history", "when the simulator wrote the file"),
    ("*.fits", "*/DATE", "when the file was written"),
    ("*.fits", "*/DSACODE", "version of the code"),
    ("*.fits", "*/DSACONF", "digest of the settings"),
    ("registry/product_versions", "version_id", "counts earlier products"),
    ("registry/product_versions", "code_version", "version of the code"),
    ("registry/product_versions", "release", "version of the code"),
    ("registry/product_versions", "config_hash", "digest of the settings"),
    ("registry/product_versions", "checksum", "of files with times and versions in them"),
    ("registry/product_versions", "size_bytes", "of files with times and versions in them"),
    ("registry/product_versions", "duration_s", "time"),
    ("registry/product_versions", "peak_memory_mb", "memory"),
    ("registry/*", "run_id", "name of the run"),
    ("registry/ms_index", "size_bytes", "of directories with paths and versions in them"),
    ("registry/stored_parts", "size_bytes", "of files with times and versions in them"),
    ("registry/subband_files", "mtime_ns", "when the file was written"),
    ("stage/*", "duration_s", "time"),
    ("stage/*", "peak_memory_mb", "memory"),
    ("stage/*", "size_mb", "of files with times and versions in them"),
    ("stage/*", "version", "counts earlier products"),
    ("stage/*", "release", "version of the code"),
    ("stage/*", "code_version", "version of the code"),
    ("stage/*", "configuration", "digest of the settings"),
    ("stage/*", "steps*", "times of the steps"),
)
"""Patterns of product and name that are left out, and the reason."""
NATURAL_KEYS = {"product_versions": ("product", "key")}
"""Key columns of tables whose primary key is left out."""
NOT_PRODUCTS = ("*/.*", "*.lock", "*.log", "*.pid")
ROW_KEY = "(key of the row)"
_DIGESTS = re.compile(r"""(DSACODE|DSACONF)([\\'"]*\s*[:=]\s*[\\'"]*)[^\\'",\n}]*""")
_VERSION = re.compile(r"@\d+")


def contents_of(root: Path, url: str, outcomes: Mapping[str, Mapping[str, Any]]) -> Contents:
    """All products below ``root``, all tables of the registry at ``url``, and the results that the stages returned."""
    found = {name: arrays for name, read in _files(root, root) for name, arrays in _named(name, read()).items()}
    found |= {f"registry/{name}": arrays for name, arrays in registry(url).items()}
    found |= {f"stage/{name}": outcome(result) for name, result in outcomes.items()}
    return {product: kept for product, arrays in sorted(found.items()) if (kept := _without_volatile(product, arrays, root))}


def _named(name: str, read: Arrays | Contents) -> Contents:
    """Products of a file: one, but for a Measurement Set one for each of its tables."""
    if all(isinstance(value, np.ndarray) for value in read.values()):
        return {name: read}  # type: ignore[dict-item]
    return {f"{name}{sub}": arrays for sub, arrays in read.items()}  # type: ignore[misc]


def _without_volatile(product: str, arrays: Arrays, root: Path) -> Arrays:
    patterns = [name for pattern, name, _ in VOLATILE if fnmatch.fnmatchcase(product, pattern)]
    return {
        name: plain(array, root)
        for name, array in sorted(arrays.items())
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def plain(array: np.ndarray, root: Path) -> np.ndarray:
    """Convert numbers to this machine's byte order, and remove from texts what differs between runs."""
    if array.dtype.kind in "biufc":
        return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="), copy=False).reshape(array.shape)
    texts = [_DIGESTS.sub(r"\1\2...", _VERSION.sub("@", str(value).replace(str(root), "ROOT"))) for value in array.ravel()]
    return np.array(texts, dtype=str).reshape(array.shape)


# --- files ----------------------------------------------------------------------------------------------------------
def _files(root: Path, directory: Path) -> Iterator[tuple[str, Callable[[], Arrays | Contents]]]:
    for path in sorted(directory.iterdir()):
        name = str(path.relative_to(root))
        if any(fnmatch.fnmatchcase(f"/{name}", pattern) for pattern in NOT_PRODUCTS) or path.is_socket():
            continue
        if path.is_dir() and (path / "table.dat").is_file():
            yield name, lambda path=path: casa_table(path)
            yield from ((str(file.relative_to(root)), lambda file=file: picture(file)) for file in sorted(path.glob("*.png")))
        elif path.is_dir():
            yield from _files(root, path)
        else:
            reader = READERS.get(path.suffix, raw_bytes)
            yield name, lambda path=path, reader=reader: reader(path)


def casa_table(path: Path) -> Contents:
    """Columns, keywords and subtables of a Measurement Set or calibration table."""
    from casacore.tables import table

    with table(str(path), ack=False, lockoptions="usernoread") as opened:
        subtables = [name for name, value in opened.getkeywords().items() if str(value).startswith("Table: ")]
        found = {"": _columns(opened)}
    for name in subtables:
        with table(f"{path}::{name}", ack=False, lockoptions="usernoread") as opened:
            found[f"::{name}"] = _columns(opened)
    return found


def _columns(opened: Any) -> Arrays:
    found: Arrays = {"keywords": _words(opened.getkeywords()), "rows": np.array([opened.nrows()])}
    for name in opened.colnames():
        found[f"{name} keywords"] = _words(opened.getcolkeywords(name))
        defined = np.array([opened.iscelldefined(name, row) for row in range(opened.nrows())], dtype=bool)
        if not defined.all():
            found[f"{name} is set"] = defined
        cells = [np.asarray(opened.getcell(name, int(row))) for row in np.flatnonzero(defined)]
        shapes = {cell.shape for cell in cells}
        if len(shapes) > 1:
            found[f"{name} shapes"] = np.array([str(cell.shape) for cell in cells])
            found[name] = np.concatenate([cell.ravel() for cell in cells])
        elif cells:
            found[name] = np.stack(cells)
    return found


def _words(keywords: Mapping[str, Any]) -> np.ndarray:
    return np.array([json.dumps(keywords, sort_keys=True, default=str)])


def image(path: Path) -> Arrays:
    """Data and header of each HDU. HISTORY becomes one text without blanks, because paths break its lines anywhere."""
    found: Arrays = {}
    with fits.open(path) as hdus:
        for number, hdu in enumerate(hdus):
            for keyword in hdu.header:
                if keyword in ("HISTORY", "COMMENT"):
                    found[f"{number}/{keyword}"] = np.array(["".join("".join(hdu.header[keyword]).split())])
                elif keyword:
                    found[f"{number}/{keyword}"] = np.array([f"{hdu.header[keyword]!r} / {hdu.header.comments[keyword]}"])
            if isinstance(hdu, fits.BinTableHDU):
                found |= {f"{number}/column {name}": np.array(hdu.data[name]) for name in hdu.columns.names}
            elif hdu.data is not None:
                found[f"{number}/data"] = np.array(hdu.data)
    return found


def raw_file(path: Path) -> Arrays:
    """Datasets and attributes of a raw file."""
    import h5py

    found: Arrays = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found[name] = _of_hdf5(node[()])
        found.update({f"{name}@{key}": _of_hdf5(value) for key, value in node.attrs.items()})

    with h5py.File(path) as opened:
        visit("", opened)
        opened.visititems(visit)
    return found


def _of_hdf5(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.names:
        return np.stack([array[name] for name in array.dtype.names], axis=-1)
    if array.dtype.kind in "SO":
        return np.array([value.decode() if isinstance(value, bytes) else str(value) for value in array.ravel()]).reshape(array.shape)
    return array


def picture(path: Path) -> Arrays:
    """Pixels of a picture."""
    from PIL import Image

    with Image.open(path) as opened:
        return {"pixels": np.asarray(opened)}


def frame(table: pd.DataFrame) -> Arrays:
    """Columns of a table."""
    return {str(name): table[name].to_numpy() for name in table.columns}


def parquet(path: Path) -> Arrays:
    """Columns of a Parquet file."""
    return frame(pd.read_parquet(path))


def sqlite(path: Path) -> Arrays:
    """Columns of each table of an SQLite file, rows in the order of the file."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {
            f"{table}.{name}": column
            for table in tables
            for name, column in frame(pd.read_sql_query(f'SELECT * FROM "{table}"', connection)).items()
        }
    finally:
        connection.close()


def lines(path: Path) -> Arrays:
    """Lines of a text."""
    return {"lines": np.array(path.read_text().splitlines() or [""])}


def raw_bytes(path: Path) -> Arrays:
    """Bytes of any other file."""
    return {"bytes": np.frombuffer(path.read_bytes(), dtype=np.uint8)}


READERS: dict[str, Callable[[Path], Arrays]] = {
    ".fits": image,
    ".hdf5": raw_file,
    ".png": picture,
    ".parquet": parquet,
    ".sqlite3": sqlite,
    **dict.fromkeys((".csv", ".txt", ".json"), lines),
}


# --- registry and stages --------------------------------------------------------------------------------------------
def registry(url: str) -> Contents:
    """Columns of each table, rows in order of their key. Of times of bookkeeping only whether they are set."""
    engine = create_engine(url)
    with engine.connect() as connection:
        names = connection.execute(
            text(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
                "AND NOT relispartition AND relname <> 'alembic_version' ORDER BY relname"
            )
        ).scalars()
        found: Contents = {}
        for name in names.all():
            keys = connection.execute(
                text(
                    "SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(number, place) "
                    "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number "
                    "WHERE i.indisprimary AND i.indrelid = CAST(:name AS regclass) ORDER BY k.place"
                ),
                {"name": name},
            ).scalars()
            primary = list(keys)
            shown = NATURAL_KEYS.get(name, tuple(primary))
            order = ", ".join(f'"{key}"' for key in dict.fromkeys((*shown, *primary)))
            rows = connection.execute(text(f'SELECT * FROM "{name}" ORDER BY {order}'))
            table = list(rows.mappings())
            columns = {key: _column([row[key] for row in table]) for key in rows.keys()}  # noqa: SIM118 - a result, not a mapping
            label = np.array([" ".join(str(row[key]) for key in shown) for row in table], dtype=str)
            found[name] = {**columns, ROW_KEY: label}
    engine.dispose()
    return found


def _column(values: list[Any]) -> np.ndarray:
    if any(hasattr(value, "tzinfo") for value in values):
        return np.array(["set" if value is not None else "not set" for value in values])
    if values and all(isinstance(value, float) for value in values):
        return np.array(values, dtype=np.float64)
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return np.array(values, dtype=np.int64)
    return np.array([json.dumps(_without_versions(value), sort_keys=True, default=str) for value in values], dtype=str)


def _without_versions(value: Any) -> Any:
    """Names of a version's inputs without their version numbers, which count earlier products."""
    if isinstance(value, dict) and value and all(type(version) is int and ("/" in name) for name, version in value.items()):
        return sorted(value)
    return value


def outcome(result: Mapping[str, Any]) -> Arrays:
    """Figures, tables and verdicts of a stage's result, each under its name."""
    found = {name: _column([value]) for name, value in result["figures"].items()}
    found |= {f"{name} (table)": _column(list(rows)) for name, rows in result["tables"].items()}
    found |= {f"{verdict['name']} (verdict)": _column([verdict]) for verdict in result["verdicts"]}
    return found
