"""A calibrated Measurement Set that does not read back as it was made is not published (pitfall 29)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration import apply
from dsa110_assets.calibration.apply import ApplyReport, apply_calibration
from dsa110_assets.calibration.solve import solve
from dsa110_assets.calibration.verification import verify_calibrated
from dsa110_assets.common.measurement_sets import CALIBRATED_KEYWORD
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets.stages.by_hand.apply_tables import apply_by_hand
from dsa110_assets_tests.calibration.small_ms import source_frame, write_small_ms


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], ApplyReport]:
    """A tile, its tables, and the report of the calibrated tile beside it."""
    directory = tmp_path_factory.mktemp("calibrated")
    sky = source_frame([("a", 128.7, 55.5, 10.0, 0.0)])
    tile = write_small_ms(directory / "tile.ms", sky, n_ant=6, n_chan=4, n_time=1)
    report = solve(tile.path, directory / "tables", sky=sky, smearing=False)
    tables = [report.bandpass, report.gain]
    return tile.path, tables, apply_calibration(tile.path, tables, directory / "tile.cal.ms", chan_avg=2)


def change(path: Path, column: str, edit: Callable[[np.ndarray], None]) -> None:
    with table(str(path), readonly=False, ack=False) as ms:
        values = ms.getcol(column)
        edit(values)
        ms.putcol(column, values)


def zero_last_row(values: np.ndarray) -> None:
    values[-1] = 0


def one_nan(values: np.ndarray) -> None:
    values.flat[7] = np.nan


def remove_the_marker(path: Path) -> None:
    with table(str(path), readonly=False, ack=False) as ms:
        ms.removekeyword(CALIBRATED_KEYWORD)


def flag_one(values: np.ndarray) -> None:
    values[0, 0, 0] = ~values[0, 0, 0]


def truncate_the_biggest_file(path: Path) -> None:
    os.truncate(max(path.glob("table.f*"), key=lambda p: p.stat().st_size), 100)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a subtable is missing": (lambda path: shutil.rmtree(path / "FIELD"), "FIELD"),
    "the main table is missing": (lambda path: (path / "table.dat").unlink(), "main table"),
    "a file is cut short": (truncate_the_biggest_file, "."),
    "the marker is missing": (remove_the_marker, "is not marked as calibrated"),
    "a hole in DATA": (lambda path: change(path, "DATA", zero_last_row), "contradict"),
    "a hole in the weights": (lambda path: change(path, "WEIGHT_SPECTRUM", zero_last_row), "contradict"),
    "a flag that is not the weight's": (lambda path: change(path, "FLAG", flag_one), "contradict"),
    "a NaN in DATA": (lambda path: change(path, "DATA", one_nan), "not finite"),
    "a NaN in UVW": (lambda path: change(path, "UVW", one_nan), "not finite"),
}


def test_pitfall_29_a_complete_calibrated_set_passes(made: tuple[Path, list[Path], ApplyReport]) -> None:
    verify_calibrated(made[2].out, made[2])


@pytest.mark.parametrize("damage", DAMAGE)
def test_pitfall_29_a_damaged_calibrated_set_is_refused(made: tuple[Path, list[Path], ApplyReport], tmp_path: Path, damage: str) -> None:
    path = Path(shutil.copytree(made[2].out, tmp_path / "tile.cal.ms"))
    damage_file, message = DAMAGE[damage]
    damage_file(path)
    with pytest.raises(ProductVerificationError, match=message):
        verify_calibrated(path, made[2])


def test_pitfall_29_a_calibrated_set_that_differs_from_its_report_is_refused(made: tuple[Path, list[Path], ApplyReport]) -> None:
    report = made[2]
    for other, message in (
        (replace(report, n_channels=4), "channels"),
        (replace(report, n_rows=report.n_rows + 1), "rows"),
        (replace(report, channels_averaged=4), "averaged"),
        (replace(report, flagged_fraction=0.5), "unflagged"),
    ):
        with pytest.raises(ProductVerificationError, match=message):
            verify_calibrated(report.out, other)


def test_pitfall_29_a_calibrated_set_damaged_in_staging_does_not_replace_the_old_one(
    made: tuple[Path, list[Path], ApplyReport], tmp_path: Path, registry_config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real set gets a hole after it is written and before it is verified."""
    ms, tables, _ = made
    output = tmp_path / "mine.cal.ms"
    apply_by_hand(registry_config, ms, tables, output, chan_avg=2)
    old = {path.name: path.read_bytes() for path in output.glob("table.*")}

    def write_with_a_hole(*arguments: object, **options: object) -> ApplyReport:
        report = apply_calibration(*arguments, **options)  # pyright: ignore[reportArgumentType]
        change(report.out, "DATA", zero_last_row)
        return report

    monkeypatch.setattr(apply, "apply_calibration", write_with_a_hole)
    with pytest.raises(ProductVerificationError, match="contradict"):
        apply_by_hand(registry_config, ms, tables, output, chan_avg=2)
    assert {path.name: path.read_bytes() for path in output.glob("table.*")} == old
