"""Raw files equal the correlator's: names, layout, every header item."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from dsa110_assets.simulation.array import ACTIVE_STATIONS, ArrayLayout, demo_array, full_array, station_geodetic, tiny_array
from dsa110_assets.simulation.band import BandPlan, demo_band, full_band
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets.simulation.tile import NameJitter, simulate_tile
from dsa110_assets_tests.reference_data import reference_data

HEADER_TYPES = {
    "latitude": "f8", "longitude": "f8", "altitude": "f8", "phase_center_app_dec": "f8", "channel_width": "f8",
    "telescope_name": "S", "instrument": "S", "object_name": "S", "history": "S", "phase_type": "S",
    "Nants_data": "i8", "Nants_telescope": "i8", "Nbls": "i8", "Nblts": "i8", "Nfreqs": "i8", "Npols": "i8", "Ntimes": "i8", "Nspws": "i8",
    "antenna_diameters": "f8", "ant_1_array": "i8", "ant_2_array": "i8", "antenna_names": "S4", "antenna_numbers": "i8",
    "uvw_array": "f4", "time_array": "f8", "integration_time": "f8", "freq_array": "f8", "spw_array": "i8", "polarization_array": "i8",
    "antenna_positions": "f8",
}  # fmt: skip


def read(path: Path) -> tuple[dict, dict]:
    with h5py.File(path) as file:
        header = {key: item[()] for key, item in file["Header"].items() if isinstance(item, h5py.Dataset)}
        extra = {key: item[()] for key, item in file["Header/extra_keywords"].items()}
    return header, extra


def one_subband(tmp_path: Path, subband: int = 0, **options) -> Path:
    settings = {
        "start_mjd": 61_107.2, "declination_deg": 54.6, "sky": point_sources([120.0], [54.0], [1.0]), "array": tiny_array(),
        "band": BandPlan(2), "seed": 1, "n_integrations": 2, "subbands": [subband],
    }  # fmt: skip
    return simulate_tile(tmp_path, **(settings | options))[0]


def test_header_has_exactly_the_items_and_types_of_the_telescope(tiny_raw_tile):
    header, extra = read(tiny_raw_tile.files[3])
    assert set(header) == set(HEADER_TYPES)
    for key, expected in HEADER_TYPES.items():
        assert np.asarray(header[key]).dtype.str.lstrip("<|").startswith(expected), key
    assert set(extra) == {"phase_center_dec", "ha_phase_center", "phase_center_epoch", "fs_table", "applied_delays_ns"}
    assert header["telescope_name"] == b"OVRO_MMA"
    assert header["phase_type"] == b"drift"
    assert extra["phase_center_epoch"] == b"HADEC"
    assert extra["ha_phase_center"] == 0.0
    with h5py.File(tiny_raw_tile.files[3]) as file:  # the writer stores a plain string here, and fixed lengths elsewhere
        texts = {key: h5py.check_string_dtype(item.dtype) for key, item in file["Header/extra_keywords"].items()}
    assert texts["phase_center_epoch"].length is None
    assert texts["fs_table"].length is not None
    assert len(extra["applied_delays_ns"].split()) == 234
    assert header["Nants_telescope"] == 117
    assert header["antenna_names"][102] == b"103"
    assert list(header["antenna_numbers"]) == list(range(117))
    assert header["freq_array"].shape == (1, 4)
    assert header["phase_center_app_dec"] == pytest.approx(np.radians(54.6), abs=1e-15)


def test_data_have_the_old_layout_types_and_chunks(tmp_path):
    path = one_subband(tmp_path, array=demo_array(), band=full_band())
    n_blts = 300 * 2
    with h5py.File(path) as file:
        data = file["Data"]
        assert set(data) == {"visdata", "flags", "nsamples"}
        for key, dtype, chunks in (
            ("visdata", np.complex64, (128, 1, 12, 1)),
            ("flags", np.bool_, (256, 1, 24, 1)),
            ("nsamples", np.float32, (256, 1, 12, 1)),
        ):
            assert data[key].shape == (n_blts, 1, 48, 2)
            assert data[key].dtype == dtype
            assert data[key].chunks == chunks
            assert data[key].compression is None
        assert not data["flags"][()].any()
        assert (data["nsamples"][()] == 96).all()


def test_full_band_has_the_telescope_frequencies():
    top, bottom = full_band().frequencies_hz(0), full_band().frequencies_hz(15)
    np.testing.assert_allclose([top[0], top[-1]], [1498.6431884766e6, 1487.1685791e6], atol=100)
    np.testing.assert_allclose([bottom[0], bottom[-1]], [1322.8619385e6, 1311.3873291e6], atol=100)
    assert full_band().channel_width_hz == 244140.625


@pytest.mark.parametrize("n_channels", [1, 4, 8, 16])
def test_coarser_bands_cover_the_same_frequencies(n_channels):
    band = BandPlan(n_channels)
    for subband in range(16):
        fine = full_band().frequencies_hz(subband).reshape(n_channels, -1)
        np.testing.assert_allclose(band.frequencies_hz(subband), fine.mean(axis=1), rtol=1e-14)


def test_channels_descend_and_subband_zero_is_the_top(tiny_raw_tile):
    frequencies = np.concatenate([read(path)[0]["freq_array"][0] for path in tiny_raw_tile.files])
    assert (np.diff(frequencies) < 0).all()
    assert read(tiny_raw_tile.files[0])[0]["channel_width"] > 0


def test_times_are_bit_identical_in_the_sixteen_files(tiny_raw_tile):
    times = [read(path)[0]["time_array"] for path in tiny_raw_tile.files]
    assert len(times) == 16
    assert all(np.array_equal(times[0], t) for t in times)
    assert times[0][0] == tiny_raw_tile.start_mjd + 2_400_000.5
    np.testing.assert_allclose(np.diff(np.unique(times[0])) * 86_400, 12.884901888, atol=1e-4)


def test_uvw_are_single_precision_and_the_same_at_all_times(tiny_raw_tile):
    header, _ = read(tiny_raw_tile.files[0])
    uvw = header["uvw_array"].reshape(header["Ntimes"], header["Nbls"], 3)
    assert uvw.dtype == np.float32
    assert (uvw == uvw[:1]).all()
    length = np.linalg.norm(header["antenna_positions"][header["ant_2_array"]] - header["antenna_positions"][header["ant_1_array"]], axis=1)
    np.testing.assert_allclose(np.linalg.norm(header["uvw_array"], axis=1), length, atol=1e-3)


def test_rows_have_the_correlators_order(tiny_raw_tile):
    header, _ = read(tiny_raw_tile.files[0])
    order = list(tiny_raw_tile.array.antenna_order)
    expected = [(order[j], order[i]) for i in range(len(order)) for j in range(i + 1)]
    pairs = list(zip(header["ant_1_array"], header["ant_2_array"], strict=True))
    assert pairs == expected * header["Ntimes"]
    assert (header["ant_1_array"] > header["ant_2_array"]).any()
    assert (header["ant_1_array"] < header["ant_2_array"]).any()


def test_pyuvdata_reads_the_files(tiny_raw_tile):
    """Uses ``run_check=False``: pyuvdata's check needs float64 uvw, which the telescope's files do not have."""
    from pyuvdata import UVData

    data = UVData.from_file(tiny_raw_tile.files[2], file_type="uvh5", run_check=False)
    assert data.data_array.shape == (6 * 36, 4, 2)
    assert data.telescope.name == "OVRO_MMA"
    np.testing.assert_allclose(data.telescope.location.geodetic.lon.rad, -2.064427799136453, atol=1e-14)
    np.testing.assert_allclose(np.degrees(np.ptp(data.lst_array)), 5 * 12.884901888 * 360 / 86164.0905, rtol=1e-3)
    data.uvw_array = data.uvw_array.astype(np.float64)
    with pytest.warns(UserWarning, match="uvw_array does not match"):  # it assumes the zenith for "drift"; the data are at the meridian
        assert data.check()


# column of the real header: our value from header and extra keywords, largest difference
REAL_HEADER = {
    "channel_width_hz": (lambda h, _: -h["channel_width"], 0.0),  # the column holds the step of the frequencies
    "integration_time_sec": (lambda h, _: h["integration_time"], 0.0),
    "time_span_sec": (lambda h, _: np.ptp(h["time_array"]) * 86_400, 1e-4),
    "time_array_mjd": (lambda h, _: h["time_array"], 1e-9),  # Julian dates; days
    "nbls": (lambda h, _: h["Nbls"], 0),
    "nblts": (lambda h, _: h["Nblts"], 0),
    "npol": (lambda h, _: h["Npols"], 0),
    "nspws": (lambda h, _: h["Nspws"], 0),
    "polarization_array": (lambda h, _: h["polarization_array"], 0),
    "freq_array_hz": (lambda h, _: h["freq_array"][0], 0.1),
    "nfreqs": (lambda h, _: 8 * h["Nfreqs"], 0),  # the real file holds eight subbands
    "extra_keywords_ha_phase_center": (lambda _, e: e["ha_phase_center"], 0.0),
    "extra_keywords_phase_center_dec": (lambda _, e: e["phase_center_dec"], 1e-12),
    "extra_keywords_phase_center_epoch": (lambda _, e: e["phase_center_epoch"].decode(), None),
    "extra_keywords_applied_delays_ns": (lambda _, e: [len(e["applied_delays_ns"].split())], None),
}
NOT_IN_A_RAW_HEADER = {"filename", "lst_array_rad", "lst_step_rad", "uvw_order"}
"""Columns that whoever made the table added; the site's sidereal times have their own test."""


