"""Mosaics of channels: like that of the whole band at each channel's frequency, or none at all."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from dsa110_assets.mosaicking import TileImage, make_channel_mosaics
from dsa110_assets.mosaicking.channels import shared_channels
from dsa110_assets.photometry import measure_channels
from dsa110_assets.products import channels_of
from dsa110_assets_tests.mosaicking.tile_files import DRIFT_DEG, FIRST_MJD, TileTruth, write_tile

SOURCES = [(180.3, 54.6, 2.0, -0.8), (181.4, 54.1, 1.5, 0.5), (181.9, 55.1, 1.0, 0.0)]
FREQUENCIES_HZ = (1.35e9, 1.45e9)


def write_strip(directory, frequencies_hz=(FREQUENCIES_HZ,) * 3):
    """Tiles with an image of the whole band and of channels.

    ``frequencies_hz``: the channels of each tile, None for a channel without data.
    """
    made = []
    for i, of_tile in enumerate(frequencies_hz):
        truth = TileTruth(180.0 + i * DRIFT_DEG, size=192, cell_arcsec=50.0, start_mjd=FIRST_MJD + i * 309.2376 / 86400)
        made.append(write_tile(directory / str(i), truth, [(ra, dec, flux) for ra, dec, flux, _ in SOURCES], i))
        for channel, frequency in enumerate(of_tile):
            if frequency is not None:
                sources = [(ra, dec, flux * (frequency / 1.4e9) ** alpha) for ra, dec, flux, alpha in SOURCES]
                write_tile(directory / str(i), truth, sources, 10 * channel + i, channel=channel, frequency_hz=frequency)
    return made


def test_channel_mosaics_have_the_true_flux_at_each_frequency(tmp_path):
    tiles = write_strip(tmp_path)
    (tmp_path / "out").mkdir()
    channels, missing = make_channel_mosaics(tiles, tmp_path / "out", "m", provenance={"code_version": "1"}, threads=1)
    assert missing == ""
    assert [(one.number, one.frequency_hz) for one in channels] == [(0, 1.35e9), (1, 1.45e9)]
    assert [one.report.tiles for one in channels] == [tuple(tile.group_id for tile in tiles)] * 2
    assert [path.name for path in channels_of(tmp_path / "out", "m").values()] == ["m-ch00-image.fits", "m-ch01-image.fits"]
    for channel in channels:
        header = fits.getheader(tmp_path / "out" / f"m-ch{channel.number:02d}-noise.fits")
        assert header["RESTFRQ"] == channel.frequency_hz
        assert int(header["DSACHAN"]) == channel.number
        assert channel.report.snr_scatter == pytest.approx(1.0, abs=0.1)
    positions = pd.DataFrame(SOURCES, columns=["ra_deg", "dec_deg", "reference_jy", "alpha"]).assign(name=["a", "b", "c"])
    fluxes = measure_channels(tmp_path / "out", "m", positions)
    assert fluxes["channel"].tolist() == [0, 0, 0, 1, 1, 1]
    assert set(fluxes["mosaic_name"]) == {"m"}
    true = fluxes["reference_jy"] * (fluxes["frequency_hz"] / 1.4e9) ** fluxes["alpha"]
    assert np.all(np.abs(fluxes["flux_jy"] - true) < 4 * np.hypot(fluxes["flux_err_jy"], 0.003 * true))
    # the comparison must fail with the frequency of the other channel
    other = fluxes["reference_jy"] * (fluxes["frequency_hz"][::-1].to_numpy() / 1.4e9) ** fluxes["alpha"]
    assert not np.all(np.abs(fluxes["flux_jy"] - other) < 4 * np.hypot(fluxes["flux_err_jy"], 0.003 * true))


def test_a_mosaic_takes_the_frequency_at_which_its_tiles_quote_fluxes(tmp_path):
    """Flags move the mean frequency of the data, but not the frequency at which fluxes are quoted."""
    (tile,) = write_strip(tmp_path, [FREQUENCIES_HZ])
    with fits.open(tile.path("image"), mode="update") as hdus:
        hdus[0].header["DSAREFHZ"] = 1.4e9
    assert TileImage.of(tile.directory, tile.name).frequency_hz == 1.4e9


def test_tiles_with_different_channels_share_none(tmp_path):
    plain = write_strip(tmp_path / "plain", [(), ()])
    assert shared_channels(plain) == ({}, "")
    assert make_channel_mosaics(plain, tmp_path, "m", provenance={}) == ((), "")
    some = write_strip(tmp_path / "some", [FREQUENCIES_HZ, FREQUENCIES_HZ, ()])
    assert shared_channels(some) == ({}, f"not imaged in channels: {some[2].group_id}")
    moved = write_strip(tmp_path / "moved", [FREQUENCIES_HZ, FREQUENCIES_HZ, (1.36e9, 1.45e9)])
    assert shared_channels(moved) == ({}, "channel 0 is at 1350.000 to 1360.000 MHz")


def test_a_channel_that_one_tile_lost_is_left_out(tmp_path):
    tiles = write_strip(tmp_path, [FREQUENCIES_HZ, FREQUENCIES_HZ, (None, 1.45e9)])
    images, missing = shared_channels(tiles)
    assert list(images) == [1]
    assert missing == "some tile has no data in channel 0"
