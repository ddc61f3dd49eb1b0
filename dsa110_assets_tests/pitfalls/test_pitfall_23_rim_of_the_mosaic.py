"""Pitfall 23: a row at the mosaic's edge with a flux ratio of 2697 enters the catalog."""

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets.mosaicking import crossmatch, find_sources, make_mosaic
from dsa110_assets_tests.mosaicking.tile_files import DRIFT_DEG, TileTruth, drifting_beam, strip


def test_pitfall_23_the_rim_enters_neither_the_mosaic_nor_the_catalog(tmp_path):
    sources = [(180.0, 54.6, 0.3), (181.5, 54.3, 0.2), (180.5, 55.1, 0.25)]
    tiles = strip(tmp_path, 2, sources, size=512, noises=[0.004, 0.004])
    for tile in tiles:  # an artifact outside the beam: a small apparent flux, enormous when divided by the beam
        with fits.open(tile.path("image"), mode="update") as hdus:
            hdus[0].data[..., 3:7, 3:7] += 20.0
            hdus[0].data[..., :, -1] = 1e30
    report = make_mosaic(tiles, tmp_path / "m", "rim", provenance={})
    image, noise = (fits.getdata(tmp_path / "m" / f"rim-{s}.fits") for s in ("image", "noise"))
    assert np.nanmax(image) < 0.5
    assert np.nanmax(noise) <= 0.004 / 0.2 * 1.001, "the mosaic has data where the beam is below its cutoff"

    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    ra, dec = WCS(fits.getheader(tmp_path / "m" / "rim-image.fits")).wcs_pix2world(x.ravel(), y.ravel(), 0)
    beams = [drifting_beam(TileTruth(180.0 + i * DRIFT_DEG), ra, dec) for i in range(2)]
    best = np.maximum(*beams).reshape(image.shape)
    assert not np.isfinite(image[best < 0.199]).any()

    found = find_sources(tmp_path / "m" / "rim-image.fits", tmp_path / "m" / "rim-noise.fits", sigma=7.0)
    catalog = pd.DataFrame(sources, columns=["ra_deg", "dec_deg", "flux_jy"]).assign(name=["a", "b", "c"])
    pairs = crossmatch(found, catalog, 60.0)
    assert len(found) == len(pairs) == 3
    assert pairs["flux_ratio"].between(0.9, 1.1).all()
    assert len(report.tiles) == 2
