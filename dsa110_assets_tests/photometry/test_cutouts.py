"""Cut-outs show the pixels of the mosaic around each source, at a tenth of their size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets.common.fits_planes import cutout
from dsa110_assets.photometry.cutouts import SIZE_BEAMS, read_cutout, write_cutouts

NOISE = 5e-4
BEAM_ARCSEC = 30.0


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    """A mosaic of noise with the beam's correlation left out, a bright source, and a blank strip."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (
        ["RA---SIN", "DEC--SIN"],
        [180.0, 16.0],
        [401.0, 301.0],
        [-3 / 3600, 3 / 3600],
    )
    header = wcs.to_header()
    header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"] = "Jy/beam", BEAM_ARCSEC / 3600, 20 / 3600, 0.0
    pixels = np.random.default_rng(1).normal(0.0, NOISE, (600, 800)).astype(np.float32)
    pixels[300, 400] = 1.0
    pixels[:, :50] = np.nan
    path = tmp_path / "mosaic-image.fits"
    fits.writeto(path, pixels, header)
    return path


def _positions(mosaic: Path, x: list[float], y: list[float]) -> tuple[np.ndarray, np.ndarray]:
    ra, dec = WCS(fits.getheader(mosaic)).wcs_pix2world(x, y, 0)
    return np.asarray(ra), np.asarray(dec)


def test_a_cutout_is_that_of_the_mosaic_to_a_fraction_of_the_noise(mosaic: Path, tmp_path: Path) -> None:
    ra, dec = _positions(mosaic, [400.0, 60.0, 790.0, 250.3], [300.0, 500.0, 595.0, 100.4])
    assert write_cutouts(mosaic, tmp_path / "c.fits", np.array([11, 12, 13, 14]), ra, dec) == 4
    for number, source_ra, source_dec in zip((11, 12, 13, 14), ra, dec, strict=True):
        stored, direct = read_cutout(tmp_path / "c.fits", number), cutout(mosaic, source_ra, source_dec, SIZE_BEAMS * BEAM_ARCSEC)
        assert stored is not None
        assert direct is not None
        assert stored.shape == direct.shape == (41, 41)
        assert (np.isnan(stored) == np.isnan(direct)).all(), "blank where the mosaic is blank or ends"
        assert np.nanmax(abs(stored - direct)) < NOISE / 4
        assert np.nanmean(stored - direct) == pytest.approx(0.0, abs=NOISE / 100)


def test_sources_outside_the_mosaic_have_no_cutout(mosaic: Path, tmp_path: Path) -> None:
    ra, dec = _positions(mosaic, [-5.0, 400.0], [10.0, 10.0])
    assert write_cutouts(mosaic, tmp_path / "c.fits", np.array([1, 2]), ra, dec) == 1
    assert read_cutout(tmp_path / "c.fits", 1) is None
    assert write_cutouts(mosaic, tmp_path / "none.fits", np.array([1]), ra[:1], dec[:1]) == 0
    assert read_cutout(tmp_path / "none.fits", 1) is None


def test_the_cutouts_of_an_hour_take_less_than_a_byte_a_pixel(mosaic: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    ra, dec = _positions(mosaic, list(generator.uniform(100, 750, 1000)), list(generator.uniform(50, 550, 1000)))
    write_cutouts(mosaic, tmp_path / "c.fits", np.arange(1000), ra, dec)
    assert (tmp_path / "c.fits").stat().st_size < 1000 * 41 * 41
