"""An hour's new event is among the candidates minutes after its photometry, alerts once, and is the night's event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pandas as pd
import pytest
from sqlalchemy import text

from dsa110_assets.registry.queries import candidates
from dsa110_assets.registry.queries import examination as remembered
from dsa110_assets.stages.operations import alerts
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import events, examination, night
from dsa110_assets.stages.products.examination import examine
from dsa110_assets_tests.registry.statement_work import work_of
from dsa110_assets_tests.stages.test_examination import FADED, FIRST, N_SOURCES, Sky, name_of

FADES_IN = 24


@pytest.fixture
def platform(registry_config, database) -> Platform:
    return Platform.open(registry_config.model_copy(update={"min_free_gib": 0.0}))


def key_of(number: int) -> tuple[str, str]:
    name = name_of(number).removeprefix("hourly_")
    return name[:10], name[11:]


def _history(sky: Sky, nights: int) -> None:
    for number in range(nights):
        sky.measure(number)
    sky.settle(nights - 1)
    with sky.database.session() as session:
        examine(session, FIRST + nights - 0.5)


def test_an_event_appears_among_the_candidates_with_its_hour_and_alerts_once(platform, database) -> None:
    sky = Sky(database)
    _history(sky, FADES_IN)
    sky.measure(FADES_IN, gain=1.3)  # the epoch's factor is not known yet
    with database.session() as session:
        session.execute(
            text("UPDATE epoch_factors SET factor = NULL, usable = false WHERE mosaic_name = :name"), {"name": name_of(FADES_IN)}
        )
    result = events.look_at_hour(platform, *key_of(FADES_IN), "run")
    assert result is not None
    assert result.figures["events"] == 1
    assert result.figures["factor"] == pytest.approx(1.3, rel=0.02)
    with database.session() as session:
        found = candidates(session, key_of(FADES_IN)[0])
    assert found["source_id"].tolist() == [sky.ids[FADED]]
    assert found["depth"].iloc[0] == pytest.approx(0.6, abs=0.1)
    now = datetime.now(UTC)
    new, passed = alerts.changes({}, alerts.conditions(platform, now))
    (alert,) = new
    assert alert.key == f"new-candidate/{found['event_id'].iloc[0]}"
    assert f"{found['name'].iloc[0]}: dip of 60 %" in alert.title
    assert passed == []
    assert f"{platform.config.ui_url}/assets/ese_candidates?partition={key_of(FADES_IN)[0]}" in alert.next_step
    before = {alert.key: alert.title}

    events.look_at_hour(platform, *key_of(FADES_IN), "run")  # once more: the same event
    with database.session() as session:
        session.execute(text("UPDATE epoch_factors SET factor = 1.3, usable = true WHERE mosaic_name = :name"), {"name": name_of(FADES_IN)})
    date = key_of(FADES_IN)[0]
    night.update_metrics(platform, date, "run")
    night.rank_candidates(platform, date, "run")
    sky.measure(FADES_IN + 1)  # and the next hour of it
    events.look_at_hour(platform, *key_of(FADES_IN + 1), "run")
    with database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM candidate_events")) == 1
        assert candidates(session)["event_id"].tolist() == found["event_id"].tolist()
    assert alerts.changes(before, alerts.conditions(platform, now)) == ([], [])
    assert alerts.changes(before, alerts.conditions(platform, now + timedelta(days=3))) == ([], []), "old news does not pass"


def test_a_calm_hour_a_first_hour_and_an_hour_with_a_bad_gain_across_it_add_no_candidate(platform, database) -> None:
    sky = Sky(database)
    sky.measure(0)
    first = events.look_at_hour(platform, *key_of(0), "run")
    assert first is not None
    assert first.figures["note"] == "no night has been examined yet"
    _history(sky, 12)
    old = events.look_at_hour(platform, *key_of(5), "run")
    assert old is not None
    assert "later epochs were examined" in str(old.figures["note"])
    sky.measure(12)
    calm = events.look_at_hour(platform, *key_of(12), "run")
    assert calm is not None
    assert calm.figures["events"] == 0
    sky.measure(13)
    with database.session() as session:  # a third of the field loses half of its flux
        session.execute(
            text("UPDATE photometry SET flux_jy = 0.5 * flux_jy WHERE mosaic_name = :name AND source_id % 3 = 0"), {"name": name_of(13)}
        )
    bad = events.look_at_hour(platform, *key_of(13), "run")
    assert bad is not None
    assert "many sources deviate" in str(bad.figures["note"])
    assert events.look_at_hour(platform, "2026-06-01", "05", "run") is None
    with database.session() as session:
        assert candidates(session).empty


def _executed(session, query, **_) -> pd.DataFrame:
    answer = session.execute(query)
    return pd.DataFrame(answer.fetchall(), columns=list(answer.keys()))


def test_an_hours_quick_look_reads_no_more_when_history_grows(platform, database, monkeypatch) -> None:
    """Rows that the server reads for a calm hour, after 40 and after 120 nights."""
    sky, work = Sky(database), {}
    for nights in (40, 120):
        for number in range(41 if nights == 120 else 0, nights):
            sky.measure(number)
        sky.settle(nights - 1)
        with database.session() as session:
            examine(session, FIRST + nights - 0.5)
        sky.measure(nights)
        with database.session() as session:
            session.execute(text("ANALYZE"))
            fluxes = events._fluxes(session, name_of(nights))
        look = partial(events._strongest, name=name_of(nights), fluxes=fluxes)
        with monkeypatch.context() as patch:
            for module in (examination, remembered):  # a COPY is not explained
                patch.setattr(module, "read_frame_bulk", _executed)
            work[nights] = work_of(database, look).rows
    assert work[120] <= 1.3 * work[40] + 2 * N_SOURCES, work
