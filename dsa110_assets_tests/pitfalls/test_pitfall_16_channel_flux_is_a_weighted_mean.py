"""Pitfall 16: the flux of a combined bin was the sum of Jy/beam over N images, so N times too bright."""

import numpy as np
import pytest
from astropy.wcs import WCS

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.photometry import ChannelImage, adaptive


def test_pitfall_16_flux_of_a_combined_bin_is_the_weighted_mean_of_its_channels():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [150, 54], [51, 51], [-1e-3, 1e-3]
    yy, xx = np.mgrid[:101, :101]
    shape = np.exp(-4 * np.log(2) * ((xx - 50) ** 2 + (yy - 50) ** 2) / 64)
    fluxes, rms = np.array([0.020, 0.024, 0.016, 0.022]), np.array([0.01, 0.02, 0.01, 0.04])
    channels = [
        ChannelImage(
            (f * shape).astype(np.float32), np.full((101, 101), n, np.float32), wcs, RestoringBeam(8e-3, 8e-3, 0.0), 1.3e9 + 5e7 * i
        )
        for i, (f, n) in enumerate(zip(fluxes, rms, strict=True))
    ]
    table = adaptive(channels, [150.0], [54.0], target_snr=50.0)
    assert len(table) == 1
    assert table["flux_jy"].iloc[0] == pytest.approx(np.average(fluxes, weights=rms**-2.0), rel=1e-3)
    assert table["flux_jy"].iloc[0] < fluxes.max()
