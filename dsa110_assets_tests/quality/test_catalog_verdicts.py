"""Fluxes, positions and completeness from the catalog: correct values and errors, and no verdict on too little."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets.common import earth_rotation
from dsa110_assets.config import PipelineConfig
from dsa110_assets.quality.image import ImageLimits, TilePlanes, compare_with_catalog, judge_tile
from dsa110_assets.quality.verdict import Verdict
from dsa110_assets.times import datetime_to_mjd

SIZE, CELL, NOISE = 600, 5.0, 1e-3
FWHM = (30.0, 20.0)


def header() -> fits.Header:
    made = fits.Header()
    made["CTYPE1"], made["CTYPE2"] = "RA---SIN", "DEC--SIN"
    made["CRVAL1"], made["CRVAL2"], made["CRPIX1"], made["CRPIX2"] = 150.0, 30.0, SIZE / 2 + 1, SIZE / 2 + 1
    made["CDELT1"], made["CDELT2"] = -CELL / 3600, CELL / 3600
    made["BMAJ"], made["BMIN"], made["BPA"] = FWHM[0] / 3600, FWHM[1] / 3600, 0.0
    made["DSATHERM"] = NOISE
    return made


def field(n: int, flux_jy: float, *, missing: int = 0, scatter: float = 0.0, seed: int = 1) -> tuple[TilePlanes, pd.DataFrame]:
    """Noise correlated like the beam, as in a dirty image, with ``n`` point sources on a grid.

    ``missing`` of them are in the catalog only.
    """
    rng = np.random.default_rng(seed)
    k = np.fft.fftfreq(SIZE)
    sigma_y, sigma_x = (f / CELL / np.sqrt(8 * np.log(2)) for f in FWHM)
    # a filter like the beam's transform gives noise whose correlation is the beam
    filtered = np.exp(-(np.pi**2) * ((sigma_y * k[:, None]) ** 2 + (sigma_x * k[None, :]) ** 2))
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * filtered).real
    noise *= NOISE / noise.std()
    side = int(np.ceil(np.sqrt(n)))
    spacing = SIZE / (side + 1)
    y = (np.arange(n) // side + 1) * spacing + rng.uniform(-1, 1, n)
    x = (np.arange(n) % side + 1) * spacing + rng.uniform(-1, 1, n)
    image = noise.copy()
    yy, xx = np.mgrid[:SIZE, :SIZE]
    true = flux_jy * (1 + scatter * rng.standard_normal(n))
    for row, column, flux in list(zip(y, x, true, strict=True))[missing:]:
        image += flux * np.exp(-0.5 * (((yy - row) / sigma_y) ** 2 + ((xx - column) / sigma_x) ** 2))
    ra, dec = WCS(header()).celestial.pixel_to_world_values(x, y)
    planes = TilePlanes(image.astype(np.float32), noise.astype(np.float32), np.ones((SIZE, SIZE), np.float32), header())
    return planes, pd.DataFrame({"ra_deg": ra, "dec_deg": dec, "flux_jy": np.full(n, flux_jy)})


def verdicts(*made: object, **more: object) -> dict[str, Verdict]:
    planes, sky = field(*made, **more)  # type: ignore[arg-type]
    return {v.name: v for v in judge_tile(planes, sky)}


def test_errors_of_positions_and_fluxes_describe_the_scatter():
    """Pulls of fitted positions and fluxes have mean 0 and width 1."""
    pulls = {"east": [], "north": [], "flux": []}
    for seed in range(8):
        planes, sky = field(64, 0.04, seed=seed)
        found = compare_with_catalog(planes, sky, NOISE)
        assert found.snr.size == 64
        pulls["east"] += list(found.east_arcsec / found.east_error_arcsec)
        pulls["north"] += list(found.north_arcsec / found.north_error_arcsec)
        pulls["flux"] += list((found.flux_ratio - 1) * found.snr)
    for name, values in pulls.items():
        assert abs(np.mean(values)) < 3 / np.sqrt(len(values)), name
        assert np.std(values) == pytest.approx(1.0, abs=0.12), name


def test_completeness_is_the_share_of_expected_sources_in_the_image():
    half = verdicts(25, 0.05, missing=5)["completeness"]
    assert half.value == pytest.approx(0.8)
    assert half.passed is False
    assert verdicts(25, 0.05)["completeness"].passed is True


def test_completeness_of_a_field_without_bright_sources_is_not_measured():
    faint = verdicts(25, 0.006)["completeness"]
    assert faint.passed is None
    assert "0 of 0" in faint.reason


def test_a_flux_ratio_that_is_too_uncertain_gets_no_verdict():
    vague = verdicts(6, 0.05, scatter=0.6, seed=3)["flux_ratio_to_catalog"]
    assert vague.passed is None
    assert vague.value is None
    assert "too uncertain" in vague.reason


def test_the_reason_contains_the_error():
    exact = verdicts(36, 0.05)
    assert "+-" in exact["flux_ratio_to_catalog"].reason
    assert exact["flux_ratio_to_catalog"].passed is True
    assert exact["position_offset_arcsec"].passed is True


def test_the_verdict_on_positions_says_that_the_earth_rotation_table_had_ended():
    planes, sky = field(36, 0.05)
    planes.header["MJD-OBS"] = datetime_to_mjd(earth_rotation.table_end()) + 100
    (found,) = (one for one in judge_tile(planes, sky) if one.name == "position_offset_arcsec")
    assert "the table of the Earth's rotation ended on" in found.reason


def test_a_field_without_bright_sources_gets_no_verdict_on_its_dynamic_range():
    quiet = verdicts(9, 0.003)["dynamic_range"]
    assert quiet.passed is None
    assert "no catalog source is bright enough" in quiet.reason


def test_a_field_without_its_bright_sources_has_a_bad_dynamic_range():
    lost = verdicts(9, 0.05, missing=9)["dynamic_range"]
    assert lost.passed is False
    assert "the catalog predicts" in lost.reason


def test_limits_come_from_the_configuration():
    limits = ImageLimits.from_config(PipelineConfig(qa_flux_ratio_tolerance=0.02, qa_completeness_min=0.5))
    assert limits.flux_ratio == pytest.approx((0.98, 1.02))
    assert limits.completeness == 0.5
    planes, sky = field(25, 0.05)
    brighter = sky.assign(flux_jy=sky["flux_jy"] * 1.05)
    strict = {v.name: v for v in judge_tile(planes, brighter, limits)}["flux_ratio_to_catalog"]
    assert strict.passed is False
    assert {v.name: v for v in judge_tile(planes, brighter)}["flux_ratio_to_catalog"].passed is True
