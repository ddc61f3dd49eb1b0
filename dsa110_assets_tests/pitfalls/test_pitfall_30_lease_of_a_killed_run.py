"""Pitfall 30 (queue): a killed run does not keep its observation for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from dsa110_assets.errors import LeaseLostError
from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.arrivals import accept_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState
from dsa110_assets_tests.ingest.bookkeeping import START, observation, settings

NOW = START + timedelta(seconds=320)
GROUP = "2026-03-01T05:10:11"

RUN = """
import sys, time
from datetime import datetime
from dsa110_assets.ingest import ledger
from dsa110_assets.registry.database import Database
database = Database(sys.argv[1])
now = datetime.fromisoformat(sys.argv[2])
with database.session() as session:
    (lease,) = ledger.lease_pending(session, "doomed", 1, now, lease_s=60)
    ledger.attach_run(session, lease.group_id, lease.attempt, "run-1", now, lease_s=60)
with database.session() as session:  # dies inside a transaction, with the row locked
    ledger.renew_lease(session, lease.group_id, lease.attempt, now, lease_s=6000)
    print("leased", flush=True)
    time.sleep(300)
"""


def test_pitfall_30_a_killed_runs_observation_is_leased_again_and_its_open_transaction_is_rolled_back(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(), NOW)
        close_ready_observations(session, NOW, settings())
    run = subprocess.Popen([sys.executable, "-c", RUN, database.url, NOW.isoformat()], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "leased\n"
    with database.session() as session:
        late = NOW + timedelta(seconds=61)
        assert ledger.release_expired(session, late, max_attempts=3).pending == (), "a locked row must be skipped"
    run.send_signal(signal.SIGKILL)
    run.wait(30)
    run.stdout.close()
    released: tuple[str, ...] = ()
    while not released:  # until the server rolls back; the test's time limit ends this loop
        with database.session() as session:
            released = ledger.release_expired(session, late, max_attempts=3).pending
    assert released == (GROUP,)
    with database.session() as session:
        (lease,) = ledger.lease_pending(session, "another", 1, late, lease_s=60)
        assert lease.run_key == f"{GROUP}/2"
        with pytest.raises(LeaseLostError):
            ledger.complete(session, GROUP, 1, late)
        assert ledger.counts(session)[GroupState.IN_PROGRESS] == 1
