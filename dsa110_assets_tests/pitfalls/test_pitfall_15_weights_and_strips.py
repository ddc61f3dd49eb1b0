"""Pitfall 15: weights normalized to 1 and used as noise; strips mixed in one mosaic."""

import numpy as np
import pytest
from astropy.io import fits

from dsa110_assets.errors import MosaicError
from dsa110_assets.mosaicking import TileImage, make_mosaic
from dsa110_assets_tests.mosaicking.tile_files import FIRST_MJD, TileTruth, strip, write_tile


def test_pitfall_15_noise_map_is_in_jy_per_beam(tmp_path):
    tiles = strip(tmp_path, 3, [], size=160, noises=[0.003, 0.003, 0.003])
    report = make_mosaic(tiles, tmp_path / "m", "m", provenance={})
    image, noise = (fits.getdata(tmp_path / "m" / f"m-{s}.fits") for s in ("image", "noise"))
    assert report.noise_min_jy_per_beam < 0.003
    assert np.nanstd(image[np.isfinite(noise)] / noise[np.isfinite(noise)]) == pytest.approx(1.0, abs=0.07)


def test_pitfall_15_weights_that_are_not_inverse_variances_are_refused(tmp_path):
    (tile,) = strip(tmp_path, 1, [], size=160)
    with fits.open(tile.path("weight"), mode="update") as hdus:
        hdus[0].data /= hdus[0].data.max()
    with pytest.raises(MosaicError, match="not inverse variances"):
        make_mosaic([TileImage.of(tile.directory, tile.name)], tmp_path / "m", "m", provenance={})


def test_pitfall_15_declination_strips_are_not_mixed(tmp_path):
    tiles = [
        write_tile(tmp_path, TileTruth(180.0, dec_deg=dec, size=64, start_mjd=FIRST_MJD + i * 0.01), [], i)
        for i, dec in enumerate((54.6, 54.7, 50.5))
    ]
    with pytest.raises(MosaicError, match="different declination strips"):
        make_mosaic(tiles, tmp_path / "m", "m", provenance={})
    assert make_mosaic(tiles[:2], tmp_path / "m", "m", provenance={}).tiles == tuple(tile.group_id for tile in tiles[:2])
