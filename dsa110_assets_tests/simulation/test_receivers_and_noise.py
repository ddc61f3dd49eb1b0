"""Gains, dead antennas and noise are at the telescope's levels."""

import h5py
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time

from dsa110_assets.simulation.array import demo_array, full_array, tiny_array
from dsa110_assets.simulation.band import BandPlan, full_band
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets.simulation.tile import model_visibilities, simulate_tile

START_MJD = 61_107.2
EMPTY = point_sources([], [], [])
WHOLE_BAND_HZ = np.concatenate([full_band().frequencies_hz(subband) for subband in range(16)])


def one_subband(directory, **options):
    """(visibilities (Ntimes, Nbls, Nfreqs, Npols), ant_1, ant_2) of subband 3."""
    settings = {"array": tiny_array(), "band": BandPlan(16), "n_integrations": 24, "sky": EMPTY, "seed": 3}
    settings |= options
    path = simulate_tile(directory, start_mjd=START_MJD, declination_deg=54.6, subbands=[3], **settings)[0]
    with h5py.File(path) as file:
        n_times, n_bls = file["Header/Ntimes"][()], file["Header/Nbls"][()]
        data = file["Data/visdata"][()].reshape(n_times, n_bls, -1, 2)
        return data, file["Header/ant_1_array"][:n_bls], file["Header/ant_2_array"][:n_bls]


def test_noise_follows_the_radiometer_equation(tmp_path):
    data, ant_1, ant_2 = one_subband(tmp_path, receivers=Receivers.perfect(), sefd_jy=6500.0)
    expected_jy = 6500.0 / np.sqrt(2 * (3 * 244140.625) * 12.884902)
    cross = data[:, ant_1 != ant_2]
    n = cross.size
    for part in (cross.real, cross.imag):
        assert part.std() == pytest.approx(expected_jy, rel=4 / np.sqrt(2 * n))
        assert abs(part.mean()) < 4 * expected_jy / np.sqrt(n)
    for pol in range(2):
        assert cross[..., pol].real.std() == pytest.approx(expected_jy, rel=0.03)
    covariance = np.corrcoef(cross.real.ravel(), cross.imag.ravel())[0, 1]
    assert abs(covariance) < 4 / np.sqrt(n)
    assert abs(np.corrcoef(cross[..., 0].real.ravel(), cross[..., 1].real.ravel())[0, 1]) < 6 / np.sqrt(n)
    autos = data[:, ant_1 == ant_2]
    assert (autos.imag == 0).all()
    assert autos.real.mean() == pytest.approx(6500.0, rel=1e-3)
    assert autos.real.std() == pytest.approx(np.sqrt(2) * expected_jy, rel=0.05)


def test_noise_differs_between_subbands_and_tiles(tmp_path):
    def cross(directory, start_mjd, subband):
        path = simulate_tile(
            directory, start_mjd=start_mjd, declination_deg=54.6, subbands=[subband], array=tiny_array(), band=BandPlan(2),
            sky=EMPTY, seed=3, n_integrations=2, receivers=Receivers.perfect(),
        )[0]  # fmt: skip
        with h5py.File(path) as file:
            return file["Data/visdata"][1, 0, :, :]

    values = [cross(tmp_path, START_MJD, 0), cross(tmp_path, START_MJD, 1), cross(tmp_path, START_MJD + 1, 0)]
    assert len({v.tobytes() for v in values}) == 3


def test_gains_have_the_statistics_of_the_telescope():
    array = full_array()
    gains = Receivers(seed=5).gains(array.antenna_order, WHOLE_BAND_HZ[::16], np.array([START_MJD]))[0]
    assert gains.shape == (96, 48, 2)
    assert np.median(np.abs(gains)) == pytest.approx(0.068, rel=0.05)
    # phases are uniform over the circle: the mean resultant of 192 directions is small (Rayleigh)
    assert abs(np.mean(gains[:, 24] / np.abs(gains[:, 24]))) < 3 / np.sqrt(192)
    # delays are removed: residual slopes are below 3 deg across the band
    x = np.linspace(-0.5, 0.5, 48)
    phase = np.unwrap(np.angle(gains), axis=1)
    slope_deg = np.degrees(np.polyfit(x, phase.transpose(1, 0, 2).reshape(48, -1), 1)[0])
    assert np.median(np.abs(slope_deg)) < 3.0
    ripple = np.abs(gains) / np.abs(gains).mean(axis=1, keepdims=True)
    assert 0.01 < ripple.std() < 0.2


def test_gains_of_an_antenna_do_not_depend_on_the_array():
    frequency = WHOLE_BAND_HZ[:4]
    time = np.array([START_MJD])
    full = Receivers(seed=5).gains(full_array().antenna_order, frequency, time)
    demo = Receivers(seed=5).gains(demo_array().antenna_order, frequency, time)
    index = [full_array().antenna_order.index(n) for n in demo_array().antenna_order]
    assert np.array_equal(full[:, index], demo)


