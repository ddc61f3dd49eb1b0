"""`dsa110 export` takes an observation or a Measurement Set, and never overwrites anything by accident."""

import json
import shutil
import warnings
from pathlib import Path

import pytest

from dsa110_assets.cli import export as command
from dsa110_assets.cli import main
from dsa110_assets.conversion import convert_observation
from dsa110_assets.conversion.export import ExportFormat
from dsa110_assets.stages.by_hand import export as by_hand

OBSERVATION = "2026-03-01T04:47:54"


@pytest.fixture(scope="module")
def converted(tmp_path_factory, tiny_raw_tile) -> Path:
    ms = tmp_path_factory.mktemp("converted") / "tile.ms"
    convert_observation(dict(enumerate(tiny_raw_tile.files)), ms, flag_rfi=False)
    return ms


@pytest.fixture
def ms(converted, tmp_path) -> Path:
    return shutil.copytree(converted, tmp_path / "tile.ms")


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_OUTPUT_DIR", str(tmp_path / "products"))
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")  # the registry is not needed


def error_of(capsys, *arguments: object) -> str:
    assert main.run(["export", *map(str, arguments)]) == 2
    return " ".join(capsys.readouterr().err.split())


def contents_of(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file() and p.name != "table.lock"}


def test_an_observation_is_exported_by_its_name(converted, tmp_path, capsys):
    from pyuvdata import UVData

    product = tmp_path / "products" / OBSERVATION[:10] / f"{OBSERVATION}.ms"
    shutil.copytree(converted, product)
    out = tmp_path / "elsewhere" / "tile.uvh5"
    assert main.run(["export", OBSERVATION, "--kind", "raw", "--output", str(out), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["path"], written["format"], written["vis_units"], written["n_times"]) == (str(out), "uvh5", "uncalib", 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        uvd = UVData.from_file(str(out), read_data=False)
    assert f"{OBSERVATION}.ms (raw) exported as uvh5" in uvd.history
    assert contents_of(product) == contents_of(converted)
    assert not list(tmp_path.rglob(".staging*"))


def test_a_measurement_set_is_exported_by_its_own_kind(ms, tmp_path, capsys):
    out = tmp_path / "out.uvfits"
    assert main.run(["export", "--ms", str(ms), "--format", "uvfits", "--output", str(out)]) == 0
    assert "uncalib" in capsys.readouterr().out
    assert out.read_bytes()[:6] == b"SIMPLE"
    assert "is a raw Measurement Set, not a calibrated one" in error_of(
        capsys, "--ms", ms, "--kind", "calibrated", "--output", tmp_path / "other"
    )
    assert not (tmp_path / "other").exists()


def test_missing_and_ambiguous_arguments_are_reported(ms, tmp_path, capsys):
    out = tmp_path / "out.uvh5"
    assert "no calibrated Measurement Set of" in error_of(capsys, OBSERVATION, "--output", out)
    assert "not an observation's identifier" in error_of(capsys, "yesterday", "--output", out)
    assert "exactly one of them" in error_of(capsys, "--output", out)
    assert "exactly one of them" in error_of(capsys, OBSERVATION, "--ms", ms, "--output", out)
    assert "is not a Measurement Set" in error_of(capsys, "--ms", tmp_path, "--output", out)
    assert not out.exists()


def test_an_existing_output_is_replaced_only_on_request_and_by_the_same_kind(ms, tmp_path, capsys):
    out = tmp_path / "out.uvh5"
    out.write_text("precious")
    assert "give --overwrite" in error_of(capsys, "--ms", ms, "--output", out)
    assert out.read_text() == "precious"
    assert main.run(["export", "--ms", str(ms), "--output", str(out), "--overwrite"]) == 0
    assert out.read_bytes()[1:4] == b"HDF"
    directory = tmp_path / "directory"
    (directory / "inside").mkdir(parents=True)
    assert "is not a Measurement Set" in error_of(capsys, "--ms", ms, "--format", "ms", "--output", directory, "--overwrite")
    assert "is not a file" in error_of(capsys, "--ms", ms, "--output", directory, "--overwrite")
    assert (directory / "inside").is_dir()


@pytest.mark.parametrize("where", ["tile.ms", "tile.ms/inside.uvh5", ".", "products/2026-03-01/mine.ms", "link"])
def test_an_export_never_touches_its_source_or_a_product(ms, tmp_path, capsys, where):
    (tmp_path / "link").symlink_to(ms)
    before = contents_of(ms)
    assert "next: give another " in error_of(capsys, "--ms", ms, "--format", "ms", "--output", tmp_path / where, "--overwrite")
    assert contents_of(ms) == before


def test_a_full_disk_leaves_nothing_behind(ms, tmp_path, capsys, monkeypatch):
    """The writer raises the operating system's own error."""
    from pyuvdata import UVData

    def full(self, filename, **options):
        Path(filename).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(UVData, "write_uvh5", full)
    out = tmp_path / "out.uvh5"
    assert main.run(["export", "--ms", str(ms), "--output", str(out)]) == 75
    assert "the disk is full" in capsys.readouterr().err
    assert not out.exists()
    assert not list(tmp_path.rglob(".staging*"))


def test_the_commands_choices_are_those_of_the_package():
    assert [one.value for one in command.Format] == [one.value for one in ExportFormat]
    assert [one.value for one in command.Kind] == [one.value for one in by_hand.Kind]
