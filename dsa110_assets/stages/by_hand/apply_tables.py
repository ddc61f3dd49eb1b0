"""Apply calibration tables that a person names, without the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dsa110_assets import publication, staging
from dsa110_assets.calibration.solve import tables_in
from dsa110_assets.common.measurement_sets import is_calibrated
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.provenance import release
from dsa110_assets.stages.provenance.recipes import recipe_of
from dsa110_assets.stages.table import CALIBRATED_MS

if TYPE_CHECKING:
    from dsa110_assets.calibration.apply import ApplyReport


def apply_by_hand(
    config: PipelineConfig,
    ms: Path,
    caltables: Sequence[Path],
    output: Path,
    *,
    chan_avg: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> ApplyReport:
    """Apply tables to a Measurement Set; the result is published when it is complete.

    Args:
        config: settings.
        ms: uncalibrated; only read.
        caltables: tables, or directories of tables.
        output: replaced if it is a calibrated Measurement Set; an error if it is anything else.
        chan_avg: channels to average; None for as many as the smearing budget allows.
        progress: called with the fraction done.

    Raises:
        ConfigurationError: a table does not exist, or ``output`` is something else.
        CalibrationMismatchError: a table is of another declination strip, band or array.
        CalibrationQualityError: the result would have no unflagged data.
        ProductVerificationError: the result cannot be read back.
    """
    from dsa110_assets.calibration.apply import apply_calibration
    from dsa110_assets.calibration.verification import verify_calibrated

    tables = _tables(caltables)
    if output.absolute() == ms.absolute() or (output.exists() and not is_calibrated(output)):
        raise ConfigurationError(output, "exists and is not a calibrated Measurement Set", "give another --output")
    recipe = recipe_of(CALIBRATED_MS.name, config)
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    staging.keep_journal_in(ProductPaths.of(config).staging_journal)
    with publication.publish(output.absolute()) as staged:
        report = apply_calibration(
            ms,
            tables,
            staged,
            sefd_jy=config.sefd_jy,
            max_smearing=config.max_smearing,
            chan_avg=chan_avg,
            declination_tolerance_deg=config.cal_declination_tolerance_deg,
            provenance={
                "DSACODE": f"{release()} {recipe.code_version}",
                "DSACONF": recipe.config_hash,
                "inputs": " ".join([str(ms), *map(str, tables)]),
            },
            progress=progress,
        )
        verify_calibrated(staged, report)
    return replace(report, out=output)


def _tables(caltables: Sequence[Path]) -> list[Path]:
    """All tables that the paths name, in order."""
    found: list[Path] = []
    for path in caltables:
        inside = [path] if (path / "table.dat").is_file() else tables_in(path)
        if not inside:
            raise ConfigurationError(
                path,
                "is neither a calibration table nor a directory of them",
                "give the output of `dsa110 calibrate --ms MS --output DIRECTORY`",
            )
        found += inside
    return found
