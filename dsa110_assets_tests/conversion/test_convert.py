"""Incomplete, short, odd and damaged observations become a complete Measurement Set or a clear error."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from dsa110_assets.conversion import convert_observation, verify_ms
from dsa110_assets.errors import IncompleteGroupError, InvalidRawFileError, PipelineError, ProductVerificationError, StorageError
from dsa110_assets_tests.conversion.conftest import Converted
from dsa110_assets_tests.conversion.minimal_raw import write_raw

START_JD, DEC_RAD = 2461000.75, np.radians(54.6)


def raw_files(directory: Path, subbands: int = 3, **options) -> dict[int, Path]:
    directory.mkdir(exist_ok=True)
    return {
        s: write_raw(directory / f"2025-11-20T06:00:0{s}_sb{s:02d}.hdf5", s, **({"start_jd": START_JD, "dec_rad": DEC_RAD} | options))
        for s in range(subbands)
    }


def columns(ms: Path, *names: str) -> list[np.ndarray]:
    from casacore.tables import table

    with table(str(ms), ack=False) as t:
        return [t.getcol(name) for name in names]


def test_the_report_matches_the_measurement_set(tiny: Converted) -> None:
    report, raw = tiny.report, tiny.raw
    data, flag = columns(tiny.ms, "DATA", "FLAG")
    assert data.shape == flag.shape == (report.n_rows, report.n_channels, 2)
    assert (report.n_times, report.n_baselines, report.n_channels) == (6, 36, 64)
    assert report.missing_subbands == ()
    assert report.mid_mjd == pytest.approx(raw.start_mjd + 2.5 * 12.884901888 / 86400, abs=1e-9)
    assert report.end_mjd - report.start_mjd == pytest.approx(6 * 12.884901888 / 86400, abs=1e-9)
    assert report.pointing_dec_deg == pytest.approx(raw.declination_deg)
    assert set(report.seconds) == {"read", "flag", "write"}
    assert report.raw_bytes == sum(f.stat().st_size for f in raw.files)
    assert report.ms_bytes == sum(f.stat().st_size for f in tiny.ms.rglob("*") if f.is_file())
    cross = np.not_equal(*columns(tiny.ms, "ANTENNA1", "ANTENNA2"))
    assert report.flags.fraction == pytest.approx(flag[cross].mean(), abs=1e-12)
    verify_ms(tiny.ms, report)


def test_history_lists_the_raw_files(tmp_path: Path) -> None:
    from casacore.tables import table

    files = raw_files(tmp_path / "raw")
    convert_observation(files, tmp_path / "a.ms", expected_subbands=3, flag_rfi=False, history=["config 0123"], field_name="3C48")
    with table(str(tmp_path / "a.ms::HISTORY"), ack=False) as t:
        text = "\n".join(t.getcol("MESSAGE"))
    assert all(path.name in text for path in files.values())
    assert "config 0123" in text
    with table(str(tmp_path / "a.ms::FIELD"), ack=False) as t:
        assert t.getcol("NAME") == ["3C48"]


def test_missing_subbands_are_written_and_flagged_and_the_others_unchanged(tmp_path: Path) -> None:
    files = raw_files(tmp_path / "raw", 4)
    whole = convert_observation(files, tmp_path / "whole.ms", expected_subbands=4, flag_rfi=False)
    part = convert_observation({s: f for s, f in files.items() if s != 1}, tmp_path / "part.ms", expected_subbands=4, flag_rfi=False)
    assert part.missing_subbands == (1,)
    assert part.n_channels == whole.n_channels
    lost = slice(16, 24)  # sb01 of 4 with 8 channels, ascending
    (data, flag, weight), (data_0, _, _) = (columns(tmp_path / n, "DATA", "FLAG", "WEIGHT_SPECTRUM") for n in ("part.ms", "whole.ms"))
    assert flag[:, lost].all()
    assert not data[:, lost].any()
    assert not weight[:, lost].any()
    others = np.r_[0:16, 24:32]
    assert not flag[:, others].any()
    np.testing.assert_array_equal(data[:, others], data_0[:, others])
    assert part.flags.by_reason["missing_subband"] == pytest.approx(0.25)
    assert part.flags.fraction == pytest.approx(0.25)
    verify_ms(tmp_path / "part.ms", part)


def test_integrations_missing_from_one_subband_are_flagged_only_there(tmp_path: Path) -> None:
    files = raw_files(tmp_path / "raw", 3)
    files[1] = write_raw(tmp_path / "raw" / "2025-11-20T06:00:09_sb01.hdf5", 1, start_jd=START_JD, dec_rad=DEC_RAD, n_times=3)
    report = convert_observation(files, tmp_path / "a.ms", expected_subbands=3, flag_rfi=False)
    assert report.n_times == 4
    flag = columns(tmp_path / "a.ms", "FLAG")[0].reshape(4, report.n_baselines, 24, 2)
    assert flag[3, :, 8:16].all()
    flag[3, :, 8:16] = False
    assert not flag.any()


def test_numbers_of_samples_and_the_writers_flags_are_kept(tmp_path: Path) -> None:
    files = raw_files(tmp_path / "raw", 2)
    with h5py.File(files[0], "r+") as file:
        ant_1, ant_2 = file["Header/ant_1_array"][:10], file["Header/ant_2_array"][:10]
        file["Data/nsamples"][0, 0, 0, 0] = 0.5  # first row, top channel, XX
        file["Data/nsamples"][1, 0, 1, 1] = np.nan
        file["Data/nsamples"][2, 0, 7, 0] = 1e37
        file["Data/flags"][3, 0, 2, 1] = True
    report = convert_observation(files, tmp_path / "a.ms", expected_subbands=2, flag_rfi=False)
    flag, weight, a1, a2 = columns(tmp_path / "a.ms", "FLAG", "WEIGHT_SPECTRUM", "ANTENNA1", "ANTENNA2")

    def row(raw_row: int) -> int:
        pair = sorted((ant_1[raw_row], ant_2[raw_row]))
        return int(np.flatnonzero((a1[:10] == pair[0]) & (a2[:10] == pair[1]))[0])

    assert weight[row(0), 15, 0] == 0.5
    assert not flag[row(0), 15, 0]
    for raw_row, channel, pol in ((1, 14, 1), (2, 8, 0), (3, 13, 1)):
        assert flag[row(raw_row), channel, pol]
        assert weight[row(raw_row), channel, pol] == 0
    assert flag.sum() == 3
    assert np.count_nonzero(weight != 1) == 4
    assert report.flags.by_reason["raw_flag"] + report.flags.by_reason["no_samples"] > 0


@pytest.mark.parametrize("layout", ["contiguous", "compressed", "one_chunk"])
def test_the_storage_layout_of_raw_files_does_not_change_the_result(tmp_path: Path, layout: str) -> None:
    files = raw_files(tmp_path / "raw", 2)
    convert_observation(files, tmp_path / "a.ms", expected_subbands=2, flag_rfi=False)
    options = {"contiguous": {}, "compressed": {"chunks": (7, 1, 3, 2), "compression": "gzip"}, "one_chunk": {"chunks": (40, 1, 8, 2)}}[
        layout
    ]
    for path in files.values():
        with h5py.File(path, "r+") as file:
            for name in ("visdata", "nsamples", "flags"):
                values = file[f"Data/{name}"][()]
                del file[f"Data/{name}"]
                file.create_dataset(f"Data/{name}", data=values, **options)
    convert_observation(files, tmp_path / "b.ms", expected_subbands=2, flag_rfi=False)
    for one, other in zip(columns(tmp_path / "a.ms", "DATA", "FLAG"), columns(tmp_path / "b.ms", "DATA", "FLAG"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_row_has_the_smaller_antenna_first_and_time_runs_slowest(tiny: Converted) -> None:
    a1, a2, time, uvw = columns(tiny.ms, "ANTENNA1", "ANTENNA2", "TIME", "UVW")
    assert np.all(a1 <= a2)
    assert np.all(np.diff(time) >= 0)
    np.testing.assert_array_equal(a1.reshape(6, 36), np.tile(a1[:36], (6, 1)))
    assert len({*zip(a1[:36].tolist(), a2[:36].tolist(), strict=True)}) == 36
    assert not uvw[a1 == a2].any()


def test_subbands_of_two_observations_are_never_mixed(tmp_path: Path) -> None:
    files = raw_files(tmp_path / "raw", 2)
    write_raw(files[1], 1, start_jd=START_JD + 300 / 86400, dec_rad=DEC_RAD)
    with pytest.raises(InvalidRawFileError, match="start time"):
        convert_observation(files, tmp_path / "a.ms", expected_subbands=2, flag_rfi=False)
    assert not (tmp_path / "a.ms").exists()


def test_no_file_and_a_subband_outside_the_band_are_errors(tmp_path: Path) -> None:
    with pytest.raises(IncompleteGroupError):
        convert_observation({}, tmp_path / "a.ms")
    with pytest.raises(IncompleteGroupError, match="outside a band of 2"):
        convert_observation(raw_files(tmp_path / "raw", 3), tmp_path / "a.ms", expected_subbands=2)


def test_verification_finds_the_damage_of_a_crash(tmp_path: Path, tiny: Converted) -> None:
    def damaged(name: str) -> Path:
        return Path(shutil.copytree(tiny.ms, tmp_path / name))

    no_subtable = damaged("a.ms")
    shutil.rmtree(no_subtable / "POINTING")
    truncated = damaged("b.ms")
    biggest = max(truncated.glob("table.f*"), key=lambda p: p.stat().st_size)
    os.truncate(biggest, 100)
    empty = tmp_path / "c.ms"
    empty.mkdir()
    for path in (no_subtable, truncated, empty, tmp_path / "nothing.ms"):
        with pytest.raises(ProductVerificationError):
            verify_ms(path, tiny.report)


def test_verification_compares_with_the_report(tmp_path: Path, tiny: Converted) -> None:
    files = raw_files(tmp_path / "raw", 2)
    other = convert_observation(files, tmp_path / "other.ms", expected_subbands=2, flag_rfi=False)
    verify_ms(tmp_path / "other.ms", other)
    with pytest.raises(ProductVerificationError, match="expected"):
        verify_ms(tmp_path / "other.ms", tiny.report)


def test_errors_can_cross_a_process_boundary() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(StorageError("x.ms", "the disk is full", "free space")))
    assert isinstance(error, PipelineError)
    assert error.subject == "x.ms"
