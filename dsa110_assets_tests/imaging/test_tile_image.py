"""Tile images have true fluxes and positions, thermal noise and correct headers."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets import products
from dsa110_assets.errors import PhotometryError
from dsa110_assets.imaging.preview import _shrink
from dsa110_assets.photometry.images import noise_of
from dsa110_assets.quality.image import compare_with_catalog, judge_tile, read_tile
from dsa110_assets_tests.imaging.conftest import RINGS_DEG, Imaged


def compare(imaged: Imaged, rows: np.ndarray):
    report = imaged.report
    planes = read_tile(report.preview.parent, "2025-05-05T06:00:00")
    return compare_with_catalog(planes, imaged.sky[rows], report.noise_jy_per_beam)


@pytest.mark.parametrize("ring", range(len(RINGS_DEG)))
def test_fluxes_of_each_ring_are_true_within_one_percent(imaged: Imaged, ring: int):
    found = compare(imaged, imaged.ring == ring)
    assert found.flux_ratio.size == 6
    error = 1 / found.snr
    mean = np.average(found.flux_ratio, weights=error**-2)
    assert abs(mean - 1) < 0.01 + 2 / np.sqrt((error**-2).sum())
    assert np.all(np.abs(found.flux_ratio - 1) < 0.01 + 4 * error)


def test_fluxes_of_the_field_have_no_bias(imaged: Imaged):
    found = compare(imaged, imaged.ring >= 0)
    assert found.flux_ratio.size == imaged.ring.size
    assert found.primary_beam.min() < 0.3
    assert abs(np.average(found.flux_ratio, weights=found.snr**2) - 1) < 0.005


def test_positions_are_true_within_a_twentieth_of_the_beam(imaged: Imaged):
    found = compare(imaged, imaged.ring >= 0)
    beam = imaged.report.beam.major_arcsec
    offset = np.hypot(found.east_arcsec, found.north_arcsec)
    assert np.all(offset < max(0.3, 0.05 * beam) + 3 * beam / found.snr / 2.35)
    assert np.hypot(found.east_arcsec.mean(), found.north_arcsec.mean()) < 0.3


def test_sources_that_are_not_in_the_catalog_are_found_and_cleaned(imaged: Imaged):
    unknown = np.arange(len(imaged.sky)) % 4 == 3
    found = compare(imaged, unknown)
    assert found.flux_ratio.size == unknown.sum()
    planes = read_tile(imaged.report.preview.parent, "2025-05-05T06:00:00")
    world = WCS(planes.header).celestial
    x, y = world.world_to_pixel_values(imaged.sky["ra_deg"][unknown], imaged.sky["dec_deg"][unknown])
    left = planes.residual[np.round(y).astype(int), np.round(x).astype(int)]
    assert np.abs(left).max() < 5 * imaged.report.noise_jy_per_beam


def test_noise_is_thermal_within_ten_percent(imaged: Imaged):
    assert imaged.report.noise_jy_per_beam == pytest.approx(imaged.report.thermal_jy_per_beam, rel=0.1)
    assert imaged.report.converged


def test_dynamic_range_survives_the_drift_through_the_beam(imaged: Imaged):
    """A source of 2000 sigma whose flux changes by tens of percent during the tile leaves no residual."""
    planes = read_tile(imaged.report.preview.parent, "2025-05-05T06:00:00")
    bright = imaged.sky.iloc[7]
    x, y = WCS(planes.header).celestial.world_to_pixel_values(bright["ra_deg"], bright["dec_deg"])
    row, column = round(float(y)), round(float(x))
    around = planes.residual[row - 40 : row + 41, column - 40 : column + 41]
    assert planes.image[row, column] / imaged.report.noise_jy_per_beam > 700
    assert around.std() < 1.15 * imaged.report.noise_jy_per_beam


def test_headers_are_read_by_astropy(imaged: Imaged):
    for suffix in products.IMAGE_SUFFIXES:
        with fits.open(imaged.report.images[suffix]) as hdus:
            hdus.verify("exception")
            header = hdus[0].header
            assert hdus[0].data.shape == (1, 1, 1536, 1536)
        assert [header[f"CTYPE{n}"] for n in (1, 2, 3, 4)] == ["RA---SIN", "DEC--SIN", "FREQ", "STOKES"]
        assert header["RADESYS"] == "ICRS"
        assert header["DSAGROUP"] == "2025-05-05T06:00:00"
        assert header["DSACONF"] == "123456789abc"
        assert "bandpass.cal" in str(header["HISTORY"])
        assert header["MJD-BEG"] < header["MJD-END"]
        assert header["DSANOISE"] == pytest.approx(imaged.report.noise_jy_per_beam)
        center = SkyCoord.from_pixel(768, 768, WCS(header).celestial)
        assert center.separation(SkyCoord(150.0, 54.6, unit="deg")).arcsec < 1e-3


def test_casa_reads_the_same_pixels_and_directions(imaged: Imaged):
    from casacore.images import image

    path = imaged.report.images["image"]
    casa = image(str(path))
    assert casa.unit().lower() == "jy/beam"
    np.testing.assert_array_equal(casa.getdata().squeeze(), fits.getdata(path).squeeze())
    source = imaged.sky.iloc[12]
    pixel = casa.topixel([1.0, 1.405e9, np.radians(source["dec_deg"]), np.radians(source["ra_deg"])])
    x, y = WCS(fits.getheader(path)).celestial.world_to_pixel_values(source["ra_deg"], source["dec_deg"])
    assert pixel[-1] == pytest.approx(float(x), abs=1e-3)
    assert pixel[-2] == pytest.approx(float(y), abs=1e-3)


def test_the_corrected_image_weight_and_noise_follow_from_image_and_beam(imaged: Imaged):
    plane = {suffix: fits.getdata(imaged.report.images[suffix])[0, 0] for suffix in products.IMAGE_SUFFIXES}
    inside = plane["pb"] >= 0.2
    assert np.isnan(plane["image-pb"][~inside]).all()
    np.testing.assert_allclose(plane["image-pb"][inside], plane["image"][inside] / plane["pb"][inside], rtol=1e-5)
    assert (plane["weight"][~inside] == 0).all()
    np.testing.assert_allclose(plane["noise"][inside], 1 / np.sqrt(plane["weight"][inside]), rtol=1e-5)
    assert np.isnan(plane["noise"][~inside]).all()
    rms = plane["pb"][inside] / np.sqrt(plane["weight"][inside])
    assert np.median(rms) == pytest.approx(imaged.report.noise_jy_per_beam, rel=0.05)
    assert rms.min() > 0.8 * np.median(rms)
    assert rms.max() < 1.25 * np.median(rms)


def test_restored_image_is_residual_plus_model(imaged: Imaged):
    """The sum of the restored sources equals the model's flux times the beam's area in pixels."""
    plane = {suffix: fits.getdata(imaged.report.images[suffix])[0, 0].astype(float) for suffix in ("image", "residual", "model")}
    beam_px = imaged.report.beam.area_deg2 / (9 / 3600) ** 2
    restored = (plane["image"] - plane["residual"]).sum()
    assert restored == pytest.approx(plane["model"].sum() * beam_px, rel=2e-3)


def test_photometry_uses_the_noise_map_only_for_the_beam_corrected_image(imaged: Imaged):
    images = imaged.report.images
    assert np.array_equal(
        noise_of(images["image-pb"], (1536, 1536), fits.getheader(images["image-pb"])), fits.getdata(images["noise"])[0, 0], equal_nan=True
    )
    with pytest.raises(PhotometryError, match="no noise map"):
        noise_of(images["image"], (1536, 1536), fits.getheader(images["image"]))


def test_a_preview_keeps_point_sources_and_the_distribution_of_noise():
    noise = np.random.default_rng(1).standard_normal((900, 900)).astype(np.float32)
    noise[401, 203] = 20.0
    small = _shrink(noise, 300, 5.0)
    assert small.shape == (300, 300)
    assert small[133, 67] == 20.0
    small[133, 67] = 0
    assert small.std() == pytest.approx(1.0, abs=0.02)
    assert abs(small.mean()) < 0.02


def test_previews_are_small_pictures(imaged: Imaged):
    from PIL import Image

    assert imaged.report.preview.stat().st_size < 50_000
    for path in (imaged.report.preview, imaged.report.preview_large):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) >= 300


def test_verdicts_on_a_good_tile_pass(imaged: Imaged):
    verdicts = judge_tile(read_tile(imaged.report.preview.parent, "2025-05-05T06:00:00"), imaged.sky)
    assert {v.name for v in verdicts} >= {"noise_over_thermal", "dynamic_range", "flux_ratio_to_catalog", "position_offset_arcsec"}
    assert [v for v in verdicts if not v.passed] == []
