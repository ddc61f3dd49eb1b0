"""`make paging`: conditions are made, and somebody is paged, at the real pace; then they pass, and that is said too.

The real Prometheus and Alertmanager with the files of deploy/, whose times nothing shortens: addresses are all that
differs. It takes about twenty minutes. `disk-full-soon` needs half a day of figures, through which the tests of rules
walk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import update

from dsa110_assets.cli.services import free_port
from dsa110_assets.registry.schema import IngestGroup
from dsa110_assets_tests.api.conftest import serving
from dsa110_assets_tests.deploy.conftest import running_alertmanager, running_prometheus
from dsa110_assets_tests.deploy.test_alert_rules import NOW, PROVOKED, Place, heartbeats, place
from dsa110_assets_tests.stages.test_alerts import Webhook

__all__ = ["place"]
BY_ROWS = ("behind", "flux-scale", "held-up", "no-data")
DAEMON, API = "daemon-dead", "api-dead"
LONGEST_S = 15 * 60


def titles(webhook: Webhook) -> list[str]:
    return [one["attachments"][0]["title"].removeprefix("DSA-110 pipeline: ") for one in webhook.received]


def wait(webhook: Webhook, wanted: set[str], began: float, what: str) -> None:
    """Wait until the webhook has had all titles; print when each came."""
    seen: set[str] = set()
    while wanted - seen:
        assert time.monotonic() < began + LONGEST_S, f"{wanted - seen} did not come in {LONGEST_S} s"
        for title in sorted((wanted & set(titles(webhook))) - seen):
            seen.add(title)
            print(f"{time.monotonic() - began:7.0f} s  {what}: {title}", flush=True)
        time.sleep(0.5)


def test_somebody_is_paged_and_told_that_it_has_passed(place: Place, tmp_path: Path, programs: Callable[..., str]) -> None:
    del programs
    config = place.config.model_copy(update={"api_port": free_port()})
    page, chat = Webhook(), Webhook()
    made: list[Iterator[dict[str, object]]] = []
    for number, name in enumerate(BY_ROWS):
        group_id = f"{NOW - timedelta(days=2):%Y-%m-%d}T05:0{number}:21"
        made.append(PROVOKED[name](Place(place.database, config, tmp_path, place.patch, group_id)))
        next(made[-1])
    with place.database.session() as session:
        session.execute(update(IngestGroup).values(last_file_at=NOW - timedelta(minutes=121)))
    heartbeats(place, {})  # the last ones
    with running_alertmanager(tmp_path, page.url, chat.url) as alertmanager:
        with (
            serving(config),
            running_prometheus(tmp_path, {"dsa110": config.api_port}, alertmanager=alertmanager),
        ):
            began = time.monotonic()
            wait(page, {*BY_ROWS, DAEMON}, began, "paged")
            for one in made:
                next(one)
            with place.database.session() as session:
                session.execute(update(IngestGroup).values(last_file_at=datetime.now(UTC)))
            heartbeats(place, {})
            began = time.monotonic()
            wait(page, {f"{name} passed" for name in BY_ROWS}, began, "told")
            heartbeats(place, {})
            wait(page, {f"{DAEMON} passed"}, began, "told")
        with running_prometheus(tmp_path, {"dsa110": config.api_port}, alertmanager=alertmanager):
            began = time.monotonic()
            wait(page, {API}, began, "paged")
    assert not {*BY_ROWS, DAEMON, API} & set(titles(chat)), "nobody is told twice"
