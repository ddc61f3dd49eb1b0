"""Tables as files: CSV, FITS, Parquet or VOTable by the suffix, each column with its unit and its UCD (IVOA UCD1+).

Parquet keeps unit and UCD as metadata of the fields, VOTable in the standard's own place. CSV has no place for them, so
``x.csv`` comes with ``x.csv-metadata.json`` (W3C CSV on the Web). Column names end in their units as well.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from dsa110_assets.common.table_files import SUFFIXES, astropy_table, kind_of, unit_of
from dsa110_assets.errors import PhotometryError
from dsa110_assets.files import printable
from dsa110_assets.publication import flush_to_disk, move_into_place, publish

_NOT_ASCII = re.compile(r"[^ -~]")
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FLUX = "phot.flux.density;em.radio"
_UCDS = {
    "name": "meta.id;meta.main",
    "source_id": "meta.id",
    "mosaic_name": "meta.id;obs.image",
    "epoch_name": "meta.id;obs.image",
    "ra_deg": "pos.eq.ra;meta.main",
    "dec_deg": "pos.eq.dec;meta.main",
    "ra_err_deg": "stat.error;pos.eq.ra",
    "dec_err_deg": "stat.error;pos.eq.dec",
    "x_pixel": "pos.cartesian.x;instr.pixel",
    "y_pixel": "pos.cartesian.y;instr.pixel",
    "time_mjd": "time.epoch",
    "epoch_mjd": "time.epoch",
    "frequency_hz": "em.freq",
    "frequency_low_hz": "em.freq;stat.min",
    "frequency_high_hz": "em.freq;stat.max",
    "flux_jy": _FLUX,
    "flux_err_jy": f"stat.error;{_FLUX}",
    "calibration_err_jy": f"stat.error.sys;{_FLUX}",
    "peak_jy_per_beam": _FLUX,
    "peak_err_jy_per_beam": f"stat.error;{_FLUX}",
    "normalised_flux_jy": _FLUX,
    "normalised_flux_err_jy": f"stat.error;{_FLUX}",
    "mean_flux_jy": "phot.flux.density;stat.mean",
    "baseline_jy": _FLUX,
    "event_flux_jy": _FLUX,
    "reference_flux_jy": _FLUX,
    "upper_limit_jy": "phot.flux.density;stat.max",
    "noise_jy_per_beam": f"stat.stdev;{_FLUX}",
    "annulus_rms_jy_per_beam": f"stat.stdev;{_FLUX}",
    "background_jy_per_beam": "instr.background",
    "snr": "stat.snr",
    "significance": "stat.snr",
    "score": "stat.snr",
    "is_limit": "meta.code;stat.max",
    "flags": "meta.code.qual",
    "coverage": "stat.weight",
    "n_blend": "meta.number",
    "n_channels": "meta.number",
    "n_epochs": "meta.number",
    "event_epochs": "meta.number",
    "error_scale": "arith.factor",
    "normalisation": "arith.factor",
    "normalisation_err": "stat.error",
    "eta": "stat.fit.chi2",
    "chi2": "stat.fit.chi2",
    "chi2_probability": "stat.probability",
    "false_alarm_probability": "stat.probability",
    "v": "src.var.index",
    "vs": "src.var.index",
    "m": "src.var.index",
    "modulation_index": "src.var.index",
    "duration_d": "time.duration",
    "label": "meta.note",
    "comment": "meta.note",
    "reasons": "meta.note",
}


def ucd_of(column: str) -> str:
    """Unified Content Descriptor of a column; empty if it has none.

    >>> ucd_of("flux_err_jy")
    'stat.error;phot.flux.density;em.radio'
    """
    return _UCDS.get(column, "")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as ``.csv``, ``.fits``, ``.parquet`` or VOTable (``.vot``, ``.xml``), with units and UCDs.

    One rename replaces the old file, if there is one.

    Raises:
        PhotometryError: the suffix is none of these, or the format cannot hold a text of the table.
    """
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with publish(path) as staged:
        save_table(table, staged)
        beside = staged.with_name(f"{path.name}-metadata.json")
        if beside.exists():
            flush_to_disk(beside)
            move_into_place(beside, path.with_name(beside.name))


