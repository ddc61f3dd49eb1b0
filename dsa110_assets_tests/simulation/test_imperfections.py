"""Each imperfection of the simulated telescope has the size of its level, by a formula that is not the simulator's."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy.special import j1

from dsa110_assets.simulation.array import ArrayLayout, demo_array, full_array
from dsa110_assets.simulation.band import BandPlan, demo_band
from dsa110_assets.simulation.directions import local_sidereal_time_deg, meridian_enu, source_enu
from dsa110_assets.simulation.imperfect_sky import cataloged, polarized_fractions, resolved, true_sky
from dsa110_assets.simulation.imperfections import NONE, REAL, WRONG_CATALOG, Imperfections
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import Sky, point_sources
from dsa110_assets.simulation.tile import model_visibilities, simulate_tile

START_MJD = 61_107.2
DEC_DEG = 54.6
FREQUENCY_HZ = demo_band().frequencies_hz(7)
TIMES = START_MJD + np.arange(3) * 12.884901888 / 86_400
NUMBERS = full_array().antenna_order
BAND_HZ = np.concatenate([BandPlan(16).frequencies_hz(subband) for subband in range(16)])


def one_source(east_deg: float = 0.5, north_deg: float = 0.4) -> Sky:
    lst = local_sidereal_time_deg(START_MJD)
    return point_sources([lst + east_deg / np.cos(np.radians(DEC_DEG))], [DEC_DEG + north_deg], [1.0], spectral_index=0.0)


def seen(imperfections: Imperfections, sky: Sky | None = None, array: ArrayLayout | None = None) -> np.ndarray:
    """Visibilities (Ntimes, Nbls, Nfreqs, 2)."""
    model = model_visibilities(
        TIMES, FREQUENCY_HZ, 1.46e6, DEC_DEG, one_source() if sky is None else sky, array or demo_array(), imperfections=imperfections
    )
    return model if model.ndim == 4 else np.repeat(model[..., np.newaxis], 2, axis=3)


def pairs(array: ArrayLayout) -> tuple[np.ndarray, np.ndarray]:
    order = list(array.antenna_order)
    one, two = array.baselines()
    return np.array([order.index(a) for a in one]), np.array([order.index(a) for a in two])


def test_all_is_off_by_default_and_each_effect_has_a_switch():
    off = {name for names in Imperfections.EFFECTS.values() for name in names}
    assert all(not getattr(NONE, name) for name in off)
    assert all(getattr(REAL, name) for name in off)
    for effect, names in Imperfections.EFFECTS.items():
        alone = REAL.only(effect)
        assert {f.name for f in fields(alone) if getattr(alone, f.name) != getattr(NONE, f.name)} == set(names)
    assert WRONG_CATALOG.catalog_missing == 0.2
    assert not WRONG_CATALOG.in_directions
    assert (NONE.gains(NUMBERS[:5], FREQUENCY_HZ, TIMES) == 1).all()
    assert (NONE.system(NUMBERS) == 1).all()


def test_the_two_kernels_agree_for_a_perfect_telescope():
    sky = point_sources(
        [local_sidereal_time_deg(START_MJD) + d for d in (-2.0, 0.3, 1.9)],
        [54.0, 54.9, 56.1],
        [1.0, 2.0, 3.0],
        spectral_index=[-0.7, 0.2, -1],
    )
    for smearing in (False, True):
        perfect, general = (
            model_visibilities(TIMES, FREQUENCY_HZ, 1.46e6, DEC_DEG, sky, demo_array(), smearing=smearing, imperfections=one)
            for one in (NONE, Imperfections(pointing_arcmin=1e-9))
        )
        np.testing.assert_allclose(general, np.repeat(perfect[..., np.newaxis], 2, axis=3), atol=6e-6 * np.abs(perfect).max())


@pytest.mark.parametrize(("lag_s", "share"), [(3600.0, 1.0), (309.2376, np.sqrt(309.2376 / 3600)), (60.0, np.sqrt(60 / 3600))])
def test_gains_wander_like_a_random_walk(lag_s, share):
    """Brownian motion: the rms change grows with the square root of the lag."""
    level = REAL.only("gain phases wander", "gain amplitudes wander")
    start = START_MJD + np.random.default_rng(1).uniform(0, 3, 400)
    before, after = (level.gains(NUMBERS, FREQUENCY_HZ[:1], times) for times in (start, start + lag_s / 86_400))
    change_deg = np.degrees(np.angle(after / before))
    assert np.sqrt((change_deg**2).mean()) == pytest.approx(5.0 * share, rel=0.12)
    assert np.sqrt(((np.abs(after) - np.abs(before)) ** 2).mean()) == pytest.approx(0.02 * share, rel=0.12)


def test_gains_change_within_a_tile_and_between_integrations():
    """No interval of a solver is short enough to hold them constant."""
    times = START_MJD + np.arange(24) * 12.884901888 / 86_400
    phase = np.degrees(np.angle(REAL.only("gain phases wander").gains(NUMBERS, FREQUENCY_HZ[:1], times)))
    assert np.median(phase.std(axis=0)) > 0.2
    assert np.sqrt((np.diff(phase, axis=0) ** 2).mean()) > 0.1


def test_phases_jump_at_the_stated_rate():
    times = START_MJD + np.arange(0, 0.75, 1 / 1440)
    phase = np.degrees(np.angle(REAL.only("gain phases jump").gains(NUMBERS, FREQUENCY_HZ[:1], times)))[:, :, 0, :]
    jumps = (np.abs(np.diff(phase, axis=0)) > 1e-9).sum()
    expected = 0.1 * 18 * 192
    assert jumps == pytest.approx(expected, abs=4 * np.sqrt(expected))
    assert phase.std() == pytest.approx(10.0, rel=0.15)


def test_a_clock_step_has_the_phase_slope_of_its_delay():
    gains = REAL.only("clock steps").gains(NUMBERS, BAND_HZ, np.array([START_MJD]))[0]
    assert np.array_equal(gains[..., 0], gains[..., 1])  # both receptors of an antenna
    slope = np.polyfit(BAND_HZ - BAND_HZ.mean(), np.unwrap(np.angle(gains[..., 0]), axis=1).T, 1)[0]
    delay_ns = slope / (2 * np.pi) * 1e9
    assert delay_ns.std() == pytest.approx(0.05, rel=0.25)
    assert np.abs(np.angle(gains[..., 0]).mean(axis=1) - 2 * np.pi * delay_ns * 1e-9 * BAND_HZ.mean()).max() < 1e-6


def test_ripple_has_its_amplitude_and_is_another_one_the_next_night():
    ripple = REAL.only("bandpass ripple")
    tonight, later, tomorrow = (ripple.gains(NUMBERS, BAND_HZ, np.array([START_MJD + lag]))[0] - 1 for lag in (0, 0.1 / 24, 1.0))
    assert np.abs(tonight) == pytest.approx(0.01, rel=1e-9)
    assert np.abs(tonight).std(axis=1).max() < 1e-9
    assert (np.abs(tonight) ** 2).mean() == pytest.approx(1e-4)

    def correlation(other):
        return abs((tonight * other.conj()).real.sum() / (np.abs(tonight) ** 2).sum())

    assert correlation(later) > 0.9
    assert correlation(tomorrow) < 3 / np.sqrt(192)
    real = tonight[:, :, 0].real
    assert (np.diff(np.sign(real), axis=1) != 0).sum(axis=1).min() > 2 * 187.5e6 / 10.5e6 - 3  # two zeros in each period of at most 10 MHz


@pytest.mark.parametrize("effect", ["pointing errors", "beam widths", "receptors differ"])
def test_beams_are_those_of_displaced_and_scaled_airy_disks(effect):
    """The ratio to a perfect dish from spherical trigonometry (astropy) and scipy's Bessel function."""
    level, array, sky = REAL.only(effect), demo_array(), one_source()
    ratio = seen(level, sky) / seen(NONE, sky)
    enu = source_enu(sky.ra_deg, sky.dec_deg, TIMES)[:, 0]
    axis = meridian_enu(DEC_DEG)

    def on_sky(vector):
        return SkyCoord(np.arctan2(vector[..., 0], vector[..., 1]) * u.rad, np.arcsin(vector[..., 2]) * u.rad)

    east = np.array([1.0, 0, 0])
    north = np.cross(axis, east)
    rng_axis = np.array([np.random.default_rng([1, n, 10]).standard_normal(2) for n in array.antenna_order])
    rng_width = np.array([np.random.default_rng([1, n, 11]).standard_normal() for n in array.antenna_order])
    expected = np.empty((len(TIMES), array.n_antennas, 2, len(FREQUENCY_HZ)))
    for antenna in range(array.n_antennas):
        offset = np.radians(level.pointing_arcmin / 60) * rng_axis[antenna]
        pointing = axis * np.sqrt(1 - (offset**2).sum()) + offset[0] * east + offset[1] * north
        apart = on_sky(enu).separation(on_sky(pointing)).rad
        angle = on_sky(pointing).position_angle(on_sky(enu)).rad
        for pol, (wide, narrow) in enumerate(((1, -1), (-1, 1))):
            stretch_east, stretch_north = (1 + sign * level.receptor_beams / 2 for sign in (wide, narrow))
            scaled = apart * np.hypot(np.sin(angle) / stretch_east, np.cos(angle) / stretch_north)
            width = 1 + level.beam_width * rng_width[antenna]
            x, x0 = (
                np.pi * 4.65 * np.sin(theta)[:, np.newaxis] * FREQUENCY_HZ / 299_792_458.0
                for theta in (scaled / width, on_sky(enu).separation(on_sky(axis)).rad)
            )
            expected[:, antenna, pol] = (j1(x) / x) / (j1(x0) / x0)
    one, two = pairs(array)
    np.testing.assert_allclose(ratio, np.moveaxis(expected[:, one] * expected[:, two], 2, 3), atol=1e-3)
    assert 0.003 < np.sqrt((np.abs(ratio - 1) ** 2).mean()) < 0.2


