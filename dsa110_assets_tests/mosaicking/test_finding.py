"""Blind source finding, compared with injected sources, Condon's formulas and astropy's matching."""

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets.common.calibration_error import CalibrationError
from dsa110_assets.errors import ChildFailedError
from dsa110_assets.mosaicking import crossmatch, find_sources
from dsa110_assets.mosaicking.finding import SOURCE_COLUMNS, condon_errors, count_negative
from dsa110_assets_tests.mosaicking.tile_files import beam_noise, gaussian

NOISE_JY = 0.002
BEAM_PX = np.array([8.0, 20.0 / 3.0])
CELL_DEG = 3.0 / 3600


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A piece of a conic mosaic off its center: 64 sources of 3 to 100 sigma on a jittered grid, one at the rim."""
    directory = tmp_path_factory.mktemp("field")
    rng = np.random.default_rng(11)
    size = 640
    image = NOISE_JY * beam_noise(rng, size, BEAM_PX, 25.0)
    y, x = np.mgrid[:size, :size]
    gx, gy = np.meshgrid(np.arange(8), np.arange(8))
    px, py = (40 + 80 * g.ravel() + rng.uniform(-15, 15, 64) for g in (gx, gy))
    flux = NOISE_JY * np.geomspace(3, 100, 64)[rng.permutation(64)]
    px[0], py[0], flux[0] = 3.0, 50.0, 0.1
    for one_x, one_y, one_flux in zip(px, py, flux, strict=True):
        image += one_flux * gaussian(-(x - one_x), y - one_y, BEAM_PX, 25.0)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---COO", "DEC--COO"]
    wcs.wcs.crval = [359.0, 54.6]
    wcs.wcs.set_pv([(2, 1, 54.6), (2, 2, 0.0)])
    wcs.wcs.cdelt = [-CELL_DEG, CELL_DEG]
    wcs.wcs.crpix = [2500.0, size / 2]
    wcs.wcs.radesys = "ICRS"
    header = wcs.to_header()
    middle = wcs.wcs_pix2world(size / 2, size / 2, 0)
    at, north = wcs.wcs_world2pix(*middle, 0), wcs.wcs_world2pix(middle[0], middle[1] + 1e-3, 0)
    turn = np.degrees(np.arctan2(-(north[0] - at[0]), north[1] - at[1]))
    header["BMAJ"], header["BMIN"], header["BPA"] = BEAM_PX[0] * CELL_DEG, BEAM_PX[1] * CELL_DEG, 25.0 - turn
    paths = directory / "f-image.fits", directory / "f-noise.fits"
    fits.writeto(paths[0], image.astype(np.float32), header)
    fits.writeto(paths[1], np.full(image.shape, NOISE_JY, np.float32), header)
    ra, dec = wcs.wcs_pix2world(px, py, 0)
    truth = pd.DataFrame({"name": [f"s{i}" for i in range(64)], "ra_deg": ra, "dec_deg": dec, "flux_jy": flux})
    return paths, truth, find_sources(*paths, sigma=6.0)


def test_sources_are_complete_and_pure_above_the_threshold(field):
    _, truth, found = field
    assert tuple(found.columns) == SOURCE_COLUMNS
    pairs = crossmatch(found, truth, 12.0)
    assert len(pairs) == len(found), "a detection is not a source"
    matched = set(pairs["catalog_index"])
    bright = truth.index[(truth["flux_jy"] > 9 * NOISE_JY) & (truth.index != 0)]
    assert matched.issuperset(bright)
    assert found["snr"].is_monotonic_decreasing
    assert found["reliable"].all()


def test_positions_and_fluxes_have_no_bias_and_correct_errors(field):
    _, truth, found = field
    pairs = crossmatch(found, truth, 12.0)
    ours, theirs = found.loc[pairs["found_index"]], truth.loc[pairs["catalog_index"]]
    bright = ours["snr"].to_numpy() > 20
    assert bright.sum() > 15
    ratio = (ours["peak_jy_per_beam"].to_numpy() / theirs["flux_jy"].to_numpy())[bright]
    assert abs(np.average(ratio, weights=ours["snr"].to_numpy()[bright] ** 2) - 1) < 0.01
    assert np.sqrt(np.mean(pairs["separation_arcsec"].to_numpy()[bright] ** 2)) < 0.05 * 22
    pulls = {
        "peak": (ours["peak_jy_per_beam"].to_numpy() - theirs["flux_jy"].to_numpy()) / ours["peak_err_jy_per_beam"].to_numpy(),
        "flux": (ours["flux_jy"].to_numpy() - theirs["flux_jy"].to_numpy()) / ours["flux_err_jy"].to_numpy(),
        "ra": pairs["ra_offset_arcsec"].to_numpy() / 3600 / ours["ra_err_deg"].to_numpy(),
        "dec": pairs["dec_offset_arcsec"].to_numpy() / 3600 / ours["dec_err_deg"].to_numpy(),
    }
    for name, pull in pulls.items():  # 4 sigma for some 50 sources
        assert abs(np.mean(pull)) < 4 / np.sqrt(len(pull)), name
        assert 0.6 < np.std(pull) < 1.5, name


def test_a_source_at_the_rim_is_left_out(field):
    _, truth, found = field
    assert 0 not in set(crossmatch(found, truth, 20.0)["catalog_index"])


def test_errors_of_a_point_source_are_condons():
    beam = (24.0 / 3600, 20.0 / 3600)
    peak_err, flux_err, ra_err, dec_err = condon_errors(0.1, 0.1, 0.002, (*beam, 0.0), beam)
    # equal widths of source and noise: rho^2 = 2 SNR^2 up to the beam's ellipticity
    assert peak_err == pytest.approx(0.002, rel=0.02)
    assert flux_err == pytest.approx(0.002 * np.sqrt(3), rel=0.03)
    assert dec_err == pytest.approx(beam[0] / np.sqrt(8 * np.log(2)) / 50, rel=0.1)
    assert ra_err == pytest.approx(beam[1] / np.sqrt(8 * np.log(2)) / 50, rel=0.1)


def test_errors_of_fluxes_include_what_the_gains_are_wrong_by(field, tmp_path):
    (image, noise), _, found = field
    with fits.open(image) as hdus:
        CalibrationError(0.03, 0.0, (float("nan"), 54.6)).write_to(hdus[0].header)
        hdus.writeto(tmp_path / "image.fits")
    table = find_sources(tmp_path / "image.fits", noise, sigma=6.0)
    assert (found["calibration_err_jy"] == 0).all()
    assert (table["flux_jy"] == found["flux_jy"]).all()
    assert (table["snr"] == found["snr"]).all()
    assert table["calibration_err_jy"].to_numpy() == pytest.approx(0.03 * found["flux_jy"].to_numpy())
    assert table["flux_err_jy"].to_numpy() == pytest.approx(np.hypot(found["flux_err_jy"], 0.03 * found["flux_jy"]))
    assert table["peak_err_jy_per_beam"].to_numpy() == pytest.approx(
        np.hypot(found["peak_err_jy_per_beam"], 0.03 * found["peak_jy_per_beam"])
    )


def test_a_search_past_its_time_limit_is_stopped(field):
    (image, noise), _, _ = field
    with pytest.raises(ChildFailedError, match="did not end within"):
        find_sources(image, noise, timeout_s=0.05)


def test_a_search_that_dies_reports_why(field, tmp_path):
    (image, _), _, _ = field
    broken = tmp_path / "noise.fits"
    broken.write_bytes(b"SIMPLE  = nonsense")
    with pytest.raises(ChildFailedError, match="ended with code 1"):
        find_sources(image, broken)


def test_an_empty_field_gives_an_empty_table(field, tmp_path):
    (image, noise), _, _ = field
    with fits.open(image) as hdus:
        hdus[0].data[:] = 0.0
        hdus.writeto(tmp_path / "empty.fits")
    table = find_sources(tmp_path / "empty.fits", noise)
    assert table.empty
    assert tuple(table.columns) == SOURCE_COLUMNS


def test_crossmatch_equals_astropys_mutual_matches_across_0h():
    rng = np.random.default_rng(5)
    catalog = pd.DataFrame({"ra_deg": rng.uniform(-1, 1, 300) % 360, "dec_deg": rng.uniform(53, 55, 300), "flux_jy": 1.0})
    catalog["name"] = [f"c{i}" for i in range(300)]
    found = catalog.sample(200, random_state=3).reset_index(drop=True)
    found["ra_deg"] = (found["ra_deg"] + rng.normal(0, 0.01, 200)) % 360
    found["dec_deg"] += rng.normal(0, 0.006, 200)
    found["flux_jy"] = 2.0
    pairs = crossmatch(found, catalog, 60.0)
    a, b = (SkyCoord(t["ra_deg"], t["dec_deg"], unit="deg") for t in (found, catalog))
    there, separation, _ = a.match_to_catalog_sky(b)
    back, _, _ = b.match_to_catalog_sky(a)
    expected = {(i, int(j)): s for i, (j, s) in enumerate(zip(there, separation.arcsec, strict=True)) if back[j] == i and s <= 60.0}
    assert len(expected) > 50
    assert {(p.found_index, p.catalog_index) for p in pairs.itertuples()} == set(expected)
    for p in pairs.itertuples():
        assert p.separation_arcsec == pytest.approx(expected[p.found_index, p.catalog_index], rel=1e-6)
        assert np.hypot(p.ra_offset_arcsec, p.dec_offset_arcsec) == pytest.approx(p.separation_arcsec, rel=1e-3)
    assert (pairs["flux_ratio"] == 2.0).all()


def test_a_fit_whose_matrix_is_singular_does_not_end_the_finder():
    """AegeanTools 2.3.5 looks for the exception of a singular matrix where numpy 2 no longer has it."""
    from dsa110_assets.mosaicking import _aegean

    _aegean.source_finder()
    from AegeanTools.fitting import covar_errors
    from lmfit import Parameters

    params = Parameters()
    params.add("components", value=1)
    for name, value in {"amp": 1.0, "xo": 2.0, "yo": 2.0, "sx": 1.0, "sy": 1.0, "theta": 0.0}.items():
        params.add(f"c0_{name}", value=value, vary=name in ("amp", "theta"))  # a circle's angle changes nothing: exactly singular
    covar_errors(params, np.zeros((5, 5)), errs=1.0, B=None)
    assert params["c0_theta"].stderr == -2, "AegeanTools' mark of an unknown error"


@pytest.fixture(scope="module")
def artifacts(field, tmp_path_factory):
    """The same noise with one source of 1000 sigma and what bad calibration leaves: ripples of 2 % along arms."""
    (image, noise), _, _ = field
    directory = tmp_path_factory.mktemp("artifacts")
    size = 640
    y, x = np.mgrid[:size, :size] - 320.0
    pixels = NOISE_JY * beam_noise(np.random.default_rng(12), size, BEAM_PX, 25.0)
    pixels += 1000 * NOISE_JY * gaussian(x, y, BEAM_PX, 25.0)
    radius = np.hypot(x, y)
    for arm in (0.3, 1.4):
        across = -x * np.sin(arm) + y * np.cos(arm)
        pixels += 20 * NOISE_JY * np.cos(2 * np.pi * radius / 31.0) * np.exp(-0.5 * (across / 4) ** 2) * (radius > 20) * (radius < 200)
    path = directory / "a-image.fits"
    fits.writeto(path, pixels.astype(np.float32), fits.getheader(image))
    return path, noise, find_sources(path, noise, sigma=7.0)


def test_each_row_is_a_local_maximum_and_stands_once(artifacts):
    path, _, found = artifacts
    assert len(found) > 5, "the ripples are above the threshold"
    header = fits.getheader(path)
    pixels = fits.getdata(path)
    column, row = WCS(header).wcs_world2pix(found["ra_deg"], found["dec_deg"], 0)
    for x, y in zip(np.rint(column).astype(int), np.rint(row).astype(int), strict=True):
        near = pixels[y - 5 : y + 6, x - 5 : x + 6]
        inner = near[1:-1, 1:-1]
        tops = [inner >= near[1 + i : 10 + i, 1 + j : 10 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)]
        assert np.logical_and.reduce(tops).any()
    places = SkyCoord(found["ra_deg"], found["dec_deg"], unit="deg")
    assert places.match_to_catalog_sky(places, nthneighbor=2)[1].deg.min() > header["BMAJ"] / 2


def test_negative_places_count_what_is_false(artifacts, field):
    path, noise, found = artifacts
    false = len(found) - 1
    assert count_negative(path, noise, found, sigma=7.0) == pytest.approx(false, abs=3 * np.sqrt(false))
    assert count_negative(path, noise, found, sigma=7.0) > 5
    (clean, clean_noise), _, sources = field
    assert count_negative(clean, clean_noise, sources, sigma=6.0) == 0


def test_of_two_rows_at_one_place_the_good_fit_stays():
    from dsa110_assets.mosaicking.finding import _without_repeats

    rows = pd.DataFrame(
        {
            "ra_deg": [10.0, 10.001, 10.002, 20.0],
            "dec_deg": 16.0,
            "peak_jy_per_beam": [5.0, 9.0, 4.0, 1.0],
            "reliable": [True, False, True, False],
        }
    )
    left = _without_repeats(rows, 8.0 / 3600)
    assert left["peak_jy_per_beam"].tolist() == [5.0, 1.0]


def test_nothing_is_believed_in_the_glare_of_a_source_a_thousand_times_brighter(field, tmp_path):
    (image, noise), _, _ = field
    size = 640
    y, x = np.mgrid[:size, :size] - 320.0
    pixels = np.zeros((size, size))
    for dx, dy, flux in ((0, 0, 40.0), (30, 0, 0.03), (0, 30, -0.03), (60, 0, 0.06), (0, 200, 0.03), (200, 0, -0.03)):
        pixels += flux * gaussian(x - dx, y - dy, BEAM_PX, 25.0)
    path = tmp_path / "g-image.fits"
    fits.writeto(path, pixels.astype(np.float32), fits.getheader(image))
    found = find_sources(path, noise, sigma=7.0)
    peaks = {round(row.peak_jy_per_beam, 2): bool(row.reliable) for row in found.itertuples()}
    assert peaks[0.06] is True  # not a thousand times fainter
    assert sorted(found.loc[~found["reliable"], "peak_jy_per_beam"].round(2)) == [0.03]
    assert found["reliable"].sum() == 3
    assert count_negative(path, noise, found, sigma=7.0) == 1
