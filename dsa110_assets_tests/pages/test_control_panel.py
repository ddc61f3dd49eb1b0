"""The control panel: it shows what it will do, does it once, records who did it, and works without Dagster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text

from dsa110_assets.api.dagster import Dagster
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.stages.operations import services, staleness, systemd, trial_images
from dsa110_assets_tests.api.conftest import CALIBRATOR, FAILED, GROUPS, Served
from dsa110_assets_tests.cli.test_deployment import DEPLOY

PANEL = "/ui/control-panel"
RUN_ID = "01234567-89ab-cdef-0123-456789abcdef"
TRIAL = f"{GROUPS[1]}_01234567"


def run(run_id: str = RUN_ID, status: str = "STARTED") -> dict[str, Any]:
    tags = [{"key": "dsa110/observation", "value": GROUPS[1]}, {"key": "dagster/priority", "value": "10"}]
    times = {"startTime": 1.77e9, "endTime": None, "creationTime": 1.77e9}
    return {"runId": run_id, "status": status, "jobName": "tile", "tags": tags, **times}


BACKFILL = {
    "id": "abcdefgh", "status": "REQUESTED", "title": "2026-03-01: 3 products", "timestamp": 1.77e9, "endTimestamp": None,
    "numPartitions": 3, "tags": [{"key": "dsa110/person", "value": "J. Doe"}],
    "assetBackfillData": {
        "assetBackfillStatuses": [
            {
                "__typename": "AssetPartitionsStatusCounts", "assetKey": {"path": ["tile_image"]}, "numPartitionsTargeted": 4,
                "numPartitionsInProgress": 1, "numPartitionsMaterialized": 2, "numPartitionsFailed": 1,
            }
        ]
    },
}  # fmt: skip
SWITCHES = {
    "__typename": "Repository",
    "sensors": [{"name": "raw_files", "description": "Watches the input.", "sensorState": {"id": "s1", "status": "RUNNING"}}],
    "schedules": [
        {
            "name": "nightly_mosaic_at_0300_utc", "description": "<b>Mosaic</b>", "cronSchedule": "0 3 * * *",
            "scheduleState": {"id": "t1", "status": "STOPPED"},
        }
    ],
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Dagster answers as a running one does; what it was asked."""
    requests: list[tuple[str, dict[str, Any]]] = []
    answers: dict[str, dict[str, Any]] = {
        "switches": SWITCHES,
        "sensor": {"__typename": "Sensor", "sensorState": {"id": "s1", "status": "RUNNING"}},
        "stop_sensor": {"__typename": "StopSensorMutationResult", "instigationState": {"status": "STOPPED"}},
        "start_schedule": {"__typename": "ScheduleStateResult", "scheduleState": {"status": "RUNNING"}},
        "runs": {"__typename": "Runs", "results": [run()]},
        "run": {"__typename": "Run", **run()},
        "terminate": {"__typename": "TerminateRunSuccess"},
        "backfills": {"__typename": "PartitionBackfills", "results": [BACKFILL]},
        "cancel_backfill": {"__typename": "CancelBackfillSuccess", "backfillId": "abcdefgh"},
        "launch_backfill": {"__typename": "LaunchBackfillSuccess", "backfillId": "newfill1"},
        "launch_run": {"__typename": "LaunchRunSuccess", "run": run(status="QUEUED")},
    }

    def ask(_: Dagster, document: str, variables: Mapping[str, Any], **__: object) -> dict[str, Any]:
        requests.append((document, dict(variables)))
        return answers[document]

    monkeypatch.setattr(Dagster, "_ask", ask)
    return requests


@pytest.fixture
def post(served: Served) -> Callable[..., str]:
    """Send a form as J. Doe, and return the page that follows."""
    served.client.cookies.set("dsa110_token", served.headers["Authorization"].removeprefix("Bearer "))
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', served.get(PANEL).text)
    assert found is not None

    def send(path: str, status: int = 200, **fields: str) -> str:
        answer = served.client.post(f"{PANEL}{path}", data={"csrf": found[1], **fields})
        assert answer.status_code == status, answer.text
        if status == 200:
            assert answer.url.path == PANEL, "it leads back to the panel"
        return answer.text

    return send


def actions(served: Served) -> list[tuple[str, str, str]]:
    with served.database.session() as session:
        return [tuple(row) for row in session.execute(text("SELECT person, action, subject FROM api_actions ORDER BY 1, 2, 3"))]