def test_pointing_errors_at_the_half_power_point_follow_the_gaussian_beam():
    """Voltage ``exp(-2 ln 2 (theta / FWHM)^2)``: an offset at FWHM / 2 changes it by ``2 ln 2 (offset / FWHM)``."""
    level, fwhm_deg = REAL.only("pointing errors"), 2.7
    half = np.full((1, 1), np.sin(np.radians(fwhm_deg / 2)))
    voltage = level.voltage_beams(NUMBERS, half, np.zeros((1, 1)), 1.4e9, 4.65)[0, :, 0, 0]
    assert (voltage / voltage.mean()).std() == pytest.approx(2 * np.log(2) * (5 / 60) / fwhm_deg, rel=0.2)
    assert (voltage**2).mean() == pytest.approx(0.5, abs=0.03)


def test_leakage_is_that_of_jones_matrices():
    """``J_1 B J_2^H`` with ``B = [[I + Q, U], [U, I - Q]]`` (Hamaker, Bregman & Sault 1996), as numpy multiplies it."""
    level, array, sky = REAL.only("leakage"), demo_array(), one_source()
    ratio = seen(level, sky) / seen(NONE, sky)
    q, stokes_u = polarized_fractions(sky, level, FREQUENCY_HZ)[:, :, 0]
    d = level.leakages(array.antenna_order)
    jones = np.array([[[1, leak[0]], [leak[1], 1]] for leak in d])
    one, two = pairs(array)
    for f in range(len(FREQUENCY_HZ)):
        brightness = np.array([[1 + q[f], stokes_u[f]], [stokes_u[f], 1 - q[f]]])
        product = jones[one] @ brightness @ np.conj(np.swapaxes(jones[two], 1, 2))
        np.testing.assert_allclose(
            ratio[:, :, f], np.broadcast_to(np.stack([product[:, 0, 0], product[:, 1, 1]], 1), ratio[:, :, f].shape), atol=2e-5
        )
    assert np.sqrt((np.abs(level.leakages(NUMBERS)) ** 2).mean()) == pytest.approx(0.01, rel=0.1)
    many = polarized_fractions(point_sources(list(np.zeros(2000)), list(np.zeros(2000)), list(np.ones(2000))), level, FREQUENCY_HZ[:1])
    assert np.hypot(*many).mean() == pytest.approx(0.02, rel=0.1)


