"""What a product says, whatever bytes store it: digests of its columns, keywords, rows and pixels.

Two products with equal digests say the same. A digest covers every value of a file except where the file came from:
the time of writing, release, recipe and inputs (`NOT_CONTENT`). These are in the registry too. So a product that is
made again with the same recipe from the same inputs has the same digest.

A product consists of parts: columns of a table, keywords, pixels. `parts` gives a digest for each, so that
`differences` can name what differs. `checksum` combines them; it is what the registry keeps.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsa110_assets import publication
from dsa110_assets.errors import ProductVerificationError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Parts = dict[str, str]
"""Digest of each part of a product by its name: ``<file> <part>``."""

KIND = "content1:"
"""Checksums of content begin with this. Releases before it registered the SHA-256 of bytes, which has no prefix."""
NOT_CONTENT = {
    "DATE": "when the file was written",
    "CHECKSUM": "of bytes",
    "DATASUM": "of bytes",
    "DSACODE": "release and code",
    "DSACONF": "settings",
    "HISTORY": "how it was made: inputs with their versions, release, settings",
    "provenance": "the same in the record of a calibration",
    "CASA_Version": "release of the solver",
}
"""Keywords, subtables and entries of records that tell how a file was made, and what they tell."""
_DIGITS = 32
_BLOCK_BYTES = 32 << 20
_TABLE = "Table: "


def parts(path: Path) -> Parts:
    """Digests of the parts of a file, a table directory, or a directory of such, by name.

    Reads every byte once, in blocks. Names do not depend on where the product is.

    Raises:
        ProductVerificationError: a file cannot be read as what its name says.
        FileNotFoundError: there is nothing at the path.
    """
    return {" ".join(name): digest for name, digest in _parts(path)}


def checksum(found: Mapping[str, str]) -> str:
    """Combine parts to the checksum that the registry keeps; it begins with `KIND`."""
    whole = hashlib.sha256("\n".join(f"{name} {digest}" for name, digest in sorted(found.items())).encode())
    return KIND + whole.hexdigest()[:_DIGITS]


def agrees(path: Path, registered: str) -> bool:
    """Whether a product on disk is what was registered; also for checksums of bytes from earlier releases."""
    if registered.startswith(KIND):
        return checksum(parts(path)) == registered
    return publication.checksum(path) == registered


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Names of the parts that differ, with ``(missing)`` or ``(new)`` if only one product has them."""
    found = [name if name in new else f"{name} (missing)" for name, digest in old.items() if new.get(name) != digest]
    return found + [f"{name} (new)" for name in new if name not in old]


def of_frame(name: str, frame: pd.DataFrame) -> Parts:
    """Digest of each column of a table: its type and its values in order."""
    import pandas as pd

    return {f"{name} {column}": _of_series(pd.Series(frame[column])) for column in frame.columns} | {f"{name} rows": _of_words(len(frame))}


