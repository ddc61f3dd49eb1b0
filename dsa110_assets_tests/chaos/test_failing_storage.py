"""Errors of a full, read-only or slow disk and a restarting database are clear, and work resumes (pitfall 32)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from dsa110_assets.common.child_process import Child, run_child
from dsa110_assets.errors import DiskFullError, RegistryError, StorageError
from dsa110_assets.files import tells_of_full_disk
from dsa110_assets.ingest import ledger
from dsa110_assets.orchestration import sensors
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.publication import storage_trouble
from dsa110_assets.registry.audit import audit
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup, TileStage
from dsa110_assets.registry.server import EmbeddedServer
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import tile
from dsa110_assets.stages.provenance import versions
from dsa110_assets.stages.provenance.contents import agrees
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets_tests.chaos import kill_matrix
from dsa110_assets_tests.registry_fixture import TEST_SETTINGS

pytestmark = pytest.mark.fresh_interpreter
LEASE_S = 4.0
FILLS = 1 << 20
"""Numbers that do not fit on the disk."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Function that remounts a small file system with the given options and returns its directory."""
    directory = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a file system is not permitted here")

    def remount(options: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,{options}", str(directory)], check=True)
        return directory

    yield remount
    subprocess.run(["umount", "-l", str(directory)], check=True)


@pytest.fixture
def slow_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that writes 200 kB a second, by the kernel's throttle of block devices."""
    limits = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
    image, directory = tmp_path / "disk.img", tmp_path / "slow"
    directory.mkdir()
    with image.open("wb") as file:
        file.truncate(200 << 20)
    if os.geteuid() != 0 or not limits.is_file():
        pytest.skip("needs root, and the kernel's throttle of block devices (cgroup v1)")
    found = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"no loop device: {found.stderr.strip()}")
    device = found.stdout.strip()
    number = Path(device).stat().st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    try:
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", device], check=True)
        subprocess.run(["mount", "-o", "sync", device, str(directory)], check=True)
        limits.write_text(f"{name} 200000")
        yield directory
    finally:
        limits.write_text(f"{name} 0")
        subprocess.run(["umount", "-l", str(directory)], check=False)
        subprocess.run(["losetup", "--detach", device], check=True)


def with_products_in(platform: Platform, directory: Path) -> Platform:
    """The platform with its products in another directory."""
    return replace(platform, paths=replace(platform.paths, output_dir=directory / "ms", scratch_dir=directory / "products"))


def state(platform: Platform, group_id: str) -> tuple[str, str, str | None]:
    with platform.database.session() as session:
        row = session.get_one(IngestGroup, group_id)
        return row.state, row.stage, row.error_type


@pytest.mark.parametrize(
    ("bad_options", "good_options", "message"),
    [("size=1m,rw", "size=200m,rw", "disk is full"), ("size=200m,ro", "size=200m,rw", "read-only")],
)
def test_pitfall_32_a_bad_disk_is_reported_leaves_nothing_half_written_and_the_next_attempt_succeeds(
    database: Database, tmp_path: Path, disk: Callable[[str], Path], bad_options: str, good_options: str, message: str
) -> None:
    platform, night = kill_matrix.prepared(tmp_path / "night", database.url)
    group_id = kill_matrix.stages(platform, night)[0].key
    bad = with_products_in(platform, disk(bad_options))
    with pytest.raises(StorageError, match=message) as caught:
        tile.make_measurement_set(bad, TileRun(group_id, "run-1"))
    assert "free space" in caught.value.next_step
    assert not bad.paths.measurement_set(group_id).exists()
    assert state(bad, group_id) == (GroupState.PENDING, TileStage.RAW, "DiskFullError" if "full" in message else "StorageError")
    directory = disk(good_options)
    tile.make_measurement_set(bad, TileRun(group_id, "run-2"))
    assert state(bad, group_id)[:2] == (GroupState.COMPLETED, TileStage.MEASUREMENT_SET)
    assert [path.name for path in (directory / "ms" / group_id[:10]).iterdir()] == [f"{group_id}.ms"]
    subprocess.run(["rm", "-rf", str(directory / "ms")], check=True)


def test_pitfall_32_a_full_disk_is_reported_whatever_error_the_engine_raised(disk: Callable[[str], Path]) -> None:
    from dsa110_assets.publication import publish

    directory = disk("size=1m,rw")

    def make() -> None:
        with publish(directory / "images" / "tile") as staged:
            staged.mkdir()
            (staged / "filling").write_bytes(bytes(500_000))
            raise RuntimeError("Table DataManager error: invalid operation")

    with pytest.raises(StorageError, match="the disk is full"):
        make()
    assert [path for path in directory.rglob("*") if path.is_file()] == []


def write_fits(path: Path) -> None:
    from astropy.io import fits

    fits.PrimaryHDU(np.zeros(FILLS, dtype=np.float32)).writeto(path)


