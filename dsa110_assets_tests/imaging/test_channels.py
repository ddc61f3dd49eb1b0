"""Images of parts of the band, and spectral indices, agree with the simulated sources."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets import products
from dsa110_assets.errors import ConfigurationError, ImagingError
from dsa110_assets.imaging import ImageReport, ImagingOptions, image_tile
from dsa110_assets.imaging.channels import split_band
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.gridder import Gridder
from dsa110_assets.imaging.spectral_index import LARGEST_ERROR, fit_power_law
from dsa110_assets.imaging.visibilities import read_visibilities
from dsa110_assets.imaging.weighting import imaging_weights
from dsa110_assets.photometry import measure_tile
from dsa110_assets_tests.imaging.synthetic_ms import Tile, offset_position, write_tile

INDICES = (0.0, -0.7, -1.5)
BAND_HZ = (1311.265e6, 1498.765e6)
OPTIONS = ImagingOptions(image_size=1024, cell_arcsec=13.0, correct_smearing=False)
NAME = "2025-05-05T06:00:00"


@dataclass(frozen=True)
class Joined:
    """The same tile as one image and in four channels."""

    tile: Tile
    sky: pd.DataFrame
    whole: ImageReport
    joined: ImageReport


@pytest.fixture(scope="module")
def imaged(tmp_path_factory: pytest.TempPathFactory) -> Joined:
    """Image rings of drifting sources out to the 25 % beam, with three indices.

    One source has 3 Jy, and one is too faint for an index.
    """
    directory = tmp_path_factory.mktemp("joined")
    rng = np.random.default_rng(3)
    rows = []
    for ring, radius in enumerate((0.2, 0.7, 1.1, 1.4)):
        for k, angle in enumerate(np.arange(6) * np.pi / 3 + 0.3 + 0.4 * ring):
            jitter = rng.uniform(-0.02, 0.02, 2)
            position = offset_position(150.0, 54.6, radius * np.sin(angle) + jitter[0], radius * np.cos(angle) + jitter[1])
            rows.append((*position, 3.0 if len(rows) == 8 else 0.6, INDICES[k % 3]))
    rows.append((*offset_position(150.0, 54.6, 0.02, 0.45), 0.035, -0.7))
    tile = write_tile(directory / "t.ms", rows, n_antenna=24, n_time=12, n_channel=32)
    sky = pd.DataFrame(rows, columns=["ra_deg", "dec_deg", "flux_jy", "index"])
    sky["name"] = [f"s{k}" for k in range(len(sky))]
    reports = []
    for channels in (1, 4):
        out = directory / f"{channels}"
        out.mkdir()
        options = ImagingOptions(**{**OPTIONS.__dict__, "channels": channels})
        reports.append(image_tile(tile.ms, out, NAME, options, mask_sky=sky, provenance={"DSAGROUP": NAME}))
    return Joined(tile, sky, *reports)


def plane(report: ImageReport, suffix: str) -> np.ndarray:
    return fits.getdata(report.images[suffix])[0, 0].astype(float)


def pixels(imaged: Joined) -> tuple[np.ndarray, np.ndarray]:
    x, y = WCS(fits.getheader(imaged.joined.images["image"])).celestial.world_to_pixel_values(imaged.sky["ra_deg"], imaged.sky["dec_deg"])
    return np.round(y).astype(int), np.round(x).astype(int)


def test_spectral_indices_are_true_within_their_errors_all_over_the_drifting_beam(imaged: Joined):
    at = pixels(imaged)
    index, error = plane(imaged.joined, "alpha")[at][:-1], plane(imaged.joined, "alpha-error")[at][:-1]
    true = imaged.sky["index"].to_numpy()[:-1]
    pull = (index - true) / error
    assert np.isfinite(pull).all()
    assert np.abs(pull).max() < 4.0
    assert 0.65 < pull.std() < 1.4  # 24 sources: 1 +- 0.15
    for one in INDICES:
        some = true == one
        weight = error[some] ** -2
        assert abs(np.average(index[some] - one, weights=weight)) < 3 / np.sqrt(weight.sum())
    assert error.min() < 0.025  # the source of 3 Jy


def test_the_brightest_sources_are_listed_with_their_spectra(imaged: Joined):
    spectra = imaged.joined.spectra
    assert len(spectra) == 12
    assert [one.peak_jy_per_beam for one in spectra] == sorted((one.peak_jy_per_beam for one in spectra), reverse=True)
    bright = imaged.sky.iloc[8]
    assert (
        0.75 < spectra[0].peak_jy_per_beam / bright["flux_jy"] < 1.01
    )  # the nearest pixel, half a beam wide, is not exactly at the source
    assert spectra[0].alpha == pytest.approx(bright["index"], abs=4 * spectra[0].alpha_error)
    assert (spectra[0].ra_deg, spectra[0].dec_deg) == pytest.approx((bright["ra_deg"], bright["dec_deg"]), abs=0.005)


def test_only_pixels_with_enough_signal_have_an_index(imaged: Joined):
    alpha, error = plane(imaged.joined, "alpha"), plane(imaged.joined, "alpha-error")
    assert np.isnan(alpha[pixels(imaged)][-1])  # 0.035 Jy: 15 sigma
    np.testing.assert_array_equal(np.isfinite(alpha), np.isfinite(error))
    assert np.nanmax(error) <= LARGEST_ERROR
    assert 24 < np.isfinite(alpha).sum() < 24 * 60  # the beam has 12 pixels, and bright sources extend farther


def test_the_image_of_the_whole_band_is_the_one_without_channels(imaged: Joined):
    at = pixels(imaged)
    before, after = plane(imaged.whole, "image")[at][:-1], plane(imaged.joined, "image")[at][:-1]
    # Without channels, sources with another index than the assumed one leave residuals at the other sources, of up to
    # half of the noise.
    assert np.all(np.abs(after - before) < 0.005 * before + 0.5 * imaged.whole.noise_jy_per_beam)
    assert np.median(np.abs(after / before - 1)) < 0.003
    assert abs((after / before).mean() - 1) < 0.001
    np.testing.assert_allclose(plane(imaged.joined, "psf"), plane(imaged.whole, "psf"), atol=2e-4)
    assert imaged.joined.beam.major_arcsec == pytest.approx(imaged.whole.beam.major_arcsec, rel=1e-3)
    assert imaged.joined.noise_jy_per_beam < 0.9 * imaged.whole.noise_jy_per_beam
    assert imaged.joined.noise_jy_per_beam == pytest.approx(imaged.joined.thermal_jy_per_beam, rel=0.05)


def test_channel_images_give_the_flux_at_their_frequency(imaged: Joined):
    directory = imaged.joined.images["image"].parent
    edges = np.linspace(*BAND_HZ, 5)
    for channel in range(4):
        middle = (edges[channel] + edges[channel + 1]) / 2
        name = products.channel_name(NAME, channel)
        fluxes = measure_tile(directory, name, imaged.sky[["name", "ra_deg", "dec_deg"]]).set_index("name").loc[imaged.sky["name"]]
        true = imaged.sky["flux_jy"].to_numpy() * (middle / 1.4e9) ** imaged.sky["index"].to_numpy()
        pull = (fluxes["flux_jy"].to_numpy() - true) / np.hypot(fluxes["flux_err_jy"].to_numpy(), 0.004 * true)
        assert np.abs(pull).max() < 4.0
        assert abs(pull.mean()) < 3 / np.sqrt(pull.size)


def test_channels_have_their_own_frequency_beam_and_noise(imaged: Joined):
    headers = [fits.getheader(imaged.joined.images[f"ch{c:02d}-image-pb"]) for c in range(4)]
    edges = np.linspace(*BAND_HZ, 5)
    for channel, header in enumerate(headers):
        assert header["CTYPE3"] == "FREQ"
        assert header["CRVAL3"] == pytest.approx((edges[channel] + edges[channel + 1]) / 2, rel=1e-9)
        assert header["CDELT3"] == pytest.approx(edges[1] - edges[0], rel=1e-9)
        assert int(header["DSACHAN"]) == channel
        assert header["DSAGROUP"] == NAME
        assert header["DSANOISE"] == pytest.approx(header["DSATHERM"], rel=0.12)
        assert header["DSANOISE"] > 1.7 * imaged.joined.noise_jy_per_beam
    assert headers[0]["BMAJ"] > 1.05 * headers[3]["BMAJ"]
    low, high = (fits.getdata(imaged.joined.images[f"ch{c:02d}-pb"])[0, 0] for c in (0, 3))
    assert low[512, 100] > 1.1 * high[512, 100]  # the beam is wider at lower frequency
    alpha = fits.getheader(imaged.joined.images["alpha"])
    assert alpha["BTYPE"] == "Spectral index"
    assert "BUNIT" not in alpha or alpha["BUNIT"] == ""


def test_names_of_channel_images_can_be_parsed(imaged: Joined):
    for suffix, path in imaged.joined.images.items():
        parsed = products.parse_image_name(path.name)
        assert parsed is not None
        assert parsed.name == NAME
        assert suffix == (f"ch{parsed.channel:02d}-" if parsed.channel is not None else "") + parsed.suffix
    directory = imaged.joined.images["image"].parent
    assert [path.name for path in products.channels_of(directory, NAME).values()] == [f"{NAME}-ch0{c}-image-pb.fits" for c in range(4)]
    assert products.channels_of(imaged.whole.images["image"].parent, NAME) == {}
    assert products.parse_image_name("preview.png") is None


def test_the_mean_of_the_channels_is_the_image_of_the_band(small_tile: Tile):
    vis = read_visibilities(small_tile.ms)
    options = ImagingOptions(image_size=256, cell_arcsec=30.0)
    grid = ImageGrid(256, options.cell_rad, np.radians(small_tile.ra0_deg), np.radians(small_tile.dec0_deg))
    weights = imaging_weights(vis, options)
    whole = Gridder(vis, weights, grid, options).dirty()
    parts = split_band(vis, weights, 3)
    assert [part.vis.frequency_hz.size for part in parts] == [3, 3, 2]
    mean = sum(part.share * Gridder(part.vis, part.weights, grid, options).dirty() for part in parts)
    np.testing.assert_allclose(mean, whole, atol=1e-3 * np.abs(whole).max())
    thermal = sum((part.share * part.weights.thermal_jy_per_beam) ** 2 for part in parts) ** 0.5
    assert thermal == pytest.approx(weights.thermal_jy_per_beam, rel=1e-5)


def test_a_very_bright_source_of_another_index_is_true_in_every_channel(tmp_path: Path):
    """A source of 12 Jy, 5000 sigma, with the assumed index leaves rings with side lobes that look like sources.

    They must be removed again.
    """
    position = offset_position(150.0, 54.6, 0.05, 0.04)
    tile = write_tile(tmp_path / "t.ms", [(*position, 12.0, -1.5)], n_antenna=20, n_time=6, n_channel=16)
    options = ImagingOptions(image_size=512, cell_arcsec=12.0, channels=4, correct_smearing=False)
    report = image_tile(tile.ms, tmp_path, "t", options, mask_sky=None, provenance={})
    assert report.noise_jy_per_beam < 1.15 * report.thermal_jy_per_beam
    assert report.spectra[0].alpha == pytest.approx(-1.5, abs=0.02)
    assert len(report.spectra) == 1
    source = pd.DataFrame({"name": ["s"], "ra_deg": position[0], "dec_deg": position[1]})
    for channel in report.channels:
        flux = measure_tile(tmp_path, products.channel_name("t", channel.number), source, measure_errors=False)
        assert flux["flux_jy"][0] == pytest.approx(12.0 * (channel.frequency_hz / 1.4e9) ** -1.5, rel=0.004)


def test_a_part_of_the_band_without_data_has_no_image(tmp_path: Path):
    """If half of the band is flagged, the other half has true fluxes and an index from its two channels."""
    position = offset_position(150.0, 54.6, 0.05, 0.04)
    tile = write_tile(tmp_path / "t.ms", [(*position, 1.0, -0.7)], n_antenna=20, n_time=4, n_channel=8, flag_channels=slice(4, 8))
    options = ImagingOptions(image_size=256, cell_arcsec=12.0, channels=4, correct_smearing=False)
    report = image_tile(tile.ms, tmp_path, "t", options, mask_sky=None, provenance={})
    assert [channel.number for channel in report.channels] == [0, 1]
    assert list(products.channels_of(tmp_path, "t")) == [0, 1]
    source = pd.DataFrame({"name": ["s"], "ra_deg": position[0], "dec_deg": position[1]})
    for channel in report.channels:
        flux = measure_tile(tmp_path, products.channel_name("t", channel.number), source, measure_errors=False)
        assert flux["flux_jy"][0] == pytest.approx((channel.frequency_hz / 1.4e9) ** -0.7, abs=4 * flux["flux_err_jy"][0])


def test_more_channels_than_the_data_have_raise_an_error(small_tile: Tile, tmp_path: Path):
    with pytest.raises(ImagingError, match="9 were requested, but the calibrated data have 8 channels"):
        image_tile(small_tile.ms, tmp_path, "t", ImagingOptions(image_size=256, cell_arcsec=30.0, channels=9), mask_sky=None, provenance={})


def test_an_engine_without_channels_raises_an_error():
    with pytest.raises(ConfigurationError, match="`wproject` makes images of the whole band only"):
        ImagingOptions(engine="wproject", channels=4)


@pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is an optional engine and is not installed here")
def test_wsclean_makes_the_same_channels(tmp_path: Path):
    sources = [(*offset_position(150.0, 54.6, e, n), f, a) for e, n, f, a in ((0.02, 0.03, 0.8, 0.0), (0.16, 0.1, 1.0, -0.7))]
    tile = write_tile(tmp_path / "t.ms", sources, n_antenna=20, n_time=4, n_channel=8, drift_beam=False)
    positions = pd.DataFrame(sources, columns=["ra_deg", "dec_deg", "true_jy", "index"]).assign(name=["a", "b"])
    fluxes = {}
    for engine in ("wgridder", "wsclean"):
        out = tmp_path / engine
        out.mkdir()
        options = ImagingOptions(engine=engine, image_size=256, cell_arcsec=6.0, channels=2, correct_smearing=False)
        report = image_tile(tile.ms, out, "t", options, mask_sky=None, provenance={})
        assert [channel.number for channel in report.channels] == [0, 1]
        fluxes[engine] = [
            measure_tile(out, f"t-ch0{c}", positions[["name", "ra_deg", "dec_deg"]], measure_errors=False)["flux_jy"].to_numpy()
            for c in range(2)
        ]
    np.testing.assert_allclose(fluxes["wsclean"], fluxes["wgridder"], rtol=0.03)


def test_a_power_law_through_two_channels_has_the_known_error():
    frequency = np.array([1.3e9, 1.5e9])
    flux = np.array([[1.3], [1.0]])
    law = fit_power_law(flux, np.array([[0.02], [0.03]]), frequency, 1.4e9)
    assert law.alpha[0] == pytest.approx(np.log(1.3 / 1.0) / np.log(1.3 / 1.5), rel=1e-9)
    assert law.alpha_error[0] == pytest.approx(np.hypot(0.02 / 1.3, 0.03 / 1.0) / np.log(1.5 / 1.3), rel=1e-9)
    assert law.flux_jy[0] == pytest.approx(1.3 * (1.4 / 1.3) ** law.alpha[0], rel=1e-9)


def test_power_law_fits_have_no_bias_and_correct_errors():
    rng = np.random.default_rng(1)
    frequency = np.linspace(1.33e9, 1.47e9, 4)
    true = np.repeat([0.0, -0.7, -1.5, 2.0], 5000)
    flux = 0.5 * (frequency[:, None] / 1.4e9) ** true + rng.normal(0, 0.01, (4, true.size))
    flux[0, :100] = np.nan  # a channel may be missing
    law = fit_power_law(flux, np.full(flux.shape, 0.01), frequency, 1.4e9)
    pull = (law.alpha - true) / law.alpha_error
    assert np.isfinite(pull).all()
    assert pull.std() == pytest.approx(1.0, abs=0.03)
    for one in np.unique(true):
        assert abs(pull[true == one].mean()) < 0.05
    alone = fit_power_law(np.array([[1.0], [np.nan]]), np.full((2, 1), 0.1), frequency[:2], 1.4e9)
    assert np.isnan(alone.alpha[0])


def test_components_at_known_pixels_have_polynomial_spectra():
    """CLEAN two overlapping sources in four channels, one with a rising and one with a falling spectrum.

    It recovers their spectra, and the residual is below the threshold.
    """
    from dsa110_assets.imaging._kernels import clean_pixels_jointly
    from dsa110_assets.imaging.channels import _polynomial_fit

    frequency = np.linspace(1.33e9, 1.47e9, 4)
    x = (frequency - frequency.mean()) / frequency.mean()
    true = np.stack([1.0 + 2.0 * x, 0.5 - 3.0 * x])
    offset = np.arange(64) - 32
    psfs = np.stack([np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * w**2)) for w in (2.3, 2.2, 2.1, 2.0)]).astype(np.float32)
    rows, columns = np.array([30, 30]), np.array([30, 33])
    values = np.stack([true[:, c] @ [[1, psf[32, 35]], [psf[32, 29], 1]] for c, psf in enumerate(psfs)]).astype(np.float32)
    share = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)
    fit = _polynomial_fit(frequency, share.astype(float), 2)
    np.testing.assert_allclose(fit @ (1.0 + 2.0 * x), 1.0 + 2.0 * x, rtol=1e-9)
    np.testing.assert_allclose(fit @ fit, fit, atol=1e-12)
    components = np.zeros_like(values)
    count = clean_pixels_jointly(
        rows, columns, values, psfs, share, fit.astype(np.float32), np.float32(1e-4), np.float32(0.1), 10_000, components
    )
    assert 0 < count < 10_000
    np.testing.assert_allclose(components, true.T, atol=8e-3)  # the mean decides when to stop; the slopes change the channels by 0.1 to 0.2
    assert np.abs(share @ values).max() <= 1e-4
