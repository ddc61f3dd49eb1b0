"""Pitfall 33: an observation is in memory once, and a mosaic's grid covers its strip, not the square around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from dsa110_assets_tests.conversion.test_convert import raw_files

_HIGH_WATER = """
def high_water_mb():  # of this program only; ru_maxrss would begin with the memory of its parent
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
"""
_CONVERT = (
    _HIGH_WATER
    + """
import sys
from pathlib import Path
from dsa110_assets.conversion import convert_observation, verify_ms
import casacore.tables, h5py
few, many = ({int(name[-7:-5]): Path(name) for name in text.split(",")} for text in sys.argv[2:4])
def peak_mb(files, out):
    convert_observation(files, Path(out), expected_subbands=len(files), flag_rfi=False)
    return high_water_mb()
before = peak_mb(few, sys.argv[1] + "/few.ms")
print(before, peak_mb(many, sys.argv[1] + "/many.ms"))
"""
)


def test_pitfall_33_a_conversion_has_the_observation_in_memory_once(tmp_path: Path) -> None:
    order = tuple(range(40))
    few = raw_files(tmp_path / "few", 1)
    many = raw_files(tmp_path / "many", 8, n_times=24, n_channels=48, order=order, n_antennas=40)
    visibilities_mb = len(many) * 24 * 820 * 48 * 2 * 8 / 2**20  # complex64
    result = subprocess.run(
        [sys.executable, "-c", _CONVERT, str(tmp_path), *(",".join(map(str, files.values())) for files in (few, many))],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    before_mb, peak_mb = map(float, result.stdout.split())
    assert peak_mb - before_mb < 1.6 * visibilities_mb + 60, (before_mb, peak_mb, visibilities_mb)


_IMAGE = (
    _HIGH_WATER
    + """
import sys
from pathlib import Path
from dsa110_assets.imaging import ImagingOptions, image_tile
def peak_mb(size, out):
    Path(out).mkdir()
    image_tile(Path(sys.argv[1]), Path(out), "t", ImagingOptions(image_size=size, cell_arcsec=6144 / size, threads=1, niter=200), mask_sky=None, provenance={})
    return high_water_mb()
before = peak_mb(256, sys.argv[2] + "/small")
print("MEMORY", before, peak_mb(2048, sys.argv[2] + "/large"))
"""
)


def test_pitfall_33_an_image_needs_few_copies_of_its_pixels(tmp_path: Path) -> None:
    """At 4096 x 4096, this number of planes takes less than half of the budget of 6 GB."""
    from dsa110_assets_tests.imaging.synthetic_ms import offset_position, write_tile

    tile = write_tile(tmp_path / "t.ms", [(*offset_position(150.0, 54.6, 0.1, 0.2), 1.0, -0.7)], n_antenna=12, n_time=2, n_channel=4)
    result = subprocess.run(
        [sys.executable, "-c", _IMAGE, str(tile.ms), str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr
    before_mb, peak_mb = map(float, result.stdout.split("MEMORY")[1].split())
    planes = (peak_mb - before_mb) / (2048**2 * 4 / 2**20)
    assert 3 < planes < 40, (before_mb, peak_mb)


def test_pitfall_33_the_grid_of_a_mosaic_is_no_larger_than_its_strip(tmp_path: Path) -> None:
    from dsa110_assets.mosaicking.grid import choose_grid
    from dsa110_assets_tests.mosaicking.test_mosaic import strip

    tiles = strip(tmp_path, 120, [], size=64, cell_arcsec=240.0)  # ten hours
    height_deg = 64 * 240 / 3600
    for some in (tiles[:12], tiles):
        grid = choose_grid(some, 240.0)
        rows, columns = grid.shape
        width_deg = (len(some) - 1) * 1.2919 * np.cos(np.radians(54.6)) + height_deg
        assert rows * columns < 1.6 * height_deg * width_deg * 15**2, grid.shape
