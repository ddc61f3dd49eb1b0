"""CASA, casacore, WSClean and pyuvdata read the Measurement Set, and see the sky where it was."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.common.measurement_sets import read_tile_pointing
from dsa110_assets_tests.conversion.casa_probe import inspect_with_casa
from dsa110_assets_tests.conversion.conftest import Converted


@pytest.fixture(scope="session")
def casa(one_source: Converted) -> dict:
    sky = one_source.raw.sky
    return inspect_with_casa(one_source.ms, float(sky.ra_deg[0]), float(sky.dec_deg[0]))


def test_casa_opens_it_without_warnings(casa: dict, one_source: Converted) -> None:
    assert casa["warnings"] == []
    assert casa["n_antennas"] == 117
    assert casa["names"] == [str(n + 1) for n in range(117)]
    assert casa["corr_types"] == [9, 12]
    assert casa["fields"] == ["meridian"]
    assert casa["n_spw"] == 1
    assert np.all(np.diff(casa["freq_hz"]) > 0)
    assert casa["exposure_s"] == pytest.approx(12.884902000427246)
    assert casa["phase_rad"] == casa["reference_rad"]
    assert np.degrees(casa["phase_rad"]) % 360 == pytest.approx(
        [one_source.report.phase_ra_deg, one_source.report.phase_dec_deg], abs=1e-10
    )


def test_baselines_equal_casas_measures_to_a_few_parts_in_a_million(casa: dict) -> None:
    assert casa["worst_uvw"] < 1e-5


def test_casas_own_prediction_of_the_source_has_the_phases_of_the_data(casa: dict) -> None:
    """Tests the sign, the direction of both axes and the epoch at once; annual aberration remains (0.1 arcsec here)."""
    assert casa["model_jy"] == pytest.approx(10.0, rel=0.01)
    assert casa["phase_rms_rad"] < 0.03
    assert casa["conjugate_rms_rad"] > 1.0


def test_with_the_aberration_scale_the_source_position_is_right_to_two_milliarcseconds(one_source: Converted) -> None:
    from casacore.tables import table

    from dsa110_assets.common.directions import apparent_scale

    report, sky = one_source.report, one_source.raw.sky
    ra0, dec0 = np.radians(report.phase_ra_deg), np.radians(report.phase_dec_deg)
    scale = apparent_scale(ra0, dec0, report.mid_mjd + 2_400_000.5)
    ra, dec = np.radians(sky.ra_deg[0]), np.radians(sky.dec_deg[0])
    east = np.cos(dec) * np.sin(ra - ra0)
    north = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0)
    lmn = np.array([scale * east, scale * north, np.sqrt(1 - east**2 - north**2) - 1])
    with table(str(one_source.ms), ack=False) as ms, table(f"{one_source.ms}::SPECTRAL_WINDOW", ack=False) as spw:
        cross = ms.getcol("ANTENNA1") != ms.getcol("ANTENNA2")
        uvw_wavelengths = ms.getcol("UVW")[cross][:, None, :] * spw.getcol("CHAN_FREQ")[0][:, None] / 299_792_458.0
        data = ms.getcol("DATA")[cross][..., 0]
    left = np.angle(data * np.exp(-2j * np.pi * (uvw_wavelengths @ lmn)))
    offset_rad = np.linalg.lstsq(2 * np.pi * uvw_wavelengths.reshape(-1, 3)[:, :2], left.ravel(), rcond=None)[0]
    assert np.degrees(np.hypot(*offset_rad)) * 3600 < 0.002
    assert abs(scale - 1) > 2e-5  # the scale matters


def test_casacores_own_geometry_agrees(one_source: Converted) -> None:
    """TaQL derives baselines, hour angles and declinations from ANTENNA, FIELD and TIME alone."""
    from casacore.tables import taql

    found = taql(f"select mscal.uvwj2000() as BASELINE, mscal.hadec() as HADEC, UVW from {one_source.ms} where ANTENNA1 != ANTENNA2")
    baseline, uvw, hadec = (found.getcol(name) for name in ("BASELINE", "UVW", "HADEC"))
    assert np.abs(baseline + uvw).max() < 1e-5 * np.abs(uvw).max()  # its baselines run from ANTENNA1 to ANTENNA2
    declination = np.degrees(hadec[:, 1])
    assert declination == pytest.approx(np.full(declination.size, one_source.raw.declination_deg), abs=0.005)  # apparent, along a circle
    hour_angle = np.degrees(hadec[:, 0].reshape(24, -1)[:, 0]) * 240  # seconds of time
    assert hour_angle == pytest.approx((np.arange(24) - 11.5) * 12.885 * 1.0027379, abs=1.0)


@pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is not on PATH")
def test_wsclean_images_the_source_where_it_is(one_source: Converted, tmp_path: Path) -> None:
    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.wcs import WCS
    from casacore.tables import table

    command = [
        "wsclean",
        "-name",
        "sky",
        "-size",
        "256",
        "256",
        "-scale",
        "20asec",
        "-niter",
        "0",
        "-weight",
        "natural",
        "-data-column",
        "DATA",
    ]
    done = subprocess.run(
        [*command, str(one_source.ms)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "warn" in line.lower() or "error" in line.lower()]
    with fits.open(tmp_path / "sky-dirty.fits") as hdus:
        image, header = hdus[0].data[0, 0], hdus[0].header
    header.pop("DATE-OBS")  # astropy warns about it
    y, x = np.unravel_index(image.argmax(), image.shape)
    sky = one_source.raw.sky
    truth = SkyCoord(sky.ra_deg[0], sky.dec_deg[0], unit="deg")
    assert WCS(header).celestial.pixel_to_world(x, y).icrs.separation(truth).arcsec < 15  # pixels of 20 arcsec
    with table(str(one_source.ms), ack=False) as ms:
        amplitude = np.abs(ms.getcol("DATA"))[ms.getcol("ANTENNA1") != ms.getcol("ANTENNA2")].mean()
    assert image.max() == pytest.approx(amplitude, rel=0.05)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pyuvdata warns about unknown properties of the telescope
def test_pyuvdata_reads_the_same_visibilities(tiny: Converted) -> None:
    from casacore.tables import table
    from pyuvdata import UVData

    uvd = UVData()
    uvd.read_ms(str(tiny.ms), ignore_single_chan=False)
    report = tiny.report
    assert (uvd.Ntimes, uvd.Nbls, uvd.Nfreqs, uvd.Npols) == (report.n_times, report.n_baselines, report.n_channels, 2)
    assert list(uvd.polarization_array) == [-5, -6]
    assert np.degrees(uvd.phase_center_app_dec[0]) == pytest.approx(report.pointing_dec_deg, abs=0.01)
    center = next(iter(uvd.phase_center_catalog.values()))
    assert center["cat_frame"] == "icrs"
    assert np.degrees(center["cat_lon"]) % 360 == pytest.approx(report.phase_ra_deg, abs=1e-9)
    mine = uvd.uvw_array.copy()
    uvd.set_uvws_from_antenna_positions()
    np.testing.assert_allclose(mine, uvd.uvw_array, atol=0.3)
    with table(str(tiny.ms), ack=False) as ms:
        np.testing.assert_allclose(np.abs(uvd.data_array), np.abs(ms.getcol("DATA")), rtol=1e-6)
        np.testing.assert_array_equal(uvd.flag_array, ms.getcol("FLAG"))


def test_the_pointing_of_each_integration_is_astropys_meridian_point(one_source: Converted) -> None:
    """ICRS of the horizontal direction of the dishes, from astropy's AltAz frame."""
    from astropy import units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time

    pointing = read_tile_pointing(one_source.ms)
    site = EarthLocation.from_geodetic(-118.2830 * u.deg, 37.2334051 * u.deg, 1188.0519 * u.m)
    frame = AltAz(obstime=Time(pointing.time_mjd, format="mjd"), location=site, pressure=0 * u.hPa)
    zenith_deg = one_source.raw.declination_deg - 37.2334051
    dishes = SkyCoord(az=np.zeros(24) * u.deg, alt=np.full(24, 90 - zenith_deg) * u.deg, frame=frame).icrs
    mine = SkyCoord(pointing.ra_deg * u.deg, pointing.dec_deg * u.deg)
    assert mine.separation(dishes).arcsec.max() < 1.0  # polar motion is half an arcsecond
    center = SkyCoord(pointing.phase_ra_deg * u.deg, pointing.phase_dec_deg * u.deg)
    assert center.separation(mine[11]).arcsec == pytest.approx(15 * 12.885 / 2 * np.cos(np.radians(54.6)), rel=0.02)