def write_casacore(path: Path) -> None:
    from casacore import tables

    description = tables.maketabdesc([tables.makearrcoldesc("DATA", 0.0, shape=[FILLS // 4], options=5)])
    with tables.table(str(path), description, nrow=4, ack=False) as table:
        table.putcol("DATA", np.zeros((4, FILLS // 4)))


def write_hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(FILLS)


def write_sqlite(path: Path) -> None:
    import sqlite3

    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (b BLOB)")
        connection.execute("INSERT INTO t VALUES (zeroblob(?))", (4 * FILLS,))
        connection.commit()


def write_parquet(path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"x": np.random.default_rng(1).random(FILLS)}).to_parquet(path)


def write_numpy(path: Path) -> None:
    np.zeros(FILLS).tofile(path)


def write_picture(path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(1).integers(0, 255, (1500, 1500), dtype=np.uint8)).save(path, format="png")


def write_in_child(path: Path) -> None:
    child = Child("dd", ["dd", "if=/dev/zero", f"of={path}", "bs=1M", "count=4"])
    run_child(child, subject=path, timeout_s=60, timeout_advice="-").raise_if_failed(path, "-")


@pytest.mark.parametrize(
    "write",
    [write_fits, write_casacore, write_hdf5, write_sqlite, write_parquet, write_numpy, write_picture, write_in_child],
    ids=lambda one: one.__name__,
)
def test_pitfall_32_every_library_that_meets_a_full_disk_is_understood_from_its_own_words(
    disk: Callable[[str], Path], tmp_path: Path, write: Callable[[Path], None]
) -> None:
    """What a library leaves is removed before it is judged, so the free space says nothing."""
    directory = disk("size=1m,rw")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the library's own, whatever it is
        write(directory / "file")
    subprocess.run(["find", str(directory), "-mindepth", "1", "-delete"], check=True)
    assert tells_of_full_disk(caught.value), repr(caught.value)
    trouble = storage_trouble(tmp_path / "elsewhere", caught.value)
    assert isinstance(trouble, DiskFullError)
    assert not trouble.is_failure


def test_a_live_run_keeps_its_observation_when_a_slow_disk_takes_longer_than_the_lease(
    database: Database, tmp_path: Path, slow_disk: Path
) -> None:
    """The stage takes several leases; meanwhile the sensors run every few seconds."""
    platform, night = kill_matrix.prepared(tmp_path / "night", database.url)
    group_id = kill_matrix.stages(platform, night)[0].key
    slow = replace(with_products_in(platform, slow_disk), config=platform.config.model_copy(update={"lease_s": LEASE_S}))
    resource = PlatformResource.with_config(slow.config)

    @dg.job(name="tile")
    def tile_job() -> None:
        """Stand-in for the run, whose process is a child of this test."""

    with dg.DagsterInstance.ephemeral() as instance, ThreadPoolExecutor(1) as worker:
        run = instance.create_run_for_job(tile_job, tags={GROUP_TAG: group_id}, status=dg.DagsterRunStatus.STARTED)
        began = time.monotonic()
        make = kill_matrix.Stage(
            "measurement_set",
            group_id,
            lambda p: tile.make_measurement_set(with_products_in(p, slow_disk), TileRun(group_id, run.run_id)),
            None,
        )
        stage = worker.submit(kill_matrix.make_in_child, make, slow.config, None)
        while not stage.done():
            sensors.dead_runs(dg.build_sensor_context(instance=instance, resources={"platform": resource}))
            with slow.database.session() as session:
                assert ledger.release_expired(session, now(), max_attempts=3) == ledger.Released(), "another run would start"
            time.sleep(LEASE_S / 10)
        assert stage.result() == 0
        took_s = time.monotonic() - began
    assert took_s > 2 * LEASE_S, "the disk was not slow enough to show anything"
    with slow.database.session() as session:
        row = session.get_one(IngestGroup, group_id)
        assert (row.state, row.attempt) == (GroupState.COMPLETED, 1)
    assert audit(slow.database, slow.paths, contents="checksum", agrees=agrees, settling_s=0.0) == []


def test_a_database_restart_during_registration_costs_one_attempt(
    server_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedServer(server_directory / "restarting", settings=TEST_SETTINGS)
    url = server.ensure().url("postgres")
    Database(url).migrate()
    platform, night = kill_matrix.prepared(tmp_path / "night", url)
    group_id = kill_matrix.stages(platform, night)[0].key
    real, restarts = versions.record_version, list[int]()

    def restart_and_record(*arguments: Any, **options: Any) -> int:
        version_id = real(*arguments, **options)
        if not restarts:
            restarts.append(version_id)
            server.stop(immediate=True)
            server.ensure()
        return version_id

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
