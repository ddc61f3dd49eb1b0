"""`dsa110 export`: the visibilities of an observation as UVH5, UVFITS or a Measurement Set, for other software."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Kind(StrEnum):
    """Kinds of Measurement Set of an observation."""

    RAW = "raw"
    CALIBRATED = "calibrated"


class Format(StrEnum):
    """Output formats."""

    UVH5 = "uvh5"
    UVFITS = "uvfits"
    MS = "ms"


def export(
    observation: Annotated[str | None, typer.Argument(help="Name of an observation, YYYY-MM-DDTHH:MM:SS; or give --ms.")] = None,
    *,
    output: Annotated[Path, typer.Option("--output", help="File or Measurement Set to write.")],
    file_format: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.UVH5,
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="raw: flagged, one phase center, correlator units. calibrated: Jy, averaged channels. Default: calibrated; with --ms, its own kind."
        ),
    ] = None,
    ms: Annotated[Path | None, typer.Option("--ms", help="Measurement Set to read, made by hand or by the platform.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write an observation in a format that other software reads.

    The output is read back, and appears only when it is complete. Weights become nsamples: fractions of an integration
    for raw data, 1/Jy^2 for calibrated data. The whole observation must fit in memory. For CASA, use --format ms.

    Example: `dsa110 export 2026-03-12T05:09:39 --format uvfits --output tile.uvfits`

    Example: `dsa110 export --ms tile.cal.ms --format ms --output elsewhere.ms --json`
    """
    from dataclasses import asdict

    from dsa110_assets.cli.output import emit_json, emit_table, libraries_write_to_stderr
    from dsa110_assets.cli.progress import progress_bar
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.conversion.export import ExportFormat
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.stages.by_hand import export as by_hand

    config = PipelineConfig.from_env(validate_paths=False)
    wanted = None if kind is None else by_hand.Kind(kind)
    if (observation is None) == (ms is None):
        raise ConfigurationError("OBSERVATION, --ms", "exactly one of them is needed", "give the name of an observation, or --ms PATH")
    if ms is None and observation is not None:
        wanted = wanted or by_hand.Kind.CALIBRATED
        ms = by_hand.source_of(config, observation, wanted)
    assert ms is not None
    ms = config.own_spelling(ms)
    with progress_bar("export", quiet=json) as progress, libraries_write_to_stderr():
        report = by_hand.export_tile(config, ms, wanted, ExportFormat(file_format), output, overwrite=overwrite, progress=progress)
    figures = asdict(report) | {"path": str(report.path)}
    if json:
        emit_json(figures)
    else:
        emit_table(("what", "value"), [(name, f"{v:.7g}" if isinstance(v, float) else v) for name, v in figures.items()])
