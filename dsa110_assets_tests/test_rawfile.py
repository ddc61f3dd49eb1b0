"""A raw file is accepted only if it matches its name, is complete, and comes from this telescope."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from dsa110_assets.errors import InvalidRawFileError
from dsa110_assets.rawfile import read_raw_header, subband_edges_hz, validate_raw_file
from dsa110_assets_tests.conversion.minimal_raw import correlator_pairs, subband_frequencies, write_raw

START_JD = 2461000.75
DEC_RAD = np.radians(54.6)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "2025-11-20T06:00:01_sb03.hdf5", 3, start_jd=START_JD, dec_rad=DEC_RAD)


def test_the_header_equals_what_pyuvdata_reads(good: Path) -> None:
    import pyuvdata

    header = validate_raw_file(good)
    uvd = pyuvdata.UVData()
    uvd.read_uvh5(str(good), fix_old_proj=False, run_check=False, read_data=False)
    location = uvd.telescope.location
    assert header.site.latitude_rad == pytest.approx(location.lat.rad, abs=1e-12)
    assert header.site.longitude_rad == pytest.approx(location.lon.rad, abs=1e-12)
    assert header.site.altitude_m == pytest.approx(location.height.to_value("m"), abs=1e-4)
    np.testing.assert_array_equal(header.freq_hz, uvd.freq_array.ravel())
    np.testing.assert_array_equal(np.repeat(header.times_jd, header.n_bls), uvd.time_array)
    np.testing.assert_array_equal(np.tile(header.ant_1, header.n_times), uvd.ant_1_array)
    np.testing.assert_array_equal(np.tile(header.ant_2, header.n_times), uvd.ant_2_array)
    np.testing.assert_allclose(header.antenna_positions_m, uvd.telescope.antenna_positions, atol=1e-9)
    assert list(header.antenna_names) == list(uvd.telescope.antenna_names)
    assert header.subband == 3
    assert header.pointing_dec_rad == DEC_RAD
    assert header.start_jd == START_JD


def test_the_frequency_plan_is_the_published_one() -> None:
    """Channel centers of telescope.md: sb00 from 1498.6431884766 MHz down, sb15 ends at 1311.3873291 MHz."""
    assert subband_edges_hz(0)[1] - 244140.625 / 2 == pytest.approx(1498.6431884766e6, abs=1)
    assert subband_edges_hz(15)[0] + 244140.625 / 2 == pytest.approx(1311.3873291e6, abs=1)
    assert subband_edges_hz(15)[1] - 244140.625 / 2 == pytest.approx(1322.8619385e6, abs=1)


@pytest.mark.parametrize(("subband", "channels"), [(0, 48), (15, 48), (7, 8), (9, 3)])
def test_every_subband_is_recognized_with_any_number_of_channels(tmp_path: Path, subband: int, channels: int) -> None:
    path = write_raw(tmp_path / "any.hdf5", subband, start_jd=START_JD, dec_rad=DEC_RAD, n_channels=channels)
    assert validate_raw_file(path).subband == subband


def test_a_duplicate_sb00_with_another_subbands_frequencies_is_rejected(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "2025-11-20T06:00:01_sb00.hdf5", 5, start_jd=START_JD, dec_rad=DEC_RAD)
    with pytest.raises(InvalidRawFileError, match="name says sb00 but the frequencies are those of sb05"):
        validate_raw_file(path)
    with pytest.raises(InvalidRawFileError, match="name says sb04"):
        validate_raw_file(path, 4)


def _set(path: Path, name: str, value: object) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value


def _scale(path: Path, name: str, value: complex) -> None:
    with h5py.File(path, "r+") as file:
        file[name][...] = value


FREQ = subband_frequencies(3, 8)
N_BLTS = 4 * correlator_pairs((2, 0, 5, 1))[0].size


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("Header/time_array", None, "time_array is missing"),
        ("Header/antenna_positions", None, "antenna_positions is missing"),
        ("Header/latitude", None, "latitude is missing"),
        ("Header/latitude", np.nan, "latitude is not finite"),
        ("Header/latitude", np.bytes_("north"), "not a number"),
        ("Header/Ntimes", 5, "Nblts 40 is not Ntimes 5"),
        ("Header/freq_array", FREQ[None, ::-1], r"no \(descending\) subband"),
        ("Header/freq_array", FREQ[None] + 50e3, r"no \(descending\) subband"),
        ("Header/freq_array", FREQ[None] + 300e6, r"no \(descending\) subband"),
        ("Header/freq_array", FREQ[None, :5], "has 5 values"),
        ("Header/channel_width", 1.0, "do not make a subband"),
        ("Header/time_array", np.full(N_BLTS, np.inf), "time_array is not finite"),
        (
            "Header/time_array",
            np.linspace(START_JD, START_JD + 1, N_BLTS),
            "rows are not ordered",
        ),
        ("Header/time_array", np.full(N_BLTS, START_JD), "does not increase"),
        ("Header/time_array", np.repeat(60000.0 + np.arange(4), N_BLTS // 4), "not a Julian date"),
        ("Header/polarization_array", np.array([-5, -7]), "polarizations"),
        ("Header/phase_center_app_dec", 54.6, "pointing declination 54.6 rad"),
        ("Header/ant_1_array", np.full(N_BLTS, 99), "does not list"),
        ("Header/ant_1_array", np.zeros(N_BLTS, dtype=int), "occurs twice"),
        ("Data/nsamples", None, "Data/nsamples is missing"),
        ("Data/visdata", np.zeros((N_BLTS, 1, 8, 1), np.complex64), "has shape"),
        ("Data/visdata", np.zeros((N_BLTS, 1, 8, 2), np.float32), "is float32"),
        ("Header", None, "no Header group"),
    ],
)
def test_a_damaged_file_is_rejected_with_its_reason(good: Path, name: str, value: object, reason: str) -> None:
    _set(good, name, value)
    with pytest.raises(InvalidRawFileError, match=reason) as caught:
        validate_raw_file(good)
    assert caught.value.subject == str(good)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_rejected(good: Path, keep: float) -> None:
    whole = good.read_bytes()
    good.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(InvalidRawFileError):
        validate_raw_file(good)


def test_a_file_with_incomplete_data_is_rejected(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "x.hdf5", 3, start_jd=START_JD, dec_rad=DEC_RAD, n_times=40)
    with h5py.File(path, "r+") as file:
        part = file["Data/visdata"][:128]
        shape = file["Data/visdata"].shape
        del file["Data/visdata"]
        file.create_dataset("Data/visdata", shape, np.complex64, chunks=(128, 1, 8, 1))[:128] = part
    with pytest.raises(InvalidRawFileError, match="not written to its end"):
        validate_raw_file(path)


def test_the_error_names_a_text_file_and_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "2025-11-20T06:00:01_sb03.hdf5"
    with pytest.raises(InvalidRawFileError, match="gone"):
        validate_raw_file(path)
    path.write_text("not HDF5")
    with pytest.raises(InvalidRawFileError, match="not a complete HDF5 file"):
        read_raw_header(path)


def test_a_future_dated_file_is_rejected_against_the_given_clock(good: Path) -> None:
    assert validate_raw_file(good, now_jd=START_JD + 0.1).start_jd == START_JD
    with pytest.raises(InvalidRawFileError, match="dated in the future"):
        validate_raw_file(good, now_jd=START_JD - 2)
    assert validate_raw_file(good, now_jd=START_JD - 599 / 86_400).start_jd == START_JD
    with pytest.raises(InvalidRawFileError, match="dated in the future"):
        validate_raw_file(good, now_jd=START_JD - 601 / 86_400)


def test_the_stale_keyword_is_used_only_when_the_pointing_is_missing_and_is_noted(good: Path) -> None:
    _set(good, "Header/extra_keywords/phase_center_dec", 0.1)
    header = read_raw_header(good)
    assert (header.pointing_dec_rad, header.notes) == (DEC_RAD, ())
    _set(good, "Header/phase_center_app_dec", None)
    header = read_raw_header(good)
    assert header.pointing_dec_rad == 0.1
    assert "stale" in header.notes[0]


def test_a_subband_of_another_observation_or_array_is_rejected(good: Path, tmp_path: Path) -> None:
    header = read_raw_header(good)
    fellow = write_raw(tmp_path / "2025-11-20T06:00:03_sb04.hdf5", 4, start_jd=START_JD, dec_rad=DEC_RAD)
    assert validate_raw_file(fellow, expected=header).subband == 4
    short = write_raw(tmp_path / "2025-11-20T06:00:03_sb05.hdf5", 5, start_jd=START_JD, dec_rad=DEC_RAD, n_times=2)
    assert validate_raw_file(short, expected=header).n_times == 2
    for changes, reason in (
        ({"start_jd": START_JD + 1e-5}, "start time"),
        ({"dec_rad": 0.3}, "pointing"),
        ({"order": (0, 1, 2, 3)}, "baselines"),
    ):
        other = write_raw(tmp_path / "2025-11-20T06:00:03_sb06.hdf5", 6, **({"start_jd": START_JD, "dec_rad": DEC_RAD} | changes))
        with pytest.raises(InvalidRawFileError, match=reason):
            validate_raw_file(other, expected=header)


def test_validation_does_not_change_the_file(good: Path, tmp_path: Path) -> None:
    copy = shutil.copy2(good, tmp_path / "copy.hdf5")
    before = good.stat().st_mtime_ns
    validate_raw_file(good)
    assert good.read_bytes() == Path(copy).read_bytes()
    assert good.stat().st_mtime_ns == before


def _elsewhere(path: Path, name: str, kind: str, source: Path) -> None:
    """Put an item of a raw file into another file."""
    with h5py.File(path, "a") as file:
        item = file[name]
        values = np.asarray(item[()])
        del file[name]
        if kind == "link":
            file[name] = h5py.ExternalLink(str(source), "/values")
        elif kind == "external":
            file.create_dataset(name, shape=values.shape, dtype=values.dtype, external=[(str(source), 0, h5py.h5f.UNLIMITED)])
        else:
            layout = h5py.VirtualLayout(shape=values.shape, dtype=values.dtype)
            layout[...] = h5py.VirtualSource(str(source), "values", shape=values.shape)
            file.create_virtual_dataset(name, layout)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("source", ["pipe", "file"])
@pytest.mark.parametrize("kind", ["link", "external", "virtual"])
@pytest.mark.parametrize("name", ["Data/visdata", "Data/flags", "Data/nsamples", "Header/time_array", "Header/freq_array", "Header"])
def test_what_lies_in_another_file_is_refused_before_it_is_opened(good: Path, tmp_path: Path, name: str, kind: str, source: str) -> None:
    """A pipe hung the scan for ever, and visibilities were read from the raw file at the other file's places."""
    if name == "Header" and kind != "link":
        pytest.skip("a group can only be linked")
    other = tmp_path / "other"
    if source == "pipe":
        os.mkfifo(other)
    else:
        with h5py.File(other, "w") as file:
            file["values"] = np.zeros(4)
    if name == "Header":
        with h5py.File(good, "a") as file:
            del file["Header"]
            file["Header"] = h5py.ExternalLink(str(other), "/")
    else:
        _elsewhere(good, name, kind, other)
    with pytest.raises(InvalidRawFileError, match="a raw file is complete in itself"):
        validate_raw_file(good)