# --- files and directories --------------------------------------------------------------------------------------------
def _parts(path: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """(names, digest) of each part; names: file below the product (not for a product of one file), part."""
    if path.is_dir():
        if (path / "table.dat").is_file():
            yield from (((name,), digest) for name, digest in _of_table(path))
            inside = [one for one in sorted(path.iterdir()) if one.is_file() and not one.name.startswith("table.")]
        else:
            inside = sorted(path.iterdir())
        for one in inside:
            yield from (((one.name, *names), digest) for names, digest in _parts(one))
        return
    reader = next((found for pattern, found in _READERS.items() if fnmatch.fnmatchcase(path.name, pattern)), _bytes)
    try:
        for name, digest in reader(path):
            yield (name,), digest
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        raise ProductVerificationError(path, f"cannot be read ({error})", "make the product again") from error


def _bytes(path: Path) -> Iterator[tuple[str, str]]:
    yield "bytes", publication.checksum(path)[:_DIGITS]


def _fits(path: Path) -> Iterator[tuple[str, str]]:
    """Keywords and data of each HDU; pixels as they are stored, big-endian and not scaled."""
    from astropy.io import fits

    with fits.open(path, memmap=True, do_not_scale_image_data=True) as hdus:
        for number, hdu in enumerate(hdus):
            for keyword in dict.fromkeys(hdu.header):
                if keyword and keyword not in NOT_CONTENT:
                    value = "\n".join(hdu.header[keyword]) if keyword == "COMMENT" else hdu.header[keyword]
                    yield f"{number}/{keyword}", _of_words(repr(value))
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
                columns: Any = hdu.data
                for name in columns.names:
                    yield f"{number}/column {name}", _of_array(columns[name])
            elif hdu.data is not None:
                yield f"{number}/pixels", _of_array(hdu.data)


def _picture(path: Path) -> Iterator[tuple[str, str]]:
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        yield "pixels", _of_array(np.asarray(picture))


def _parquet(path: Path) -> Iterator[tuple[str, str]]:
    import pandas as pd

    yield from of_frame("column", pd.read_parquet(path)).items()


def _json(path: Path) -> Iterator[tuple[str, str]]:
    yield "entries", _of_words(_record(json.loads(path.read_text(encoding="utf-8"))))


def _sqlite(path: Path) -> Iterator[tuple[str, str]]:
    """Definition and rows of each table. The order of the rows is no content."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        for name, definition in connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall():
            yield f"{name} definition", _of_words(definition)
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
            rows = connection.execute(f'SELECT * FROM "{name}"')  # noqa: S608 - the file's own name of its table
            yield f"{name} rows", _of_words(sorted(repr(row) for row in rows))


_READERS: dict[str, Callable[[Path], Iterable[tuple[str, str]]]] = {
    "*.fits": _fits,
    "*.png": _picture,
    "*.parquet": _parquet,
    "*.json": _json,
    "*.sqlite3": _sqlite,
}
"""Readers by pattern of the name. Everything else, CSV and text among it, is its bytes."""


# --- tables of casacore -----------------------------------------------------------------------------------------------
def _of_table(path: Path) -> Iterator[tuple[str, str]]:
    """Columns and keywords of a Measurement Set or calibration table and its subtables, read with casacore.

    Bytes of such a table are no content: casacore leaves some of them uninitialized (pitfall 43).
    """
    from casacore.tables import table

    waiting = [("", str(path))]
    while waiting:
        prefix, place = waiting.pop()
        try:
            with table(place, ack=False, lockoptions="usernoread") as opened:
                keywords = opened.getkeywords()
                subtables = {name for name, value in keywords.items() if str(value).startswith(_TABLE)}
                waiting += [(f"{prefix}{name}/", f"{place}::{name}") for name in sorted(subtables - NOT_CONTENT.keys())]
                for name, value in keywords.items():
                    if name not in subtables and name not in NOT_CONTENT:
                        yield f"{prefix}{name}", _of_words(_record(_decoded(value)))
                yield f"{prefix}subtables", _of_words(sorted(subtables))
                yield f"{prefix}rows", _of_words(opened.nrows())
                for name in opened.colnames():
                    yield f"{prefix}{name} keywords", _of_words(_record(opened.getcolkeywords(name)))
                    yield f"{prefix}{name}", _of_column(opened, name)
        except RuntimeError as error:  # casacore's only error
            raise ProductVerificationError(place, f"cannot be read ({error})", "make the product again") from error


def _of_column(opened: Any, name: str) -> str:
    """Digest of a column: blocks of rows, or cell by cell where shapes differ or cells are not set."""
    rows, whole = opened.nrows(), hashlib.sha256()
    if rows == 0:
        return whole.hexdigest()[:_DIGITS]
    try:
        first = opened.getcell(name, 0)
    except RuntimeError:  # the cell is not set
        return _of_cells(opened, name)
    step = max(1, _BLOCK_BYTES // max(1, getattr(first, "nbytes", 8)))
    try:
        for start in range(0, rows, step):
            block = opened.getcol(name, start, min(step, rows - start))
            _add(whole, block["array"] if isinstance(block, dict) else block, shape=isinstance(block, dict))
    except RuntimeError:  # shapes differ
        return _of_cells(opened, name)
    return whole.hexdigest()[:_DIGITS]


def _of_cells(opened: Any, name: str) -> str:
    whole = hashlib.sha256(b"cells")
    for row in range(opened.nrows()):
        if opened.iscelldefined(name, row):
            cell = opened.getcell(name, row)
            _add(whole, cell["array"] if isinstance(cell, dict) else cell, shape=True)
        else:
            whole.update(b"not set;")
    return whole.hexdigest()[:_DIGITS]


def _decoded(value: Any) -> Any:
    """The record in a keyword that holds JSON, such as the record of a calibration; every other value as it is."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


# --- values -----------------------------------------------------------------------------------------------------------
def _add(whole: Any, values: Any, *, shape: bool = True) -> None:
    """Add type, shape (of one cell, unless ``shape``: of all) and values to a digest."""
    import numpy as np

    array = np.asarray(values)
    about = f"{array.dtype.str if array.dtype.kind in 'biufcmM' else 'text'}{array.shape if shape else array.shape[1:]};"
    whole.update(about.encode())
    if array.dtype.kind in "biufcmM":
        whole.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    else:
        whole.update(json.dumps(array.tolist(), default=str).encode())


def _of_array(values: np.ndarray | Sequence[Any]) -> str:
    whole = hashlib.sha256()
    _add(whole, values)
    return whole.hexdigest()[:_DIGITS]


def _of_series(values: pd.Series) -> str:
    import numpy as np

    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biufcmM":
        return _of_array(values.to_numpy())
    missing = values.isna().to_numpy()
    return _of_words([None if gone else str(value) for value, gone in zip(values, missing, strict=True)])


def _record(value: Any) -> Any:
    """A record without the entries that are not content."""
    if isinstance(value, Mapping):
        return {str(name): _record(one) for name, one in value.items() if name not in NOT_CONTENT}
    return [_record(one) for one in value] if isinstance(value, list | tuple) else value


def _of_words(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_text).encode()).hexdigest()[:_DIGITS]


def _text(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
