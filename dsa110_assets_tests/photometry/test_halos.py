"""Artifacts around bright sources widen the errors of what lies in them, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits

from dsa110_assets.common.halos import REACH_DEG, Halos
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.photometry import measure_mosaic
from dsa110_assets.products import image_path
from dsa110_assets_tests.photometry.fields import add_pixel_gaussian, correlated_noise, make_wcs

SIZE, NOISE_JY, PIXEL_ARCSEC = 1500, 2e-3, 6.0
BEAM = RestoringBeam(24 / 3600, 24 / 3600, 0.0)
BRIGHT = ((400.3, 380.6, 8.0), (1130.2, 420.4, 6.0), (760.8, 1120.1, 4.0))
"""x, y and Jy; more than 2 REACH_DEG apart."""
SHARES = ((10.0, 1.0e-3), (40.0, 0.4e-3))
"""Artifacts out to so many beams, as a share of the flux."""


def field(directory: Path, seed: int, *, artifacts: bool) -> tuple[pd.DataFrame, np.ndarray]:
    """Write a mosaic; positions without a source, and their distances from the nearest bright one in degrees."""
    rng = np.random.default_rng(seed)
    wcs = make_wcs(SIZE, pixel_arcsec=PIXEL_ARCSEC)
    beam_px = 24 / PIXEL_ARCSEC
    image = correlated_noise(rng, (SIZE, SIZE), NOISE_JY, beam_px)
    yy, xx = np.mgrid[:SIZE, :SIZE]
    for x, y, flux in BRIGHT:
        distance = np.hypot(yy - y, xx - x) / beam_px
        share = np.select([distance < SHARES[0][0], distance < SHARES[1][0]], [SHARES[0][1], SHARES[1][1]], 0.0)
        if artifacts:
            image += flux * share * correlated_noise(rng, (SIZE, SIZE), 1.0, beam_px)
        add_pixel_gaussian(image, x, y, flux, beam_px, beam_px, 0)
    header = wcs.to_header()
    header.update(BUNIT="JY/BEAM", BMAJ=BEAM.major_deg, BMIN=BEAM.minor_deg, BPA=0.0, RADESYS="ICRS")
    header["MJD-BEG"], header["MJD-END"] = 61000.25, 61000.27
    fits.writeto(image_path(directory, "m", "image"), image.astype(np.float32), header)
    fits.writeto(image_path(directory, "m", "noise"), np.full((SIZE, SIZE), NOISE_JY, dtype=np.float32), header)
    x, y = rng.uniform(30, SIZE - 30, (2, 6000))
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    bright = SkyCoord(*wcs.wcs_pix2world(*np.array(BRIGHT).T[:2], 0), unit="deg")
    distance = np.min([SkyCoord(ra, dec, unit="deg").separation(one).deg for one in bright], axis=0)
    far_enough = distance > 3 * BEAM.major_deg
    return pd.DataFrame({"name": [str(k) for k in range(6000)], "ra_deg": ra, "dec_deg": dec})[far_enough], distance[far_enough]


@pytest.mark.parametrize("seed", [1, 2])
def test_pulls_in_the_artifacts_of_bright_sources_have_width_one(tmp_path: Path, seed: int) -> None:
    positions, distance = field(tmp_path, seed, artifacts=True)
    table = measure_mosaic(tmp_path, "m", positions)
    noise_only = measure_mosaic(tmp_path, "m", positions, calibration_errors=False)
    for low, high, least in ((3, 10, 2.0), (10, 40, 1.1)):  # of the faintest of the three, 2 and 0.8 times the noise
        ring = (distance > low * BEAM.major_deg) & (distance < high * BEAM.major_deg)
        pulls = (table["flux_jy"] / table["flux_err_jy"])[ring]
        before = (noise_only["flux_jy"] / noise_only["flux_err_jy"])[ring]
        assert before.std() > least
        # neighbors within a beam are not independent, and the rings' scatter is known to a few percent itself
        assert pulls.std() == pytest.approx(1.0, abs=3 / np.sqrt(ring.sum()) + 0.08), f"{ring.sum()} positions"
    far = distance > REACH_DEG
    assert far.sum() > 100
    assert (table["calibration_err_jy"][far] == 0).all(), "the neighbors' term reaches no farther"
    assert (table["snr"] == noise_only["snr"]).all()


def test_clean_surroundings_add_nothing(tmp_path: Path) -> None:
    positions, _ = field(tmp_path, 3, artifacts=False)
    assert (measure_mosaic(tmp_path, "m", positions)["calibration_err_jy"] == 0).all()


def test_a_bright_source_is_no_neighbor_of_itself(tmp_path: Path) -> None:
    field(tmp_path, 4, artifacts=True)
    image, noise = (fits.getdata(image_path(tmp_path, "m", kind)) for kind in ("image", "noise"))
    wcs = make_wcs(SIZE, pixel_arcsec=PIXEL_ARCSEC)
    halos = Halos.measure(image, noise, wcs, BEAM)
    assert np.sort(halos.peak_jy)[-3:] == pytest.approx([4, 6, 8], rel=0.1)
    assert (halos.share > 0).any()
    ra, dec = wcs.wcs_pix2world(*np.array(BRIGHT).T[:2], 0)
    assert (halos.errors_jy(ra, dec) == 0).all()
    assert halos.errors_jy([np.nan], [54.0]) == [0]


@pytest.mark.parametrize("value", [0.0, np.nan, 1e3])
def test_maps_without_noise_or_with_huge_sources_give_no_error(value: float) -> None:
    """All pixels are equal, so nothing scatters."""
    image = np.full((64, 64), value, dtype=np.float32)
    halos = Halos.measure(image, np.full((64, 64), 1e-3, dtype=np.float32), make_wcs(64), BEAM)
    assert (halos.errors_jy([150.0], [54.6]) == 0).all()