def test_without_dagster_each_of_its_parts_says_so_and_the_rest_of_the_panel_works(served: Served, post: Callable[..., str]) -> None:
    for part in ("switches", "runs", "backfills"):
        answer = served.get(f"{PANEL}/{part}").text
        assert "503" in answer, part
        assert "Next: start the platform with `dsa110 up`" in answer, part
    assert "3 products would come out differently today" in served.get(f"{PANEL}/stale").text
    assert f"{FAILED} waits in the queue" in post(f"/observations/{FAILED}/retry")
    assert "does not answer" in post(f"/runs/{RUN_ID}/cancel", status=503)


def test_who_is_not_signed_in_sees_everything_and_changes_nothing(served: Served, asked: list) -> None:
    page = served.get(PANEL).text
    assert "(sign in)" in page
    assert 'method="post" action="/ui/control-panel/observations' not in page
    for path in (
        "/switches/raw_files/off", f"/runs/{RUN_ID}/cancel", f"/observations/{FAILED}/retry", "/retry-failed", "/backfill",
        "/backfills/abcdefgh/cancel", "/solve", "/trial", f"/trials/{TRIAL}/throw-away", "/services/api/restart",
    ):  # fmt: skip
        fields = {"night": "2026-03-01", "refant": "103", "observation": GROUPS[1]}
        assert served.client.post(f"{PANEL}{path}", data=fields).status_code == 401, path
    assert asked == []
    assert actions(served) == []


def test_switches_of_sensors_and_schedules(served: Served, post: Callable[..., str], asked: list) -> None:
    part = served.get(f"{PANEL}/switches").text
    assert "&lt;b&gt;Mosaic" in part
    assert f'action="{PANEL}/switches/raw_files/off"' in part
    assert f'action="{PANEL}/switches/nightly_mosaic_at_0300_utc/on"' in part
    assert "raw_files is off" in post("/switches/raw_files/off")
    assert "nightly_mosaic_at_0300_utc is on" in post("/switches/nightly_mosaic_at_0300_utc/on")
    assert [document for document, _ in asked if document.startswith(("start", "stop"))] == ["stop_sensor", "start_schedule"]
    assert actions(served) == [("J. Doe", "switch_off", "raw_files"), ("J. Doe", "switch_on", "nightly_mosaic_at_0300_utc")]
    assert served.client.post("/api/switches/no_such/on", headers=served.headers).status_code == 404


def test_runs_in_progress_can_be_canceled(served: Served, post: Callable[..., str], asked: list) -> None:
    part = served.get(f"{PANEL}/runs").text
    assert GROUPS[1] in part
    assert "output of 01234567" in part
    post(f"/runs/{RUN_ID}/cancel")
    assert ("terminate", {"id": RUN_ID}) in asked
    assert actions(served) == [("J. Doe", "cancel_task", RUN_ID)]


def test_failed_observations_show_their_error_and_can_be_retried_together(served: Served, post: Callable[..., str]) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in served.get(PANEL).text
    assert "1 observations wait" in post("/retry-failed")
    with served.database.session() as session:
        assert session.get_one(IngestGroup, FAILED).state == GroupState.PENDING
    assert "No observation has failed" in served.get(PANEL).text


def test_a_backfill_is_listed_with_its_time_before_it_starts(served: Served, post: Callable[..., str], asked: list) -> None:
    with served.database.session() as session:
        session.execute(text("UPDATE product_versions SET duration_s = 90 WHERE product = 'tile_image'"))
    plan = served.get(f"{PANEL}/backfill", first_night="2026-03-01", start_from="tile_image").text
    assert "Nothing has been started" in plan
    assert re.search(r"tile_image</a></td><td class=\"number\">3</td><td class=\"number\">1 min</td><td class=\"number\">4 min</td>", plan)
    assert "1 observation in state failed" in plan
    assert asked == []
    done = post("/backfill", first_night="2026-03-01", start_from="tile_image")
    assert "backfill newfill1 has begun" in done
    launched = next(variables for document, variables in asked if document == "launch_backfill")
    assert {"key": "dsa110/person", "value": "J. Doe"} in launched["params"]["tags"]
    assert ("J. Doe", "backfill", "newfill1") in actions(served)
    part = served.get(f"{PANEL}/backfills").text
    assert "75 % done" in part
    assert "by J. Doe" in part
    assert "is being canceled" in post("/backfills/abcdefgh/cancel")
    assert ("cancel_backfill", {"id": "abcdefgh"}) in asked


def test_plans_of_stale_products_compare_all_products_once_in_five_minutes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    real = staleness.stale_partitions
    monkeypatch.setattr(staleness, "stale_partitions", lambda platform, **options: looked.append(options) or real(platform, **options))
    assert "tile_image" in served.get(f"{PANEL}/backfill", only="stale").text
    assert "tile_image" in served.get(f"{PANEL}/backfill", only="stale", first_night="2026-03-01", last_night="2099-01-01").text
    served.get(f"{PANEL}/stale")
    assert looked == [{}]