def save_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as `write_table` does, but directly into a directory that is published as a whole."""
    suffix = check_suffix(path)
    path = path.absolute()  # pandas takes a relative path that begins with ~ for one in the home directory
    if suffix == ".csv":
        # Python's writer leaves a carriage return bare, and readers take it for the end of a row
        table.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC if _has_carriage_returns(table) else csv.QUOTE_MINIMAL)
        path.with_name(f"{path.name}-metadata.json").write_text(json.dumps(_csv_metadata(table, path.name), indent=1) + "\n")
    elif suffix == ".parquet":
        _write_parquet(table, path)
    else:
        _write_astropy(table, path, "fits" if suffix == ".fits" else "votable")


def check_suffix(path: Path) -> str:
    """Suffix of a table's file. Check it before the work begins.

    Raises:
        PhotometryError: no table can be written with this suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise PhotometryError(
            path, f"a table cannot be written as {suffix or 'a file without suffix'}", f"use one of {', '.join(SUFFIXES)}"
        )
    return suffix


def _csv_metadata(table: pd.DataFrame, url: str) -> dict[str, Any]:
    columns = [
        {"titles": str(name), "datatype": kind_of(table[name])}
        | ({"unit": unit_of(str(name))} if unit_of(str(name)) else {})
        | ({"ucd": ucd_of(str(name))} if ucd_of(str(name)) else {})
        for name in table.columns
    ]
    return {"@context": "http://www.w3.org/ns/csvw", "url": url, "tableSchema": {"columns": columns}}


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    fields = []
    for field in arrow.schema:
        metadata = {key: value for key, value in (("unit", unit_of(field.name)), ("ucd", ucd_of(field.name))) if value}
        fields.append(field.with_metadata(metadata) if metadata else field)
    pq.write_table(arrow.cast(pa.schema(fields, metadata=arrow.schema.metadata)), path)


def _write_astropy(table: pd.DataFrame, path: Path, file_format: str) -> None:
    _refuse_unwritable_text(table, path, file_format)
    written = astropy_table(table, masks_booleans=file_format != "fits")
    for name in written.colnames:
        if unit_of(name):
            written[name].unit = unit_of(name)
        if ucd_of(name):
            written[name].info.meta = {"ucd": ucd_of(name)}
    # readers of XML take a carriage return for a line feed, unless it stands in binary cells
    binary = {"tabledata_format": "binary2"} if file_format == "votable" and _has_carriage_returns(table) else {}
    written.write(path, format=file_format, overwrite=True, **binary)


def _has_carriage_returns(table: pd.DataFrame) -> bool:
    texts = (table[name].dropna().map(str) for name in table.columns if kind_of(table[name]) == "string")
    return any("\r" in text for column in texts for text in column)


def _refuse_unwritable_text(table: pd.DataFrame, path: Path, file_format: str) -> None:
    """FITS holds ASCII only, XML no control characters; a name that was changed on the way would be another source's.

    Raises:
        PhotometryError: a name of a column, or a text, cannot be written.
    """
    is_odd = _NOT_ASCII.search if file_format == "fits" else _NOT_XML.search
    texts = {str(name): table[name].dropna().map(str) for name in table.columns if kind_of(table[name]) == "string"}
    odd = next((text for column in ([map(str, table.columns)], texts.values()) for one in column for text in one if is_odd(text)), None)
    if odd is not None:
        kind, others = ("FITS", ".vot, .parquet or .csv") if file_format == "fits" else ("VOTable", ".parquet or .csv")
        raise PhotometryError(path, f"a {kind} file cannot hold the text {printable(odd)!r}", f"write it as {others}")
