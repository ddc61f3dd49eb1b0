"""A flipped bit in a raw file is found before its data are used, and its observation goes on without the file."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import pytest

from dsa110_assets import raw_checksums
from dsa110_assets.catalogs import calibrators
from dsa110_assets.cli.exit_codes import exit_code_of
from dsa110_assets.cli.main import run as run_command
from dsa110_assets.conversion import convert_observation, reading
from dsa110_assets.errors import ChecksumError, MissingChecksumError, RetriableError, StorageError
from dsa110_assets.ingest import status
from dsa110_assets.ingest.scan import scan_directory
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile
from dsa110_assets.stages.operations.alerts import conditions
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.tile import make_measurement_set
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets_tests.catalogs.manual import MANUAL

SB = 5


def by_subband(files: Iterable[Path]) -> dict[int, Path]:
    """Files in the order of their subbands; the times in their names differ."""
    return dict(sorted((int(path.stem[-2:]), path) for path in files))


@pytest.fixture
def raw(tiny_raw_tile, tmp_path) -> dict[int, Path]:
    """A copy of a raw tile that may be damaged."""
    directory = tmp_path / "raw"
    directory.mkdir()
    return {n: Path(shutil.copy2(path, directory)) for n, path in by_subband(tiny_raw_tile.files).items()}


def write_sums(files: dict[int, Path], *options: str) -> None:
    """Write checksum files with the program that the correlator would use."""
    for path in files.values():
        with raw_checksums.sidecar_of(path).open("wb") as sums:
            subprocess.run(["sha256sum", *options, path.name], cwd=path.parent, stdout=sums, check=True)


def place_in(path: Path, what: str) -> int:
    """A byte of a file: in a dataset, in a text of the header, or its last one."""
    if what == "end":
        return path.stat().st_size - 1
    with h5py.File(path) as file:
        if what == "header":
            return path.read_bytes().index(bytes(file["Header/telescope_name"][()]))
        return file[f"Data/{what}"].id.get_chunk_info(0).byte_offset + 1


def flip(path: Path, what: str = "visdata") -> None:
    """Flip the lowest bit of one byte; size and time of modification stay, as when a disk does it."""
    facts, place = path.stat(), place_in(path, what)
    with path.open("r+b") as file:
        file.seek(place)
        (value,) = file.read(1)
        file.seek(place)
        file.write(bytes([value ^ 1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def convert(raw: dict[int, Path], out: Path, checksums: dict[int, str] | None = None):
    return convert_observation(raw, out, flag_rfi=False, checksums=checksums)


@pytest.mark.parametrize("options", [(), ("--binary",), ("--tag",)])
def test_checksum_files_are_those_of_the_standard_program(raw, options):
    write_sums(raw, *options)
    assert raw_checksums.from_sidecars(raw) == {n: raw_checksums.sha256_of(path) for n, path in raw.items()}
    checked = subprocess.run(["sha256sum", "--check", *(f"{p.name}.sha256" for p in raw.values())], cwd=raw[0].parent, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize("what", ["visdata", "nsamples", "header", "end"])
def test_a_flipped_bit_is_found_wherever_it_is_and_the_file_is_named(raw, tmp_path, what):
    sums = {n: raw_checksums.sha256_of(path) for n, path in raw.items()}
    report = convert(raw, tmp_path / "good.ms", sums)
    assert report.figures()["checksums_verified"] == 16
    flip(raw[SB], what)
    flip(raw[SB + 2], what)
    with pytest.raises(ChecksumError, match="does not have the bytes of its checksum") as caught:
        convert(raw, tmp_path / "bad.ms", sums)
    assert caught.value.subject == str(raw[SB])
    assert set(caught.value.reasons) == {str(raw[SB]), str(raw[SB + 2])}
    assert exit_code_of([caught.value]) == 2
    assert not (tmp_path / "bad.ms").exists()


def test_without_checksums_a_flipped_visibility_passes(raw, tmp_path):
    """What the setting is for."""
    flip(raw[SB])
    assert convert(raw, tmp_path / "a.ms").n_verified == 0


def test_the_bytes_are_read_once(raw, tmp_path, monkeypatch):
    sums = {n: raw_checksums.sha256_of(path) for n, path in raw.items()}
    loaded: list[Path] = []
    load = reading.FileBuffer.load
    monkeypatch.setattr(reading.FileBuffer, "load", lambda self, path: loaded.append(path) or load(self, path))
    monkeypatch.setattr(reading, "sha256_of", lambda path: pytest.fail(f"{path} was read a second time"))
    assert convert(raw, tmp_path / "a.ms", sums).n_verified == 16
    assert loaded == list(raw.values())


def test_a_compressed_file_is_verified_too(raw, tmp_path):
    with h5py.File(raw[SB], "r+") as file:
        values = file["Data/visdata"][()]
        del file["Data/visdata"]
        file.create_dataset("Data/visdata", data=values, compression="gzip", chunks=True)
    sums = {n: raw_checksums.sha256_of(path) for n, path in raw.items()}
    convert(raw, tmp_path / "a.ms", sums)
    flip(raw[SB], "end")
    with pytest.raises(ChecksumError):
        convert(raw, tmp_path / "b.ms", sums)


def test_a_fault_that_a_second_reading_does_not_show_may_pass(raw, tmp_path, monkeypatch):
    sums = {n: raw_checksums.sha256_of(path) for n, path in raw.items()}
    load, place = reading.FileBuffer.load, place_in(raw[SB], "visdata")

    def with_a_fault(self, path):
        contents = load(self, path)
        if path == raw[SB]:
            contents[place] ^= 1
        return contents

    monkeypatch.setattr(reading.FileBuffer, "load", with_a_fault)
    with pytest.raises(StorageError, match="once only"):
        convert(raw, tmp_path / "a.ms", sums)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("kind", "expected", "cause"),
    [
        ("absent", MissingChecksumError, "does not exist"),
        ("empty", ChecksumError, "has no SHA-256 line"),
        ("of another file", ChecksumError, "has no SHA-256 line"),
        ("binary", ChecksumError, "has no SHA-256 line"),
        ("pipe", ChecksumError, "not a regular file"),
        ("directory", ChecksumError, "not a regular file"),
    ],
)
def test_a_checksum_file_that_is_none_is_named(raw, kind, expected, cause):
    write_sums(raw)
    sidecar = raw_checksums.sidecar_of(raw[SB])
    text = sidecar.read_text()
    sidecar.unlink()
    if kind == "pipe":
        os.mkfifo(sidecar)
    elif kind == "directory":
        sidecar.mkdir()
    elif kind != "absent":
        sidecar.write_bytes({"empty": b"", "of another file": text.replace("sb05", "sb06").encode(), "binary": bytes(range(256)) * 9}[kind])
    with pytest.raises(expected, match=cause) as caught:
        raw_checksums.from_sidecars(raw)
    assert "sha256sum" in caught.value.next_step


@pytest.fixture
def platform(registry_config, database, raw, tmp_path):
    """A function that makes a platform with a setting, whose input directory holds the tile."""

    def made(setting: str) -> Platform:
        config = registry_config.model_copy(update={"raw_checksums": setting, "input_dir": raw[0].parent})
        paths = ProductPaths.of(config)
        (tmp_path / "manual.txt").write_text(MANUAL)
        calibrators.build_calibrator_db(tmp_path / "manual.txt", paths.catalogs_dir / "vla_calibrators.sqlite3")
        return Platform(config, paths, database)

    return made


def scan(platform: Platform, *, later_s: float = 0.0):
    return scan_directory(platform.database, platform.config.input_dir, platform.config, datetime.now(UTC) + timedelta(seconds=later_s))


def observation(platform: Platform) -> IngestGroup:
    with platform.database.session() as session:
        return session.query(IngestGroup).one()


@pytest.mark.parametrize("setting", ["correlator", "first-sight"])
def test_an_observation_goes_on_without_a_damaged_file_and_with_its_good_copy(platform, raw, tiny_raw_tile, setting):
    write_sums(raw)
    platform = platform(setting)
    report = scan(platform)
    assert report.rejected == ()  # a checksum file is no foreign file
    (group,) = report.pending
    flip(raw[SB])
    with pytest.raises(RetriableError, match=rf"1 of its raw files were rejected .*_sb{SB:02d}.hdf5: it does not have the bytes"):
        make_measurement_set(platform, TileRun(group, "first"))
    assert (observation(platform).state, observation(platform).n_subbands) == (GroupState.COLLECTING, 15)
    with platform.database.session() as session:
        (refused,) = status.rejected_files(session)
    assert refused.path == str(raw[SB])
    assert refused.reason.startswith("checksum: it does not have the bytes")
    keys = {alert.key: alert.title for alert in conditions(platform, datetime.now(UTC))}
    assert keys["files-refused/checksum"] == "1 raw files were rejected: checksum"

    again = scan(platform, later_s=3600)
    assert (again.pending, again.rejected) == ((group,), ())  # past its deadline; the same file is not judged again
    result = make_measurement_set(platform, TileRun(group, "second"))
    assert (result.figures["missing_subbands"], result.figures["checksums_verified"]) == (f"sb{SB:02d}", 15)

    shutil.copy(by_subband(tiny_raw_tile.files)[SB], raw[SB])  # another time of modification
    assert scan(platform, later_s=3660).pending == (group,)
    result = make_measurement_set(platform, TileRun(group, "third"))
    assert (result.figures["missing_subbands"], result.figures["checksums_verified"]) == ("none", 16)


def test_a_late_checksum_file_is_waited_for(platform, raw):
    platform = platform("correlator")
    (group,) = scan(platform).pending
    with pytest.raises(MissingChecksumError, match="does not exist"):
        make_measurement_set(platform, TileRun(group, "first"))
    assert observation(platform).state == GroupState.PENDING
    write_sums(raw)
    assert make_measurement_set(platform, TileRun(group, "second")).figures["checksums_verified"] == 16


def test_files_that_were_seen_before_the_setting_are_converted_and_counted(platform, raw):
    (group,) = scan(platform("off")).pending
    assert make_measurement_set(platform("first-sight"), TileRun(group, "first")).figures["checksums_verified"] == 0


def test_first_sight_keeps_what_sha256sum_says(platform, raw):
    first = platform("first-sight")
    scan(first)
    with first.database.session() as session:
        kept = {row.path: row.sha256 for row in session.query(SubbandFile).where(SubbandFile.state == FileState.ACCEPTED)}
    shown = subprocess.run(["sha256sum", *map(str, raw.values())], capture_output=True, text=True, check=True).stdout
    assert {name: digest for digest, name in (line.split("  ") for line in shown.splitlines())} == kept


def test_conversion_by_hand_compares_the_correlators_checksums(raw, tmp_path, monkeypatch, capsys):
    for name in ("STATE", "SCRATCH", "OUTPUT"):
        monkeypatch.setenv(f"PIPELINE_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.setenv("PIPELINE_RAW_CHECKSUMS", "correlator")
    monkeypatch.setenv("PIPELINE_FLAG_RFI", "false")
    write_sums(raw)
    flip(raw[SB])
    line = ["convert", "groups", str(raw[0].parent), str(tmp_path / "by-hand"), "2020-01-01", "2035-01-01"]
    assert run_command(line) == 2
    shown = "".join(capsys.readouterr()).replace("\n", "")
    assert "checksum" in shown
    assert "Traceback" not in shown
