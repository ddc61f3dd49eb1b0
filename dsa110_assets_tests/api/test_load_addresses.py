"""The load benchmark asks every page and every address that reads the registry, so that none is slow unseen."""

from __future__ import annotations

import random
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastapi.routing import APIRoute

from benchmarks.api_load import Known, addresses
from dsa110_assets.api.app import create_app
from dsa110_assets.api.pages import ROUTERS as PAGES
from dsa110_assets.api.routes import ROUTERS as API
from dsa110_assets.config import PipelineConfig
from dsa110_assets_tests.api.conftest import CALIBRATOR, DEC, GROUPS, HOUR, RA

KNOWN = Known(
    groups=list(GROUPS), mosaics=[HOUR], nights=["2026-03-01"], sources=3, events=[1], places=[(RA, DEC)], images=[(GROUPS[1], RA, DEC)],
    pictures=[(HOUR, RA, DEC)], files=[f"/api/versions/1/files/{GROUPS[1]}-image-pb.fits"], antennas=["103"], calibrators=[CALIBRATOR],
    versions=[1], measured=[(1, HOUR)],
)  # fmt: skip
NOT_MEASURED = {
    # Dagster answers, and does not run in the benchmark
    "/api/absurd/metrics", "/api/absurd/tasks", "/api/absurd/tasks/{task_id}", "/api/backfills", "/api/runs/{task_id}/log", "/api/switches",
    "/ui/control-panel/backfills", "/ui/control-panel/runs", "/ui/control-panel/runs/{task_id}/log", "/ui/control-panel/solve",
    "/ui/control-panel/switches", "/ui/mosaics/{name}/progress", "/ui/search/progress",
    # nothing is read, or files of the platform alone
    "/api/absurd/task-types", "/api/health", "/ui/session", "/ui/carta", "/ui/sign-in", "/api/services", "/api/services/{service}/log",
    "/ui/control-panel/services/{service}/log",
    # it asks the database alone, and says that the API is ready
    "/api/ready",
    # the registry of a year has no mark on an antenna; the plan of a new one is asked for
    "/ui/antennas/marks/{mark_id}/remove",
    # they need files that the registry of a year does not have
    "/api/trials", "/api/trials/{trial}/preview.png", "/api/positions/difference",
}  # fmt: skip


def test_every_address_is_measured_or_has_a_reason_not_to_be(registry_config: PipelineConfig) -> None:
    asked = [urlsplit(address).path for _, address in addresses(KNOWN, random.Random(1)).values()]
    routes = {one.path: one for router in (*API, *PAGES) for one in _routes(router.routes) if "GET" in one.methods}
    described = {path for path, methods in create_app(registry_config).openapi()["paths"].items() if "get" in methods}
    assert described <= set(routes)
    measured = {path for path, route in routes.items() if any(_is_of(route, routes.values(), one) for one in asked)}
    missing = set(routes) - measured - NOT_MEASURED
    assert not missing, "add these to `benchmarks.api_load.addresses`, or say here why not"
    assert not measured & NOT_MEASURED
    strange = [one for one in asked if not any(route.path_regex.fullmatch(one) for route in routes.values())]
    assert strange == [], "there are no such addresses"


def _routes(routes: Iterable[object]) -> list[APIRoute]:
    return [one for one in routes if isinstance(one, APIRoute)]


def _is_of(route: APIRoute, others: Iterable[APIRoute], path: str) -> bool:
    """Whether a request for a path comes to a route, and not to one that stands before it."""
    return next((one for one in others if one.path_regex.fullmatch(path)), None) is route
