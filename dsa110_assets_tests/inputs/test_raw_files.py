"""One bad item in the input directory stops no other; nothing but a regular file is opened; paths have one spelling."""

from __future__ import annotations

import json
import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dsa110_assets.cli.main import run
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError, InvalidRawFileError
from dsa110_assets.files import is_openable, printable, why_not_openable
from dsa110_assets.ingest.scan import scan_directory
from dsa110_assets.ingest.sweep import Sweep
from dsa110_assets.rawfile import validate_raw_file
from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile
from dsa110_assets.stages.by_hand.batch_conversion import observations_between
from dsa110_assets.times import datetime_to_mjd
from dsa110_assets_tests.ingest.bookkeeping import START, settings
from dsa110_assets_tests.ingest.incoming import raw_path, write_observation
from dsa110_assets_tests.inputs.readers import commands

NOW = START + timedelta(minutes=10)
ODD_NAMES = [
    b"r\xe9sum\xe9.hdf5",
    b"a\nb.hdf5",
    b"\x1b[2J.hdf5",
    b"x" * 250 + b".hdf5",
    "süßölé ★.hdf5".encode(),
    b"%s{0}'\"\\.hdf5",
    b"-rf",
    b" ",
]


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


SPECIAL = {
    "pipe": make_pipe,
    "socket": make_socket,
    "directory": Path.mkdir,
    "link to a pipe": lambda path: path.symlink_to(_pipe_beside(path)),
}


def _pipe_beside(path: Path) -> Path:
    os.mkfifo(path.with_name("pipe-elsewhere"))
    return path.with_name("pipe-elsewhere")


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_case_01_a_name_that_cannot_be_stored_is_refused_by_itself(database, tmp_path, name):
    write_observation(tmp_path)
    odd = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(odd)).touch()
    os.utime(odd, (NOW.timestamp() - 60, NOW.timestamp() - 60))
    confirmed = {}
    for _ in range(3):
        report = scan_directory(database, tmp_path, settings(), NOW, sweep=Sweep(tmp_path, confirmed))
        assert not report.gone
    with database.session() as session:
        assert [group.state for group in session.scalars(select(IngestGroup))] == [GroupState.PENDING]
        refused = session.scalars(select(SubbandFile).where(SubbandFile.state != FileState.ACCEPTED)).all()
    assert [(row.path, row.reason) for row in refused] == [
        (f"{tmp_path}/{printable(os.fsdecode(name))}", "name: not YYYY-MM-DDTHH:MM:SS_sbNN.hdf5")
    ]
    Path(os.fsdecode(odd)).unlink()
    assert len(scan_directory(database, tmp_path, settings(), NOW).gone) == 1


def test_an_input_directory_whose_name_cannot_be_stored_is_refused_at_once(database, tmp_path):
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe9"))
    directory.mkdir()
    with pytest.raises(ConfigurationError, match=r"r\\xe9 is not a name in UTF-8"):
        scan_directory(database, directory, settings(), NOW)


@pytest.mark.parametrize(("after_s", "refused"), [(0, False), (-599, False), (-601, True)])
def test_case_03_a_file_is_of_the_future_by_its_start(tmp_path, after_s, refused):
    (path,) = write_observation(tmp_path, [0])
    clock_jd = datetime_to_mjd(START + timedelta(seconds=after_s)) + 2_400_000.5
    if refused:
        with pytest.raises(InvalidRawFileError, match="dated in the future"):
            validate_raw_file(path, now_jd=clock_jd)
    else:
        validate_raw_file(path, now_jd=clock_jd)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", SPECIAL)
