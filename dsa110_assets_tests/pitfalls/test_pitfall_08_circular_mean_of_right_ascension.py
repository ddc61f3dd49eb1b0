"""Pitfall 8: an arithmetic mean of RA across 0h centers a mosaic of [350, 5, 10] deg at 121.7 instead of 1.7."""

import numpy as np
import pytest
from scipy.stats import circmean

from dsa110_assets.mosaicking import make_mosaic
from dsa110_assets.mosaicking.grid import centre_of
from dsa110_assets_tests.mosaicking.tile_files import FIRST_MJD, TileTruth, write_tile


def test_pitfall_08_mean_of_right_ascensions_is_circular():
    ra, _ = centre_of([350.0, 5.0, 10.0], [54.6] * 3)
    assert ra == pytest.approx(1.67, abs=0.1)
    assert ra == pytest.approx(np.degrees(circmean(np.radians([350.0, 5.0, 10.0]))), abs=1e-9)


def test_pitfall_08_mosaic_across_0h_is_centered_and_narrow(tmp_path):
    tiles = [
        write_tile(tmp_path, TileTruth(ra, size=96, cell_arcsec=40.0, start_mjd=FIRST_MJD + i * 0.02), [], i)
        for i, ra in enumerate((350.0, 5.0, 10.0))
    ]
    report = make_mosaic(tiles, tmp_path / "m", "zero", provenance={})
    assert min(report.ra_deg, 360 - report.ra_deg) == pytest.approx(0.0, abs=0.1), "not the middle of the strip from 350 to 10 deg"
    assert report.shape[1] * 40.0 / 3600 < 14.0, "wider than 20 deg of right ascension at +54.6 and a tile"
