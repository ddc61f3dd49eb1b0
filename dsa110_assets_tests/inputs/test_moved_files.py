"""Files that were moved: preflight says so, and one command tells the registry, after it has found them."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from dsa110_assets.catalogs import calibrators
from dsa110_assets.cli.main import run
from dsa110_assets.cli.preflight import check_roots
from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest.scan import scan_directory
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.audit import audit
from dsa110_assets.registry.provenance import current_version, stale
from dsa110_assets.registry.relocate import PATHS
from dsa110_assets.registry.schema import Base, CalibrationApplied, CaltableRow, MeasurementSetKind, MeasurementSetRow, ProductVersion
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.tile import make_measurement_set
from dsa110_assets.stages.provenance.contents import agrees
from dsa110_assets.stages.provenance.recipes import recipes
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.registry_fixture import add_observation

NAME = "2026-03-12T05:00:00"


@pytest.fixture
def platform(registry_config, database, monkeypatch):
    for name in ("state_dir", "scratch_dir", "input_dir", "output_dir"):
        getattr(registry_config, name).mkdir(exist_ok=True)
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    ms = registry_config.output_dir / "2026-03-12" / f"{NAME}.ms"
    ms.mkdir(parents=True)
    (ms / "table.dat").write_bytes(b"0123456789")
    tables = registry_config.scratch_dir / "tables"
    with database.session() as session:
        add_observation(session, NAME)
        session.add(
            MeasurementSetRow(
                path=str(ms),
                group_id=NAME,
                kind=MeasurementSetKind.RAW,
                start_mjd=1,
                mid_mjd=2,
                end_mjd=3,
                status="converted",
                ra_deg=1,
                dec_deg=2,
                pointing_dec_deg=2,
                n_channels=4,
                flagged_fraction=0,
                size_bytes=10,
            )
        )
        session.add(
            CaltableRow(directory=str(tables), group_id=NAME, night="2026-03-12", calibrator="c", refant="1", mid_mjd=2, valid_from_mjd=1,
                        valid_to_mjd=3, pointing_dec_deg=54.6, accepted=True, quality={})
        )  # fmt: skip
        session.flush()
        session.add(CalibrationApplied(group_id=NAME, caltable_directory=str(tables), rung="own", hours_away=0.0))
        session.add(ProductVersion(product="measurement_set", key=NAME, path=str(ms), code_version="1", config_hash="1", size_bytes=10))
        session.add(
            ProductVersion(product="calibrated_ms", key=NAME, path=None, code_version="1", config_hash="1", inputs={str(ms): 1, "other": 2})
        )
    return registry_config


def test_every_column_of_paths_is_relocated():
    known = {f"{column.class_.__tablename__}.{column.key}" for column in PATHS}
    names = ("path", "directory", "caltable_directory")
    assert known - {"reference_catalogs.origin"} == {
        f"{t.name}.{c.name}" for t in Base.metadata.sorted_tables for c in t.columns if c.name in names
    }


def test_case_07_moved_data_are_noticed_and_one_command_repairs_the_registry(platform, database, tmp_path, monkeypatch, capsys):
    assert check_roots(platform) == []
    old, new = platform.output_dir, tmp_path / "disk2"
    old.rename(new)
    monkeypatch.setenv("PIPELINE_OUTPUT_DIR", str(new))
    moved = platform.model_copy(update={"output_dir": new})
    (finding,) = check_roots(moved)
    assert finding.verdict == "failed"
    assert "dsa110 db relocate" in finding.next_step
    for dry in (True, False):
        assert run(["db", "relocate", str(old), str(new), "--json", *(["--dry-run"] if dry else [])]) == 0
        assert json.loads(capsys.readouterr().out)["paths"]["ms_index.path"] == 1
        assert bool(check_roots(moved)) is dry
    platform.scratch_dir.rename(tmp_path / "disk3")
    monkeypatch.setenv("PIPELINE_SCRATCH_DIR", str(tmp_path / "disk3"))
    assert run(["db", "relocate", str(platform.scratch_dir), str(tmp_path / "disk3")]) == 0
    with database.session() as session:
        version = current_version(session, "measurement_set", NAME)
        assert version is not None
        assert version.path == str(new / "2026-03-12" / f"{NAME}.ms")
        assert current_version(session, "calibrated_ms", NAME).inputs == {version.path: 1, "other": 2}
        assert session.get_one(CalibrationApplied, NAME).caltable_directory == str(tmp_path / "disk3" / "tables")


def test_case_07_files_that_are_missing_or_others_are_named_and_nothing_changes(platform, tmp_path, monkeypatch, capsys):
    old, new = platform.output_dir, tmp_path / "disk2"
    assert run(["db", "relocate", str(old), str(new)]) == 2
    assert "is no directory" in capsys.readouterr().err
    monkeypatch.setenv("PIPELINE_OUTPUT_DIR", str(new))
    assert run(["db", "relocate", str(old), str(new)]) == 2
    assert "is no directory" in capsys.readouterr().err
    new.mkdir()
    assert run(["db", "relocate", str(old), str(new)]) == 2
    assert "is still there" in capsys.readouterr().err
    copy = new / "2026-03-12" / f"{NAME}.ms"
    copy.mkdir(parents=True)
    (copy / "table.dat").write_bytes(b"half")
    assert run(["db", "relocate", str(old), str(new)]) == 2
    assert "has 4 bytes, registered are 10" in capsys.readouterr().err
    assert run(["db", "relocate", str(tmp_path / "nowhere"), str(new)]) == 2
    assert "holds no registered file" in capsys.readouterr().err
    assert check_roots(platform) == []


# --- from raw files to a product, with roots of every arrangement -----------------------------------------------------
LAYOUTS = {
    "beside each other": ({"scratch": "scratch", "output": "ms"}, {"scratch": "disk2/scratch", "output": "disk2/ms"}),
    "one inside another, both move": ({"scratch": "stage", "output": "stage/ms"}, {"scratch": "disk2/stage", "output": "disk2/stage/ms"}),
    "one inside another, the outer moves": ({"scratch": "stage", "output": "stage/ms"}, {"scratch": "disk2/stage", "output": "stage/ms"}),
    "one inside another, the inner moves": ({"scratch": "stage", "output": "stage/ms"}, {"scratch": "stage", "output": "disk2/ms"}),
    "names that begin alike": ({"scratch": "data", "output": "data_ms"}, {"scratch": "disk2/data", "output": "data_ms"}),
}
"""Directories of the settings before and after the move."""
NAMES = ("input", "output", "scratch", "state")


class Moving:
    """A platform with one converted observation, whose directories can move."""

    def __init__(self, database, directory: Path, raw_files, monkeypatch, places) -> None:
        self.database, self.directory, self.monkeypatch = database, directory, monkeypatch
        self.set({"input": "incoming", "state": "state"} | places)
        for path in raw_files:
            shutil.copy2(path, self.config.input_dir)
        (directory / "manual.txt").write_text(MANUAL)
        self.group = self.scan().pending[0]
        self.make()

    def set(self, places: dict[str, str]) -> None:
        """Set the variables, as a person does in ``.env``."""
        for name, place in places.items():
            (self.directory / place).mkdir(parents=True, exist_ok=True)
            self.monkeypatch.setenv(f"PIPELINE_{name.upper()}_DIR", str(self.directory / place))
        self.monkeypatch.setenv("PIPELINE_DATABASE_URL", self.database.url)
        self.monkeypatch.setenv("PIPELINE_FLAG_RFI", "false")
        self.config = PipelineConfig.from_env()

    def move(self, places: dict[str, str]) -> None:
        """Move directories, the outer ones first, and set the variables."""
        before = {name: getattr(self.config, f"{name}_dir") for name in places}
        inner = {name for name in places if any(before[name] != other and before[name].is_relative_to(other) for other in before.values())}
        aside: dict[str, Path] = {}
        for name in sorted(inner):
            aside[name] = self.directory / f"aside-{name}"
            before[name].rename(aside[name])
        for name in sorted(set(places) - inner):
            after = self.directory / places[name]
            if after != before[name]:
                after.parent.mkdir(parents=True, exist_ok=True)
                before[name].rename(after)
        for name, path in aside.items():
            (self.directory / places[name]).parent.mkdir(parents=True, exist_ok=True)
            path.rename(self.directory / places[name])
        self.set(places)

    def scan(self):
        return scan_directory(self.database, self.config.input_dir, self.config, datetime.now(UTC))

    def make(self):
        paths = ProductPaths.of(self.config)
        calibrators.build_calibrator_db(self.directory / "manual.txt", paths.catalogs_dir / "vla_calibrators.sqlite3")
        run_id = f"run-{datetime.now(UTC).timestamp()}"
        return make_measurement_set(Platform(self.config, paths, self.database), TileRun(self.group, run_id))

    def findings(self) -> list[object]:
        """All that the platform has to say against its files: preflight, stale products, `dsa110 db check`."""
        with self.database.session() as session:
            outdated = stale(session, recipes(self.config))
        disagree = audit(self.database, ProductPaths.of(self.config), contents="checksum", agrees=agrees)
        return [*check_roots(self.config), *outdated, *disagree]

    def mentions(self, place: str) -> list[str]:
        """Columns of the registry in which a directory occurs."""
        found: list[str] = []
        with self.database.session() as session:
            for table in Base.metadata.sorted_tables:
                for column in table.columns:
                    wanted = f"%{self.directory / place}/%"
                    query = text(f'SELECT count(*) FROM {table.name} WHERE CAST("{column.name}" AS text) LIKE :wanted')
                    if session.scalar(query, {"wanted": wanted}):
                        found.append(f"{table.name}.{column.name}")
        return found


@pytest.fixture
def moving(database, tmp_path, tiny_raw_tile, monkeypatch):
    return lambda places: Moving(database, tmp_path, tiny_raw_tile.files, monkeypatch, places)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_root_moves_by_its_setting_and_one_command_and_everything_is_true(moving, capsys, layout):
    before, after = LAYOUTS[layout]
    platform = moving(before)
    assert platform.findings() == []
    changed = {name for name in before if before[name] != after[name]}
    platform.move(after)
    if "output" in changed:
        assert platform.findings() != []
    for name in sorted(changed):
        if not any(before[name].startswith(f"{before[other]}/") for other in changed):  # it moved with the outer one
            line = ["db", "relocate", str(platform.directory / before[name]), str(platform.directory / after[name])]
            code = run(line)
            shown = "".join(capsys.readouterr()).replace("\n", " ")
            assert code == 0 or (code == 2 and "holds no registered file" in shown), shown
    assert platform.findings() == []
    for name in changed:
        left = platform.mentions(before[name])
        stays = [other for other in before if before[other] == after[other] and before[other].startswith(f"{before[name]}/")]
        assert left == [] or stays, left
    assert str(platform.make().paths["path"]).startswith(str(platform.directory / after["output"]))
    assert platform.findings() == []


def test_the_settings_come_first(moving, capsys):
    platform = moving({"scratch": "stage", "output": "stage/ms"})
    (platform.directory / "stage").rename(platform.directory / "disk2")
    line = ["db", "relocate", str(platform.directory / "stage"), str(platform.directory / "disk2")]
    platform.monkeypatch.setenv("PIPELINE_SCRATCH_DIR", str(platform.directory / "disk2"))
    assert run(line) == 2
    assert "PIPELINE_OUTPUT_DIR: still is" in capsys.readouterr().err.replace("\n", " ")
    platform.monkeypatch.setenv("PIPELINE_OUTPUT_DIR", str(platform.directory / "disk2" / "ms"))
    assert run(line) == 0


def test_a_root_that_is_a_link_moves_by_the_link_alone(moving, tmp_path):
    (tmp_path / "disk1").mkdir()
    (tmp_path / "ms").symlink_to(tmp_path / "disk1")
    platform = moving({"scratch": "scratch", "output": "ms"})
    (tmp_path / "disk1").rename(tmp_path / "disk2")
    (tmp_path / "ms").unlink()
    (tmp_path / "ms").symlink_to(tmp_path / "disk2")
    assert platform.findings() == []
    platform.make()
    assert platform.findings() == []


def test_a_root_may_become_a_link_or_its_target(moving, tmp_path):
    platform = moving({"scratch": "scratch", "output": "ms"})
    (tmp_path / "ms").rename(tmp_path / "disk2")
    (tmp_path / "ms").symlink_to(tmp_path / "disk2")
    assert platform.findings() == []  # the old name still leads there
    platform.set({"output": "disk2"})
    assert platform.findings() != []
    assert run(["db", "relocate", str(tmp_path / "ms"), str(tmp_path / "disk2")]) == 0
    (tmp_path / "ms").unlink()
    assert platform.findings() == []
    assert platform.mentions("ms") == []


def test_a_root_with_dots_is_registered_under_its_plain_name(moving, tmp_path):
    platform = moving({"scratch": "scratch", "output": "scratch/../ms"})
    assert platform.config.output_dir == tmp_path / "ms"
    platform.move({"output": "disk2"})
    assert run(["db", "relocate", str(tmp_path / "ms"), str(tmp_path / "disk2")]) == 0
    assert platform.findings() == []


def test_raw_files_that_were_scanned_before_the_command_are_not_registered_twice(moving, tmp_path):
    platform = moving({"scratch": "scratch", "output": "ms"})
    platform.move({"input": "disk2/incoming"})
    assert check_roots(platform.config) != []
    platform.scan()
    assert run(["db", "relocate", str(tmp_path / "incoming"), str(tmp_path / "disk2" / "incoming")]) == 0
    assert platform.findings() == []
    assert platform.mentions("incoming") == []
    assert platform.make().figures["subbands"] == 16


def test_the_state_directory_moves_too(moving, tmp_path):
    platform = moving({"scratch": "scratch", "output": "ms"})
    platform.database.dispose()
    catalog = tmp_path / "state" / "catalogs" / "vla_calibrators.sqlite3"
    assert run(["catalogs", "refresh", "calibrators", "--file", str(tmp_path / "manual.txt")]) == 0
    assert catalog.is_file()
    platform.move({"state": "disk2/state"})
    assert [finding.next_step for finding in check_roots(platform.config)]
    assert run(["db", "relocate", str(tmp_path / "state"), str(tmp_path / "disk2" / "state")]) == 0
    assert platform.findings() == []
    assert platform.mentions("state") == []


def test_what_another_setting_names_inside_the_old_directory_stays(database, tmp_path, monkeypatch):
    for name in ("incoming", "state", "stage/ms", "disk2"):
        (tmp_path / name).mkdir(parents=True)
    old, new, ms = tmp_path / "stage", tmp_path / "disk2", tmp_path / "stage" / "ms"
    for name, place in {"input": "incoming", "output": "stage/ms", "scratch": "disk2", "state": "state"}.items():
        monkeypatch.setenv(f"PIPELINE_{name.upper()}_DIR", str(tmp_path / place))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    inputs = {f"{ms}/a.ms": 1, f"{old}/tables": 2, f"{old}_ms/b": 3, "2026-03-12T05": 4}
    with database.session() as session:
        session.add(ProductVersion(product="measurement_set", key=NAME, path=f"{ms}/a.ms", code_version="1", config_hash="1"))
        session.add(
            ProductVersion(product="tile_image", key=NAME, path=f"{old}/images/a", code_version="1", config_hash="1", inputs=inputs)
        )
        session.add(ProductVersion(product="hourly_mosaic", key=NAME, path=f"{old}_ms/c", code_version="1", config_hash="1"))
    assert run(["db", "relocate", str(old), str(new)]) == 0
    with database.session() as session:
        paths = [current_version(session, product, NAME).path for product in ("measurement_set", "tile_image", "hourly_mosaic")]
        assert paths == [f"{ms}/a.ms", f"{new}/images/a", f"{old}_ms/c"]
        moved = {f"{ms}/a.ms": 1, f"{new}/tables": 2, f"{old}_ms/b": 3, "2026-03-12T05": 4}
        assert current_version(session, "tile_image", NAME).inputs == moved
