"""Names and other text in all that is written: as given, escaped so that nothing is lost, or refused with the reason.

Text of people: names of sources, of files and of images, titles. FITS headers and tables hold printable ASCII only.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import json
import sqlite3
from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image

from dsa110_assets.cli.main import run
from dsa110_assets.common.position_lists import read_positions
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.common.table_files import SUFFIXES, read_table
from dsa110_assets.errors import PhotometryError, PositionsError
from dsa110_assets.files import ascii_text, printable
from dsa110_assets.imaging.fits_images import ImageMetadata, image_header
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.mosaicking.grid import MosaicGrid
from dsa110_assets.mosaicking.writing import mosaic_header
from dsa110_assets.photometry import write_table
from dsa110_assets.registry.queries.shift import add_entry
from dsa110_assets.registry.queries.sources import upsert_sources
from dsa110_assets.stages.products.mosaics import is_name
from dsa110_assets.variability import LightCurves, cutouts_png, light_curve_png
from dsa110_assets_tests.inputs import images
from dsa110_assets_tests.inputs.readers import commands

TEXTS = [
    "tüle ★",
    "a" * 255,
    "line\nbreak\ttab",
    "'quotes' \"both\"",
    "$x_{",
    "é" * 127,
    "\x1b[31m",
    "r\udce9sum\udce9",
    "007",
    " ",
    "a\rb",
    "c\r\nd",
]

STORABLE = [text for text in TEXTS if "\udce9" not in text]
"""Bytes that are not UTF-8 occur in names of files only; tables and the registry never hold them."""


def given_back(escaped: str) -> str:
    """Undo `ascii_text` for what was escaped by Python's rules."""
    return ast.literal_eval('"' + escaped.replace('"', '\\"') + '"')


def read_back(header: fits.Header) -> fits.Header:
    stream = io.BytesIO()
    fits.PrimaryHDU(np.zeros((2, 2)), header).writeto(stream, output_verify="exception")
    return fits.getheader(io.BytesIO(stream.getvalue()))


@pytest.mark.filterwarnings("ignore:Card is too long")
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_the_header_of_an_image_holds_any_name(text):
    meta = ImageMetadata(
        ImageGrid(64, 1e-5, 1.0, 0.9), RestoringBeam(40.0, 30.0, 0.0), 1.4e9, 2e8, 1.4e9, -0.7, 61111.0, 61111.1, 1e-3, 1e-3, text, "wgridder",
        text, {"inputs": text, "DSACODE": text, "group": text},
    )  # fmt: skip
    back = read_back(image_header(meta, "image"))
    for key in ("OBJECT", "TELESCOP", "DSAGROUP"):
        assert back[key] == ascii_text(text).rstrip(), key
    if all(ord(one) > 31 and not 0xD800 <= ord(one) < 0xE000 for one in text):
        assert given_back(back["OBJECT"]) == text.rstrip()
    assert ascii_text(text)[:60].rstrip() in "".join(map(str, back["HISTORY"]))


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_the_header_of_a_mosaic_holds_any_provenance(text):
    times, errors = {"start_mjd": 61111.0, "end_mjd": 61111.1, "mid_mjd": 61111.05}, {"noise_jy_per_beam": 1e-3, "flux_error": None}
    tile = SimpleNamespace(group_id="t", frequency_hz=1.4e9, dec_deg=54.6, **times, **errors)
    grid = MosaicGrid(WCS(images.header(), fix=False), (120, 120), 7.0, "SIN")
    header = mosaic_header(grid, (0, 0), (120, 120), RestoringBeam(40.0, 30.0, 0.0), [tile], {"code_version": text, "inputs": text})
    back = read_back(header)
    assert back["DSACODE"] == ascii_text(text).rstrip()
    assert ascii_text(text)[:60].rstrip() in "".join(map(str, back["HISTORY"]))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("text", STORABLE, ids=ascii)
