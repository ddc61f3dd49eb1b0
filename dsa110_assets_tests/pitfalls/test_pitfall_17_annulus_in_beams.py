"""Pitfall 17: an annulus of 12-20 pixels lay inside a 75 arcsec beam, and the error came out six times too large."""

import numpy as np
import pytest
from astropy.wcs import WCS

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.errors import PhotometryError
from dsa110_assets.photometry import PhotometryOptions, measure


@pytest.mark.parametrize("beam_arcsec", [15.0, 75.0])
def test_pitfall_17_the_source_does_not_affect_background_and_error_for_any_beam(beam_arcsec):
    rng = np.random.default_rng(17)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [150, 54], [201, 201], [-3 / 3600, 3 / 3600]
    yy, xx = np.mgrid[:401, :401]
    image = 1.0 * np.exp(-4 * np.log(2) * ((xx - 200) ** 2 + (yy - 200) ** 2) / (beam_arcsec / 3) ** 2) + rng.normal(0, 1e-3, (401, 401))
    in_pixels = np.hypot(xx - 200, yy - 200)
    naive = image[(in_pixels > 12) & (in_pixels < 20)].std()
    beam = RestoringBeam(beam_arcsec / 3600, beam_arcsec / 3600, 0.0)
    row = measure(image.astype(np.float32), np.full((401, 401), 1e-3, np.float32), wcs, beam, [150.0], [54.0]).iloc[0]
    assert abs(row["background_jy_per_beam"]) < 3e-4
    assert row["annulus_rms_jy_per_beam"] == pytest.approx(1e-3, rel=0.3)
    assert row["flux_err_jy"] < 1.3e-3
    if beam_arcsec > 50:
        assert naive > 6 * row["annulus_rms_jy_per_beam"]  # the error of an annulus in pixels


def test_pitfall_17_an_annulus_inside_the_beam_is_refused():
    with pytest.raises(PhotometryError, match="inside the source's own beam"):
        PhotometryOptions(annulus_beams=(0.5, 0.9))
