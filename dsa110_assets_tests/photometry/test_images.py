"""Photometry of files: mosaics and tiles are measured from their FITS products, and tables carry their units."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.errors import PhotometryError
from dsa110_assets.photometry import ChannelImage, adaptive, measure_mosaic, measure_tile, write_table
from dsa110_assets.products import image_path

from .fields import add_pixel_gaussian, correlated_noise, make_wcs

SIZE = 400


def header_of(wcs, **changes):
    header = wcs.to_header()
    header.update(BUNIT="JY/BEAM", BMAJ=24 / 3600, BMIN=18 / 3600, BPA=30.0, RADESYS="ICRS")
    header["MJD-BEG"], header["MJD-END"] = 61000.25, 61000.27
    header.update(changes)
    return header


@pytest.fixture
def field():
    rng = np.random.default_rng(11)
    wcs = make_wcs(SIZE)
    image = correlated_noise(rng, (SIZE, SIZE), 2e-3, 7.0).astype(np.float32)
    x, y = np.array([100.3, 250.0, 200.0]), np.array([120.7, 300.2, 80.0])
    for xs, ys, flux in zip(x, y, (0.3, 0.1, 0.0), strict=True):
        add_pixel_gaussian(image, xs, ys, flux, 8, 6, 30)
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    positions = pd.DataFrame(
        {"name": ["a", "b", "empty", "elsewhere"], "ra_deg": [*ra, 10.0], "dec_deg": [*dec, 54.6], "source_id": [1, 2, 3, 4]}
    )
    return wcs, image, positions


def test_a_mosaic_gives_fluxes_with_time_and_name_for_the_positions_inside(tmp_path, field):
    wcs, image, positions = field
    fits.writeto(image_path(tmp_path, "hourly_x", "image"), image, header_of(wcs))
    fits.writeto(image_path(tmp_path, "hourly_x", "noise"), np.full_like(image, 2e-3), header_of(wcs))
    table = measure_mosaic(tmp_path, "hourly_x", positions)
    assert table["name"].tolist() == ["a", "b", "empty"]
    assert table["source_id"].tolist() == [1, 2, 3]
    assert np.all(np.abs(table["flux_jy"] - [0.3, 0.1, 0.0]) < 4 * table["flux_err_jy"])
    assert table["is_limit"].tolist() == [False, False, True]
    assert table["time_mjd"].tolist() == pytest.approx([61000.26] * 3)
    assert set(table["mosaic_name"]) == {"hourly_x"}
    assert table["error_scale"].iloc[0] == pytest.approx(1.0, abs=0.12)


def test_a_tile_is_measured_from_its_beam_corrected_image_and_weight(tmp_path, field):
    """The FITS files have four axes; the noise grows as the primary beam falls."""
    wcs, image, positions = field
    pb = np.linspace(1.0, 0.3, SIZE, dtype=np.float32)[None, :] * np.ones((SIZE, 1), np.float32)
    fits.writeto(image_path(tmp_path, "tile", "image-pb"), (image / pb)[None, None], header_of(wcs))
    fits.writeto(image_path(tmp_path, "tile", "weight"), (pb**2 / 4e-6)[None, None], header_of(wcs))
    table = measure_tile(tmp_path, "tile", positions, measure_errors=False)
    expected = 2e-3 / np.interp(table["x_pixel"], np.arange(SIZE), pb[0])
    np.testing.assert_allclose(table["noise_jy_per_beam"], expected, rtol=1e-4)
    np.testing.assert_allclose(table["flux_err_jy"], expected * np.sqrt(4 / 3), rtol=1e-2)


def test_a_map_in_other_units_or_without_its_keywords_is_refused(tmp_path, field):
    wcs, image, positions = field
    fits.writeto(image_path(tmp_path, "m", "noise"), np.full_like(image, 2e-3), header_of(wcs))
    fits.writeto(image_path(tmp_path, "m", "image"), image, header_of(wcs, BUNIT="K"))
    with pytest.raises(PhotometryError, match="takes Jy/beam"):
        measure_mosaic(tmp_path, "m", positions)
    header = header_of(wcs)
    del header["BMAJ"]
    fits.writeto(image_path(tmp_path, "m", "image"), image, header, overwrite=True)
    with pytest.raises(PhotometryError, match="lacks BMAJ"):
        measure_mosaic(tmp_path, "m", positions)
    with pytest.raises(PhotometryError, match="does not exist"):
        measure_mosaic(tmp_path, "absent", positions)


def test_tables_are_written_with_units_and_read_back(tmp_path):
    table = pd.DataFrame(
        {"name": ["a", "b"], "ra_deg": [1.0, 2.0], "flux_jy": [0.1, np.nan], "noise_jy_per_beam": [1e-3, 2e-3], "is_limit": [False, True]}
    )
    for suffix in (".csv", ".parquet", ".vot"):
        write_table(table, tmp_path / f"t{suffix}")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), table, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table, check_dtype=False)
    assert pq.read_schema(tmp_path / "t.parquet").field("flux_jy").metadata == {b"unit": b"Jy", b"ucd": b"phot.flux.density;em.radio"}
    votable = Table.read(tmp_path / "t.vot", format="votable")
    assert str(votable["noise_jy_per_beam"].unit) == "Jy / beam"
    assert votable["flux_jy"][0] == 0.1
    assert list(votable["name"]) == ["a", "b"]
    with pytest.raises(PhotometryError, match="use one of"):
        write_table(table, tmp_path / "t.txt")


def test_adaptive_bins_are_narrow_for_bright_sources_and_wide_for_faint_ones():
    rng = np.random.default_rng(12)
    wcs = make_wcs(300)
    x, y = np.array([80.0, 150.0, 220.0]), np.array([80.0, 150.0, 220.0])
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    channels = []
    for channel in range(8):
        image = correlated_noise(rng, (300, 300), 1e-2, 7.0)
        for xs, ys, flux in zip(x, y, (1.0, 0.05, 0.0), strict=True):
            add_pixel_gaussian(image, xs, ys, flux, 8, 6, 30)
        channels.append(
            ChannelImage(
                image.astype(np.float32),
                np.full((300, 300), 1e-2, np.float32),
                wcs,
                RestoringBeam(24 / 3600, 18 / 3600, 30.0),
                1.5e9 - 2e7 * channel,
            )
        )
    table = adaptive(channels, ra, dec, target_snr=6.0)
    bins = table.groupby("position").size().tolist()
    assert bins[0] == 8
    assert 1 <= bins[1] <= 3
    assert bins[2] == 1
    assert table["is_limit"].iloc[-1]
    assert (np.diff(table.loc[table["position"] == 0, "frequency_hz"]) > 0).all()
    truth = np.array([1.0, 0.05, 0.0])[table["position"]]
    assert (np.abs(table["flux_jy"] - truth) < 4.5 * table["flux_err_jy"]).all()