def phases(level: Imperfections, sky: Sky, array: ArrayLayout | None = None) -> np.ndarray:
    """Phase that the ionosphere adds on each baseline, (Ntimes, Nbls, Nfreqs)."""
    return np.angle(seen(level, sky, array)[..., 0] / seen(NONE, sky, array)[..., 0])


def test_the_ionosphere_is_0_02_tecu_over_the_array_and_inverse_to_frequency():
    """1 TECU is ``2 pi 40.308e16 / (c f)``, 6.03 rad at 1.4 GHz; 0.02 TECU over 2.6 km are 6.9 deg at the zenith."""
    longest = ArrayLayout((109, 115, 50))  # stations 110, 116 and 51
    length = np.linalg.norm(longest.baseline_enu_m(), axis=1)
    squares = [phases(replace(REAL.only("ionosphere"), seed=seed), one_source(0.0, 0.0), longest)[0, :, 4] ** 2 for seed in range(1, 60)]
    cross = length > 0
    expected_rad = 40.308e16 * 2 * np.pi / (299_792_458.0 * FREQUENCY_HZ[4]) * 0.02 * (length[cross] / 2600) ** (5 / 6)
    expected_rad /= np.cos(np.radians(DEC_DEG - 37.23))
    np.testing.assert_allclose(np.sqrt(np.mean(squares, axis=0))[cross], expected_rad, rtol=0.3)
    one = phases(REAL.only("ionosphere"), one_source())
    np.testing.assert_allclose(one[..., 0] * FREQUENCY_HZ[0], one[..., -1] * FREQUENCY_HZ[-1], atol=1e-4 * FREQUENCY_HZ[0])


