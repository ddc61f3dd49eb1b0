"""Mosaics compared with simulated truth, a closed form, and `reproject`."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import mad_std
from astropy.wcs import WCS
from scipy.optimize import curve_fit

from dsa110_assets.errors import MosaicError
from dsa110_assets.mosaicking import TileImage, make_mosaic
from dsa110_assets.photometry.forced import measure
from dsa110_assets.products import image_path
from dsa110_assets_tests.mosaicking.tile_files import (
    DRIFT_DEG,
    FIRST_MJD,
    TileTruth,
    drifting_beam,
    gaussian,
    strip,
    tile_wcs,
    write_tile,
)

PROVENANCE = {"code_version": "0.1.0", "config_hash": "0123456789ab", "inputs": "test"}


def planes(report):
    return {s: fits.getdata(image_path(report.directory, report.name, s)) for s in ("image", "noise", "weight", "coverage")}


def mosaic_wcs(report):
    return WCS(fits.getheader(image_path(report.directory, report.name, "image")))


def fit_source(image, wcs, ra, dec, beam, cell_arcsec):
    """Peak, offset in arcsec, and the three shape parameters of a Gaussian fitted where a source should be."""
    x, y = (float(v) for v in wcs.wcs_world2pix(ra, dec, 0))
    north = wcs.wcs_world2pix(ra, dec + 1e-3, 0)
    turn = np.degrees(np.arctan2(-(north[0] - x), north[1] - y))
    column, row = round(x), round(y)
    part = image[row - 5 : row + 6, column - 5 : column + 6].astype(float)
    yy, xx = np.mgrid[row - 5 : row + 6, column - 5 : column + 6]

    def model(_, peak, px, py, major, minor, pa):
        return (peak * gaussian(-(xx - px), yy - py, np.array([major, minor]) / cell_arcsec, pa + turn)).ravel()

    start = [part.max(), x, y, beam.major_deg * 3600, beam.minor_deg * 3600, beam.pa_deg]
    p, _ = curve_fit(model, None, part.ravel(), start)
    return p[0], np.hypot(p[1] - x, p[2] - y) * cell_arcsec, p[3:]


@pytest.fixture(scope="module")
def bright_strip(tmp_path_factory):
    """Five tiles across 0h with isolated sources of high S/N."""
    rng = np.random.default_rng(7)
    ra, dec = np.meshgrid(np.arange(356.6, 366.0, 0.9), np.arange(53.5, 55.9, 0.45))
    ra, dec = ra + rng.uniform(-0.1, 0.1, ra.shape), dec + rng.uniform(-0.1, 0.1, ra.shape)
    sources = [(float(r) % 360, float(d), float(f)) for r, d, f in zip(ra.ravel(), dec.ravel(), rng.uniform(1, 3, ra.size), strict=True)]
    directory = tmp_path_factory.mktemp("bright")
    tiles = strip(directory / "tiles", 5, sources, ra_deg=358.5, noises=[2e-4, 3e-4, 5e-4, 2e-4, 1e-4])
    return tiles, sources, make_mosaic(tiles, directory / "mosaic", "bright", provenance=PROVENANCE)


def test_fluxes_within_half_a_percent_and_positions_within_a_twentieth_of_a_beam_across_0h(bright_strip):
    _, sources, report = bright_strip
    image, wcs = planes(report)["image"], mosaic_wcs(report)
    ratios, offsets, angles = [], [], []
    for ra, dec, flux in sources:
        x, y = (int(v) for v in np.round(wcs.wcs_world2pix(ra, dec, 0)))
        if not (8 < x < image.shape[1] - 9 and 8 < y < image.shape[0] - 9) or not np.isfinite(image[y - 6 : y + 7, x - 6 : x + 7]).all():
            continue
        peak, offset, shape = fit_source(image, wcs, ra, dec, report.beam, 30.0)
        ratios.append(peak / flux)
        offsets.append(offset)
        angles.append(shape[2])
    assert len(ratios) > 45
    assert np.max(np.abs(np.array(ratios) - 1)) < 0.005
    assert abs(np.mean(ratios) - 1) < 0.001
    assert np.max(offsets) < 0.05 * 134
    assert np.median(offsets) < 1.0
    assert np.max(np.abs(np.array(angles) - 25.0)) < 3.0  # north through east at the source, all along the strip


def test_noise_map_equals_the_noise_within_five_percent_wherever_tiles_overlap(tmp_path):
    noises = [0.005, 0.004, 0.008, 0.005]
    report = make_mosaic(strip(tmp_path / "t", 4, [], noises=noises, seed=40), tmp_path / "m", "noise", provenance=PROVENANCE)
    data = planes(report)
    snr = data["image"] / data["noise"]
    for n_tiles in (1, 2, 3, 4):
        part = snr[(data["coverage"] == n_tiles) & np.isfinite(snr)]
        assert part.size > 5000, n_tiles
        assert np.std(part) == pytest.approx(1.0, abs=0.05), n_tiles
    assert report.snr_scatter == pytest.approx(1.0, abs=0.05)
    covered = data["weight"] > 0
    np.testing.assert_allclose(data["noise"][covered], data["weight"][covered] ** -0.5, rtol=1e-5)
    assert np.isnan(data["image"][~covered]).all()
    assert np.isnan(data["noise"][~covered]).all()


def test_two_constant_tiles_give_the_closed_form(tmp_path):
    truths = [TileTruth(180.0, noise_jy=0.004), TileTruth(180.0 + DRIFT_DEG, noise_jy=0.007, start_mjd=FIRST_MJD + 0.004)]
    levels = (0.3, 0.9)
    tiles = []
    for truth, level in zip(truths, levels, strict=True):
        y, x = np.mgrid[: truth.size, : truth.size].astype(float)
        pb = drifting_beam(truth, *tile_wcs(truth).wcs_pix2world(x.ravel(), y.ravel(), 0)).reshape(y.shape)
        tiles.append(write_tile(tmp_path, replace(truth, noise_jy=truth.noise_jy), [], 0, image=level * pb + 0.0))
    # a constant sky scatters only by the beam, far above the header's noise: raise that, or the tile would look broken
    for tile in tiles:
        for suffix in ("image", "pb", "weight"):
            with fits.open(tile.path(suffix), mode="update") as hdus:
                hdus[0].header["DSANOISE"] *= 50
                if suffix == "weight":
                    hdus[0].data /= 2500
    tiles = [TileImage.of(tile.directory, tile.name) for tile in tiles]
    report = make_mosaic(tiles, tmp_path / "m", "two", provenance=PROVENANCE)
    data, wcs = planes(report), mosaic_wcs(report)
    both = np.argwhere(data["coverage"] == 2)[::997]
    assert len(both) > 50
    ra, dec = wcs.wcs_pix2world(both[:, 1], both[:, 0], 0)
    weights = [drifting_beam(truth, ra, dec) ** 2 / (50 * truth.noise_jy) ** 2 for truth in truths]
    expected = (weights[0] * levels[0] + weights[1] * levels[1]) / (weights[0] + weights[1])
    # the kernel is exact for sources of the beam's size; the mean level then moves by 3e-4
    np.testing.assert_allclose(data["image"][both[:, 0], both[:, 1]], expected, rtol=5e-4)
    np.testing.assert_allclose(data["noise"][both[:, 0], both[:, 1]], (weights[0] + weights[1]) ** -0.5, rtol=2e-4)


def test_agrees_with_reproject_and_coadd(bright_strip):
    from reproject import reproject_interp
    from reproject.mosaicking import reproject_and_coadd

    tiles, _, report = bright_strip
    data, wcs = planes(report), mosaic_wcs(report)
    inputs, weights = [], []
    for tile in tiles:
        image, pb, weight = (tile.plane(s) for s in ("image", "pb", "weight"))
        inputs.append((image / pb, tile.wcs()))
        weights.append(np.where(pb >= 0.2, weight, 0))
    peer, _ = reproject_and_coadd(
        inputs, wcs, shape_out=report.shape, input_weights=weights, reproject_function=reproject_interp, order="bicubic"
    )
    same = np.isfinite(peer) & (data["noise"] < 2 * report.noise_median_jy_per_beam)
    assert same.sum() > 0.85 * np.isfinite(data["image"]).sum()
    difference = (data["image"] - peer)[same]
    # sources of up to 3 Jy, four pixels wide: a cubic spline is wrong by 1.4e-3 of the peak along each axis
    assert np.abs(difference).max() < 3.0 * 2 * 1.4e-3
    assert mad_std(difference) < 0.25 * report.noise_median_jy_per_beam


def test_a_single_tile_is_its_own_mosaic(tmp_path):
    (tile,) = strip(tmp_path / "t", 1, [(180.2, 54.8, 2.0)])
    report = make_mosaic([tile], tmp_path / "m", "one", provenance=PROVENANCE)
    peak, offset, _ = fit_source(planes(report)["image"], mosaic_wcs(report), 180.2, 54.8, tile.beam, 30.0)
    assert peak == pytest.approx(2.0, rel=0.01)
    assert offset < 3.0
    assert report.max_coverage == 1
    assert report.tiles == (tile.group_id,)


def test_tiles_with_different_restoring_beams_are_convolved_to_a_common_one(tmp_path):
    beams = [(150.0, 120.0, 25.0), (170.0, 115.0, 40.0), (145.0, 130.0, 10.0)]
    source = (180.0 + DRIFT_DEG, 54.6, 3.0)
    tiles = [
        write_tile(
            tmp_path / "t",
            TileTruth(180.0 + i * DRIFT_DEG, start_mjd=FIRST_MJD + i * 0.0036, noise_jy=0.002, beam_arcsec=beam),
            [source],
            seed=60 + i,
        )
        for i, beam in enumerate(beams)
    ]
    report = make_mosaic(tiles, tmp_path / "m", "beams", provenance=PROVENANCE)
    assert report.convolved
    data = planes(report)
    peak, _, shape = fit_source(data["image"], mosaic_wcs(report), source[0], source[1], report.beam, 30.0)
    assert peak == pytest.approx(3.0, rel=0.005)
    assert shape[0] == pytest.approx(report.beam.major_deg * 3600, rel=0.01)
    assert shape[1] == pytest.approx(report.beam.minor_deg * 3600, rel=0.01)
    snr = (data["image"] / data["noise"])[np.isfinite(data["image"])]
    assert mad_std(snr) == pytest.approx(1.0, abs=0.05)


def test_tiles_with_equal_beams_are_not_convolved(bright_strip):
    _, _, report = bright_strip
    assert not report.convolved
    assert (report.beam.major_deg * 3600, report.beam.minor_deg * 3600, report.beam.pa_deg) == pytest.approx((150.0, 120.0, 25.0))


def test_the_whole_circle_of_right_ascension_is_one_mosaic(tmp_path):
    centres = [0.0, 100.0, 179.7, 181.0, 270.0]
    sources = [(ra + 0.1, 54.7, 2.0) for ra in centres] + [(180.35, 54.3, 2.0)]
    tiles = [
        write_tile(tmp_path / "t", TileTruth(ra, start_mjd=FIRST_MJD + ra / 361.0, noise_jy=0.001, size=200), sources, seed=i)
        for i, ra in enumerate(centres)
    ]
    report = make_mosaic(tiles, tmp_path / "m", "night", provenance=PROVENANCE, sums_in_memory_bytes=0)
    assert report.projection == "MER"
    assert not list((tmp_path / "m").glob(".sum*"))
    image, wcs = planes(report)["image"], mosaic_wcs(report)
    for ra, dec, flux in sources:
        assert fit_source(image, wcs, ra, dec, report.beam, 30.0)[0] == pytest.approx(flux, rel=0.005), ra


def test_sums_on_disk_give_the_same_mosaic(tmp_path):
    tiles = strip(tmp_path / "t", 2, [(180.5, 54.5, 1.0)], size=160)
    in_memory = planes(make_mosaic(tiles, tmp_path / "a", "m", provenance=PROVENANCE))
    on_disk = planes(make_mosaic(tiles[::-1], tmp_path / "b", "m", provenance=PROVENANCE, sums_in_memory_bytes=0, threads=1))
    for suffix, data in in_memory.items():
        np.testing.assert_array_equal(data, on_disk[suffix])


def test_headers_are_two_dimensional_and_carry_beam_times_and_provenance(bright_strip):
    tiles, _, report = bright_strip
    for suffix, unit in (("image", "Jy/beam"), ("noise", "Jy/beam"), ("weight", "Jy-2 beam2"), ("coverage", "")):
        header = fits.getheader(image_path(report.directory, report.name, suffix))
        assert header["NAXIS"] == 2
        assert header["BUNIT"] == unit
        assert (header["DSACODE"], header["DSACONF"]) == ("0.1.0", "0123456789ab")
        assert header["RADESYS"] == "ICRS"
        assert header["MJD-BEG"] == pytest.approx(tiles[0].start_mjd, abs=1e-9)
        assert header["MJD-END"] == pytest.approx(tiles[-1].end_mjd, abs=1e-9)
        assert header["DATE-OBS"] == "2026-03-01T06:00:00.000"
        history = "\n".join(header["HISTORY"])
        assert all(f"TILE {tile.group_id}" in history for tile in tiles)
        assert "inputs = test" in history
    assert report.preview.read_bytes()[:4] == b"\x89PNG"
    assert report.small_preview.stat().st_size < 50_000


def test_a_tile_whose_pixels_contradict_its_noise_is_left_out_with_a_reason(tmp_path):
    tiles = strip(tmp_path / "t", 2, [], size=160)
    bad = write_tile(tmp_path / "t", TileTruth(180.0, size=160, start_mjd=FIRST_MJD + 0.02), [], 9, wide_noise=50.0)
    report = make_mosaic([*tiles, bad], tmp_path / "m", "m", provenance=PROVENANCE)
    assert report.tiles == tuple(tile.group_id for tile in tiles)
    assert "pixels scatter by" in report.rejected[bad.group_id]
    history = "".join(str(line) for line in fits.getheader(image_path(tmp_path / "m", "m", "image"))["HISTORY"])
    assert f"REJECTED {bad.group_id}" in history


def test_missing_pixels_of_one_tile_are_filled_by_the_others(tmp_path):
    tiles = strip(tmp_path / "t", 2, [], size=160)
    with fits.open(tiles[0].path("image"), mode="update") as hdus:
        hdus[0].data[..., 60:90, 20:50] = np.nan
    data = planes(make_mosaic(tiles, tmp_path / "m", "m", provenance=PROVENANCE))
    assert np.isfinite(data["image"][data["weight"] > 0]).all()
    assert (data["coverage"] == 1).any()


@pytest.mark.parametrize(
    ("damage", "cause"),
    [("no noise", "DSANOISE"), ("no file", "does not exist"), ("not fits", "not a FITS file"), ("frame", "not ICRS")],
)
def test_an_unusable_tile_is_refused_by_name(tmp_path, damage, cause):
    (tile,) = strip(tmp_path, 1, [], size=64)
    path = tile.path("image")
    if damage == "no file":
        tile.path("pb").unlink()
    elif damage == "not fits":
        path.write_bytes(b"not a FITS file at all")
    else:
        with fits.open(path, mode="update") as hdus:
            if damage == "no noise":
                del hdus[0].header["DSANOISE"]
            else:
                hdus[0].header["RADESYS"] = "FK5"
    with pytest.raises(MosaicError, match=cause):
        TileImage.of(tile.directory, tile.name)


@pytest.mark.parametrize(
    ("beam_px", "wider", "limit"), [((3.49, 2.13, 64.5), 1.0, 2e-4), ((5.0, 4.0, 30.0), 1.0, 1e-4), ((5.0, 4.0, 30.0), 1.004, 1.5e-4)]
)
def test_forced_fluxes_of_a_mosaic_are_those_of_its_tiles(tmp_path, beam_px, wider, limit):
    """Interpolation alone changed fluxes by up to 0.18 % where the beam has two pixels, another beam by its own width.

    Without noise: sources at random places between the pixels. ``wider``: beam of the second tile over the first.
    """
    rng = np.random.default_rng(5)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(-4, 5) * 35.0, np.arange(-4, 5) * 35.0))
    x, y = x + rng.uniform(-5, 5, x.size), y + rng.uniform(-5, 5, y.size)
    cell = 6.0
    truth = TileTruth(180.0, cell_arcsec=cell, beam_arcsec=(cell * beam_px[0], cell * beam_px[1], beam_px[2]), noise_jy=1e-9)
    ra, dec = tile_wcs(truth).wcs_pix2world(truth.size / 2 + x, truth.size / 2 + y, 0)
    sources = list(zip(ra.tolist(), dec.tolist(), [1.0] * ra.size, strict=True))
    other = tuple(cell * wider * width for width in beam_px[:2])
    tiles = [
        write_tile(tmp_path / "t", one, sources, seed=number)
        for number, one in enumerate((truth, replace(truth, start_mjd=FIRST_MJD + 0.0036, beam_arcsec=(*other, beam_px[2]))))
    ]
    report = make_mosaic(tiles, tmp_path / "m", "exact", provenance=PROVENANCE)
    assert not report.convolved
    data = planes(report)
    flux = measure(data["image"], np.ones_like(data["image"]), mosaic_wcs(report), report.beam, ra, dec)["flux_jy"].to_numpy()
    assert np.isfinite(flux).sum() > 60
    error = flux[np.isfinite(flux)] - 1.0
    assert np.abs(error).max() < limit
