"""The result of a stage as Dagster metadata: numbers (which the UI plots), paths, tables, pictures."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from dsa110_assets.common.figures import Figure, Row
from dsa110_assets.common.previews import LIMIT_BYTES
from dsa110_assets.stages.provenance.recording import StageResult

AnyMetadata = dg.MetadataValue[Any]


def preview_markdown(png: Path) -> str:
    """Return a PNG as a data URL in Markdown, which the UI accepts; a note with its path if it is too large."""
    if png.stat().st_size > LIMIT_BYTES:
        return f"The preview is larger than {LIMIT_BYTES // 1000} kB: `{png}`"
    return f"![preview](data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()})"


def metadata_of(results: Sequence[StageResult]) -> dict[str, AnyMetadata]:
    """Metadata of the last observation of a slot; if there are several, also a table of all."""
    last = results[-1]
    metadata: dict[str, AnyMetadata] = {}
    if last.verdict is not None:
        metadata["verdict"] = dg.MetadataValue.text(last.verdict.line())
    if last.preview is not None and last.preview.is_file():
        metadata["preview"] = dg.MetadataValue.md(preview_markdown(last.preview))
    for title, png in last.pictures.items():
        if png.is_file():
            metadata[title] = dg.MetadataValue.md(preview_markdown(png))
    for name, value in last.figures.items():
        if (converted := _value(name, value)) is not None:
            metadata[name] = converted
    for name, path in last.paths.items():
        metadata[name] = dg.MetadataValue.path(path)
    for title, rows in last.tables.items():
        if rows:
            metadata[title] = table(rows)
    if len(results) > 1:
        metadata["observations of the slot"] = table(
            [{"observation": r.key, **({"verdict": r.verdict.line()} if r.verdict is not None else {}), **r.figures} for r in results]
        )
    return metadata


def _rounded(name: str, value: float) -> float:
    """A number to six digits; an MJD to a second, because six digits of it are hours."""
    return round(value, 5) if name.endswith("mjd") else float(f"{value:.6g}")


def _value(name: str, value: Figure) -> AnyMetadata | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(_rounded(name, value)) if math.isfinite(value) else None
    return dg.MetadataValue.text(value)


def table(rows: Sequence[Row]) -> dg.TableMetadataValue:
    """Return rows as a table of the UI; the first row has the names of the columns."""
    names = list(rows[0])
    kinds = {name: _column_type([row.get(name) for row in rows]) for name in names}
    records = [dg.TableRecord({name: _cell(name, row.get(name), kinds[name]) for name in names}) for row in rows]
    schema = dg.TableSchema(columns=[dg.TableColumn(name, kinds[name]) for name in names])
    return dg.MetadataValue.table(records=records, schema=schema)


def _column_type(values: Sequence[Figure]) -> str:
    """A column with gaps is text: the UI's tables have no missing numbers, and JSON has no NaN."""
    if all(isinstance(v, bool) for v in values):
        return "bool"
    if all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        return "int"
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        return "float"
    return "string"


def _cell(name: str, value: Figure, kind: str) -> str | int | float | bool:
    rounded = _rounded(name, value) if isinstance(value, float) else value
    if kind == "string":
        return "" if rounded is None else str(rounded)
    return 0 if rounded is None else rounded
