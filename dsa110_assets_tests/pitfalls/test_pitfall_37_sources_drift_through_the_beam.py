"""Pitfall 37: the beam of a tile is the mean over its integrations: 0.956 at the center near the equator, not 1."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from scipy.special import j1

from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets.quality.image import compare_with_catalog, read_tile
from dsa110_assets_tests.imaging.synthetic_ms import offset_position, write_tile


def airy_astropy(position: SkyCoord, pointing_ra_deg: np.ndarray, dec_deg: float, frequency_hz: np.ndarray) -> float:
    """Mean over integrations and channels of the Airy beam, with separations from astropy."""
    theta = position.separation(SkyCoord(pointing_ra_deg * u.deg, np.full(pointing_ra_deg.shape, dec_deg) * u.deg)).rad
    x = np.pi * 4.65 * np.sin(theta)[:, None] * frequency_hz / 299_792_458.0 + 1e-12
    return float(((2 * j1(x) / x) ** 2).mean())


@pytest.mark.parametrize(("dec_deg", "centre"), [(16.3, 0.956), (54.6, 0.984)])
def test_pitfall_37_effective_beam_is_the_mean_over_the_tile(tmp_path, dec_deg: float, centre: float):
    import pandas as pd

    places = [(0.0, 0.0), (0.9, 0.9), (-1.2, 0.3), (0.5, -1.3), (-0.7, -0.9), (1.4, 0.1)]
    rows = [(*offset_position(150.0, dec_deg, e, n), 3.0, -0.7) for e, n in places]
    tile = write_tile(tmp_path / "t.ms", rows, n_antenna=16, n_time=24, n_channel=8, dec0_deg=dec_deg)
    options = ImagingOptions(image_size=1280, cell_arcsec=9.0, correct_smearing=False, spectral_index=0.0)
    report = image_tile(tile.ms, tmp_path, "t", options, mask_sky=None, provenance={})
    beam = fits.getdata(report.images["pb"])[0, 0]
    assert beam[640, 640] == pytest.approx(centre, abs=0.004)
    assert report.pb_centre == pytest.approx(float(beam[640, 640]))
    planes = read_tile(tmp_path, "t")
    found = compare_with_catalog(planes, pd.DataFrame(rows, columns=["ra_deg", "dec_deg", "flux_jy", "alpha"]), report.noise_jy_per_beam)
    expected = [airy_astropy(SkyCoord(r[0] * u.deg, r[1] * u.deg), tile.pointing_ra_deg, dec_deg, tile.frequency_hz) for r in rows]
    assert np.sort(found.primary_beam) == pytest.approx(np.sort(expected), abs=0.005)
    # spectral index -0.7 with a beam for 0: the error is at most the change of the beam over the band
    assert found.flux_ratio == pytest.approx(1.0, abs=0.01)
    # one beam at the tile's center would be wrong by far more
    one_beam = [airy_astropy(SkyCoord(r[0] * u.deg, r[1] * u.deg), np.array([150.0]), dec_deg, tile.frequency_hz) for r in rows]
    assert np.abs(np.array(one_beam) / expected - 1).max() > 0.04 * np.cos(np.radians(dec_deg)) ** 2
