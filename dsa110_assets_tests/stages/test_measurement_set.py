"""The asset `measurement_set` shows the flags of an observation."""

from __future__ import annotations

import base64
import os
import struct
from datetime import UTC, datetime

import pytest

from dsa110_assets.catalogs import calibrators
from dsa110_assets.conversion import verify_ms
from dsa110_assets.errors import InputUnreadableError
from dsa110_assets.ingest.scan import scan_directory
from dsa110_assets.orchestration.metadata import metadata_of
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.stages.operations import alerts
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.tile import make_measurement_set
from dsa110_assets.stages.queue import intake
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets_tests.catalogs.manual import MANUAL


def test_the_assets_metadata_show_flags_by_reason_antenna_channel_and_length(registry_config, database, tiny_raw_tile, tmp_path):
    for path in tiny_raw_tile.files:
        os.link(path, registry_config.input_dir / path.name)
    paths = ProductPaths.of(registry_config)
    (tmp_path / "manual.txt").write_text(MANUAL)
    calibrators.build_calibrator_db(tmp_path / "manual.txt", paths.catalogs_dir / "vla_calibrators.sqlite3")
    scan = scan_directory(database, registry_config.input_dir, registry_config, datetime.now(UTC))
    result = make_measurement_set(Platform(registry_config, paths, database), TileRun(scan.pending[0], run_id="test"))

    metadata = metadata_of([result])
    picture = metadata["preview"].value
    assert picture.startswith("![preview](data:image/png;base64,")
    png = base64.b64decode(picture.partition("base64,")[2].rstrip(")"))
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (800, 480)
    for title, columns in {
        "flagged by reason": {"reason", "fraction"},
        "flagged by antenna": {"antenna", "fraction"},
        "flagged by baseline length": {"from_m", "to_m", "fraction"},
    }.items():
        assert {column.name for column in metadata[title].schema.columns} == columns
        assert len(metadata[title].records) > 1
    assert metadata["flagged_fraction"].value == pytest.approx(
        sum(record.data["fraction"] for record in metadata["flagged by reason"].records), rel=1e-4
    )
    verify_ms(result.paths["path"], thorough=True)  # the picture inside does not matter to readers


def test_an_observation_whose_input_directory_goes_away_waits_and_is_made_when_it_is_back(
    registry_config, database, tiny_raw_tile, tmp_path
):
    for path in tiny_raw_tile.files:
        os.link(path, registry_config.input_dir / path.name)
    paths = ProductPaths.of(registry_config)
    (tmp_path / "manual.txt").write_text(MANUAL)
    calibrators.build_calibrator_db(tmp_path / "manual.txt", paths.catalogs_dir / "vla_calibrators.sqlite3")
    (group_id,) = scan_directory(database, registry_config.input_dir, registry_config, datetime.now(UTC)).pending
    platform = Platform(registry_config.model_copy(update={"min_free_gib": 0.0}), paths, database)
    away = registry_config.input_dir.rename(tmp_path / "away")
    for attempt in range(registry_config.max_attempts + 1):
        with pytest.raises(InputUnreadableError, match="does not exist"):
            make_measurement_set(platform, TileRun(group_id, run_id=f"run-{attempt}"))
    with database.session() as session:
        group = session.get_one(IngestGroup, group_id)
        assert (group.state, group.error_type, group.failures) == (GroupState.PENDING, "InputUnreadableError", 0)
    assert {one.key for one in alerts.conditions(platform, now())} == {"input-unreadable/input", "held-up/InputUnreadableError"}
    assert "paused: the input directory" in intake.tick(platform, most=5).summary
    away.rename(registry_config.input_dir)
    assert make_measurement_set(platform, TileRun(group_id, run_id="last")) is not None
    assert alerts.conditions(platform, now()) == []