def test_the_ionosphere_leaves_the_closure_phases_of_one_source_and_differs_between_directions():
    """Closure phases are free of what belongs to antennas; no gain is right in two directions."""
    level, array = REAL.only("ionosphere"), demo_array()
    there, here = (phases(level, one_source(*place))[..., 4] for place in ((-1.0, -0.7), (0.8, 0.5)))
    index = {pair: k for k, pair in enumerate(zip(*pairs(array), strict=True))}
    triangles = [(index[0, j], index[j, k], index[0, k]) for j in range(1, 24) for k in range(j + 1, 24)]
    first, second, third = np.array(triangles).T
    assert np.abs(here[:, first] + here[:, second] - here[:, third]).max() < 1e-4
    assert np.degrees(here.std()) > 1.0
    assert (there - here).std() > 0.2 * here.std()
    times = START_MJD + np.array([0, 24 * 12.9]) / 86_400
    enu = source_enu(one_source().ra_deg, one_source().dec_deg, times)
    place = array.enu_m[list(array.antenna_order)]
    electrons = level.electrons(place[:, 0], place[:, 1], enu, times)[:, :, 0]
    electrons -= electrons.mean(axis=1, keepdims=True)
    assert (electrons[1] - electrons[0]).std() > 0.3 * electrons[0].std()  # another one at the end of a tile


def test_receptors_have_their_own_noise(tmp_path):
    import h5py

    level, array = REAL.only("receptors differ"), ArrayLayout((102, 3, 19))
    path = simulate_tile(
        tmp_path, start_mjd=START_MJD, declination_deg=DEC_DEG, sky=point_sources([], [], []), array=array, band=BandPlan(48), seed=1,
        n_integrations=24, receivers=Receivers.perfect(), subbands=[4], imperfections=level,
    )[0]  # fmt: skip
    with h5py.File(path) as file:
        data = file["Data/visdata"][()].reshape(24, 6, 48, 2)
    one, two = pairs(array)
    system = level.system(array.antenna_order)
    expected = 6500 / np.sqrt(2 * 244140.625 * 12.8849) * np.sqrt(system[one] * system[two])
    cross = one != two
    np.testing.assert_allclose(data.real.std(axis=(0, 2))[cross], expected[cross], rtol=0.08)
    np.testing.assert_allclose(data.real.mean(axis=(0, 2))[~cross], 6500 * system[one][~cross], rtol=0.01)
    assert np.log(level.system(NUMBERS)).std() == pytest.approx(0.1, rel=0.15)


def test_a_dead_antenna_has_noise_and_a_turned_one_44_degrees(tmp_path):
    turned = REAL.only("a turned antenna")
    times = START_MJD + np.array([0, 900, 1800]) / 86_400
    gains = turned.gains(NUMBERS, FREQUENCY_HZ, times)
    number = NUMBERS.index(87)
    assert np.abs(np.degrees(np.angle(gains[1:, number] / gains[:-1, number]))) == pytest.approx(44.0)
    assert (np.delete(gains, number, axis=1) == 1).all()
    dead = REAL.only("a dead antenna").receivers(Receivers(seed=2))
    working = dead.working(NUMBERS)
    assert list(np.flatnonzero(~working.any(axis=1))) == [NUMBERS.index(7)]
    assert (np.abs(dead.gains(NUMBERS, FREQUENCY_HZ, times)) > 0).all()
    assert {7, 87} <= set(demo_array().antenna_order)


