"""Record a platform at work, for `test_upgrade`: ``python -m dsa110_assets_tests.upgrade.record``, once for a release.

The platform of `dsa110 up` processes `small_night` until one observation has calibrated data and no image, and another
one is leased. Then all processes but the database are frozen, as a machine without power is, and two things are kept:
the backup that `dsa110 db backup` writes, and the files. Raw files of the third observation are still arriving, one
raw file is damaged (its alert is open), and the hour's mosaic waits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time

import psutil
from sqlalchemy import select

from dsa110_assets.cli.services import free_port
from dsa110_assets.config import PROCESS_MARK
from dsa110_assets.registry.schema import AlertRecord, GroupState, ImageRow, IngestGroup, MeasurementSetKind, MeasurementSetRow
from dsa110_assets_tests.chaos.running_platform import RunningPlatform, running
from dsa110_assets_tests.chaos.small_night import prepare
from dsa110_assets_tests.upgrade.recorded import ARRIVED_SUBBANDS, ARRIVING, DAMAGED, FILES, NIGHT, REGISTRY, ROOT

LIMIT_S = 1200.0
_KEPT = ("incoming", "reference", "ms", "products", "state/catalogs", "state/staging")


def main() -> int:
    """Record."""
    shutil.rmtree(ROOT, ignore_errors=True)
    port = free_port()
    places, settings = prepare(ROOT, NIGHT, port)
    (places.incoming / DAMAGED).write_bytes(b"not HDF5")
    for tile in range(ARRIVING):
        NIGHT.write(places.incoming, tile)
    NIGHT.write(places.incoming, ARRIVING, subbands=ARRIVED_SUBBANDS)
    settings |= {"PIPELINE_GROUP_DEADLINE_S": "7200", "PIPELINE_MAX_WORKERS": "2"}
    with running(ROOT, settings, port) as target:
        _freeze_at_work(target)
        REGISTRY.parent.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-m", "dsa110_assets.cli.main", "db", "backup", str(REGISTRY)], check=True)
        with tarfile.open(FILES, "w:xz") as archive:
            for folder in _KEPT:
                if (ROOT / folder).exists():
                    archive.add(ROOT / folder, folder)
        for process in _processes(target):
            process.kill()
    return 0


def _freeze_at_work(target: RunningPlatform) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if _is_at_work(target):
            frozen = _processes(target)
            for process in frozen:
                process.suspend()
            if _is_at_work(target):
                return
            for process in frozen:
                process.resume()
        time.sleep(0.05)
    raise TimeoutError("the platform was never in the state to record")


def _is_at_work(target: RunningPlatform) -> bool:
    with target.platform.database.session() as session:
        leased = set(session.scalars(select(IngestGroup.group_id).where(IngestGroup.state == GroupState.IN_PROGRESS)))
        calibrated = set(session.scalars(select(MeasurementSetRow.group_id).where(MeasurementSetRow.kind == MeasurementSetKind.CALIBRATED)))
        imaged = set(session.scalars(select(ImageRow.group_id)))
        alerts = session.scalars(select(AlertRecord.key).where(AlertRecord.passed_at.is_(None))).all()
    return bool(leased & calibrated) and not imaged and len(leased) > 1 and any("files-refused" in key for key in alerts)


def _processes(target: RunningPlatform) -> list[psutil.Process]:
    """All processes of the platform but those of the database."""
    found: list[psutil.Process] = []
    mark = str(target.config.state_dir.absolute())
    for process in psutil.process_iter():
        try:
            ours = process.pid != os.getpid() and mark in process.environ().get(PROCESS_MARK, "")
            if ours and "postgres" not in process.name():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