def test_a_backfill_without_a_night_says_what_to_give(served: Served) -> None:
    assert "give the first night" in served.client.get(f"{PANEL}/backfill").text
    assert "is not a date" in served.client.get(f"{PANEL}/backfill", params={"first_night": "yesterday"}).text


def test_another_reference_antenna_shows_the_transits_first(served: Served, post: Callable[..., str], asked: list) -> None:
    plan = served.get(f"{PANEL}/solve", night="2026-03-01", refant="104").text
    assert CALIBRATOR in plan
    assert GROUPS[1] not in plan
    assert "replace those of the same transits" in plan
    assert asked == []
    post("/solve", night="2026-03-01", refant="104")
    launched = next(variables for document, variables in asked if document == "launch_run")
    assert launched["params"]["runConfigData"] == {"ops": {"solve_with_reference": {"config": {"night": "2026-03-01", "refant": "104"}}}}
    assert "No calibrator transit" in served.get(f"{PANEL}/solve", night="2026-03-02", refant="104").text
    assert served.client.get(f"{PANEL}/solve", params={"night": "2026-03-01", "refant": "a;b"}).status_code == 422


def write_trial(served: Served, name: str = TRIAL) -> Path:
    folder = trial_images.trials_dir(ProductPaths.of(served.config)) / name
    folder.mkdir(parents=True)
    (folder / "preview.png").write_bytes(b"\x89PNG trial")
    record = {
        "observation": GROUPS[1], "settings": {"briggs_robust": -1.0}, "verdict": "good", "reason": "", "figures": {"noise_mjy_per_beam": 1.25},
        "preview": "preview.png", "made_at": datetime.now(UTC).isoformat(), "run_id": RUN_ID,
    }  # fmt: skip
    (folder / trial_images.RECORD).write_text(json.dumps(record))
    return folder


def test_a_trial_is_queued_shown_and_thrown_away(served: Served, post: Callable[..., str], asked: list) -> None:
    assert "the result appears here" in post("/trial", observation=GROUPS[1], briggs_robust="-1", niter="", image_size="512")
    launched = next(variables for document, variables in asked if document == "launch_run")
    config = launched["params"]["runConfigData"]["ops"]["image_on_trial"]["config"]
    assert config == {"observation": GROUPS[1], "briggs_robust": -1, "image_size": 512}
    for wrong in ({}, {"briggs_robust": "7"}, {"image_size": "12.5"}, {"niter": "many"}):
        assert "setting" in post("/trial", status=422, observation=GROUPS[1], **wrong)
    folder = write_trial(served)
    assert "briggs_robust -1.0" in served.get(PANEL).text
    assert "noise 1.25 mJy per beam" in served.get(PANEL).text
    assert served.get(f"/api/trials/{TRIAL}/preview.png").content == b"\x89PNG trial"
    post(f"/trials/{TRIAL}/throw-away")
    assert not folder.exists()
    assert served.get("/api/trials").json() == []
    assert ("J. Doe", "throw_trial_away", TRIAL) in actions(served)


@pytest.mark.parametrize("name", ["../images", "%2e%2e%2fimages", "2026-03-01T05:05:18_........", "trial.json"])
def test_no_name_of_a_trial_reaches_anything_else(served: Served, name: str) -> None:
    write_trial(served)
    answer = served.client.delete(f"/api/trials/{name}", headers=served.headers)
    assert answer.status_code in (404, 405, 422)
    assert len(served.get("/api/trials").json()) == 1


