"""What a command writes never replaces or enters what it reads, nor anything that is not its own.

`CASES` has command lines for each option that names an output; `readers.WRITTEN` is found in the code.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from dsa110_assets.cli.main import run
from dsa110_assets.config import PipelineConfig
from dsa110_assets.photometry import write_table
from dsa110_assets.registry.queries import upsert_image
from dsa110_assets_tests.inputs import images
from dsa110_assets_tests.inputs.readers import WRITTEN
from dsa110_assets_tests.registry_fixture import add_observation

GROUP = "2026-03-12T05:00:00"
MOSAIC = ["mosaic", "build", "--name", "m", "--since", "2026-03-12T04:50", "--until", "2026-03-12T05:30", "--output"]
CASES: dict[str, list[tuple[list[str], str]]] = {
    "photometry peak output": [
        (["photometry", "peak", "--image", "m-image.fits", "--positions", "p.csv", "--output", place], why)
        for place, why in (("p.csv", "is also an input"), ("p-link.csv", "is also an input"), ("m-image.fits", "is also an input"),
                           ("folder.csv", "is a directory"))
    ],
    "photometry adaptive output": [
        (["photometry", "adaptive", "--image", "m-image.fits", "--positions", "p.csv", "--output", place], why)
        for place, why in (("x/../p.csv", "is also an input"), ("m-image.fits", "is also an input"), ("folder.csv", "is a directory"))
    ],
    "calibrate output": [
        (["calibrate", "--ms", "tile.ms", "--output", place], why)
        for place, why in (("tile.ms", "is also an input"), ("ms-link", "is also an input"), ("tile.ms/tables", "lies inside an input"),
                           (".", "contains an input"), ("precious", "exists and holds no solutions"))
    ] + [(["calibrate", "--ms", "tile.ms", "--skip-bp", "--bandpass", "tables/bandpass.cal", "--output", "tables"], "contains an input")],
    "apply output": [
        (["apply", "--ms", "tile.ms", "--caltable", "tables/bandpass.cal", "--output", place], why)
        for place, why in (("tile.ms", "is also an input"), ("tables/bandpass.cal", "is also an input"), ("tables", "contains an input"),
                           ("tile.ms/x.ms", "lies inside an input"), ("ms-link/x.ms", "lies inside an input"))
    ],
    "image imagename": [
        (["image", "--ms", "tile.ms", "--no-catalog", "--imagename", "tile.ms/x"], "is also an input"),
        (["image", "--ms", "tile.ms", "--no-catalog", "--imagename", "tile.ms/SOURCE/x"], "lies inside an input"),
        (["image", "--ms", "tile.ms", "--no-catalog", "--imagename", "m", "--mask", "m-image.fits"], "is also an input"),
        (["image", "--ms", "tile.ms", "--no-catalog", "--imagename", "m", "--mask", "x/../m-noise.fits"], "is also an input"),
    ],
    "export output": [
        (["export", "--ms", "tile.ms", "--format", "ms", "--overwrite", "--output", place], why)
        for place, why in (("tile.ms", "is also an input"), ("ms-link", "is also an input"), (".", "contains an input"),
                           ("tile.ms/x", "lies inside an input"))
    ],
    "convert groups output_dir": [
        (["convert", "groups", "raw", place, "2026-03-12", "2026-03-13"], "is also an input") for place in ("raw", "raw-link", "x/../raw")
    ],
    "convert ms output": [
        (["convert", "ms", "tile.ms", place], why)
        for place, why in (("tile.ms", "is also an input"), (".", "contains an input"), ("precious", "exists already"))
    ],
    "db backup path": [(["db", "backup", place], why) for place, why in (("precious", "is not a backup"), ("p.csv", "is not a backup"))],
    "db export path": [
        (["db", "export", place], why)
        for place, why in (("precious", "is not an export"), (".", "is not an export"), ("x.db", "is not an export"))
    ],
    "lightcurve show output": [(["lightcurve", "show", "1", "--output", "folder.csv"], "is a directory")],
    "lightcurve export output": [(["lightcurve", "export", "folder.csv"], "is a directory")],
    "mosaic build output": [
        ([*MOSAIC, place], why)
        for place, why in (("t0", "is also an input"), ("t0/../t0", "is also an input"), (".", "contains an input"),
                           ("precious", "is not the mosaic m"))
    ],
    "demo directory": [(["demo", "--no-ui", "--directory", "precious"], "is not a demonstration")],
}  # fmt: skip
"""Command lines of each option, and the reason of the refusal."""

NO_INPUT = {
    "simulate tile output": "reads no file; the files have names of their own in the directory",
    "simulate tile reference": "reads no file; the files have names of their own in the directory",
    "simulate night output": "reads no file; the files have names of their own in the directory",
    "simulate night reference": "reads no file; the files have names of their own in the directory",
    "db relocate old": "writes no file",
    "db relocate new": "writes no file",
}


def test_every_option_that_names_an_output_is_here():
    assert set(CASES) | set(NO_INPUT) == WRITTEN
    assert not set(CASES) & set(NO_INPUT)


@pytest.fixture
def place(registry_config, database, monkeypatch, tmp_path) -> Path:
    """A directory with one of each input, and the platform's own elsewhere."""
    for name in PipelineConfig.model_fields:
        monkeypatch.delenv(f"PIPELINE_{name.upper()}", raising=False)
    for name in ("state_dir", "scratch_dir", "input_dir", "output_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    work = tmp_path / "work"
    for folder in ("tile.ms/SOURCE", "tables/bandpass.cal", "raw", "precious", "folder.csv", "x", "t0", "x.db"):
        (work / folder).mkdir(parents=True)
    for file in ("tile.ms/table.dat", "tables/bandpass.cal/table.dat", "tables/quality.json", "precious/mine.txt", "folder.csv/mine.txt",
                 "x.db/mine.txt", "t0/t0-image-pb.fits"):  # fmt: skip
        (work / file).write_text("mine")
    images.write(work, "m")
    images.positions().to_csv(work / "p.csv", index=False)
    for link, target in (("ms-link", "tile.ms"), ("p-link.csv", "p.csv"), ("raw-link", "raw")):
        (work / link).symlink_to(target)
    with database.session() as session:
        add_observation(session, GROUP, dec_deg=54.6)
        upsert_image(
            session, directory=str(work / "t0"), group_id=GROUP, mid_mjd=61111.21, ra_deg=127.5, dec_deg=54.6, pointing_dec_deg=54.6,
            noise_jy_per_beam=0.005, thermal_jy_per_beam=0.005, peak_jy_per_beam=0.4, bmaj_arcsec=150.0, bmin_arcsec=120.0, bpa_deg=25.0,
        )  # fmt: skip
    monkeypatch.chdir(work)
    return work


def everything(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("option", CASES)
def test_an_output_that_is_an_input_or_belongs_to_somebody_is_refused_and_nothing_changes(place, monkeypatch, capsys, option):
    monkeypatch.setattr("dsa110_assets.stages.products.mosaics.refused_tiles", lambda *_: {})
    before = everything(place)
    for line, reason in CASES[option]:
        assert run(line) == 2, line
        shown = " ".join(capsys.readouterr().err.split())
        assert reason in shown, (line, shown)
        assert everything(place) == before, line


def test_a_catalog_is_not_made_from_itself(place, registry_config, capsys):
    own = registry_config.state_dir / "catalogs" / "nvss.parquet"
    own.parent.mkdir()
    own.write_text("mine")
    assert run(["catalogs", "refresh", "nvss", "--file", str(own)]) == 2
    assert "is also an input" in capsys.readouterr().err
    assert own.read_text() == "mine"


@pytest.mark.parametrize("suffix", [".csv", ".fits", ".parquet", ".vot"])
@pytest.mark.parametrize("name", ["~", "~root", "-", "a b", "$HOME", "%s", "*"])
def test_a_table_is_written_under_the_name_that_was_given(tmp_path, monkeypatch, name, suffix):
    """pandas took `~/t.csv` for a file of the home directory, and the command asked to try again later."""
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"name": ["a"], "ra_deg": [1.0], "dec_deg": [2.0]})
    write_table(table, Path(name) / f"{name}{suffix}")
    assert [path.name for path in (tmp_path / name).glob(f"*{suffix}")] == [f"{name}{suffix}"]


def test_a_place_where_nothing_can_be_made_is_no_full_disk(tmp_path, capsys):
    """/proc has no free space, because it has no space."""
    path = images.write(tmp_path, "m")
    images.positions().to_csv(tmp_path / "p.csv", index=False)
    assert run(["photometry", "peak", "--image", str(path), "--positions", str(tmp_path / "p.csv"), "--output", "/proc/none.csv"]) == 2
    assert "disk is full" not in capsys.readouterr().err
