"""What a user of the earlier pipeline had in a script: each HTTP and Python example of its guide, in the guide's order.

It was written from the guide alone. Only the names of the packages and the port differ, and the token is new: it is
sent with whatever changes something. `test_earlier_script` runs it as a process of its own against a live server.
"""

import asyncio
import json
import os
import subprocess
import time
import urllib.error
import urllib.request

from dsa110_assets.api.client import AbsurdClient  # guide: from dsa110_contimg.absurd import AbsurdClient
from dsa110_assets.config import PipelineConfig  # guide: from dsa110_contimg.pipeline.config import PipelineConfig

API = f"http://localhost:{os.environ['PIPELINE_API_PORT']}"  # guide: http://localhost:8000
TOKEN = os.environ["PIPELINE_API_TOKEN"]


def curl(path: str) -> dict:
    """1.4, 2.2: ``curl http://localhost:8000/api/...``"""
    return json.loads(subprocess.run(["curl", "--silent", "--fail", API + path], check=True, capture_output=True, timeout=60).stdout)


def request(method: str, path: str, body: dict | None = None, answer: bool = True) -> dict:
    """6.2: an address with its method."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(API + path, data, headers, method=method), timeout=60) as reply:
            content = reply.read()
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {path}: {error.code} {error.read().decode()}") from error
    return json.loads(content) if answer else {}


def everything_in(value: object):
    """All names and values of an answer, however deep."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield name, one
            yield from everything_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from everything_in(one)


async def spawn_task() -> str:
    """5.1, to the letter."""
    client = AbsurdClient("postgresql://user:password@localhost:5432/dsa110_absurd")
    await client.connect()

    task_id = await client.spawn_task(queue="dsa110-pipeline", task_type="mosaic_build", payload={"name": "night_2026_03_01"}, priority=10)

    await client.close()
    return task_id


def main() -> None:
    # 1.3 configuration
    config = PipelineConfig.from_env()
    assert config == PipelineConfig.from_env(validate_paths=False)

    # 1.4 verification, 2.2 queue
    assert curl("/api/status")
    states = {name for name, _ in everything_in(curl("/api/streaming/status"))}
    assert {"collecting", "pending", "in_progress", "completed", "failed"} <= states, states

    # 2.4 metrics: pure Prometheus text
    with urllib.request.urlopen(f"{API}/metrics", timeout=60) as reply:
        metrics = reply.read().decode()
    for name in ("http_requests_total", "http_request_duration_seconds", "http_requests_in_progress"):
        assert f"\n{name}" in metrics, name

    # 3.3, 3.4, 6.2 lists, with time range, calibrator and status
    observations = request("GET", "/api/data/observations")
    assert any(name in {"group_id", "id"} for name, _ in everything_in(observations)), observations
    assert list(everything_in(request("GET", "/api/data/observations?since=2026-03-01T00:00:00&until=2026-03-01T06:00:00")))
    assert list(everything_in(request("GET", "/api/data/observations?calibrator=0834%2B555")))
    assert list(everything_in(request("GET", "/api/data/observations?state=completed")))
    images = request("GET", "/api/data/images")
    assert [name for name, _ in everything_in(images)].count("group_id") == 4, images

    # 6.2 streaming
    request("POST", "/api/streaming/stop")
    assert curl("/api/streaming/status")["running"] is False
    request("POST", "/api/streaming/start")
    assert curl("/api/streaming/status")["running"] is True

    # 4.3, 6.2 mosaics: the words of the command line as names
    wanted = {"name": "night_2026_03_01", "since": "2026-03-01T00:00:00", "until": "2026-03-01T06:00:00"}
    request("POST", "/api/mosaic/create", wanted)
    request("POST", "/api/mosaic/create", {"calibrator": "0834+555", "timespan_minutes": 50})
    assert curl("/api/mosaic/status/night_2026_03_01")["name"] == "night_2026_03_01"

    # 5.1 tasks
    task_id = asyncio.run(spawn_task())
    assert any(value == task_id for _, value in everything_in(request("GET", "/api/absurd/tasks")))
    task = request("GET", f"/api/absurd/tasks/{task_id}")
    assert task["task_type"] == "mosaic_build"
    assert task["payload"] == {"name": "night_2026_03_01"}
    assert task["priority"] == 10
    another = request(
        "POST",
        "/api/absurd/tasks",
        {"queue": "dsa110-pipeline", "task_type": "mosaic_build", "payload": {"name": "night_2026_03_01"}, "priority": 10},
    )
    request("DELETE", f"/api/absurd/tasks/{another['id']}", answer=False)
    deadline = time.monotonic() + 30
    while (state := request("GET", f"/api/absurd/tasks/{another['id']}")["state"]) != "cancelled":
        assert time.monotonic() < deadline, state
        time.sleep(0.5)
    assert dict(everything_in(curl("/api/absurd/metrics")))["cancelled"] >= 1

    # "API Docs" and the pages of part 3
    for page in ("/api/docs", "/ui/", "/ui/dashboard", "/ui/observations", "/ui/images", "/ui/mosaics", "/ui/control-panel", "/ui/carta"):
        request("GET", page, answer=False)
    print("done")


if __name__ == "__main__":
    main()
