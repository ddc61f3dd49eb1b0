"""Nights repeat the sky at the same sidereal time; faults do what their names say."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time

from dsa110_assets.simulation import faults
from dsa110_assets.simulation.array import demo_array, tiny_array
from dsa110_assets.simulation.band import BandPlan, demo_band
from dsa110_assets.simulation.night import demo_plan, simulate_night, tile_starts_mjd
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets.simulation.tile import simulate_tile

SITE = EarthLocation.from_geodetic(-118.2830 * u.deg, 37.2334051 * u.deg, 1188.0519 * u.m)
EMPTY = point_sources([], [], [])


@pytest.fixture(scope="module")
def plan():
    return demo_plan()


def visibilities(path):
    with h5py.File(path) as file:
        n_times, n_bls = file["Header/Ntimes"][()], file["Header/Nbls"][()]
        return file["Data/visdata"][()].reshape(n_times, n_bls, -1, 2)


def test_tiles_follow_each_other_every_309_seconds():
    np.testing.assert_allclose(np.diff(tile_starts_mjd(61_107.0, 5)) * 86_400, 309.237645, atol=1e-5)


def test_a_night_has_all_its_tiles_and_a_short_last_one(tmp_path):
    tiles = []
    truth = simulate_night(
        tmp_path,
        start_mjd=61_107.2,
        n_tiles=3,
        declination_deg=54.6,
        sky=EMPTY,
        array=tiny_array(),
        band=BandPlan(1),
        seed=1,
        restart_tiles=(0,),
        last_integrations=9,
        on_tile=lambda number, files: tiles.append((number, len(files))),
    )
    assert tiles == [(0, 16), (1, 16), (2, 16)]
    assert len(list(tmp_path.glob("*.hdf5"))) == 48
    starts = []
    for start, files in zip(truth.tile_start_mjd, truth.files, strict=True):
        with h5py.File(files[0]) as file:
            starts.append(file["Header/time_array"][0])
            assert starts[-1] == pytest.approx(start + 2_400_000.5, abs=1e-9)
    with h5py.File(truth.files[2][5]) as file:
        assert file["Header/Ntimes"][()] == 9
    spread = [np.ptp(np.array([f.name[:19] for f in files], dtype="datetime64[s]")).astype(int) for files in truth.files]
    assert spread[0] > 10
    assert spread[1] <= 3


def test_the_demo_nights_see_the_same_sky_at_the_same_sidereal_time(plan):
    times = Time([night.start_mjd for night in plan.nights], format="mjd")
    lst = times.sidereal_time("apparent", longitude=-118.2830 * u.deg).deg
    assert abs(np.diff(lst)[0]) * 3600 < 1.0
    assert [str(t.isot)[11:19] for t in times] == ["05:04:30", "05:00:34"]
    assert [night.date for night in plan.nights] == ["2026-03-12", "2026-03-13"]


@pytest.mark.parametrize("n_tiles", [1, 3, 12])
def test_the_calibrator_transits_where_the_plan_says(n_tiles):
    plan = demo_plan(n_tiles=n_tiles)
    starts = tile_starts_mjd(plan.nights[0].start_mjd, plan.n_tiles + 1)
    calibrator = SkyCoord(plan.sky.ra_deg[0] * u.deg, plan.sky.dec_deg[0] * u.deg)
    frame = AltAz(obstime=Time(starts, format="mjd"), location=SITE)
    east = np.sin(calibrator.transform_to(frame).az.rad) > 0
    assert plan.calibrator == "0834+555"
    assert east[plan.calibrator_tile]
    assert not east[plan.calibrator_tile + 1]
    assert plan.calibrator_tile == {1: 0, 3: 1, 12: 1}[n_tiles]


def test_the_demo_event_is_strong_and_inside_the_strip(plan):
    i = plan.sky.names.index(plan.event_source)
    before, after = (plan.sky.flux_at(night.start_mjd + 0.02)[i] for night in plan.nights)
    assert before == pytest.approx(0.7, rel=1e-3)
    assert after == pytest.approx(0.35, rel=1e-3)
    assert abs(plan.sky.dec_deg[i] - plan.declination_deg) < 0.7
    # every source of the demo is far above the noise of a tile with natural weighting
    noise_jy = 6500 / np.sqrt(2 * 24 * 23 * 187.5e6 * 309.24)
    assert noise_jy == pytest.approx(0.81e-3, rel=0.02)
    assert plan.sky.flux_jy.min() * 0.2 > 20 * noise_jy
    per_square_degree = len(plan.sky) / (26.7 * np.degrees(np.sin(np.radians(57.8)) - np.sin(np.radians(51.4))))
    assert 1.0 < per_square_degree < 2.5


def test_a_demo_night_ends_inside_an_integration_and_its_service_can_be_stale(tmp_path):
    plan = replace(demo_plan(n_tiles=2, min_jy=2.0), array=tiny_array(), band=BandPlan(1))
    for number, stale in enumerate((True, False)):
        truth = plan.simulate(tmp_path / str(number), number)
        for tile, last in enumerate(((96, 96), (40, 0))):
            with h5py.File(truth.files[tile][3]) as file:
                samples = file["Data/nsamples"][:, 0, 0, 0].reshape(24, -1)
                assert (samples[:22] == 96).all()
                assert tuple(samples[22:, 0]) == last
                assert file["Header/phase_center_app_dec"][()] == pytest.approx(np.radians(54.6))
                service = file["Header/extra_keywords/phase_center_dec"][()]
                assert (abs(service - np.radians(54.6)) > 0.5) == stale


def test_some_demo_sources_vary_mildly_between_the_nights(plan):
    first, second = (plan.sky.flux_at(night.start_mjd) for night in plan.nights)
    change = np.abs(second / first - 1)
    change[plan.sky.names.index(plan.event_source)] = 0
    assert 3 <= (change > 0.03).sum() <= 8
    assert change.max() < 0.35
    assert change[0] == 0


def test_a_satellite_is_broadband_and_transient(tmp_path):
    burst = faults.SatelliteBurst(flux_jy=5e5, first=3, n_integrations=2)
    files = simulate_tile(
        tmp_path, start_mjd=61_107.2, declination_deg=54.6, sky=EMPTY, array=tiny_array(), band=demo_band(), seed=1, n_integrations=8,
        receivers=Receivers.perfect(), interference=[burst], subbands=[1, 10],
    )  # fmt: skip
    far, inside = (np.abs(visibilities(path)).mean(axis=(1, 2, 3)) for path in files)
    assert (inside[3:5] > 20 * np.median(inside)).all()
    assert inside[[0, 1, 2, 5, 6, 7]].max() < 1.1 * np.median(inside)
    assert far.max() < 1.1 * np.median(far)


def test_a_carrier_stays_in_its_channel(tmp_path):
    carrier = faults.NarrowCarrier(frequency_hz=float(demo_band().frequencies_hz(6)[3]) + 2e5, flux_jy=1e4)
    files = simulate_tile(
        tmp_path, start_mjd=61_107.2, declination_deg=54.6, sky=EMPTY, array=tiny_array(), band=demo_band(), seed=1, n_integrations=3,
        noise=False, receivers=Receivers.perfect(), interference=[carrier], subbands=[5, 6, 7],
    )  # fmt: skip
    below, inside, above = (np.abs(visibilities(path)) for path in files)
    assert below.max() == 0
    assert above.max() == 0
    np.testing.assert_allclose(inside[:, :, 3], 1e4, rtol=1e-5)
    assert np.delete(inside, 3, axis=2).max() == 0


def test_pickup_is_on_short_baselines_only(tmp_path):
    array = demo_array()
    path = simulate_tile(
        tmp_path, start_mjd=61_107.2, declination_deg=54.6, sky=EMPTY, array=array, band=BandPlan(1), seed=1, n_integrations=1,
        noise=False, receivers=Receivers.perfect(), interference=[faults.ShortBaselineInterference(100.0, 60.0)], subbands=[0],
    )[0]  # fmt: skip
    length_m = np.linalg.norm(array.baseline_enu_m(), axis=1)
    amplitude = np.abs(visibilities(path))[0, :, 0, 0]
    short = (length_m > 0) & (length_m < 60)
    assert short.any()
    assert (amplitude[short] > 12).all()
    assert (amplitude[~short] == 0).all()


def test_each_fault_damages_a_file_as_named(tmp_path):
    files = simulate_tile(
        tmp_path, start_mjd=61_107.2, declination_deg=54.6, sky=EMPTY, array=tiny_array(), band=BandPlan(4), seed=1, n_integrations=4
    )
    faults.truncate(files[1])
    with pytest.raises(OSError, match="truncated"), h5py.File(files[1]):
        pass
    faults.overwrite_start(files[2])
    with pytest.raises(OSError, match="signature not found"), h5py.File(files[2]):
        pass
    faults.remove_header_item(files[3], "time_array")
    with h5py.File(files[3]) as file:
        assert "time_array" not in file["Header"]
    faults.fill_with_absurd_values(files[4], 1e37)
    faults.fill_with_absurd_values(files[5], float("nan"), dataset="nsamples")
    with h5py.File(files[4]) as file:
        assert (np.abs(file["Data/visdata"][: 4 * 36 // 4]) > 9e36).all()
        assert not file["Data/flags"][()].any()
    with h5py.File(files[5]) as file:
        assert np.isnan(file["Data/nsamples"][()]).sum() == 36 * 4 * 2
    foreign = faults.duplicate_subband_zero(files[7])
    assert foreign.name.endswith("_sb00.hdf5")
    with h5py.File(foreign) as file, h5py.File(files[0]) as real:
        assert file["Header/freq_array"][0, 0] != real["Header/freq_array"][0, 0]
        assert file["Header/time_array"][0] == real["Header/time_array"][0]
    half = faults.leave_incomplete(files[8])
    assert half.is_file()
    assert half.name.endswith("_incomplete.hdf5")
    assert not files[8].exists()
