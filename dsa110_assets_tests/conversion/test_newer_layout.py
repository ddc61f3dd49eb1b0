"""Files in UVH5's newer layout, written by pyuvdata 3, give the same Measurement Set as the correlator's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dsa110_assets.conversion import convert_observation
from dsa110_assets.errors import InvalidRawFileError
from dsa110_assets.rawfile import read_raw_header, validate_raw_file
from dsa110_assets_tests.conftest import RawTile
from dsa110_assets_tests.conversion.newer_layout import Change, as_drift_scan, rewritten_by_pyuvdata

COLUMNS = ("DATA", "FLAG", "WEIGHT_SPECTRUM", "UVW", "TIME", "INTERVAL", "ANTENNA1", "ANTENNA2", "FLAG_ROW")
SUBBANDS = (0, 7, 15)


def shuffled_rows(uvd: Any) -> None:
    uvd.reorder_blts(order=np.random.default_rng(3).permutation(uvd.Nblts), run_check=False)


CHANGES: dict[str, Change | None] = {
    "unchanged": None,
    "drift scan": as_drift_scan(np.radians(54.6)),
    "baselines run slowest": lambda uvd: uvd.reorder_blts(order="baseline", minor_order="time", run_check=False),
    "antenna 1 runs fastest": lambda uvd: uvd.reorder_blts(order="time", minor_order="ant2", run_check=False),
    "rows in no order": shuffled_rows,
    "time backwards": lambda uvd: uvd.reorder_blts(order=np.arange(uvd.Nblts)[::-1], run_check=False),
    "ant1 below ant2": lambda uvd: uvd.conjugate_bls("ant1<ant2"),
    "ant2 below ant1": lambda uvd: uvd.conjugate_bls("ant2<ant1"),
}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory, tiny_raw_tile: RawTile) -> dict[int, Path]:
    """Three subbands with scattered flags and varying numbers of samples, so that a misplaced row shows."""
    directory = tmp_path_factory.mktemp("uneven")
    files: dict[int, Path] = {}
    for subband in SUBBANDS:
        source = tiny_raw_tile.files[subband]
        files[subband] = directory / source.name
        files[subband].write_bytes(source.read_bytes())
        rng = np.random.default_rng(subband)
        with h5py.File(files[subband], "r+") as file:
            shape = file["Data/flags"].shape
            file["Data/flags"][...] = rng.uniform(size=shape) < 0.03
            file["Data/nsamples"][...] = rng.integers(0, 97, size=shape)
            file["Data/visdata"][5, 0, 2, 1] = np.nan
    return files


def columns_of(ms: Path) -> dict[str, np.ndarray]:
    from casacore.tables import table

    with table(str(ms), ack=False) as main, table(f"{ms}::FIELD", ack=False) as field, table(f"{ms}::ANTENNA", ack=False) as antenna:
        found = {name: main.getcol(name) for name in COLUMNS}
        return found | {"PHASE_DIR": field.getcol("PHASE_DIR"), "POSITION": antenna.getcol("POSITION")}


def converted(files: Mapping[int, Path], out: Path) -> dict[str, np.ndarray]:
    convert_observation(files, out, flag_rfi=False)
    return columns_of(out)


@pytest.fixture(scope="module")
def expected(uneven: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return converted(uneven, tmp_path_factory.mktemp("expected") / "old.ms")


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_pyuvdata_wrote_converts_to_the_same_values_bit_for_bit(
    uneven: dict[int, Path], expected: dict[str, np.ndarray], tmp_path: Path, change: str
) -> None:
    newer = {subband: rewritten_by_pyuvdata(path, tmp_path / path.name, CHANGES[change]) for subband, path in uneven.items()}
    with h5py.File(newer[0]) as file:
        assert file["Data/visdata"].ndim == file["Header/freq_array"].ndim + 2 == 3
    for subband, path in newer.items():
        assert validate_raw_file(path).subband == subband
    found = converted(newer, tmp_path / "new.ms")
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("change", ["unchanged", "rows in no order", "ant2 below ant1"])
def test_an_observation_may_have_subbands_of_both_layouts(
    uneven: dict[int, Path], expected: dict[str, np.ndarray], tmp_path: Path, change: str
) -> None:
    for newer in ((0,), (7, 15)):  # the first file of a tile sets the order of its baselines
        directory = tmp_path / str(newer[0])
        directory.mkdir()
        mixed = {s: rewritten_by_pyuvdata(p, directory / p.name, CHANGES[change]) if s in newer else p for s, p in uneven.items()}
        found = converted(mixed, directory / "mixed.ms")
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"data_compression": "gzip", "flags_compression": "gzip", "nsample_compression": "gzip"},
        {"data_compression": "lzf", "chunks": (7, 3, 1)},
        {"flags_compression": None, "nsample_compression": None, "chunks": (100, 2, 2)},
        {"flags_compression": None, "nsample_compression": None, "chunks": None},
    ],
    ids=["gzip", "lzf, small chunks", "plain chunks", "contiguous"],
)
def test_compression_and_chunks_change_nothing(
    uneven: dict[int, Path], expected: dict[str, np.ndarray], tmp_path: Path, options: dict[str, Any]
) -> None:
    newer = {subband: rewritten_by_pyuvdata(path, tmp_path / path.name, **options) for subband, path in uneven.items()}
    found = converted(newer, tmp_path / "new.ms")
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_the_header_is_that_of_the_old_file(uneven: dict[int, Path], tmp_path: Path) -> None:
    old, new = read_raw_header(uneven[7]), read_raw_header(rewritten_by_pyuvdata(uneven[7], tmp_path / "new.hdf5"))
    for name in ("subband", "start_jd", "integration_s", "channel_width_hz", "antenna_names", "site", "pointing_dec_rad", "telescope_name"):
        assert getattr(old, name) == getattr(new, name), name
    for name in ("times_jd", "freq_hz", "ant_1", "ant_2", "antenna_numbers", "antenna_positions_m"):
        np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
    assert old.notes == ()
    assert "unprojected" in new.notes[0]


def test_baselines_overrule_a_stale_keyword(uneven: dict[int, Path], tmp_path: Path) -> None:
    """pyuvdata reads the correlator's files as unprojected and writes the zenith's declination for all of them."""

    def stale(uvd: Any) -> None:
        uvd.extra_keywords["phase_center_dec"] = np.radians(16.3)

    header = read_raw_header(rewritten_by_pyuvdata(uneven[7], tmp_path / "new.hdf5", stale))
    assert header.pointing_dec_rad == pytest.approx(np.radians(54.6), abs=1e-7)
    assert "stale" in header.notes[0]
    assert "uvw_array" in header.notes[0]


def test_baselines_toward_the_zenith_do_not_overrule_the_keyword(uneven: dict[int, Path], tmp_path: Path) -> None:
    def zenith(uvd: Any) -> None:
        uvd.set_uvws_from_antenna_positions(update_vis=False)

    header = read_raw_header(rewritten_by_pyuvdata(uneven[7], tmp_path / "new.hdf5", zenith))
    assert header.pointing_dec_rad == np.radians(54.6)


def to_sidereal(uvd: Any) -> None:
    as_drift_scan(np.radians(54.6))(uvd)
    uvd.uvw_array = uvd.uvw_array.astype(float)
    uvd.phase(lon=1.0, lat=0.9, phase_frame="icrs", cat_name="3C1")


def two_windows(uvd: Any) -> None:
    uvd.flex_spw_id_array[-1] = 9


def uneven_channels(uvd: Any) -> None:
    uvd.channel_width[0] *= 1.5


def one_baseline_reversed(uvd: Any) -> None:
    uvd.ant_1_array[1], uvd.ant_2_array[1] = uvd.ant_2_array[1], uvd.ant_1_array[1]


def one_row_with_a_wrong_time(uvd: Any) -> None:
    uvd.time_array[3] = uvd.time_array[-1]


def times_without_sidereal_times(uvd: Any) -> None:
    """Reverse the times only: the header claims another order of rows, and nothing else supports it."""
    uvd.time_array[:] = uvd.time_array[::-1]


def antennas_without_baselines(uvd: Any) -> None:
    """Swap the antennas only: damage that would conjugate each visibility."""
    uvd.ant_1_array, uvd.ant_2_array = uvd.ant_2_array, uvd.ant_1_array


def one_row_in_another_integration(uvd: Any) -> None:
    uvd.time_array[3], uvd.lst_array[3] = uvd.time_array[-1], uvd.lst_array[-1]


def all_nan(uvd: Any) -> None:
    uvd.data_array[:] = np.nan


def other_antennas_position(uvd: Any) -> None:
    uvd.telescope.antenna_positions[2] += 0.5


def upward(uvd: Any) -> None:
    uvd.freq_array = uvd.freq_array[::-1]


WRONG: dict[str, tuple[Callable[[Any], None], str]] = {
    "phased to a source": (to_sidereal, r"phased to '3C1' \(sidereal\), not fringe-stopped"),
    "two spectral windows": (two_windows, "several spectral windows"),
    "uneven channels": (uneven_channels, "channel_width runs from"),
    "sign changes": (one_baseline_reversed, "not the same in each integration"),
    "a row has a wrong time": (one_row_with_a_wrong_time, "time_array and lst_array do not belong"),
    "rows of one integration in another": (one_row_in_another_integration, "rows are not ordered by integration"),
    "times moved alone": (times_without_sidereal_times, "time_array and lst_array do not belong"),
    "antennas swapped alone": (antennas_without_baselines, "baselines differ"),
    "NaN": (all_nan, "pitfall 24"),
    "another array": (other_antennas_position, "antennas differ"),
    "channels ascend": (upward, "no .descending. subband"),
    "another pointing": (as_drift_scan(np.radians(54.7)), "pointing declination differ"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_with_bad_contents_is_rejected_with_the_reason(uneven: dict[int, Path], tmp_path: Path, wrong: str) -> None:
    change, reason = WRONG[wrong]
    path = rewritten_by_pyuvdata(uneven[7], tmp_path / "2026-03-01T04:48:00_sb07.hdf5", change)
    with pytest.raises(InvalidRawFileError, match=reason) as caught:
        validate_raw_file(path, expected=read_raw_header(uneven[0]))
    assert caught.value.subject == str(path)


@pytest.mark.parametrize("name", ["Data/visdata", "Data/flags", "Data/nsamples"])
def test_data_of_another_shape_than_the_header_are_rejected(uneven: dict[int, Path], tmp_path: Path, name: str) -> None:
    path = rewritten_by_pyuvdata(uneven[7], tmp_path / "new.hdf5")
    with h5py.File(path, "r+") as file:
        values = file[name][:, :-1]
        del file[name]
        file[name] = values
    with pytest.raises(InvalidRawFileError, match=f"{name} has shape .*, expected"):
        validate_raw_file(path, 7)


def test_the_error_names_a_filter_that_is_not_installed(uneven: dict[int, Path], tmp_path: Path) -> None:
    """305 is LZO: registered with the HDF Group, and not installed."""
    path = rewritten_by_pyuvdata(uneven[7], tmp_path / "new.hdf5")
    with h5py.File(path, "r+") as file:
        values = file["Data/visdata"][()]
        del file["Data/visdata"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(values.shape)
        properties.set_filter(305, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple(values.shape)
        made = h5py.h5d.create(file.id, b"Data/visdata", h5py.h5t.py_create(values.dtype), space, properties)
        made.write_direct_chunk((0, 0, 0), values.tobytes()[: values.nbytes // 2], 0)
    with pytest.raises(InvalidRawFileError, match="/Data/visdata is compressed with HDF5 filter 305") as caught:
        validate_raw_file(path, 7)
    assert "hdf5plugin" in caught.value.next_step
