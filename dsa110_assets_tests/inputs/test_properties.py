"""Whatever people give to a reader: an answer or a typed error; never a trace, a hang or silence.

`readers.PROPERTY_TESTS` names the test of each reader. The number of cases is in `effort`.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsa110_assets.catalogs import sky
from dsa110_assets.cli.main import run
from dsa110_assets.common.position_lists import read_positions
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import NonRetriableError, PipelineError, PositionsError
from dsa110_assets.photometry import measure_file
from dsa110_assets_tests.inputs import images
from dsa110_assets_tests.inputs.effort import examples, limit_s
from dsa110_assets_tests.inputs.readers import PROPERTY_TESTS, WRITTEN, file_options, file_settings

QUICK = {"deadline": None, "suppress_health_check": list(HealthCheck)}
ODD_TEXT = st.text(max_size=12) | st.sampled_from(
    ["", "NA", "nan", "007", "-1e400", "05:34:31.9", "83.6 deg", "1,5", "\x00", "'; DROP TABLE sources", "../..", "é" * 300]
)


@pytest.fixture(autouse=True)
def private(monkeypatch, tmp_path):
    for name in PipelineConfig.model_fields:
        monkeypatch.delenv(f"PIPELINE_{name.upper()}", raising=False)
    for name in ("STATE_DIR", "INPUT_DIR", "OUTPUT_DIR", "SCRATCH_DIR"):
        (tmp_path / name.lower()).mkdir()
        monkeypatch.setenv(f"PIPELINE_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    monkeypatch.chdir(tmp_path)


def test_every_reader_has_a_property_test():
    found = file_options() | file_settings()
    assert found == set(PROPERTY_TESTS) | WRITTEN
    written = {
        node.name
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert set(PROPERTY_TESTS.values()) <= written


@settings(max_examples=examples(), **QUICK)
@given(
    st.lists(st.tuples(ODD_TEXT, ODD_TEXT | st.floats().map(str), ODD_TEXT | st.floats().map(str)), max_size=4),
    st.sampled_from([",", ";", "\t"]),
    st.permutations(["name", "ra_deg", "dec_deg"]),
)
def test_property_a_list_of_positions_is_read_or_refused(tmp_path_factory, rows, separator, columns):
    path = tmp_path_factory.getbasetemp() / "positions.csv"
    lines = [separator.join(columns), *(separator.join(row) for row in rows)]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        table = read_positions(path)
    except PositionsError:
        return
    assert table["ra_deg"].between(0, 360).all()
    assert table["dec_deg"].between(-90, 90).all()
    assert all(isinstance(name, str) and name.strip() for name in table["name"])


HEADER_VALUES = st.sampled_from(
    [
        None,
        0,
        -1,
        1e300,
        float("1e-300"),
        True,
        "north",
        "",
        "FREQ",
        "GLON-SIN",
        "RA---TAN",
        "DEC--SIN",
        "XX---SIN",
        "FK4",
        "Jy/bm",
        "K",
        2,
        1950.0,
    ]
)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=examples(), **QUICK)
@given(
    st.dictionaries(
        st.sampled_from([*(k for k in images.header() if k), "EQUINOX", "CD1_1", "PV2_1", "LONPOLE", "NAXIS3", "BSCALE", "DATE-OBS"]),
        HEADER_VALUES,
        max_size=4,
    ),
    st.sampled_from([(120, 120), (1, 1, 120, 120), (2, 120, 120), (120,), (120, 1)]),
    st.sampled_from(["f4", "i2", "u1", "f8"]),
    st.integers(0, 70_000) | st.none(),
    st.booleans(),
)
def test_property_an_image_is_measured_or_refused(tmp_path_factory, edits, shape, dtype, cut, in_noise):
    directory = tmp_path_factory.getbasetemp()
    header = images.header()
    for key, value in edits.items():
        if value is None:
            header.remove(key, ignore_missing=True)
        else:
            header[key] = value
    good = images.write(directory, "good")
    odd = directory / "odd.fits"
    data = np.resize(images.pixels(), shape).astype(dtype)
    try:
        fits.writeto(odd, data, header, overwrite=True, output_verify="silentfix")
    except (fits.VerifyError, ValueError, TypeError, KeyError, AttributeError):
        return  # astropy does not write such a file
    if cut is not None:
        odd.write_bytes(odd.read_bytes()[:cut])
    try:
        if in_noise:
            table = measure_file(good, images.positions(), noise_path=odd)
        else:
            table = measure_file(odd, images.positions(), noise_path=directory / "good-noise.fits")
    except NonRetriableError:
        return
    assert {"flux_jy", "flux_err_jy", "flags"} <= set(table.columns)


@settings(max_examples=examples(), **QUICK)
@given(
    st.dictionaries(
        st.sampled_from(["ra_deg", "dec_deg", "peak_jy_per_beam", "name", "odd"]),
        st.lists(st.floats(width=32) | st.none() | st.sampled_from(["a", "1"]), min_size=2, max_size=2),
        max_size=5,
    ),
    st.booleans(),
)
def test_property_a_catalog_is_read_or_refused(tmp_path_factory, columns, broken):
    directory = tmp_path_factory.getbasetemp()
    path = directory / "nvss.parquet"
    try:
        pd.DataFrame(columns).to_parquet(path)
    except (ValueError, TypeError):  # pyarrow does not write columns of mixed types
        return
    if broken:
        path.write_bytes(path.read_bytes()[:-20])
    try:
        number = sky.build_reference(path, directory / "reference.parquet")
    except NonRetriableError:
        return
    table = sky.load_reference(directory / "reference.parquet")
    assert len(table) == number
    assert table["name"].is_unique
    assert np.isfinite(table[["ra_deg", "dec_deg", "flux_jy"]].to_numpy()).all()


KINDS = ("absent", "empty", "text", "directory", "pipe", "odd name", "loop", "random")


def _place(directory: Path, kind: str) -> Path:
    path = directory / {"odd name": "é'\" ;\n★", "loop": "loop"}.get(kind, kind.replace(" ", "-"))
    if os.path.lexists(path):
        return path
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "directory":
        path.mkdir()
    elif kind != "absent":
        path.write_bytes({"empty": b"", "text": b"hello\n", "random": bytes(range(256)) * 20}.get(kind, b"x"))
    return path


LINES = {
    "catalogs transits raw": ["catalogs", "transits", "--dec", "54", "--raw"],
    "calibrate ms": ["calibrate", "--output", "out", "--ms"],
    "calibrate bandpass": ["calibrate", "--ms", "absent.ms", "--skip-bp", "--output", "out", "--bandpass"],
    "apply ms": ["apply", "--caltable", "absent.cal", "--ms"],
    "apply caltable": ["apply", "--ms", "absent.ms", "--caltable"],
    "image ms": ["image", "--imagename", "x/y", "--ms"],
    "image mask": ["image", "--ms", "absent.ms", "--imagename", "x/y", "--mask"],
    "export ms": ["export", "--output", "out.uvfits", "--ms"],
    "convert groups input_dir": ["convert", "groups", "--calibrator", "3C286", "--find-only", "--", "INPUT", "out"],
    "convert ms source": ["convert", "ms", "INPUT", "out.ms"],
    "db restore path": ["db", "restore"],
    "mosaic plan products_db": ["mosaic", "plan", "--name", "x", "--since", "2026-03-12", "--until", "2026-03-13", "--products-db"],
    "mosaic build products_db": ["mosaic", "build", "--name", "x", "--products-db"],
}


SETS = "test_property_a_measurement_set_is_used_or_what_is_wrong_is_named"


def test_each_generic_option_has_a_command_line():
    generic = {name for name, test in PROPERTY_TESTS.items() if test in ("test_property_no_file_option_hangs_or_shows_a_trace", SETS)}
    assert set(LINES) == generic


@pytest.mark.timeout(limit_s(280))
@settings(max_examples=examples(), **QUICK)
@given(st.sampled_from(sorted(LINES)), st.sampled_from(KINDS))
def test_property_no_file_option_hangs_or_shows_a_trace(tmp_path, capsys, option, kind):
    path = str(_place(tmp_path, kind))
    line = [path if word == "INPUT" else word for word in LINES[option]]
    code = run(line if "INPUT" in LINES[option] else [*line, path])
    assert code in (0, 1, 2, 75)
    shown = capsys.readouterr()
    assert shown.out + shown.err
    assert "Traceback" not in shown.err


@settings(max_examples=examples(), **QUICK)
@given(
    st.sampled_from(sorted(PipelineConfig.model_fields)),
    ODD_TEXT.filter(lambda text: "\x00" not in text and text.isprintable()) | st.integers().map(str) | st.floats().map(str),
)
def test_property_a_setting_is_taken_or_refused_by_its_name(monkeypatch, name, value):
    with monkeypatch.context() as patch:
        patch.setenv(f"PIPELINE_{name.upper()}", value)
        try:
            PipelineConfig.from_env(validate_paths=False)
        except PipelineError as refused:
            error = refused
        else:
            return
    assert "PIPELINE" in str(error)


def test_every_number_among_the_settings_has_bounds():
    """A million days "for ever" is before the year 1, and ended each tick of what removes old products."""
    numbers = {name: one for name, one in PipelineConfig.model_fields.items() if {int, float} & {one.annotation, *get_args(one.annotation)}}
    assert len(numbers) > 50
    bounds = {
        name: {word for word in ("ge", "gt", "le", "lt") for bound in one.metadata if hasattr(bound, word)} for name, one in numbers.items()
    }
    assert [name for name, words in bounds.items() if not (words & {"ge", "gt"} and words & {"le", "lt"})] == []


TIMES = (
    "mosaic plan --name x --since {} --until 2026-03-12",
    "convert groups . out {} 2026-03-12",
    "catalogs transits --dec 54 --start {}",
)


@settings(max_examples=examples(), **QUICK)
@given(st.sampled_from(TIMES), ODD_TEXT | st.datetimes().map(str))
def test_property_a_time_on_the_command_line_is_taken_or_refused(capsys, line, value):
    code = run([value if word == "{}" else word for word in line.split()])
    assert code in (0, 1, 2, 75)
    assert "Traceback" not in capsys.readouterr().err