def fraction_flagged(directory, level: Imperfections) -> float:
    """Share of the cells with a satellite above half a sigma of the noise that the flagger marks."""
    from casacore.tables import table

    from dsa110_assets.conversion import convert_observation
    from dsa110_assets.simulation.emission import TileContext

    array, band = demo_array(), demo_band()
    files = simulate_tile(
        directory / "raw", start_mjd=START_MJD, declination_deg=DEC_DEG, sky=one_source(), array=array, band=band, seed=1,
        receivers=Receivers.perfect(), imperfections=level,
    )  # fmt: skip
    convert_observation(dict(enumerate(files)), directory / "a.ms")
    with table(str(directory / "a.ms"), ack=False) as main:
        cross = main.getcol("ANTENNA1") != main.getcol("ANTENNA2")
        flag = main.getcol("FLAG").reshape(24, -1, 128, 2)[:, cross.reshape(24, -1)[0]]
    frequency = np.concatenate([band.frequencies_hz(s) for s in range(16)])[::-1]
    context = TileContext(START_MJD + np.arange(24) * 12.884901888 / 86_400, frequency, array.baseline_enu_m(), DEC_DEG, 1)
    (source,) = level.interference()
    assert len(source.bursts(context)) >= 3
    flux = sum(emission.flux_jy for emission in source.emissions(context))
    there = flux > 0.5 * 6500 / np.sqrt(2 * band.channel_width_hz * 12.8849)
    assert there.any()
    assert flag[~np.isin(np.arange(24), np.flatnonzero(there.any(axis=1)))].mean() < 0.01
    return float(flag.mean(axis=(1, 3))[there].mean())


def test_the_flagger_finds_about_half_of_the_satellites(tmp_path):
    level = replace(REAL.only("satellites"), satellites_per_hour=70.0)
    assert 0.25 < fraction_flagged(tmp_path, level) < 0.75


# --- the sky ----------------------------------------------------------------------------------------------------------
def many(n: int = 4000, flux_jy: float = 0.2) -> Sky:
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, n), rng.uniform(40, 60, n)
    return replace(point_sources(list(ra), list(dec), [flux_jy] * n), names=("0834+555", *(f"J{i}" for i in range(1, n))))


def test_sizes_follow_windhorst_and_keep_fluxes_and_centroids():
    sky = many()
    parts = resolved(sky, REAL.only("extended sources"))
    of = np.array([int(name.split("#")[0][1:]) if name != "0834+555" else 0 for name in parts.names])
    np.testing.assert_allclose(np.bincount(of, parts.flux_jy), sky.flux_jy)
    north = (parts.dec_deg - sky.dec_deg[of]) * 3600
    east = (parts.ra_deg - sky.ra_deg[of] + 180) % 360 - 180
    east *= 3600 * np.cos(np.radians(parts.dec_deg))
    weight = parts.flux_jy / sky.flux_jy[of]
    assert np.abs(np.bincount(of, weight * north)).max() < 1e-6
    count = np.bincount(of)
    assert count[0] == 1
    median = 2.0 * 200**0.3
    resolved_share = 2 ** -((1 / median) ** 0.62)  # the others are smaller than an arcsecond
    assert (count > 1).mean() == pytest.approx(0.3 * resolved_share, abs=0.02)
    assert (count == 2).sum() == pytest.approx((count == 7).sum(), rel=0.2)
    # the size: distance of a double's components; the FWHM of a Gaussian, whose square is 8 ln 2 times the variance
    variance = np.bincount(of, weight * north**2) + np.bincount(of, weight * east**2)
    first = np.flatnonzero(np.diff(of, prepend=-1))
    double = count == 2
    separation = np.hypot(north[first + double] - north[first], east[first + double] - east[first])
    size = np.where(double, separation, np.sqrt(8 * np.log(2) * variance / 2))[count > 1]
    for factor in (0.5, 1.0, 3.0):
        assert (size > factor * median).mean() == pytest.approx(2 ** -(factor**0.62) / resolved_share, abs=0.05)
    assert size.max() <= 90.001


