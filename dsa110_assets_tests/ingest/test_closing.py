"""When collecting ends: complete at once, partial at the deadline, too few never silently."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.arrivals import accept_files
from dsa110_assets.ingest.closing import close_ready_groups
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets_tests.ingest.bookkeeping import START, accept_file, facts, observation, settings

NOW = START + timedelta(seconds=320)
GROUP = "2026-03-01T05:10:11"
BEFORE, AT = NOW + timedelta(seconds=599.9), NOW + timedelta(seconds=600)


def test_a_complete_observation_need_not_wait(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(range(15)), NOW)
        assert close_ready_groups(session, NOW, settings()).pending == ()
        accept_file(session, facts(15), NOW)
        assert close_ready_groups(session, NOW, settings()).pending == (GROUP,)


def test_the_deadline_counts_from_the_first_file(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(range(11)), NOW)
        accept_file(session, facts(11), BEFORE)
        assert close_ready_groups(session, BEFORE, settings()).pending == ()
        assert close_ready_groups(session, AT, settings()).pending == (GROUP,)
        group = session.scalars(select(IngestGroup)).one()
        assert group.missing_subbands == [12, 13, 14, 15]
        assert group.pending_at == AT


@pytest.mark.parametrize("n_subbands", [1, 11])
def test_too_few_subbands_are_a_visible_failure_that_says_what_is_missing(database: Database, n_subbands: int) -> None:
    with database.session() as session:
        accept_files(session, observation(range(n_subbands)), NOW)
        assert close_ready_groups(session, AT, settings()).failed == (GROUP,)
        group = session.scalars(select(IngestGroup)).one()
    assert group.state == GroupState.FAILED
    assert group.error_type == "IncompleteGroupError"
    assert f"{n_subbands} of 16 subbands" in str(group.error)
    assert group.missing_subbands == list(range(n_subbands, 16))


def test_late_subbands_rescue_an_incomplete_observation(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(range(10)), NOW)
        close_ready_groups(session, AT, settings())
        accept_file(session, facts(10), AT)
        assert close_ready_groups(session, AT, settings()).failed == (GROUP,), "still too few"
        accept_file(session, facts(11), AT)
        assert close_ready_groups(session, AT, settings()).pending == (GROUP,)
        group = session.scalars(select(IngestGroup)).one()
        assert (group.error, group.n_subbands) == (None, 12)


def test_files_that_were_listed_but_not_read_yet_hold_the_deadline(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(range(8)), NOW)
        assert close_ready_groups(session, AT, settings(), unread=[START + timedelta(seconds=82)]).failed == ()
        assert close_ready_groups(session, AT, settings(), unread=[START + timedelta(seconds=309)]).failed == (GROUP,)


def test_a_group_that_someone_has_locked_is_left_for_the_next_call(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(), NOW)
    with database.session() as holder:
        holder.scalars(select(IngestGroup).with_for_update()).all()
        with database.session() as session:
            assert close_ready_groups(session, NOW, settings()).pending == ()
    with database.session() as session:
        assert close_ready_groups(session, NOW, settings()).pending == (GROUP,)
        assert ledger.counts(session)[GroupState.PENDING] == 1