@pytest.fixture(scope="module")
def real_header():
    import pandas as pd

    return pd.read_parquet(reference_data("reference_header.parquet")).iloc[0]


@pytest.fixture(scope="module")
def like_the_real_file(real_header, tmp_path_factory):
    """Header, extra keywords and data of sb00 of the same observation with the full array."""
    path = one_subband(
        tmp_path_factory.mktemp("real"),
        start_mjd=float(real_header["time_array_mjd"][0] - 2_400_000.5),
        declination_deg=float(np.degrees(real_header["extra_keywords_phase_center_dec"])),
        array=ArrayLayout(full_array().antenna_order),
        band=full_band(),
        n_integrations=24,
        noise=False,
    )
    return read(path)


@pytest.mark.parametrize("column", REAL_HEADER)
def test_header_agrees_with_that_of_a_real_file(real_header, like_the_real_file, column):
    ours, tolerance = REAL_HEADER[column]
    ours, real = ours(*like_the_real_file), real_header[column]
    if column == "extra_keywords_applied_delays_ns":
        real = [len(real.split())]
    if column == "freq_array_hz":
        real = real[:48]
    if tolerance is None:
        assert ours == real
    else:
        np.testing.assert_allclose(ours, real, rtol=0, atol=tolerance)


def test_every_column_of_the_real_header_is_compared(real_header):
    assert set(real_header.index) == REAL_HEADER.keys() | NOT_IN_A_RAW_HEADER