def test_case_x_fifo_what_is_no_regular_file_is_passed_over(database, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write_observation(tmp_path, range(1, 16))
    special = raw_path(tmp_path, 0)
    SPECIAL[kind](special)
    found, rejected = observations_between(tmp_path, datetime_to_mjd(START) - 0.01, datetime_to_mjd(START) + 0.01)
    assert sorted(found[0].files) == list(range(1, 16))
    assert not rejected
    with pytest.raises(InvalidRawFileError, match="not a regular file"):
        validate_raw_file(special)
    report = scan_directory(database, tmp_path, settings(), NOW, hints=[special])
    assert (report.n_opened, report.rejected) == (0, ())


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", SPECIAL)
def test_only_regular_files_may_be_opened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    SPECIAL[kind](tmp_path / "special")
    assert "not a regular file" in (why_not_openable(tmp_path / "special") or "")
    assert why_not_openable(tmp_path / "absent") == "does not exist"
    assert why_not_openable(Path("/dev/zero")) == "is a device, not a regular file"
    (tmp_path / "plain").touch()
    (tmp_path / "link").symlink_to("plain")
    assert is_openable(tmp_path / "link")
    (tmp_path / "loop").symlink_to("loop")
    assert why_not_openable(tmp_path / "loop") is not None


@pytest.fixture
def environment(registry_config, database, monkeypatch, tmp_path):
    for name in ("state_dir", "scratch_dir", "input_dir", "output_dir"):
        getattr(registry_config, name).mkdir(exist_ok=True)
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    return registry_config


@pytest.mark.parametrize("spelling", ["link", "dots", "real"])
def test_case_06_every_spelling_of_a_path_names_the_same_thing(environment, tmp_path, spelling):
    def spelled(root: Path) -> Path:
        (tmp_path / f"link-to-{root.name}").symlink_to(root)
        return {"link": tmp_path / f"link-to-{root.name}", "dots": root / ".." / root.name, "real": root}[spelling]

    file = environment.output_dir / "2026-03-12" / "x.ms"
    assert environment.own_spelling(spelled(environment.output_dir) / "2026-03-12" / "x.ms") == file
    assert environment.own_spelling(spelled(environment.input_dir)) == environment.input_dir
    elsewhere = tmp_path / "elsewhere"
    assert environment.own_spelling(elsewhere / ".." / "elsewhere") == elsewhere


@pytest.mark.parametrize("spelling", ["link", "dots"])
def test_case_06_convert_takes_its_observations_from_a_linked_input_directory(environment, tmp_path, capsys, spelling, monkeypatch):
    write_observation(environment.input_dir)
    (tmp_path / "link").symlink_to(environment.input_dir)
    where = tmp_path / "link" if spelling == "link" else environment.input_dir / ".." / environment.input_dir.name
    monkeypatch.setenv("PIPELINE_PARTITION_START", "2020-01-01")
    window = [f"{START - timedelta(minutes=5):%Y-%m-%dT%H:%M:%S}", f"{START + timedelta(minutes=5):%Y-%m-%dT%H:%M:%S}"]
    assert run(["convert", "groups", str(where), str(environment.output_dir), *window, "--dry-run", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["observations"]) == 1
    # without a calibrator catalog the observation is not leased, so that it does not fail for good
    assert run(["convert", "groups", str(where), str(environment.output_dir), *window]) == 2
    assert "there is no calibrator catalog" in capsys.readouterr().out


WITH_A_SET = {
    "calibrate": ["--output", "tables"],
    "apply": ["--caltable", "tables"],
    "image": ["--imagename", "x", "--no-catalog"],
    "export": ["--output", "x.uvh5"],
}


def test_case_06_every_command_that_takes_a_measurement_set_asks_for_its_one_spelling(tmp_path, monkeypatch, capsys):
    assert set(WITH_A_SET) == {words for words, command in commands() if any(one.name == "ms" for one in command.params)}
    (tmp_path / "real.ms").mkdir()
    (tmp_path / "real.ms" / "table.dat").touch()
    (tmp_path / "link.ms").symlink_to("real.ms")
    monkeypatch.chdir(tmp_path)
    asked = []

    def spelled(_config: PipelineConfig, path: Path) -> Path:
        asked.append(path)
        return Path("/nowhere/of-its-own-spelling.ms")

    monkeypatch.setattr(PipelineConfig, "own_spelling", spelled)
    for command, options in WITH_A_SET.items():
        asked.clear()
        assert run([command, "--ms", "link.ms", *options]) == 2
        assert asked == [Path("link.ms")]
        assert "of-its-own-spelling.ms" in capsys.readouterr().err.replace("\n", ""), command
