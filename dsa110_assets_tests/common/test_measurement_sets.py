"""Metadata of a Measurement Set agree with pyuvdata; other paths and uncalibrated data raise a clear error."""

from __future__ import annotations

import errno
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.common.measurement_sets import (
    calibration_of,
    integrations,
    is_calibrated,
    mark_calibrated,
    open_table,
    read_channels,
    read_summary,
    read_tile_pointing,
    require_calibrated,
    row_blocks,
)
from dsa110_assets.conversion import convert_observation
from dsa110_assets.errors import MeasurementSetError, NonRetriableError, RetriableError, StorageError
from dsa110_assets_tests.conversion.test_convert import raw_files


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("converted")
    convert_observation(raw_files(place / "raw", 3), place / "a.ms", expected_subbands=3, flag_rfi=False)
    return place / "a.ms"


@pytest.fixture
def ms(converted: Path, tmp_path: Path) -> Path:
    """Make a copy that a test may damage."""
    shutil.copytree(converted, tmp_path / "copy.ms")
    return tmp_path / "copy.ms"


def test_the_summary_is_what_pyuvdata_reads(converted: Path) -> None:
    from pyuvdata import UVData

    uvd = UVData()
    uvd.read_ms(str(converted))
    about = read_summary(converted)
    assert about.time_s / 86_400 + 2_400_000.5 == pytest.approx(np.unique(uvd.time_array), abs=1e-9)
    assert about.integration_s == pytest.approx(np.median(uvd.integration_time), rel=1e-9)
    assert about.frequency_hz == pytest.approx(np.sort(uvd.freq_array.ravel()), rel=1e-12)
    assert about.channel_width_hz == pytest.approx(uvd.channel_width, rel=1e-12)
    assert set(about.antenna_names) >= set(map(str, uvd.telescope.antenna_names))
    centre = next(iter(uvd.phase_center_catalog.values()))
    assert np.mod(about.phase_ra_rad, 2 * np.pi) == pytest.approx(np.mod(centre["cat_lon"], 2 * np.pi), abs=1e-12)
    assert about.phase_dec_rad == pytest.approx(centre["cat_lat"], abs=1e-12)
    assert about.telescope_name == uvd.telescope.name


def test_the_times_of_summary_and_pointing_are_the_same(converted: Path) -> None:
    about, pointing = read_summary(converted), read_tile_pointing(converted)
    assert pointing.time_mjd * 86_400 == pytest.approx(about.time_s, abs=1e-4)
    assert about.middle_mjd == pytest.approx(np.mean(pointing.time_mjd), abs=1e-9)
    assert about.duration_s == pytest.approx(about.time_s.size * about.integration_s, rel=1e-3)
    assert np.degrees(about.phase_dec_rad) == pytest.approx(pointing.phase_dec_deg, abs=1e-12)


def test_a_path_that_is_not_a_measurement_set_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "directory.ms").mkdir()
    for path in (tmp_path / "absent.ms", tmp_path / "directory.ms"):
        with pytest.raises(MeasurementSetError, match=rf"{path.name}: is not a Measurement Set") as error:
            open_table(path)
        assert isinstance(error.value, NonRetriableError)


def test_a_missing_subtable_is_named(ms: Path) -> None:
    shutil.rmtree(ms / "POINTING")
    with pytest.raises(MeasurementSetError, match="has no table POINTING"):
        read_tile_pointing(ms)


def test_a_damaged_table_is_damaged_for_good(ms: Path) -> None:
    (ms / "FIELD" / "table.dat").write_bytes(b"not a table")
    with pytest.raises(MeasurementSetError, match="FIELD cannot be opened") as error:
        read_summary(ms)
    assert isinstance(error.value, NonRetriableError)


def test_a_disk_that_does_not_give_a_table_raises_a_retriable_error(ms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ms / "FIELD" / "table.dat").write_bytes(b"not a table")

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "table.dat")

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(StorageError, match=r"FIELD cannot be read .*Input/output error") as error:
        read_summary(ms)
    assert isinstance(error.value, RetriableError)


def test_a_second_spectral_window_raises_an_error(ms: Path) -> None:
    with table(f"{ms}::SPECTRAL_WINDOW", readonly=False, ack=False) as window:
        window.addrows(1)
    with pytest.raises(MeasurementSetError, match="2 spectral windows"):
        read_channels(ms)


def test_a_table_is_read_only_unless_opened_as_writable(ms: Path) -> None:
    with open_table(ms) as main, pytest.raises(RuntimeError):
        main.putcell("TIME", 0, 0.0)
    with open_table(ms, writable=True) as main:
        main.putcell("TIME", 0, 1.0)
    with open_table(ms) as main:
        assert main.getcell("TIME", 0) == 1.0


def test_only_the_keyword_makes_a_measurement_set_calibrated(ms: Path) -> None:
    """A CORRECTED_DATA column does not (pitfall 13)."""
    from casacore.tables import makearrcoldesc, maketabdesc

    with open_table(ms, writable=True) as main:
        main.addcols(maketabdesc([makearrcoldesc("CORRECTED_DATA", 0j, ndim=2, valuetype="complex")]))
    assert calibration_of(ms) is None
    assert not is_calibrated(ms)
    assert not is_calibrated(ms / "absent.ms")
    with pytest.raises(MeasurementSetError, match="is not calibrated"):
        require_calibrated(ms)
    with open_table(ms, writable=True) as main:
        mark_calibrated(main, {"caltables": ["a.b"], "channels_averaged": 8})
    assert is_calibrated(ms)
    assert require_calibrated(ms) == {"caltables": ["a.b"], "channels_averaged": 8}


def test_integrations_are_the_runs_of_equal_times(converted: Path) -> None:
    with open_table(converted) as main:
        time_s = np.asarray(main.getcol("TIME"))
    runs = integrations(time_s)
    assert len(runs) == np.unique(time_s).size
    assert runs[0][0] == 0
    assert runs[-1][1] == time_s.size
    assert all(before[1] == after[0] for before, after in itertools.pairwise(runs))
    assert all(np.ptp(time_s[start:end]) == 0 for start, end in runs)
    assert integrations(np.zeros(0)) == []


@pytest.mark.parametrize(("n_rows", "n_chan", "size"), [(1000, 48, 48 * 2 * 8 * 7), (1000, 48, 1), (3, 768, 1 << 30), (0, 48, 100)])
def test_blocks_contain_every_row_once_and_stay_within_their_size(n_rows: int, n_chan: int, size: int) -> None:
    blocks = list(row_blocks(n_rows, n_chan, bytes_per_block=size))
    assert [row for start, count in blocks for row in range(start, start + count)] == list(range(n_rows))
    assert all(count == 1 or count * n_chan * 2 * 8 <= size for _, count in blocks)
