"""The dashboard: what is wrong and why, ages by the freshness policies, and answers to alerts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from dsa110_assets.api.pages import dashboard, drawings
from dsa110_assets.registry.schema import AlertAcknowledgement, ApiAction, SubbandFile
from dsa110_assets.stages.product import Age, EachDay, Within
from dsa110_assets_tests.api.conftest import FAILED, STRANGE, Served

NOW = datetime(2026, 3, 12, 12, 0, tzinfo=UTC)


def refuse(served: Served, *names: str, reason: str = "content: sb03 has 700 of 768 channels") -> None:
    with served.database.session() as session:
        for name in names:
            session.add(SubbandFile(path=f"/in/{name}", state="rejected", reason=reason, size_bytes=5, mtime_ns=1))


def sign_in(served: Served) -> str:
    """Sign in, and return the value that stands in forms."""
    served.client.cookies.set("dsa110_token", served.headers["Authorization"].removeprefix("Bearer "))
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', served.get("/ui/dashboard").text)
    assert found is not None
    return found[1]


def test_refused_raw_files_are_named_with_their_reasons(served: Served) -> None:
    refuse(served, "2026-03-01T05:20:45_sb03.hdf5", "<b>odd.hdf5")
    page = served.get("/ui/dashboard").text
    assert "2026-03-01T05:20:45_sb03.hdf5" in page
    assert "content: sb03 has 700 of 768 channels" in page
    assert "&lt;b&gt;odd.hdf5" in page
    assert "<b>odd" not in page
    assert "2 content" in page


def test_all_refused_files_are_on_pages_of_their_kind(served: Served) -> None:
    refuse(served, *(f"{number:03d}.hdf5" for number in range(150)))
    refuse(served, "tomorrow.hdf5", reason="future: starts in 3 h")
    first = served.get("/ui/refused-files", kind="content").text
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    second = served.get(following[1].replace("&amp;", "&")).text
    names = re.findall(r"/in/(\d{3})\.hdf5", first + second)
    assert sorted(names) == [f"{number:03d}" for number in range(150)]
    assert "tomorrow" not in first + second
    assert "/in/tomorrow.hdf5" in served.get("/ui/refused-files", kind="future").text


def test_a_failed_observation_and_its_next_step_are_at_the_top(served: Served) -> None:
    part = served.get("/ui/dashboard/parts/attention").text
    assert f"observation {FAILED} failed" in part
    assert f"<code>dsa110 ingest retry {FAILED}</code>" in part
    assert f'href="/ui/observations/{FAILED}"' in part
    assert "<script>alert(1)" not in part


def test_the_candidate_of_an_alert_leads_to_our_page_of_its_source(served: Served) -> None:
    (alert,) = [one for one in served.get("/api/alerts").json() if one["key"].startswith("new-candidate/")]
    assert alert["page"] == f"/ui/sources/{served.sources[1]}"
    assert f"http://127.0.0.1:8000/ui/sources/{served.sources[1]}" in alert["next_step"]
    assert f'href="/ui/sources/{served.sources[1]}"' in served.get("/ui/dashboard").text


@pytest.mark.parametrize("name", dashboard.PARTS)
def test_each_part_answers_alone_as_on_the_page(served: Served, name: str) -> None:
    part = served.get(f"/ui/dashboard/parts/{name}").text
    assert part.count("<section") == 1
    assert f'id="part-{name}"' in part
    assert "<html" not in part
    assert dashboard.PARTS[name].title in part
    assert f'hx-get="/ui/dashboard/parts/{name}"' in served.get("/ui/dashboard").text


def test_an_unknown_part_is_not_found(served: Served) -> None:
    served.get("/ui/dashboard/parts/weather", status=404)


def test_an_empty_registry_says_what_to_do(served: Served) -> None:
    with served.database.session() as session:
        session.execute(text("TRUNCATE ingest_queue, subband_files, sources, product_versions, qa_metrics, mosaics CASCADE"))
    page = served.get("/ui/dashboard").text
    assert "Nothing needs a person." in page
    assert "<code>dsa110 ingest status</code> says what the input directory holds" in page
    assert "never made" in page


def test_a_part_without_an_answer_says_so_and_the_others_go_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from dsa110_assets.errors import RegistryError

    def broken(*_: object) -> dict:
        raise RegistryError("registry", "postgresql://secret@host does not answer", "wait")

    parts = dict(dashboard.PARTS)
    parts["queue"] = dashboard.Part("Queue", ("observations",), broken)
    monkeypatch.setattr(dashboard, "PARTS", parts)
    page = served.get("/ui/dashboard").text
    assert "the registry does not answer; its database may be restarting" in page
    assert "secret" not in page
    assert "From raw file to candidate" in page
    assert STRANGE not in page


def test_ages_follow_the_freshness_policies() -> None:
    policy = Within(4, 26)
    hours = {0: Age.FRESH, 3.9: Age.FRESH, 4.1: Age.LATE, 25.9: Age.LATE, 26.1: Age.OVERDUE}
    assert {one: policy.age_of(NOW - timedelta(hours=one), NOW) for one in hours} == hours
    assert policy.age_of(None, NOW) is Age.NEVER


@pytest.mark.parametrize(
    ("made", "now", "age"),
    [
        (datetime(2026, 3, 12, 3, 30, tzinfo=UTC), NOW, Age.FRESH),
        (datetime(2026, 3, 12, 2, 30, tzinfo=UTC), NOW, Age.OVERDUE),  # more than 3 h before the deadline at 06:00
        (datetime(2026, 3, 12, 7, 0, tzinfo=UTC), NOW, Age.FRESH),
        (datetime(2026, 3, 11, 4, 0, tzinfo=UTC), datetime(2026, 3, 12, 5, 59, tzinfo=UTC), Age.FRESH),
        (datetime(2026, 3, 11, 4, 0, tzinfo=UTC), datetime(2026, 3, 12, 6, 1, tzinfo=UTC), Age.OVERDUE),
    ],
)
def test_a_product_that_is_due_each_day_is_overdue_after_its_deadline(made: datetime, now: datetime, age: Age) -> None:
    assert EachDay("0 6 * * *", 3).age_of(made, now) is age


def test_the_trend_draws_each_value_and_keeps_outliers_at_the_edge() -> None:
    rows = [
        {
            "key": f"2026-03-01T{hour:02d}:00:00",
            "value": 1.0 + 0.01 * hour,
            "limit_low": 0.8,
            "limit_high": 2.0,
            "passed": True,
            "reason": "",
        }
        for hour in range(24)
    ]
    rows[5] |= {"value": 2697.0, "passed": False, "reason": "too high"}
    drawn = drawings.trend(rows, "/ui/observations/{}")
    assert drawn is not None
    assert len(drawn.dots) == 24
    assert drawn.outside == 1
    bad = [one for one in drawn.dots if one.good is False]
    assert [(one.y, one.title) for one in bad] == [(drawings.TOP, "2026-03-01T05:00:00 UTC: 2700 (too high)")]
    ordinary = sorted((one for one in drawn.dots if one.good), key=lambda one: one.x)
    assert [one.y for one in ordinary] == sorted((one.y for one in ordinary), reverse=True), "larger values are higher up"
    assert drawn.limits[0] > max(one.y for one in ordinary) > min(one.y for one in ordinary) > drawn.limits[1]
    assert drawings.trend([], "") is None


def test_the_sky_has_right_ascension_to_the_left_and_north_up() -> None:
    drawn = drawings.sky([(15.0, 16.0, 5, 0), (345.0, 54.0, 3, 1)], NOW, 16.0)
    early, late = (next(one for one in drawn.cells if f"RA {hours} h" in one.title) for hours in ("1.0", "23.0"))
    assert late.x < early.x
    assert late.y < early.y
    assert (early.today, late.today) == (False, True)
    assert all(drawings.LEFT <= tick.at <= drawings.WIDTH for tick in drawn.hours)


def test_an_acknowledged_alert_stays_visible_with_who_why_and_until_when(served: Served) -> None:
    csrf = sign_in(served)
    key = next(one["key"] for one in served.get("/api/alerts").json() if one["key"].startswith("observation-failed/"))
    form = {"csrf": csrf, "key": key, "reason": "<i>waiting</i> for the disk", "hours": 4}
    answer = served.client.post("/ui/alerts/acknowledge", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/dashboard")
    part = served.get("/ui/dashboard/parts/attention").text
    assert "1 acknowledged" in part
    assert "&lt;i&gt;waiting&lt;/i&gt; for the disk" in part
    assert "J. Doe" in part
    with served.database.session() as session:
        (row,) = session.scalars(select(AlertAcknowledgement)).all()
        assert row.until is not None
        assert timedelta(hours=3.9) < row.until - row.made_at < timedelta(hours=4.1)
        assert session.scalars(select(ApiAction.action)).all() == ["acknowledge_alert"]
    assert served.client.post("/ui/alerts/take-back", data={"csrf": csrf, "key": key}, follow_redirects=False).status_code == 303
    assert "acknowledged</summary>" not in served.get("/ui/dashboard/parts/attention").text


def test_a_visitor_who_is_not_signed_in_changes_no_alert(served: Served) -> None:
    key = served.get("/api/alerts").json()[0]["key"]
    assert served.client.post("/ui/alerts/acknowledge", data={"key": key, "reason": "x"}).status_code == 401
    with served.database.session() as session:
        assert session.scalars(select(AlertAcknowledgement)).all() == []
