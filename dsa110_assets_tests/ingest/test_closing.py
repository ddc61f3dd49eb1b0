"""Collecting ends at once for a complete observation, and at the deadline for a partial or an incomplete one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.arrivals import accept_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets_tests.ingest.bookkeeping import START, accept_file, facts, observation, settings

NOW = START + timedelta(seconds=320)
GROUP = "2026-03-01T05:10:11"
BEFORE, AT = NOW + timedelta(seconds=599.9), NOW + timedelta(seconds=600)


def test_a_complete_observation_does_not_wait(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(range(15)), NOW)
        assert close_ready_observations(session, NOW, settings()).pending == ()
        accept_file(session, facts(15), NOW)
        assert close_ready_observations(session, NOW, settings()).pending == (GROUP,)


def test_the_deadline_counts_from_the_first_file(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(range(11)), NOW)
        accept_file(session, facts(11), BEFORE)
        assert close_ready_observations(session, BEFORE, settings()).pending == ()
        assert close_ready_observations(session, AT, settings()).pending == (GROUP,)
        row = session.scalars(select(IngestGroup)).one()
        assert row.missing_subbands == [12, 13, 14, 15]
        assert row.pending_at == AT


@pytest.mark.parametrize("n_subbands", [1, 11])
def test_too_few_subbands_are_a_failure_that_names_the_missing_ones(database: Database, n_subbands: int) -> None:
    with database.session() as session:
        accept_files(session, observation(range(n_subbands)), NOW)
        assert close_ready_observations(session, AT, settings()).failed == (GROUP,)
        row = session.scalars(select(IngestGroup)).one()
    assert row.state == GroupState.FAILED
    assert row.error_type == "IncompleteGroupError"
    assert f"{n_subbands} of 16 subbands" in str(row.error)
    assert row.missing_subbands == list(range(n_subbands, 16))


def test_late_subbands_rescue_an_incomplete_observation(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(range(10)), NOW)
        close_ready_observations(session, AT, settings())
        accept_file(session, facts(10), AT)
        assert close_ready_observations(session, AT, settings()).failed == (GROUP,), "still too few"
        accept_file(session, facts(11), AT)
        assert close_ready_observations(session, AT, settings()).pending == (GROUP,)
        row = session.scalars(select(IngestGroup)).one()
        assert (row.error, row.n_subbands) == (None, 12)


def test_the_deadline_waits_for_files_that_were_listed_but_not_read(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(range(8)), NOW)
        assert close_ready_observations(session, AT, settings(), unread=[START + timedelta(seconds=82)]).failed == ()
        assert close_ready_observations(session, AT, settings(), unread=[START + timedelta(seconds=309)]).failed == (GROUP,)


def test_a_locked_observation_is_left_for_the_next_call(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(), NOW)
    with database.session() as locking:
        locking.scalars(select(IngestGroup).with_for_update()).all()
        with database.session() as session:
            assert close_ready_observations(session, NOW, settings()).pending == ()
    with database.session() as session:
        assert close_ready_observations(session, NOW, settings()).pending == (GROUP,)
        assert ledger.counts(session)[GroupState.PENDING] == 1
