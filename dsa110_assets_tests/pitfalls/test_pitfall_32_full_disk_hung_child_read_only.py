"""Pitfall 32: a full disk, a hung child process and a read-only disk are each reported as such."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsa110_assets.common.child_process import Child, run_children
from dsa110_assets.conversion import convert_observation
from dsa110_assets.errors import ChildFailedError, RetriableError, StorageError
from dsa110_assets_tests.conversion.test_convert import raw_files

_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from dsa110_assets.conversion.measurement_set import write_measurement_set
from dsa110_assets.conversion.tile import read_tile
from dsa110_assets.errors import StorageError
files = {int(name[-7:-5]): Path(name) for name in sys.argv[2:]}
tile = read_tile(files, len(files), np.zeros)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    write_measurement_set(tile, Path(sys.argv[1]), field_name=None, telescope_name="OVRO_MMA", history=[], dish_diameter_m=4.65)
except StorageError as error:
    print("STORAGE", error)
"""


def test_pitfall_32_a_disk_that_fills_while_writing_is_a_storage_error(tmp_path: Path) -> None:
    """A limit of 40 kB on each file acts like a full disk or a quota."""
    files = raw_files(tmp_path / "raw", 3, n_times=24)
    result = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path / "a.ms"), *map(str, files.values())],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "STORAGE" in result.stdout, result.stderr
    assert "a.ms" in result.stdout


def test_pitfall_32_the_error_names_a_directory_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StorageError, match=r"a\.ms") as raised:
        convert_observation(raw_files(tmp_path / "raw"), tmp_path / "file" / "a.ms", expected_subbands=3, flag_rfi=False)
    assert isinstance(raised.value, RetriableError)  # the queue tries again when there is space


def test_pitfall_32_a_hung_child_is_stopped_at_its_time_limit_and_named() -> None:
    endless = Child("the imager", [sys.executable, "-c", "while True: pass"])
    began = time.monotonic()
    with pytest.raises(ChildFailedError, match="the imager did not end within 3 s"):
        run_children([endless], subject="tile", timeout_s=3.0, timeout_advice="retry")
    assert time.monotonic() - began < 60  # without the limit the child would never end
