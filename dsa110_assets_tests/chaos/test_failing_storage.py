"""A full disk, a read-only one, a database that restarts in the middle: a clear error, a clear state, and work resumes (pitfall 32)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsa110_assets.errors import RegistryError, StorageError
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup, TileStage
from dsa110_assets.registry.server import EmbeddedServer
from dsa110_assets.stages import tile, versions
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.work import TileRun
from dsa110_assets_tests.chaos import kill_matrix
from dsa110_assets_tests.registry_fixture import TEST_SETTINGS

pytestmark = pytest.mark.fresh_interpreter


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """A small file system of its own; called with options of mount it is changed."""
    place = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a file system is not permitted here")

    def remount(options: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
        return place

    yield remount
    subprocess.run(["umount", "-l", str(place)], check=True)


def on(platform: Platform, place: Path) -> Platform:
    """The platform with its Measurement Sets on another disk."""
    return replace(platform, paths=replace(platform.paths, output_dir=place / "ms", scratch_dir=place / "products"))


def state(platform: Platform, group_id: str) -> tuple[str, str, str | None]:
    with platform.database.session() as session:
        group = session.get_one(IngestGroup, group_id)
        return group.state, group.stage, group.error_type


@pytest.mark.parametrize(
    ("trouble", "cure", "words"), [("size=1m,rw", "size=200m,rw", "disk is full"), ("size=200m,ro", "size=200m,rw", "read-only")]
)
def test_pitfall_32_a_bad_disk_is_named_nothing_half_is_left_and_the_next_attempt_succeeds(
    database: Database, tmp_path: Path, disk: Callable[[str], Path], trouble: str, cure: str, words: str
) -> None:
    platform, night = kill_matrix.prepared(tmp_path / "night", database.url)
    group_id = kill_matrix.stages(platform, night)[0].key
    bad = on(platform, disk(trouble))
    with pytest.raises(StorageError, match=words) as caught:
        tile.make_measurement_set(bad, TileRun(group_id, "run-1"))
    assert "free space" in caught.value.next_step
    assert not bad.paths.measurement_set(group_id).exists()
    assert state(bad, group_id) == (GroupState.PENDING, TileStage.RAW, "StorageError")
    place = disk(cure)
    tile.make_measurement_set(bad, TileRun(group_id, "run-2"))
    assert state(bad, group_id)[:2] == (GroupState.COMPLETED, TileStage.MEASUREMENT_SET)
    assert [path.name for path in (place / "ms" / group_id[:10]).iterdir() if not path.name.startswith(".")] == [f"{group_id}.ms"]
    subprocess.run(["rm", "-rf", str(place / "ms")], check=True)


def test_pitfall_32_an_engine_that_blames_something_else_for_the_full_disk_is_corrected(disk: Callable[[str], Path]) -> None:
    from dsa110_assets.products import publish

    place = disk("size=1m,rw")

    def make() -> None:
        with publish(place / "images" / "tile") as staged:
            staged.mkdir()
            (staged / "filling").write_bytes(bytes(500_000))
            raise RuntimeError("Table DataManager error: invalid operation")

    with pytest.raises(StorageError, match="the disk is full"):
        make()
    assert [path for path in place.rglob("*") if path.is_file()] == []


def test_a_database_that_restarts_inside_the_registration_costs_one_attempt(
    server_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedServer(server_directory / "restarting", settings=TEST_SETTINGS)
    url = server.ensure().url("postgres")
    Database(url).migrate()
    platform, night = kill_matrix.prepared(tmp_path / "night", url)
    group_id = kill_matrix.stages(platform, night)[0].key
    real, restarts = versions.record_version, list[int]()

    def restart_and_record(*arguments: Any, **options: Any) -> int:
        number = real(*arguments, **options)
        if not restarts:
            restarts.append(number)
            server.stop(immediate=True)
            server.ensure()
        return number

    monkeypatch.setattr(versions, "record_version", restart_and_record)
    try:
        with pytest.raises(RegistryError):
            tile.make_measurement_set(platform, TileRun(group_id, "run-1"))
        assert state(platform, group_id) == (GroupState.PENDING, TileStage.RAW, "RegistryError")
        tile.make_measurement_set(platform, TileRun(group_id, "run-2"))
        assert state(platform, group_id)[:2] == (GroupState.COMPLETED, TileStage.MEASUREMENT_SET)
    finally:
        platform.database.dispose()
        server.stop(immediate=True)
