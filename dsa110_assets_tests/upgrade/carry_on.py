"""`make upgrade`: a recorded platform at work is upgraded to this release, moves elsewhere, and carries on.

``python -m dsa110_assets_tests.upgrade.carry_on``. The recorded backup is restored into a fresh server, and `dsa110
prepare` and `dsa110 db relocate` run as the documentation says. Then the rest of the raw files arrives, `dsa110 up`
works until nothing is due, and `agreement` looks for anything lost, incomplete or doubled. What was recorded is checked
before, so that the work is really there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.cli.demo_places import DemoPlaces
from dsa110_assets.cli.services import free_port
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import PipelineError
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import AlertRecord, GroupState, IngestGroup
from dsa110_assets.times import JD_MINUS_MJD, group_id_of
from dsa110_assets_tests.chaos.agreement import Night, disagreements
from dsa110_assets_tests.chaos.running_platform import RunningPlatform, running
from dsa110_assets_tests.chaos.small_night import SETTINGS, digests
from dsa110_assets_tests.upgrade.recorded import ARRIVED_SUBBANDS, ARRIVING, NIGHT, ROOT, fill, unpack

QUIET_LIMIT_S = 1200.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command. The exit code is 0 only if nothing is lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("build/upgrade"), help="emptied first")
    root: Path = parser.parse_args(arguments).directory.absolute()
    shutil.rmtree(root, ignore_errors=True)
    port = free_port()
    settings = DemoPlaces(root).settings(port) | SETTINGS
    os.environ.update(settings)
    for name in ("INPUT", "OUTPUT", "SCRATCH", "STATE"):
        Path(settings[f"PIPELINE_{name}_DIR"]).mkdir(parents=True)
    config = PipelineConfig.from_env()
    fill(config)
    database = Database.connect(config, migrate=False)
    recorded = database.revision()
    _command("prepare")
    unpack(root, database)
    _command("db", "relocate", str(ROOT), str(root))
    with database.session() as session:
        alerts = _open_alerts(session)
        leased = session.scalars(select(IngestGroup.group_id).where(IngestGroup.state == GroupState.IN_PROGRESS)).all()
    rest = [subband for subband in range(16) if subband not in ARRIVED_SUBBANDS]
    NIGHT.write(config.input_dir, ARRIVING, subbands=rest)
    group_ids = frozenset(group_id_of(NIGHT.start_mjd(tile) + JD_MINUS_MJD) for tile in range(NIGHT.n_tiles))
    night = Night(group_ids, digests(config.input_dir), config.input_dir)
    with running(root, settings, port) as target:
        quiet_s = _seconds_until_quiet(target, len(group_ids))
        with Session(target.platform.database.engine) as session:
            found = disagreements(session, target.platform, target.instance, night)
            now = _open_alerts(session)
            attempts = {row.group_id: (row.attempt, row.failures) for row in session.scalars(select(IngestGroup))}
        found += [f"alert {key} of number {alerts[key]} is {now.get(key, 'gone')}" for key in alerts if now.get(key) != alerts[key]]
    figures = {
        "schema before": recorded, "leased before": sorted(leased), "alerts open before": sorted(alerts),
        "quiet after (s)": None if quiet_s is None else round(quiet_s), "attempts and failures": attempts, "disagreements": found,
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    good = quiet_s is not None and not found and bool(leased) and bool(alerts)
    print("nothing is lost" if good else "BROKEN", flush=True)
    return 0 if good else 1


def _command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dsa110_assets.cli.main", *arguments], check=True)


def _open_alerts(session: Session) -> dict[str, int]:
    """Numbers of the open alerts, by key."""
    rows = session.execute(select(AlertRecord.key, AlertRecord.alert_id).where(AlertRecord.passed_at.is_(None)))
    return dict(rows.tuples().all())


def _seconds_until_quiet(target: RunningPlatform, n_tiles: int) -> float | None:
    began = time.monotonic()
    while time.monotonic() - began < QUIET_LIMIT_S:
        try:
            if target.is_quiet(n_tiles):
                return time.monotonic() - began
        except PipelineError:  # the database is starting
            pass
        time.sleep(2.0)
    return None


if __name__ == "__main__":
    sys.exit(main())