def samples_and_data(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of samples and data by integration, (Ntimes, Nbls, Nfreqs, 2)."""
    with h5py.File(path) as file:
        shape = (file["Header/Ntimes"][()], file["Header/Nbls"][()], file["Header/Nfreqs"][()], 2)
        return file["Data/nsamples"][()].reshape(shape), file["Data/visdata"][()].reshape(shape)


def test_the_last_integrations_of_a_run_can_be_partial_and_empty(tmp_path):
    options = {"n_integrations": 4, "receivers": Receivers.perfect(), "noise": False}
    samples, data = samples_and_data(one_subband(tmp_path / "ending", ending=(40, 0), **options))
    whole_samples, whole = samples_and_data(one_subband(tmp_path / "whole", **options))
    assert set(np.unique(whole_samples)) == {np.float32(96)}
    for number, expected in enumerate((96, 96, 40, 0)):
        assert set(np.unique(samples[number])) == {np.float32(expected)}
    assert np.isnan(data[3].real).all()  # the mean of no complex samples is NaN in both parts
    assert np.isnan(data[3].imag).all()
    np.testing.assert_array_equal(data[:2], whole[:2])
    assert np.isfinite(data[2]).all()
    header, _ = read(one_subband(tmp_path / "again", ending=(40, 0), **options))
    np.testing.assert_array_equal(header["time_array"], read(one_subband(tmp_path / "other", **options))[0]["time_array"])
    assert set(header["integration_time"]) == {12.884902000427246}


def test_a_partial_integration_is_the_mean_of_its_first_samples(tmp_path):
    """Sum the correlator's 96 samples one by one, each with the direction of the source at its own time."""
    from dsa110_assets.simulation.directions import meridian_enu, sky_rotation_rate, source_enu

    start_mjd, dec_deg, array, band, kept = 61_107.2, 54.6, demo_array(), full_band(), 30
    sky = point_sources([121.5], [55.2], [1.0])
    path = one_subband(
        tmp_path, start_mjd=start_mjd, sky=sky, array=array, band=band, n_integrations=1, ending=(kept,), receivers=Receivers.perfect(),
        noise=False, smearing=True,
    )  # fmt: skip
    offset_s = (np.arange(96)[:kept] - 47.5) * 0.134217728
    axis = meridian_enu(dec_deg)
    rate = sky_rotation_rate(axis)
    center = axis + offset_s[:, None] * rate  # the correlator stops the fringes of the direction that transits at mid-integration
    source = source_enu(sky.ra_deg, sky.dec_deg, start_mjd + offset_s / 86_400)[:, 0]
    delay_s = (source - center) @ array.baseline_enu_m().T / 299_792_458.0  # (samples, Nbls)
    phasor = np.exp(2j * np.pi * delay_s[:, :, None] * band.frequencies_hz(0)).mean(axis=0)
    _, data = samples_and_data(path)
    cross = np.linalg.norm(array.baseline_enu_m(), axis=1) > 0
    ours = data[0, cross, :, 0]
    turned = np.angle(ours * np.conj(phasor[cross]))
    assert np.abs(turned).max() < 0.01
    assert np.ptp(np.angle(phasor[cross] * np.conj(phasor[cross][:1]))) > 3  # the phases themselves are all over the circle


def test_site_longitude_gives_the_sidereal_times_of_a_real_file():
    """The real header's LSTs select one of the published longitudes: pyuvdata computed them from the header's site."""
    import pandas as pd

    from dsa110_assets.simulation.directions import local_sidereal_time_deg

    real = pd.read_parquet(reference_data("reference_header.parquet")).iloc[0]
    difference_arcsec = 3600 * (
        local_sidereal_time_deg(float(real["time_array_mjd"][0]) - 2_400_000.5) - np.degrees(real["lst_array_rad"][0])
    )
    assert abs(difference_arcsec) < 0.05


def test_station_positions_equal_the_published_ones():
    rows = [line.split(",") for line in reference_data("DSA110_Station_Coordinates.csv").read_text().splitlines()]
    published = {int(row[1][4:]): row[2:5] for row in rows if len(row) > 4 and re.fullmatch(r"DSA-\d{3}", row[1]) and row[2].strip()}
    assert sorted(published) == list(range(1, 118))
    ours = station_geodetic()
    for station, (latitude, longitude, elevation) in published.items():
        np.testing.assert_allclose(ours[station - 1, :2], [float(latitude), float(longitude)], rtol=0, atol=1e-10)
        if elevation.strip():
            assert ours[station - 1, 2] == float(elevation)


def test_positions_equal_astropys_itrf():
    from astropy import units as u
    from astropy.coordinates import EarthLocation

    geodetic = station_geodetic()
    itrf = EarthLocation.from_geodetic(geodetic[:, 1] * u.deg, geodetic[:, 0] * u.deg, geodetic[:, 2] * u.m)
    site = EarthLocation.from_geodetic(-118.2830 * u.deg, 37.2334051 * u.deg, 1188.0519 * u.m)
    expected = np.stack([(itrf.x - site.x).value, (itrf.y - site.y).value, (itrf.z - site.z).value], axis=-1)
    np.testing.assert_allclose(full_array().itrf_offset_m, expected, rtol=0, atol=1e-6)


def test_the_arrays_have_their_documented_antennas():
    assert full_array().n_antennas == 96
    assert full_array().baselines()[0].size == 4656
    lengths = np.linalg.norm(full_array().baseline_enu_m(), axis=1)
    assert lengths.max() == pytest.approx(2602, abs=1)
    assert demo_array().n_antennas == 24
    assert demo_array().baselines()[0].size == 300
    for array in (full_array(), demo_array(), tiny_array()):
        assert 102 in array.antenna_order
        assert {n + 1 for n in array.antenna_order} <= set(ACTIVE_STATIONS)


def test_file_names_have_the_times_of_the_nodes_clocks_not_of_the_header(tiny_raw_tile):
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d_sb\d\d\.hdf5", path.name) for path in tiny_raw_tile.files)
    stamps = np.array([path.name[:19] for path in tiny_raw_tile.files], dtype="datetime64[s]")
    assert 1 <= np.ptp(stamps).astype(int) <= 3
    assert [int(path.name[22:24]) for path in tiny_raw_tile.files] == list(range(16))


def test_name_jitter_equals_the_telescopes():
    spreads = [np.ptp(NameJitter().delays_s([seed, 1])) for seed in range(50)]
    assert max(spreads) <= 2.0
    restarts = [np.ptp(NameJitter(restart=True).delays_s([seed, 1])) for seed in range(50)]
    assert min(restarts) > 11.0
    assert 13.0 < np.median(restarts) < 21.0
    assert max(restarts) <= 23.0
    bad = [np.ptp(NameJitter.bad_day().delays_s([seed, 1])) for seed in range(50)]
    assert 56.0 < min(bad) < max(bad) <= 62.0


def test_a_file_is_named_incomplete_until_it_is_complete(tmp_path, monkeypatch):
    """Watches the directory at the moment of each rename."""
    seen = []
    rename = Path.rename

    def watch(path, target):
        assert path.name.endswith("_incomplete.hdf5")
        assert not Path(target).exists()
        with h5py.File(path) as file:
            assert file["Data/visdata"].shape[0] == file["Header/Nblts"][()]
        seen.append(path.name)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watch)
    finished = []
    simulate_tile(
        tmp_path,
        start_mjd=61_107.2,
        declination_deg=54.6,
        sky=point_sources([], [], []),
        array=ArrayLayout((102, 3)),
        band=BandPlan(1),
        seed=1,
        n_integrations=1,
        on_file=lambda path: finished.append((path, path.is_file())),
    )
    assert len(seen) == 16
    assert len(finished) == 16
    assert all(exists for _, exists in finished)
    assert not list(tmp_path.glob("*_incomplete*"))


