"""The client of the guide: tasks through a running Dagster, and tables as data frames, over real connections."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx2
import pytest

from dsa110_assets.api.client import AbsurdClient, TaskClient
from dsa110_assets.cli.services import free_port
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import AccessError, ChildFailedError, DagsterUnreachableError, InvalidRequestError, MosaicError, NotFoundError
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.mosaics import plan_mosaic
from dsa110_assets.times import group_time
from dsa110_assets_tests.api.conftest import GROUPS, HOUR
from dsa110_assets_tests.notebooks import NOTEBOOKS, run_notebook


async def spawn_task(name: str) -> str:
    """Section 5.1 of the earlier guide, with the program's name exchanged."""
    client = AbsurdClient("postgresql://user:password@localhost:5432/dsa110_absurd")
    await client.connect()
    task_id = await client.spawn_task(queue="dsa110-pipeline", task_type="mosaic_build", payload={"name": name}, priority=10)
    await client.close()
    return task_id


def test_the_script_of_the_earlier_guide_puts_a_run_into_dagsters_queue(running: PipelineConfig, dagster_ui: None) -> None:
    with pytest.raises(MosaicError, match="no plan of this name"):
        asyncio.run(spawn_task("night_2026_03_01"))
    plan_mosaic(Platform.open(running), "night_2026_03_01", group_time(GROUPS[0]), group_time("2026-03-01T06:00:00"))
    task_id = asyncio.run(spawn_task("night_2026_03_01"))

    async def look() -> None:
        async with TaskClient() as client:
            task = await client.task(task_id)
            assert (task["task_type"], task["payload"], task["priority"]) == ("mosaic_build", {"name": "night_2026_03_01"}, 10)
            assert (task["queue"], task["person"], task["state"]) == ("dsa110-pipeline", "J. Doe", "pending")
            hour = await client.spawn_task("mine", "hour", {"night": "2026-03-01", "hour": 5}, priority=-2)
            assert [one["id"] for one in await client.tasks()] == [hour, task_id]
            assert [one["id"] for one in await client.tasks("mine")] == [hour]
            assert (await client.cancel_task(hour))["state"] == "cancelled"
            with pytest.raises(InvalidRequestError, match="does not exist"):
                await client.spawn_task("mine", "nonsense")
            with pytest.raises(InvalidRequestError, match="names no partition"):
                await client.spawn_task("mine", "hour", {"night": "yesterday"})
            with pytest.raises(NotFoundError):
                await client.task("00000000-0000-0000-0000-000000000000")

    asyncio.run(look())
    api = f"http://127.0.0.1:{running.api_port}"
    assert httpx2.get(f"{api}/api/mosaic/status/night_2026_03_01").json()["task"]["id"] == task_id
    assert httpx2.get(f"{api}/api/absurd/metrics").json()["counts"] == {
        "pending": 1, "running": 0, "completed": 0, "failed": 0, "cancelled": 1,
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {os.environ['PIPELINE_API_TOKEN']}"}
    for switch, running_now in (("stop", False), ("start", True)):
        assert httpx2.post(f"{api}/api/streaming/{switch}", headers=headers).json() == {"running": running_now}
        assert httpx2.get(f"{api}/api/streaming/status").json()["running"] is running_now


def test_schedules_and_backfills_are_switched_and_canceled_in_a_real_dagster(running: PipelineConfig, dagster_ui: None) -> None:
    api = f"http://127.0.0.1:{running.api_port}"
    headers = {"Authorization": f"Bearer {os.environ['PIPELINE_API_TOKEN']}"}
    before = {one["name"]: one for one in httpx2.get(f"{api}/api/switches").json()}
    assert before["nightly_mosaic_at_0300_utc"]["cron"] == "0 3 * * *"
    assert before["follow_up"]["kind"] == "sensor"
    for name in ("nightly_mosaic_at_0300_utc", "follow_up"):
        for position, on in (("off", False), ("on", True)):
            turned = httpx2.post(f"{api}/api/switches/{name}/{position}", headers=headers, timeout=60)
            assert turned.json() == {"name": name, "running": on}
            assert {one["name"]: one["running"] for one in httpx2.get(f"{api}/api/switches").json()}[name] is on
    wanted = {"first_night": "2026-03-01", "start_from": "tile_image", "dry_run": False}
    started = httpx2.post(f"{api}/api/backfills", headers=headers, json=wanted, timeout=60).json()
    (shown,) = httpx2.get(f"{api}/api/backfills").json()
    assert (shown["id"], shown["person"], shown["active"]) == (started["backfill"], "J. Doe", True)
    assert httpx2.delete(f"{api}/api/backfills/{shown['id']}", headers=headers, timeout=60).status_code == 204
    assert httpx2.get(f"{api}/api/backfills").json()[0]["status"] in ("canceling", "canceled")
    assert httpx2.delete(f"{api}/api/backfills/nosuchid", headers=headers, timeout=60).status_code == 422
    trial = {"task_type": "trial_image", "payload": {"observation": GROUPS[1], "briggs_robust": -1}}
    assert httpx2.post(f"{api}/api/absurd/tasks", headers=headers, json=trial, timeout=60).status_code == 201
    solve = {"task_type": "solve_again", "payload": {"night": "2026-03-01", "refant": "104"}}
    assert httpx2.post(f"{api}/api/absurd/tasks", headers=headers, json=solve, timeout=60).status_code == 201
    wrong = {"task_type": "trial_image", "payload": {"observation": GROUPS[1], "gridder": "none"}}
    assert httpx2.post(f"{api}/api/absurd/tasks", headers=headers, json=wrong, timeout=60).status_code == 422


def test_lists_and_light_curves_are_data_frames(running: PipelineConfig) -> None:
    async def read() -> None:
        async with TaskClient(f"http://127.0.0.1:{running.api_port}") as client:
            sources = await client.table("/api/sources", limit=1)
            assert len(sources) == 3
            assert len(await client.table("/api/sources", most=2, limit=1)) == 2
            curve = await client.light_curve(int(sources["source_id"][1]))
            assert curve["mosaic_name"].tolist() == [HOUR]
            with pytest.raises(NotFoundError):
                await client.light_curve(12345)

    asyncio.run(read())


def test_the_notebook_over_the_api_runs(running: PipelineConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    found = run_notebook(NOTEBOOKS / "api.ipynb", tmp_path)
    best, curve, images = found["best"], found["curve"], found["images"]
    assert best["name"] == "J0804+1600"  # type: ignore[index]
    assert curve["mosaic_name"].tolist() == [HOUR]  # type: ignore[index]
    assert GROUPS[1] in set(images["group_id"])  # type: ignore[index]


def test_errors_of_the_api_are_raised_by_their_class(running: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def spawn(**arguments: str) -> None:
        async with TaskClient(**arguments) as client:
            await client.spawn_task("q", "references")

    with pytest.raises(DagsterUnreachableError):
        asyncio.run(spawn())
    with pytest.raises(AccessError):
        asyncio.run(spawn(token="dsa110_wrong"))
    with pytest.raises(ChildFailedError, match="PIPELINE_API_PORT"):
        asyncio.run(spawn(address=f"http://127.0.0.1:{free_port()}"))
