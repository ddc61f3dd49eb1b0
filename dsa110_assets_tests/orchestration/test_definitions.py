"""The code location loads without heavy libraries and has the reviewed asset graph."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from dsa110_assets.config import PipelineConfig
from dsa110_assets.definitions import build_defs
from dsa110_assets.orchestration.partitions import SLOTS, Partitions, hour_key, tile_key
from dsa110_assets.orchestration.schedules import night_before
from dsa110_assets_tests.orchestration import graph_snapshot

HEAVY = (
    "casatools", "casatasks", "casacore", "pyuvdata", "radler", "aoflagger", "matplotlib", "numba", "reproject", "AegeanTools", "astropy", "scipy",
)  # fmt: skip


def test_the_asset_graph_is_the_reviewed_one() -> None:
    assert graph_snapshot.describe() == graph_snapshot.SNAPSHOT.read_text(), "review the difference, then run `make snapshot`"


def test_definitions_load_and_every_job_resolves() -> None:
    definitions = build_defs(PipelineConfig(_env_file=None))
    dg.Definitions.validate_loadable(definitions)


def test_definitions_import_no_heavy_library() -> None:
    code = (
        "import json, sys, dsa110_assets.definitions as d; d.defs.resolve_asset_graph(); "
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == []


def test_slots_of_five_minutes_cover_the_day_and_map_to_their_hour() -> None:
    partitions = Partitions.starting(datetime(2026, 3, 1, tzinfo=UTC).date())
    key = tile_key("2026-03-08", "05:25")
    assert str(key) == "2026-03-08|05:25"
    assert len(SLOTS) == 288
    mapping = partitions.tile_to_hour
    upstream = mapping.get_upstream_mapped_partitions_result_for_partitions(
        partitions.hour.empty_subset().with_partition_keys([hour_key("2026-03-08", "05")]), partitions.hour, partitions.tile
    )
    keys = {str(k) for k in upstream.partitions_subset.get_partition_keys()}
    assert keys == {f"2026-03-08|05:{minute:02d}" for minute in range(0, 60, 5)}


def test_the_schedule_of_the_documentation_requests_a_run_that_its_job_accepts() -> None:
    page = (Path(__file__).parents[2] / "docs/astronomers/api.md").read_text()
    (example,) = re.findall(r"```python\n(@dg\.schedule.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"dg": dg, "timedelta": timedelta}
    exec(example, names)
    context = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 3, 9, 9, 30, tzinfo=UTC))
    (request,) = names["evening_mosaic"].evaluate_tick(context).run_requests
    assert request.run_key == "2026-03-08"
    job = build_defs(PipelineConfig(_env_file=None)).resolve_job_def("mosaic_build")
    assert dg.validate_run_config(job, request.run_config)
    assert request.run_config["ops"]["build_mosaic"]["config"]["until"] == "2026-03-08T08:00"


def test_the_nightly_schedule_targets_the_night_before() -> None:
    partitions = Partitions.starting(datetime(2026, 3, 1, tzinfo=UTC).date())
    at_three = datetime(2026, 3, 9, 3, 0, tzinfo=UTC)
    assert night_before(partitions, at_three) == "2026-03-08"
    assert night_before(partitions, datetime(2026, 3, 1, 3, 0, tzinfo=UTC)) is None
    assert partitions.night.has_partition_key("2026-03-08")
