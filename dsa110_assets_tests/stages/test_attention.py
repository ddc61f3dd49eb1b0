"""Answers to alerts: an acknowledged one is visible and quiet, and comes back when the answer ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from dsa110_assets.cli import main
from dsa110_assets.errors import InvalidRequestError, NotFoundError
from dsa110_assets.orchestration import alerting
from dsa110_assets.registry.queries import people
from dsa110_assets.registry.schema import AlertAcknowledgement, AlertRecord, ApiAction, GroupState, IngestGroup
from dsa110_assets.stages.operations import alerts, attention, housekeeping
from dsa110_assets.stages.operations.alert_table import Alert
from dsa110_assets.stages.platform import Platform
from dsa110_assets_tests.registry_fixture import add_observation
from dsa110_assets_tests.stages.test_alerts import Webhook, webhook

__all__ = ["webhook"]
GROUP = "2026-03-12T05:03:21"
KEY = f"observation-failed/{GROUP}/0"


@pytest.fixture
def platform(registry_config, database) -> Platform:
    return Platform.open(registry_config.model_copy(update={"min_free_gib": 0.0}))


def now() -> datetime:
    return datetime.now(UTC)


def fail(platform: Platform, group_id: str = GROUP) -> None:
    with platform.database.session() as session:
        failed = add_observation(session, group_id, state=GroupState.FAILED)
        failed.error, failed.error_type, failed.updated_at = "no flux", "ImagingError", now()


def mend(platform: Platform, group_id: str = GROUP) -> None:
    with platform.database.session() as session:
        session.get_one(IngestGroup, group_id).state = GroupState.COMPLETED.value


def answer(platform: Platform, key: str = KEY, hours: float | None = None) -> None:
    until = None if hours is None else now() + timedelta(hours=hours)
    attention.acknowledge(platform, key, person="J. Doe", reason="the disk is being replaced", until=until, now=now())


class Sensor:
    """The sensor `alerts` of a platform with a webhook and nothing in Dagster."""

    def __init__(self, platform: Platform, webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
        self.webhook = webhook
        self.cursor: str | None = None
        config = platform.config.model_copy(update={"alert_webhook_url": SecretStr(webhook.url)})
        opened = Platform(config, platform.paths, platform.database)

        class Resource:
            def unconfigured(self) -> None:
                return None

            def open(self, *, validate_paths: bool = True) -> Platform:
                return opened

        self.resource = Resource()
        self.instance = dg.DagsterInstance.ephemeral()
        self.of_dagster: list[Alert] = []
        monkeypatch.setattr(alerting, "not_fresh", lambda _: self.of_dagster)
        monkeypatch.setattr(alerting, "failed_runs", lambda _: [])

    def tick(self) -> list[str]:
        """Look once; return the lines that the webhook got."""
        sent = len(self.webhook.received)
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            found = alerting.alerts._raw_fn(context, self.resource)
        self.cursor = found.cursor
        return [line for message in self.webhook.received[sent:] for line in message["text"].splitlines()[1:]]


@pytest.fixture
def sensor(platform, webhook, monkeypatch) -> Sensor:
    return Sensor(platform, webhook, monkeypatch)


def test_an_acknowledged_alert_is_sent_neither_when_it_lasts_nor_when_it_passes(platform, sensor) -> None:
    fail(platform)
    assert len(sensor.tick()) == 1
    answer(platform)
    assert sensor.tick() == []
    mend(platform)
    assert sensor.tick() == []
    fail(platform, "2026-03-12T06:03:21")
    assert len(sensor.tick()) == 1, "another observation is another alert"


def test_an_alert_that_comes_back_after_it_passed_is_sent_again(platform, sensor) -> None:
    fail(platform)
    sensor.tick()
    answer(platform)
    mend(platform)
    sensor.tick()
    with platform.database.session() as session:
        group = session.get_one(IngestGroup, GROUP)
        group.state, group.updated_at = GroupState.FAILED.value, now()
    assert len(sensor.tick()) == 1


def test_a_snoozed_alert_is_sent_again_when_the_time_is_over_and_it_is_still_open(platform, sensor) -> None:
    fail(platform)
    sensor.tick()
    answer(platform, hours=1)
    mend(platform)
    assert sensor.tick() == []
    with platform.database.session() as session:
        group = session.get_one(IngestGroup, GROUP)
        group.state, group.updated_at = GroupState.FAILED.value, now()
    assert sensor.tick() == [], "it came back within the time"
    with platform.database.session() as session:
        session.execute(AlertAcknowledgement.__table__.update().values(until=now() - timedelta(seconds=1)))
    (line,) = sensor.tick()
    assert GROUP in line
    assert sensor.tick() == []
    with platform.database.session() as session:
        assert session.scalar(select(func.count()).where(AlertAcknowledgement.ended_at.is_(None))) == 0


def test_an_alert_is_sent_again_when_the_answer_is_taken_back(platform, sensor) -> None:
    fail(platform)
    sensor.tick()
    answer(platform)
    sensor.tick()
    with platform.database.session() as session:
        attention.take_back(session, KEY)
    assert len(sensor.tick()) == 1


def test_what_the_sensor_found_in_dagster_is_listed_until_it_has_passed(platform, sensor) -> None:
    def listed() -> list[str]:
        with platform.database.session() as session:
            return [one.key for one in attention.open_alerts(session, alerts.conditions(platform, now()), now())]

    sensor.of_dagster = [Alert("not-fresh/tile_image/warning", "warning", "tile_image is late", "look upstream")]
    sensor.tick()
    assert listed() == ["not-fresh/tile_image/warning"]
    with platform.database.session() as session:
        later = attention.open_alerts(session, [], now() + attention.SENSOR_LOOKED + timedelta(minutes=1))
    assert later == [], "a sensor that was switched off tells nothing about now"
    sensor.of_dagster = []
    sensor.tick()
    assert listed() == []


def test_an_alert_keeps_the_time_when_it_was_first_reported(platform, sensor) -> None:
    fail(platform)
    sensor.tick()
    with platform.database.session() as session:
        opened = session.scalars(select(AlertRecord.opened_at)).one()
    sensor.tick()
    with platform.database.session() as session:
        (found,) = attention.open_alerts(session, alerts.conditions(platform, now()), now())
        assert found.since == opened
        assert session.scalars(select(AlertRecord.passed_at)).all() == [None]
    mend(platform)
    sensor.tick()
    with platform.database.session() as session:
        assert session.scalars(select(AlertRecord.passed_at)).one() is not None


def test_what_nobody_has_answered_comes_first(platform) -> None:
    fail(platform)
    fail(platform, "2026-03-12T06:03:21")
    answer(platform)
    with platform.database.session() as session:
        first, second = attention.open_alerts(session, alerts.conditions(platform, now()), now())
    assert (first.acknowledged, second.key) == (None, KEY)
    assert second.line().startswith("quiet (J. Doe: the disk is being replaced): ERROR: ")


@pytest.mark.parametrize(
    ("key", "reason", "hours", "error"),
    [
        ("behind/live", "x", None, NotFoundError),
        (KEY, " ", None, InvalidRequestError),
        (KEY, "x" * 1001, None, InvalidRequestError),
        (KEY, "x", -1, InvalidRequestError),
        (KEY, "x", 24 * 31, InvalidRequestError),
    ],
)
def test_an_answer_needs_an_open_alert_a_reason_and_a_time_ahead(platform, key, reason, hours, error) -> None:
    fail(platform)
    until = None if hours is None else now() + timedelta(hours=hours)
    with pytest.raises(error):
        attention.acknowledge(platform, key, person="J. Doe", reason=reason, until=until, now=now())
    with platform.database.session() as session:
        assert session.scalars(select(AlertAcknowledgement)).all() == []


def test_the_command_acknowledges_and_its_exit_code_follows(platform, monkeypatch, capsys) -> None:
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(platform.config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", platform.database.url)
    monkeypatch.setenv("PIPELINE_MIN_FREE_GIB", "0")
    fail(platform)
    assert main.run(["alerts"]) == 1
    assert f"[{KEY}]" in capsys.readouterr().out
    assert main.run(["alerts", "acknowledge", KEY, "--by", "J. Doe", "--reason", "known", "--hours", "8"]) == 0
    capsys.readouterr()
    assert main.run(["alerts", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["acknowledged"]["person"], one["acknowledged"]["reason"]) == ("J. Doe", "known")
    assert main.run(["alerts", "take-back", KEY]) == 0
    assert main.run(["alerts"]) == 1
    assert main.run(["alerts", "take-back", KEY]) != 0


def test_old_alerts_answers_and_actions_are_removed_and_open_ones_stay(platform) -> None:
    with platform.database.session() as session:
        for key in ("behind/live", "disk-low/products"):
            session.add(AlertRecord(key=key, level="warning", title="x", next_step="y", passed_at=now() if key < "c" else None))
            session.add(AlertAcknowledgement(key=key, person="J", reason="x", ended_at=now() if key < "c" else None))
        people.record_action(session, "J. Doe", "retry", GROUP, {})
    for days, left in ((360, (2, 2, 1)), (370, (1, 1, 1)), (1100, (1, 1, 0))):
        when = now() + timedelta(days=days)
        housekeeping.carry_out(platform, housekeeping.plan(platform, when), when)
        with platform.database.session() as session:
            found = tuple(
                session.scalar(select(func.count()).select_from(table)) for table in (AlertRecord, AlertAcknowledgement, ApiAction)
            )
        assert found == left, days
    with platform.database.session() as session:
        assert session.scalars(select(AlertRecord.key)).all() == ["disk-low/products"]
