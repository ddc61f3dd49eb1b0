"""A new event is a candidate and one alert minutes after its hour's photometry, through the real sensors and jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from dsa110_assets.config import PipelineConfig
from dsa110_assets.definitions import build_defs
from dsa110_assets.orchestration import alerting, sensors
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.quality.gate import TILE_CHECKS
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries import candidates, upsert_qa_metric
from dsa110_assets.registry.schema import TileStage
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import hour
from dsa110_assets.stages.products.examination import examine
from dsa110_assets.stages.provenance.recording import Measured, StageResult
from dsa110_assets.stages.provenance.versions import register
from dsa110_assets_tests.registry_fixture import add_observation
from dsa110_assets_tests.stages.test_alerts import Webhook
from dsa110_assets_tests.stages.test_examination import FADED, FIRST, Sky, name_of

FADES_IN = 24
PROMISED_S = 600.0
NIGHT, HOUR = name_of(FADES_IN).removeprefix("hourly_").split("T")
TILE = f"{NIGHT}T{HOUR}:30:00"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    one = Webhook()
    yield one
    one.server.shutdown()
    one.server.server_close()


def _history(database: Database) -> Sky:
    """Twenty-four examined nights, and a good tile image of the next one, whose hour has ended."""
    sky = Sky(database)
    for number in range(FADES_IN):
        sky.measure(number)
    sky.settle(FADES_IN - 1)
    with database.session() as session:
        examine(session, FIRST + FADES_IN - 0.5)
        for start in (TILE, f"{NIGHT}T{int(HOUR) + 2:02d}:00:00"):
            add_observation(session, start, stage=TileStage.IMAGED)
        record_version(session, "tile_image", TILE, recipe=Recipe("code", "settings"))
        for check in TILE_CHECKS:
            upsert_qa_metric(session, "tile_image", TILE, check, 1.0, passed=True)
    return sky


def test_an_event_is_a_candidate_and_alerts_once_within_ten_minutes_of_its_hours_photometry(
    database: Database, registry_config: PipelineConfig, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = registry_config.model_copy(update={"min_free_gib": 0.0, "alert_webhook_url": SecretStr(webhook.url)})
    sky, resource, measured_at = _history(database), PlatformResource.with_config(config), list[float]()

    def measure(platform: Platform, night: str, number: str, run_id: str) -> StageResult:
        """The fluxes of the hour, registered as the stage does; there are no images here."""
        sky.measure(FADES_IN, gain=1.3)  # the epoch's factor is not known yet
        with database.session() as session:
            session.execute(text("UPDATE epoch_factors SET factor = NULL, usable = false WHERE mosaic_name = :m"), {"m": name_of(FADES_IN)})
            result = StageResult("forced_photometry", f"{night}T{number}", figures={"sources": 1})
            result = register(session, platform, result, path=None, inputs={}, cost=Measured(), run_id=run_id)
        measured_at.append(time.monotonic())
        return result

    monkeypatch.setattr(hour, "measure", measure)
    with dg.DagsterInstance.ephemeral() as instance:

        def tick_of_alerts(cursor: str | None) -> str | None:
            context = dg.build_sensor_context(instance=instance, resources={"platform": resource}, cursor=cursor)
            return alerting.alerts(context).cursor  # type: ignore[union-attr]

        def requests() -> list[dg.RunRequest]:
            context = dg.build_sensor_context(instance=instance, resources={"platform": resource})
            return [one for one in sensors.follow_up(context) if isinstance(one, dg.RunRequest) and one.job_name == "hour"]  # type: ignore[union-attr]

        cursor = tick_of_alerts(None)
        assert webhook.received == []
        (request,) = requests()
        made = [dg.AssetKey("forced_photometry"), dg.AssetKey("hour_events")]
        job = build_defs(config).resolve_job_def("hour")
        assert job.execute_in_process(instance=instance, partition_key=request.partition_key, asset_selection=made).success
        with database.session() as session:
            found = candidates(session, NIGHT)
        assert found["source_id"].tolist() == [sky.ids[FADED]]
        assert found["score"].iloc[0] > 5.0
        cursor = tick_of_alerts(cursor)
        took_s = time.monotonic() - measured_at[0]
        intervals_s = sum(one.minimum_interval_seconds or 30 for one in (sensors.follow_up, alerting.alerts))
        assert took_s + intervals_s < PROMISED_S, "the sensors' pauses count as a whole"
        (message,) = webhook.received
        assert f"new candidate {found['name'].iloc[0]}: dip of 60 %" in message["text"]
        assert f"{config.ui_url}/assets/ese_candidates?partition={NIGHT}" in message["text"], "a link"
        assert f"new-candidate/{found['event_id'].iloc[0]}" in json.loads(str(cursor))
        print(f"\n{took_s:.1f} s from the hour's photometry to the alert, and {intervals_s} s of pauses at most")

        assert requests() == [], "the hour is done"
        assert job.execute_in_process(instance=instance, partition_key=request.partition_key, asset_selection=made).success
        tick_of_alerts(tick_of_alerts(cursor))
        assert len(webhook.received) == 1, "made again, it is the same event"