def test_a_table_holds_any_name_or_says_why_not(tmp_path, suffix, text):
    path = tmp_path / f"t{suffix}"
    table = pd.DataFrame({"name": [text, "other"], "flux_jy": [1.0, 2.0]})
    odd = not text.isascii() or any(ord(one) < 32 for one in text)
    can = {".fits": not odd, ".vot": "\x1b" not in text, ".xml": "\x1b" not in text}
    if not can.get(suffix, True):
        with pytest.raises(PhotometryError, match="cannot hold the text"):
            write_table(table, path)
        assert not path.exists()
        return
    write_table(table, path)
    back = read_table(path, PositionsError, next_step="")
    assert back["name"].fillna("").str.strip().tolist() == [text.strip(), "other"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_of_any_type_in_a_list_of_positions_are_carried_through(tmp_path, suffix):
    """Parquet holds types that other formats do not: they become text."""
    pd.DataFrame(
        {
            "name": pd.Categorical(["a"]), "ra_deg": [137.0], "dec_deg": [54.0], "time": [pd.Timestamp("2026-01-01", tz="UTC")],
            "list": [[1, 2]], "bytes": [b"\xffr"], "decimal": [Decimal("1.5")], "record": [{"a": 1}],
        }
    ).to_parquet(tmp_path / "p.parquet")  # fmt: skip
    write_table(read_positions(tmp_path / "p.parquet"), tmp_path / f"t{suffix}")
    back = read_table(tmp_path / f"t{suffix}", PositionsError, next_step="")
    assert back["name"].tolist() == ["a"]
    assert back["bytes"].tolist() == ["\\xffr"]
    assert str(back["time"].iloc[0]).startswith("2026-01-01")


def test_a_column_that_fits_cannot_name_is_refused(tmp_path):
    with pytest.raises(PhotometryError, match="cannot hold the text 'größe'"):
        write_table(pd.DataFrame({"größe": [1.0]}), tmp_path / "t.fits")


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("text", STORABLE, ids=ascii)
def test_a_picture_takes_any_title(text):
    curves = LightCurves(
        source_id=np.array([1]),
        epoch_name=np.array(["a", "b"]),
        epoch_mjd=np.array([61000.0, 61001.0]),
        offsets=np.array([0, 2]),
        epoch=np.array([0, 1], np.int32),
        flux_jy=np.array([0.1, 0.2]),
        flux_err_jy=np.array([0.01, 0.01]),
        is_limit=np.zeros(2, bool),
        normalised=True,
    )
    pictures = (
        light_curve_png(curves, 1, title=text),
        cutouts_png([(text, np.zeros((4, 4), np.float32))], peak_jy=1.0, noise_jy=0.1, title=text),
    )
    for png in pictures:
        assert Image.open(io.BytesIO(png)).width > 100


@pytest.mark.parametrize("text", [text for text in TEXTS if text != "007"], ids=ascii)
def test_a_mosaic_has_a_plain_name_of_at_most_80_letters(text):
    assert not is_name(text)
    assert is_name(text[:0] + "a" * 80)
    assert not is_name("a" * 81)


@pytest.mark.parametrize("name", ["x" * 250, "é" * 126])
def test_a_prefix_that_makes_too_long_names_is_refused_before_the_work(tmp_path, capsys, name):
    (tmp_path / "tile.ms").mkdir()
    assert run(["image", "--ms", str(tmp_path / "tile.ms"), "--no-catalog", "--imagename", str(tmp_path / name)]) == 2
    assert "longer than 255 bytes" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 300, "é" * 200])
def test_no_command_shows_a_trace_for_a_path_that_no_file_system_takes(tmp_path, monkeypatch, capsys, name):
    """Each option that takes a path gets one whose name is too long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    image, positions = images.write(tmp_path, "m"), tmp_path / "p.csv"
    images.positions().to_csv(positions, index=False)
    lines = (
        ["photometry", "peak", "--image", str(image), "--positions", str(positions), "--output", f"{name}.csv"],
        ["photometry", "adaptive", "--image", name, "--positions", str(positions), "--output", "x.csv"],
        ["export", "--ms", name, "--output", "x"],
        ["apply", "--ms", name, "--caltable", name],
        ["calibrate", "--ms", name, "--output", name],
        ["convert", "groups", name, "out", "2026-03-12", "2026-03-13"],
        ["catalogs", "refresh", "monitored", "--file", name],
        ["db", "restore", name],
        ["mosaic", "build", "--name", name],
        ["lightcurve", "export", f"{name}.csv"],
    )
    known = {words for words, _ in commands()}
    for line in lines:
        assert line[0] in known or " ".join(line[:2]) in known
        assert run(line) in (1, 2, 75), line
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        assert shown.err + shown.out
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".staging")]


# --- from the registry ------------------------------------------------------------------------------------------------
NAMES = [text for text in STORABLE if printable(text) == text and text.strip()]
"""Names that a list of positions may have; see `test_positions`."""
TEXT_COLUMNS = {"sources": "name", "shift_entries": "text"}
COMMENTS = [text for text in STORABLE if text.strip()]
"""Text that people write into forms, with the line ends of browsers."""


@pytest.fixture
def named(database, registry_config, monkeypatch):
    """A registry with sources of odd names, and a shift's log with odd texts."""
    for name in ("state_dir", "scratch_dir", "input_dir", "output_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    frame = pd.DataFrame({"name": NAMES, "ra_deg": np.arange(len(NAMES)) + 1.0, "dec_deg": 5.0})
    with database.session() as session:
        upsert_sources(session, frame, origin="monitored")
        for text in COMMENTS:
            add_entry(session, person="Ann", text=text, group_id=None, source_id=None, night=date(2026, 3, 12))
    return database


def run_and_read(line: list[str], capsys) -> str:
    assert run(line) == 0
    return capsys.readouterr().out


def test_every_copy_of_the_registry_gives_all_text_back(named, tmp_path, capsys):
    assert run(["db", "export", str(tmp_path / "copy.sqlite3")]) == 0
    assert run(["db", "export", str(tmp_path / "copy")]) == 0
    capsys.readouterr()
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as copy:
        sqlite = {name: [row[0] for row in copy.execute(f"SELECT {column} FROM {name}")] for name, column in TEXT_COLUMNS.items()}
    parquet = {name: pd.read_parquet(tmp_path / "copy" / f"{name}.parquet")[column].tolist() for name, column in TEXT_COLUMNS.items()}
    for found in (sqlite, parquet):
        assert sorted(found["sources"]) == sorted(NAMES)
        assert sorted(found["shift_entries"]) == sorted(COMMENTS)


def test_every_answer_to_a_query_gives_all_text_back(named, capsys):
    for table_name, column in TEXT_COLUMNS.items():
        wanted = sorted(NAMES if table_name == "sources" else COMMENTS)
        query = f"SELECT {column} AS found FROM {table_name}"
        as_json = json.loads(run_and_read(["db", "query", query, "--json"], capsys))
        assert sorted(row["found"] for row in as_json) == wanted
        as_csv = list(csv.DictReader(io.StringIO(run_and_read(["db", "query", query, "--csv"], capsys), newline="")))
        assert sorted(row["found"] for row in as_csv) == wanted