def test_files_arrive_in_random_order_by_default(tmp_path):
    def arrivals(directory, **options):
        order = []
        simulate_tile(
            directory,
            start_mjd=61_107.2,
            declination_deg=54.6,
            sky=point_sources([], [], []),
            array=ArrayLayout((102, 3)),
            band=BandPlan(1),
            seed=1,
            n_integrations=1,
            on_file=lambda path: order.append(int(path.name[22:24])),
            **options,
        )
        return order

    assert arrivals(tmp_path / "a", in_order=True) == list(range(16))
    mixed = arrivals(tmp_path / "b")
    assert mixed != list(range(16))
    assert sorted(mixed) == list(range(16))


def test_service_declination_can_be_stale(tmp_path):
    header, extra = read(one_subband(tmp_path, service_declination_deg=16.3))
    assert header["phase_center_app_dec"] == pytest.approx(np.radians(54.6))
    assert extra["phase_center_dec"] == pytest.approx(np.radians(16.3))


def test_the_same_seed_gives_the_same_files(tmp_path):
    options = {"receivers": Receivers(seed=4), "band": demo_band(), "subband": 7}
    first, again = one_subband(tmp_path / "a", **options), one_subband(tmp_path / "b", **options)
    other = one_subband(tmp_path / "c", seed=2, **options)
    assert first.name == again.name

    def data(path):
        with h5py.File(path) as file:
            return file["Data/visdata"][()]

    assert np.array_equal(data(first), data(again))
    assert not np.array_equal(data(first), data(other))