def test_a_link_inside_the_file_is_followed(good: Path) -> None:
    with h5py.File(good, "a") as file:
        file.move("Data/visdata", "Data/elsewhere")
        file["Data/visdata"] = h5py.SoftLink("/Data/elsewhere")
    validate_raw_file(good)


@pytest.mark.timeout(20)
def test_a_small_file_that_claims_a_huge_item_is_refused_unread(good: Path) -> None:
    with h5py.File(good, "a") as file:
        del file["Header/time_array"]
        file["Header"].create_dataset("time_array", shape=(10**10,), dtype="f8", chunks=(1 << 20,))
    with pytest.raises(InvalidRawFileError, match="header item time_array has 10000000000 values"):
        validate_raw_file(good)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda names: [b"1"] * len(names), "antenna names are not unique"),
        (lambda names: [b"", *names[1:]], "antenna name '' is empty"),
        (lambda names: [b"a\n", *names[1:]], r"antenna name .* not printable"),
    ],
)
def test_antennas_have_names_by_which_people_can_call_them(good: Path, change: Callable, reason: str) -> None:
    with h5py.File(good, "a") as file:
        names = file["Header/antenna_names"][()].tolist()
        del file["Header/antenna_names"]
        file["Header/antenna_names"] = np.array(change(names))
    with pytest.raises(InvalidRawFileError, match=reason):
        validate_raw_file(good)


@pytest.mark.parametrize("offset_m", [0.0, 4e6], ids=["all in one place", "geocentric"])
def test_antenna_positions_that_are_no_offsets_are_refused(good: Path, offset_m: float) -> None:
    with h5py.File(good, "a") as file:
        file["Header/antenna_positions"][...] = file["Header/antenna_positions"][()] * bool(offset_m) + offset_m
    with pytest.raises(InvalidRawFileError, match="not offsets from the array's reference point"):
        validate_raw_file(good)