def test_a_round_source_has_the_visibility_of_a_gaussian():
    """``exp(-(pi theta q)^2 / (4 ln 2))`` with the FWHM theta on baselines of q wavelengths, while it is above 0.8."""
    sky = one_source()
    for seed in range(1, 200):
        level = Imperfections(seed=seed, extended=1.0)
        parts = resolved(sky, level)
        if len(parts) == 7:
            break
    radius_rad = np.radians(np.hypot((parts.ra_deg - sky.ra_deg) * np.cos(np.radians(DEC_DEG)), parts.dec_deg - sky.dec_deg).max())
    fwhm = np.sqrt(8 * np.log(2)) * radius_rad * np.sqrt(6 / 7 / 2)
    ratio = seen(level, sky)[..., 0] / seen(NONE, sky)[..., 0]
    enu = source_enu(sky.ra_deg, sky.dec_deg, TIMES)[0, 0]
    baseline = demo_array().baseline_enu_m()
    q = np.linalg.norm(baseline - (baseline @ enu)[:, np.newaxis] * enu, axis=1)[:, np.newaxis] * FREQUENCY_HZ / 299_792_458.0
    expected = np.exp(-((np.pi * fwhm * q) ** 2) / (4 * np.log(2)))
    near = expected > 0.8
    assert near.sum() > 50
    np.testing.assert_allclose(ratio[0][near], expected[near], atol=0.01)


def test_the_catalog_lacks_a_fifth_has_errors_of_10_percent_and_does_not_know_the_variables():
    sky = many()
    true, known = true_sky(sky, REAL), cataloged(sky, REAL)
    assert 1 - len(known) / len(sky) == pytest.approx(0.2, abs=0.02)
    index = [sky.names.index(name) for name in known.names]
    assert (known.flux_jy / sky.flux_jy[index] - 1).std() == pytest.approx(0.1, rel=0.05)
    assert known.flux_jy[known.names.index("0834+555")] == 0.2
    fluxes = np.array([true.flux_at(START_MJD + day) for day in range(60)])
    varies = np.ptp(fluxes, axis=0) > 1e-9
    assert varies.mean() == pytest.approx(0.1, abs=0.02)
    assert not varies[0]
    assert (fluxes[:, varies].std(axis=0) / 0.2).mean() == pytest.approx(0.3 / np.sqrt(2), rel=0.1)  # amplitudes of 0.1 to 0.5
    assert np.abs(fluxes[:, varies].mean() / 0.2 - 1) < 0.02
    assert true.spectral_index.std() == pytest.approx(0.3, rel=0.05)
    assert np.array_equal(true.flux_jy, sky.flux_jy)


def test_the_sky_of_a_source_does_not_depend_on_its_neighbors():
    sky = many(50)
    few = sky.select(np.arange(10, 20))
    alone, together = true_sky(few, REAL), true_sky(sky, REAL).select(np.arange(10, 20))
    assert np.array_equal(alone.spectral_index, together.spectral_index)
    assert alone.light_curves == together.light_curves
    assert set(cataloged(few, REAL).names) == set(cataloged(sky, REAL).names) & set(few.names)


def test_a_demo_night_with_a_wrong_catalog_has_another_sky_than_its_references(tmp_path):
    import pandas as pd

    from dsa110_assets.simulation.night import demo_plan

    plan, perfect = demo_plan(imperfections=WRONG_CATALOG), demo_plan()
    plan.write_references(tmp_path)
    plan.write_truth(tmp_path)
    known, truth = pd.read_parquet(tmp_path / "nvss.parquet"), pd.read_parquet(tmp_path / "truth.parquet")
    assert len(truth) == len(perfect.sky)
    assert 0.7 < len(known) / len(truth) < 0.9
    monitored = pd.read_csv(tmp_path / "monitored.csv")
    assert plan.event_source in set(monitored["name"])
    assert (truth["light_curve"] == "Sinusoid").sum() > len(monitored) + 5
    pd.testing.assert_frame_equal(
        known, pd.DataFrame({"ra_deg": plan.catalog.ra_deg, "dec_deg": plan.catalog.dec_deg, "peak_jy_per_beam": plan.catalog.flux_jy})
    )
    assert np.array_equal(perfect.catalog.flux_jy, perfect.sky.flux_jy)


def test_the_command_simulates_the_imperfect_telescope(tmp_path, capsys):
    import h5py

    from dsa110_assets.cli import main

    data = {}
    for truth in ("perfect", "real"):
        arguments = ["simulate", "tile", str(tmp_path / truth), "--size", "tiny", "--min-jy", "0.5", "--truth", truth]
        assert main.run(arguments) == 0, capsys.readouterr().err
        with h5py.File(next((tmp_path / truth).glob("*_sb03.hdf5"))) as file:
            data[truth] = file["Data/visdata"][()]
    change = data["real"] / data["perfect"]
    autos = np.abs(data["perfect"]) > 10
    assert 0.02 < np.abs(change[autos] - 1).std() < 1