def test_gains_drift_slowly_on_request():
    times = START_MJD + np.arange(0, 12 * 3600, 600) / 86_400
    still = Receivers(seed=5).gains((3, 4), WHOLE_BAND_HZ[:1], times)
    assert np.allclose(still, still[:1], rtol=1e-13)
    moving = Receivers(seed=5, drift_amplitude=0.02, drift_phase_deg=5.0).gains((3, 4), WHOLE_BAND_HZ[:1], times)
    ratio = moving / still
    assert np.abs(ratio).max() == pytest.approx(1.02, abs=2e-3)
    assert np.degrees(np.angle(ratio)).max() == pytest.approx(5.0, abs=0.3)
    assert np.abs(np.diff(ratio, axis=0)).max() < 0.02


def test_gains_enter_as_g1_times_conjugate_g2(tmp_path):
    receivers = Receivers(seed=9)
    sky = point_sources([120.0], [54.3], [5.0])
    array, band = tiny_array(), BandPlan(16)
    data, ant_1, ant_2 = one_subband(tmp_path, receivers=receivers, noise=False, n_integrations=2, sky=sky)
    times = START_MJD + np.arange(2) * 12.884901888 / 86_400
    frequency = band.frequencies_hz(3)
    model = model_visibilities(times, frequency, band.channel_width_hz, 54.6, sky, array)
    gains = receivers.gains(tuple(range(117)), frequency, times)
    np.testing.assert_allclose(data, gains[:, ant_1] * gains[:, ant_2].conj() * model[..., np.newaxis], rtol=2e-6)


@pytest.mark.parametrize("mode", ["zeros", "noise"])
def test_dead_antennas_receive_nothing(tmp_path, mode):
    sky = point_sources([120.0], [54.6], [5000.0])
    receivers = Receivers(seed=2, dead_antennas=(29,), dead_receivers=((19, 1),), dead_mode=mode, random_phases=False, amplitude_scatter=0)
    data, ant_1, ant_2 = one_subband(tmp_path, receivers=receivers, sky=sky, n_integrations=4)
    cross = ant_1 != ant_2
    dead = (ant_1 == 29) | (ant_2 == 29)
    half = cross & ~dead & ((ant_1 == 19) | (ant_2 == 19))
    well = cross & ~dead & ~half
    signal = np.abs(data[:, well]).mean()
    expected_noise = 0.068**2 * 6500 / np.sqrt(2 * 3 * 244140.625 * 12.8849)
    if mode == "zeros":
        assert (data[:, dead] == 0).all()
        assert (data[:, half][..., 1] == 0).all()
    else:
        assert data[:, dead & cross].real.std() == pytest.approx(expected_noise, rel=0.15)
        assert data[:, half][..., 1].real.std() == pytest.approx(expected_noise, rel=0.15)
    assert np.abs(data[:, half][..., 0]).mean() == pytest.approx(signal, rel=0.2)
    assert signal > 50 * expected_noise


def test_smearing_is_the_average_over_channel_and_integration():
    """Compares with a brute-force average; within an integration the phase center moves with the sky."""
    site = EarthLocation.from_geodetic(-118.2830 * u.deg, 37.2334051 * u.deg, 1188.0519 * u.m)
    ra_deg, dec_deg, width_hz, center_hz = 122.0, 55.4, 1_464_843.75, 1.4e9
    sky = point_sources([ra_deg], [dec_deg], [1.0], spectral_index=0.0)
    array = demo_array()
    smeared, sharp = (
        model_visibilities(np.array([START_MJD]), np.array([center_hz]), width_hz, 54.6, sky, array, smearing=on)[0, :, 0]
        for on in (True, False)
    )
    # brute force: positions of source and phase center at 41 times, from astropy, and 41 frequencies
    seconds = (np.arange(41) - 20) / 41 * 12.884901888
    instants = AltAz(obstime=Time(START_MJD + seconds / 86_400, format="mjd"), location=site, pressure=0 * u.hPa)
    middle = AltAz(obstime=Time(START_MJD, format="mjd"), location=site, pressure=0 * u.hPa)
    meridian = SkyCoord(az=0 * u.deg, alt=(90 - 54.6 + 37.2334051) * u.deg, frame=middle).transform_to("icrs")

    def enu(where):
        there = where.transform_to(instants)
        return np.stack([np.cos(there.alt) * np.sin(there.az), np.cos(there.alt) * np.cos(there.az), np.sin(there.alt)], axis=-1).value

    offset = enu(SkyCoord(np.full(41, ra_deg) * u.deg, np.full(41, dec_deg) * u.deg)) - enu(
        SkyCoord(np.full(41, meridian.ra.deg) * u.deg, np.full(41, meridian.dec.deg) * u.deg)
    )
    frequency = center_hz + (np.arange(41) - 20) / 41 * width_hz
    delay_s = array.baseline_enu_m() @ offset.T / 299_792_458.0
    averaged = np.exp(2j * np.pi * delay_s[..., np.newaxis] * frequency).mean(axis=(1, 2)) * np.abs(sharp).max()
    assert np.abs(sharp - averaged).max() > 0.05 * np.abs(sharp).max()  # the smearing matters
    np.testing.assert_allclose(smeared, averaged, atol=2e-3 * np.abs(sharp).max())
