"""Measurement Sets that lack something or hold what makes no sense: each command uses them or names what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from casacore.tables import table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsa110_assets.cli.main import run
from dsa110_assets.common import measurement_sets
from dsa110_assets.common.measurement_sets import open_table, read_antenna_pairs
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import MeasurementSetError
from dsa110_assets_tests.calibration.small_ms import write_small_ms
from dsa110_assets_tests.inputs.effort import examples, limit_s

SKY = pd.DataFrame({"name": ["a"], "ra_deg": [128.7], "dec_deg": [55.4], "flux_jy": [5.0], "spectral_index": [-0.7]})
PARTS = (
    "",
    "ANTENNA",
    "DATA_DESCRIPTION",
    "FEED",
    "FIELD",
    "OBSERVATION",
    "POINTING",
    "POLARIZATION",
    "SPECTRAL_WINDOW",
    "HISTORY",
    "NOTHING",
)
VALUES = st.sampled_from([0, -1, 1, 7, 2**30, float("nan"), float("inf"), 1e300, "", "XX", "é", "x" * 300])
COMMANDS = {
    "convert ms": ["convert", "ms", "odd.ms", "new.ms"],
    "image": ["image", "--ms", "odd.ms", "--imagename", "x/y", "--size", "64", "--niter", "0", "--no-catalog"],
    "apply": ["apply", "--ms", "odd.ms", "--caltable", "absent.cal", "--output", "new.ms"],
    "export": ["export", "--ms", "odd.ms", "--output", "new.uvfits"],
    "calibrate": ["calibrate", "--ms", "odd.ms", "--output", "tables", "--field", "nobody"],
}


@st.composite
def changes(draw) -> tuple[str, str, int, object]:
    """Part of the set, what happens to it, which of its columns or files, and the new value."""
    what = draw(
        st.sampled_from(["remove part", "no rows", "few rows", "remove column", "set column", "remove file", "cut file", "nothing"])
    )
    return draw(st.sampled_from(PARTS)), what, draw(st.integers(0, 40)), draw(VALUES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_small_ms(tmp_path_factory.mktemp("whole") / "small.ms", SKY, n_time=2).path


def _filled(present: object, value: object) -> object:
    """A column with one value in all cells, in the form that casacore gave: at another one it crashes."""
    if isinstance(present, dict):  # arrays of text
        return {**present, "array": [str(value)] * len(present["array"])}
    column = np.asarray(present)
    return [str(value)] * len(column) if column.dtype.kind == "U" else np.full(column.shape, value).astype(column.dtype)


def change(ms: Path, part: str, what: str, which: int, value: object) -> None:
    """Change a set as programs, disks and people do; what casacore does not let happen stays as it was."""
    directory = ms / part
    if what == "nothing" or not directory.is_dir():
        return
    if what == "remove part" and part:
        shutil.rmtree(directory)
        return
    files = sorted(one for one in directory.iterdir() if one.is_file())
    if what in ("remove file", "cut file"):
        one = files[which % len(files)]
        if what == "remove file":
            one.unlink()
        else:
            one.write_bytes(one.read_bytes()[: one.stat().st_size // 2])
        return
    try:
        with table(str(directory), readonly=False, ack=False) as opened:
            column = opened.colnames()[which % len(opened.colnames())]
            if what in ("no rows", "few rows"):
                opened.removerows(list(range(0 if what == "no rows" else 1, opened.nrows())))
            elif what == "remove column":
                opened.removecols(column)
            elif what == "set column":
                opened.putcol(column, _filled(opened.getcol(column), value))
    except (RuntimeError, TypeError, ValueError, OverflowError):
        return


@pytest.mark.timeout(limit_s(400))
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=examples(), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(changes(), min_size=1, max_size=2), st.sampled_from(sorted(COMMANDS)))
def test_property_a_measurement_set_is_used_or_what_is_wrong_is_named(whole, tmp_path_factory, capfd, edits, command):
    directory = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as patch:
        for name in PipelineConfig.model_fields:
            patch.delenv(f"PIPELINE_{name.upper()}", raising=False)
        for name in ("STATE", "SCRATCH", "INPUT", "OUTPUT"):
            patch.setenv(f"PIPELINE_{name}_DIR", str(directory / name.lower()))
        patch.setenv("PIPELINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
        patch.chdir(directory)
        shutil.copytree(whole, directory / "odd.ms")
        for edit in edits:
            change(directory / "odd.ms", *edit)
        code = run(COMMANDS[command])
    shown = capfd.readouterr()
    assert code in (0, 1, 2, 75)
    assert "Traceback" not in shown.err
    assert code != 2 or shown.err.strip()
    shutil.rmtree(directory)


@pytest.mark.parametrize("wrong", [-1, 117, 2**30])
def test_rows_of_an_antenna_that_does_not_exist_are_refused_by_its_number(whole, tmp_path, monkeypatch, capfd, wrong):
    """Compiled code takes them as indices: one beyond the end writes into other memory, and -1 is the last antenna."""
    shutil.copytree(whole, tmp_path / "odd.ms")
    with table(str(tmp_path / "odd.ms"), readonly=False, ack=False) as main:
        main.putcell("ANTENNA2", 3, wrong)
    with open_table(tmp_path / "odd.ms") as main:
        read_antenna_pairs(main, 0, 3)
        with pytest.raises(MeasurementSetError, match=f"rows of antenna {wrong}; its table ANTENNA has 117"):
            read_antenna_pairs(main)
    monkeypatch.chdir(tmp_path)
    assert run(COMMANDS["convert ms"]) == 2
    assert f"rows of antenna {wrong}" in capfd.readouterr().err


def test_antenna_numbers_are_read_in_one_place_which_checks_them():
    """The others copy or compare them; the reader of calibration tables has its own check."""
    package = Path(measurement_sets.__file__).parents[1]
    readers = {
        one.relative_to(package).as_posix()
        for one in package.rglob("*.py")
        if '"ANTENNA1"' in (text := one.read_text()) and "getcol(" in text
    }
    assert readers == {
        "common/measurement_sets.py", "conversion/export.py", "calibration/caltable.py", "calibration/apply.py",
        "calibration/averaged.py",
    }  # fmt: skip
