"""Pitfall 27: two workers take the same observation; a remembered run key prevents a legitimate second run for ever."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.arrivals import accept_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.registry.database import Database
from dsa110_assets_tests.ingest.bookkeeping import START, observation, settings

NOW = START + timedelta(seconds=320)

WORKER = """
import sys
from datetime import datetime
from dsa110_assets.ingest import ledger
from dsa110_assets.registry.database import Database
database = Database(sys.argv[1])
sys.stdin.readline()
while True:
    with database.session() as session:
        leases = ledger.lease_pending(session, "worker", 1, datetime.fromisoformat(sys.argv[2]), lease_s=60)
    if not leases:
        break
    print(leases[0].run_key, flush=True)
"""


def test_pitfall_27_two_processes_that_lease_at_once_never_take_the_same_observation(database: Database) -> None:
    starts = [START + timedelta(seconds=309 * k) for k in range(12)]
    with database.session() as session:
        accept_files(session, [one for start in starts for one in observation(start=start)], NOW)
        close_ready_observations(session, NOW, settings())
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, database.url, NOW.isoformat()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    keys = [key for worker in workers for key in worker.communicate(timeout=120)[0].split()]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sorted(keys) == [f"{start:%Y-%m-%dT%H:%M:%S}/1" for start in starts]


def test_pitfall_27_every_legitimate_run_has_a_new_key(database: Database) -> None:
    """Five runs (first, after expiry, after failure, by hand, after a late subband) have five keys."""
    now, keys = NOW, []

    def lease() -> ledger.Lease:
        with database.session() as session:
            close_ready_observations(session, now, settings())
            (one,) = ledger.lease_pending(session, "worker", 1, now, lease_s=60)
        keys.append(one.run_key)
        return one

    with database.session() as session:
        accept_files(session, observation(range(15)), now)
    now += timedelta(seconds=600)
    lease()
    now += timedelta(seconds=61)
    with database.session() as session:
        ledger.release_expired(session, now, max_attempts=3)
    second = lease()
    with database.session() as session:
        ledger.fail(session, second.group_id, second.attempt, "child killed", now, max_attempts=3, retriable=True, delay_s=0)
    third = lease()
    with database.session() as session:
        ledger.complete(session, third.group_id, third.attempt, now)
        ledger.retry(session, third.group_id, now, settings())
    fourth = lease()
    with database.session() as session:
        ledger.complete(session, fourth.group_id, fourth.attempt, now)
        accept_files(session, observation([15]), now)
    lease()
    assert keys == [f"2026-03-01T05:10:11/{k}" for k in range(1, 6)]