def test_a_restart_is_a_request_that_only_a_running_supervisor_takes(
    served: Served, post: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No `dsa110 up` runs" in served.get(PANEL).text
    assert "start the platform with `dsa110 up`" in post("/services/api/restart", status=422)
    assert list(services.take_requests(served.config)) == []
    monkeypatch.setattr(services, "running_pid", lambda _: 4711)
    assert "restarts soon" in post("/services/daemon/restart")
    assert ("J. Doe", "restart_service", "daemon") in actions(served)
    assert list(services.take_requests(served.config)) == ["daemon"]
    assert list(services.take_requests(served.config)) == [], "each request is carried out once"
    assert post("/services/postgres/restart", status=422)


def test_logs_are_bounded_escaped_and_without_passwords(served: Served) -> None:
    log = services.log_file(served.config, services.ServiceName.DAEMON)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("line\n" * 50_000 + "<b>postgresql://me:secret@host/db</b>\n")
    page = served.get(f"{PANEL}/services/daemon/log").text
    assert "&lt;b&gt;postgresql://me:***@host/db" in page
    assert "secret" not in page
    plain = served.get("/api/services/daemon/log", bytes=100).text
    assert len(plain) <= 100
    assert plain.startswith("line\n")
    assert served.client.get("/api/services/..%2F..%2Fpasswords/log").status_code in (404, 422)
    output = served.config.run_output_dir / RUN_ID / "compute_logs" / "step.err"
    output.parent.mkdir(parents=True)
    output.write_text("imaging\n")
    assert served.get(f"/api/runs/{RUN_ID}/log").text == "imaging\n"
    assert "imaging" in served.get(f"{PANEL}/runs/{RUN_ID}/log").text
    assert served.client.get(f"/api/runs/{RUN_ID[:-1]}0/log").status_code == 404


def test_links_to_the_launchpad_have_the_configuration_filled_in(served: Served) -> None:
    links = re.findall(r'href="([^"]*/playground/setup[^"]*)"', served.get(PANEL).text.replace("&amp;", "&"))
    assert len(links) == 5
    backfill = urlsplit(links[0])
    assert backfill.path == "/locations/__repository__@dsa110_assets/jobs/backfill/playground/setup"
    assert "first_night: ''" in parse_qs(backfill.query)["config"][0]
    known = served.get(PANEL, observation=GROUPS[1], night="2026-03-01").text.replace("&amp;", "&")
    links = [urlsplit(one) for one in re.findall(r'href="([^"]*/playground/setup[^"]*)"', known)]
    filled = {one.path.split("/")[4]: parse_qs(one.query) for one in links}
    assert "first_night: '2026-03-01'" in filled["backfill"]["config"][0]
    assert f"observation: '{GROUPS[1]}'" in filled["trial_image"]["config"][0]
    assert (filled["tile"]["tags[0][key]"], filled["tile"]["tags[0][value]"]) == (["dagster/partition"], ["2026-03-01|05:05"])
    assert filled["night"]["tags[0][value]"] == ["2026-03-01"]


@pytest.fixture
def under_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process looks like one that systemd has started. Its programs are the real ones, and know no such units."""
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    if shutil.which("journalctl") is None or shutil.which("systemctl") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd is missing: `make extras` installs it")
        pytest.skip("systemd is not installed: `make extras` installs it")


@pytest.mark.usefixtures("under_systemd")
def test_under_systemd_the_panel_says_who_restarts_services_and_what_is_missing(served: Served, post: Callable[..., str]) -> None:
    panel = served.get(PANEL).text
    assert "systemd runs the services" in panel
    assert "dsa110 up" not in panel
    assert "Runs are interrupted" in panel, "the code server's unit ends its children"
    assert served.get("/api/services").json()["manager"] == "systemd"
    assert systemd.RULE in post("/services/daemon/restart", status=500)
    assert actions(served) == [], "nothing was restarted"
    answer = served.client.get("/api/services/daemon/log", headers=served.headers)
    assert answer.status_code == 404
    assert "journalctl -u dsa110-daemon.service" in answer.text
    assert "systemd-journal" in answer.text
    assert "systemctl start dsa110.target" in served.get(f"{PANEL}/switches").text, "Dagster does not run"


@pytest.mark.usefixtures("under_systemd")
@pytest.mark.parametrize("name", list(services.ServiceName))
def test_systemds_programs_accept_the_commands_of_the_panel(name: services.ServiceName, tmp_path: Path) -> None:
    unit = systemd.UNITS[name]
    assert (systemd.restart_command(name)[-1], systemd.journal_command(name)[-1]) == (unit, f"--unit={unit}")
    assert (DEPLOY / "systemd" / unit).is_file()
    read = subprocess.run([*systemd.journal_command(name), f"--directory={tmp_path}"], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr.strip()) == (0, ""), "an option is unknown"
    asked = subprocess.run([*systemd.restart_command(name), "--help"], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr


@pytest.mark.usefixtures("under_systemd")
def test_the_api_restarts_itself_though_systemd_ends_the_question_with_it(
    post: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make services` saw it: the job is taken, and systemd's signal reaches `systemctl` too, before it has ended."""
    (tmp_path / "systemctl").write_text("#!/bin/sh\nkill -TERM $$\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    post("/services/api/restart")
    assert "killed by signal 15" in post("/services/daemon/restart", status=500), "nothing else ends the question"


def test_a_child_of_a_unit_is_not_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getppid()))
    assert not systemd.started_this_process()
    monkeypatch.delenv("SYSTEMD_EXEC_PID")
    assert not systemd.started_this_process()


def test_the_defaults_of_a_trial_are_those_that_the_imager_takes(served: Served) -> None:
    from dsa110_assets.imaging import ImagingOptions

    options = ImagingOptions.from_config(served.config)
    assert trial_images.defaults(served.config) == {name: getattr(options, name) for name in trial_images.SETTINGS}
    assert f'data-default="{options.niter}"' in served.get(PANEL).text
