"""A small calibrator tile with known gains, and its solutions: one run of CASA for all tests of this package."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration.solve import SolveReport, solve
from dsa110_assets_tests.calibration.small_ms import SmallMs, source_frame, write_small_ms

HALF_DEAD = 108
"""Number of the antenna whose Y receptor is dead."""


@dataclass(frozen=True)
class Solved:
    tile: SmallMs
    report: SolveReport
    files_before: dict[str, float]


def listing(directory: Path) -> dict[str, float]:
    """Every file below a directory with its size and time of change, without lock files."""
    return {
        str(p.relative_to(directory)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in sorted(directory.rglob("*"))
        if p.name != "table.lock"
    }


@pytest.fixture(scope="session")
def calibrator_sky():
    return source_frame([("0834+555", 128.7288, 55.5725, 8.8, -0.36), ("b", 129.9, 56.1, 1.2, np.nan), ("c", 127.0, 54.5, 0.9, -0.7)])


@pytest.fixture(scope="session")
def solved(tmp_path_factory, calibrator_sky) -> Solved:
    directory = tmp_path_factory.mktemp("solved")
    tile = write_small_ms(directory / "tile.ms", calibrator_sky, n_time=8, noise=0.1)
    with table(str(tile.path), readonly=False, ack=False) as ms:  # one receptor of one antenna is dead
        flag = ms.getcol("FLAG")
        flag[(ms.getcol("ANTENNA1") == HALF_DEAD) | (ms.getcol("ANTENNA2") == HALF_DEAD), :, 1] = True
        ms.putcol("FLAG", flag)
    before = listing(tile.path)
    report = solve(tile.path, directory / "tables", sky=calibrator_sky, gain_solint="26s", refant="103", smearing=False)
    return Solved(tile, report, before)
