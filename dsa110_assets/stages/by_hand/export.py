"""Export of a tile for other software: the product to export, and the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from dsa110_assets import staging
from dsa110_assets.common.measurement_sets import is_calibrated
from dsa110_assets.conversion.export import ExportFormat
from dsa110_assets.errors import ConfigurationError
from dsa110_assets.files import ascii_text, refuse_overwriting
from dsa110_assets.products import ProductPaths
from dsa110_assets.publication import publish
from dsa110_assets.registry.provenance import release
from dsa110_assets.times import group_time

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.conversion.export import ExportReport


class Kind(StrEnum):
    """Measurement Set of an observation: flagged, in correlator units; or calibrated, in Jy."""

    RAW = "raw"
    CALIBRATED = "calibrated"


def source_of(config: PipelineConfig, observation: str, kind: Kind) -> Path:
    """Return the Measurement Set of an observation.

    Raises:
        NonRetriableError: not the name of an observation.
        ConfigurationError: the product does not exist.
    """
    group_time(observation)
    paths = ProductPaths.of(config)
    ms = paths.measurement_set(observation) if kind is Kind.RAW else paths.calibrated_ms(observation)
    if not (ms / "table.dat").is_file():
        raise ConfigurationError(
            ms,
            f"there is no {kind} Measurement Set of {observation}",
            "look at `dsa110 ingest status`, or give --ms with a set that exists",
        )
    return ms


def export_tile(
    config: PipelineConfig,
    ms: Path,
    kind: Kind | None,
    file_format: ExportFormat,
    output: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> ExportReport:
    """Export a Measurement Set; the result is read back and then published.

    Args:
        config: settings.
        ms: Measurement Set; only read.
        kind: expected kind; None accepts both.
        file_format: of the output.
        output: file or Measurement Set to make.
        overwrite: replace an existing output of the same nature.
        progress: called with the current step and the fraction done.

    Raises:
        ConfigurationError: the source is of the other kind; the output exists, or lies in the platform's directory.
        OutputIsInputError: the output is, contains or lies inside the source.
        ProductVerificationError: the export cannot be read back.
        StorageError: the disk is full, read-only or failing.
    """
    from dsa110_assets.conversion.export import export_visibilities

    if not (ms / "table.dat").is_file():
        raise ConfigurationError(ms, "is not a Measurement Set", "give the path of one, made by conversion")
    output = output.absolute()
    _check_output(config, ms, output, file_format, overwrite=overwrite)
    calibrated = is_calibrated(ms)
    found = Kind.CALIBRATED if calibrated else Kind.RAW
    if kind is not None and kind is not found:
        raise ConfigurationError(ms, f"is a {found} Measurement Set, not a {kind} one", f"give --kind {found}, or another --ms")
    output.parent.mkdir(parents=True, exist_ok=True)
    staging.keep_journal_in(ProductPaths.of(config).staging_journal)
    with publish(output) as staged:
        report = export_visibilities(
            ms,
            staged,
            file_format,
            vis_units="Jy" if calibrated else "uncalib",
            history=[f"dsa110_assets {release()}: {ascii_text(ms.name)} ({found}) exported as {file_format}"],
            progress=progress,
        )
    return replace(report, path=output)


def _check_output(config: PipelineConfig, ms: Path, output: Path, file_format: ExportFormat, *, overwrite: bool) -> None:
    """Refuse to replace the source, a product of the platform, or anything but an export."""
    refuse_overwriting(output, [ms], replaces_directory=True)
    if config.output_dir.resolve() in output.resolve().parents:
        raise ConfigurationError(
            output, "lies in the platform's own directory of Measurement Sets (PIPELINE_OUTPUT_DIR)", "give another --output"
        )
    if not output.exists():
        return
    if not overwrite:
        raise ConfigurationError(output, "exists", "give --overwrite to replace it, or another --output")
    same_nature = (output / "table.dat").is_file() if file_format is ExportFormat.MS else output.is_file()
    if not same_nature:
        wanted = "Measurement Set" if file_format is ExportFormat.MS else "file"
        raise ConfigurationError(output, f"exists and is not a {wanted}; it is not replaced", "give another --output")
