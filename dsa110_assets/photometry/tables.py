"""Flux tables as files: CSV, Parquet or VOTable by the suffix, with units where the format carries them.

Does not belong here: what the columns mean (`forced`, `adaptive`).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dsa110_assets.errors import PhotometryError
from dsa110_assets.products import publish

_UNITS_BY_ENDING = (("_jy_per_beam", "Jy / beam"), ("_jy", "Jy"), ("_deg", "deg"), ("_hz", "Hz"), ("_mjd", "d"), ("_pixel", "pixel"))
SUFFIXES = (".csv", ".parquet", ".vot", ".xml")


def unit_of(column: str) -> str:
    """Unit that a column's name carries, in FITS notation; empty for a number without one."""
    return next((unit for ending, unit in _UNITS_BY_ENDING if column.endswith(ending)), "")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as ``.csv``, ``.parquet`` (units in the fields' metadata) or VOTable (``.vot``, ``.xml``).

    The old file, if there is one, is replaced in one rename.

    Raises:
        PhotometryError: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise PhotometryError(
            path, f"a table cannot be written as {suffix or 'a file without suffix'}", f"use one of {', '.join(SUFFIXES)}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with publish(path) as staged:
        if suffix == ".csv":
            table.to_csv(staged, index=False)
        elif suffix == ".parquet":
            _write_parquet(table, staged)
        else:
            _write_votable(table, staged)


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    fields = [field.with_metadata({"unit": unit_of(field.name)}) if unit_of(field.name) else field for field in arrow.schema]
    pq.write_table(arrow.cast(pa.schema(fields, metadata=arrow.schema.metadata)), path)


def _write_votable(table: pd.DataFrame, path: Path) -> None:
    from astropy.table import Table

    columns = {
        name: table[name].astype(str).to_numpy(dtype=str)
        if not (pd.api.types.is_numeric_dtype(table[name]) or pd.api.types.is_bool_dtype(table[name]))
        else table[name].to_numpy()
        for name in table.columns
    }
    votable = Table(columns)
    for name in votable.colnames:
        if unit_of(name):
            votable[name].unit = unit_of(name)
    votable.write(path, format="votable", overwrite=True)
