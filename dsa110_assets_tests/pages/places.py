"""An address of every page over the small registry, by route. `test_places` sees to it that none is left out."""

from __future__ import annotations

from collections.abc import Sequence

from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.operations import services
from dsa110_assets_tests.api.conftest import CALIBRATOR, DEC, FAILED, GROUPS, HOUR, NIGHT, RA

EVENT = 1
PAGES: dict[str, tuple[str, ...]] = {
    "/ui/sign-in": ("/ui/sign-in",),
    "/ui/dashboard": ("/ui/dashboard",),
    "/ui/refused-files": ("/ui/refused-files",),
    "/ui/observations": ("/ui/observations?day=2026-03-01",),
    "/ui/observations/{group_id}": tuple(f"/ui/observations/{one}" for one in (CALIBRATOR, GROUPS[1], FAILED)),
    "/ui/observations/{group_id}/again": (f"/ui/observations/{GROUPS[1]}/again?start=tile_image",),
    "/ui/observations/{group_id}/mark": (
        f"/ui/observations/{GROUPS[1]}/mark?kind=tile&decision=bad&reason=ghosts",
        f"/ui/observations/{CALIBRATOR}/mark?kind=solution&decision=bad&reason=noise",
    ),
    "/ui/marks": ("/ui/marks",),
    "/ui/marks/again": ("/ui/marks/again",),
    "/ui/images": ("/ui/images",),
    "/ui/images/{group_id}": (f"/ui/images/{GROUPS[1]}",),
    "/ui/mosaics": ("/ui/mosaics",),
    "/ui/mosaics/new": ("/ui/mosaics/new",),
    "/ui/mosaics/{name}": (f"/ui/mosaics/{HOUR}", f"/ui/mosaics/{NIGHT}"),
    "/ui/sources": ("/ui/sources",),
    "/ui/sources/{source_id}": ("/ui/sources/{source}",),
    "/ui/sky-model": ("/ui/sky-model",),
    "/ui/candidates": ("/ui/candidates",),
    "/ui/candidates/{event_id}": (f"/ui/candidates/{EVENT}",),
    "/ui/antennas": ("/ui/antennas",),
    "/ui/antennas/{name}": ("/ui/antennas/103",),
    "/ui/antennas/marks/new": ("/ui/antennas/marks/new?antenna=103&since=2026-03-01T05:06&reason=warm",),
    "/ui/viewer": ("/ui/viewer", f"/ui/viewer?image={GROUPS[1]}&position={RA}+{DEC}&size_arcmin=30"),
    "/ui/carta": ("/ui/carta", f"/ui/carta?image={GROUPS[1]}"),
    "/ui/search": ("/ui/search", f"/ui/search?q={RA}+%2B{DEC}", "/ui/search?q=calibrator"),
    "/ui/control-panel": ("/ui/control-panel",),
    "/ui/control-panel/services/{service}/log": ("/ui/control-panel/services/api/log",),
    "/ui/control-panel/backfill": ("/ui/control-panel/backfill?first_night=2026-03-01",),
    "/ui/control-panel/solve": ("/ui/control-panel/solve?night=2026-03-01&refant=104",),
    "/ui/shift": ("/ui/shift",),
    "/ui/shift/actions": ("/ui/shift/actions",),
    "/ui/shift/report": ("/ui/shift/report?night=2026-03-01",),
}
"""Whole pages. ``{source}`` stands for a source's number."""
PARTS: dict[str, tuple[str, ...]] = {
    "/ui/dashboard/parts/{name}": tuple(f"/ui/dashboard/parts/{one}" for one in ("chain", "calibrations", "quality", "sky")),
    "/ui/mosaics/{name}/progress": (f"/ui/mosaics/{HOUR}/progress",),
    "/ui/sources/{source_id}/strip": ("/ui/sources/{source}/strip",),
    "/ui/sources/{source_id}/curve": ("/ui/sources/{source}/curve",),
    "/ui/sources/{source_id}/point": (f"/ui/sources/{{source}}/point?epoch={HOUR}",),
    "/ui/candidates/{event_id}/look": (f"/ui/candidates/{EVENT}/look",),
    "/ui/search/progress": (f"/ui/search/progress?ra_deg={RA}&dec_deg={DEC}",),
    "/ui/control-panel/switches": ("/ui/control-panel/switches",),
    "/ui/control-panel/runs": ("/ui/control-panel/runs",),
    "/ui/control-panel/backfills": ("/ui/control-panel/backfills",),
    "/ui/control-panel/stale": ("/ui/control-panel/stale",),
}
"""Parts that pages load by themselves."""
NEEDS_DAGSTER = "/ui/search/progress"
"""A part that has no answer without Dagster, which does not run over the small registry."""
OTHER = {"/ui/session", "/ui/control-panel/runs/{task_id}/log", "/ui/antennas/marks/{mark_id}/remove"}
"""A redirection with a session's cookie; the output of a run and a mark that the small registry does not have."""
MISSING = ("/ui/observations/2020-01-01T00:00:00", "/ui/nothing")
"""Pages of problems."""


def addresses(of: dict[str, tuple[str, ...]], sources: Sequence[int]) -> list[str]:
    """All addresses of pages or parts over a registry with these sources; the second has a candidate."""
    return [one.replace("{source}", str(sources[1])) for some in of.values() for one in some]


def write_log(config: PipelineConfig) -> None:
    """Write a log of the API, as `dsa110 up` does; its page has nothing to show without one."""
    log = services.log_file(config, "api")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("INFO: started\n" * 200)
