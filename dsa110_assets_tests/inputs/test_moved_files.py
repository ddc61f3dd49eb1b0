"""Files that were moved: preflight says so, and one command tells the registry, after it has found them."""

from __future__ import annotations

import json

import pytest

from dsa110_assets.cli.main import run
from dsa110_assets.cli.preflight import check_roots
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.relocate import PATHS
from dsa110_assets.registry.schema import Base, CalibrationApplied, CaltableRow, MeasurementSetKind, MeasurementSetRow, ProductVersion
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
    assert run(["db", "relocate", str(platform.scratch_dir), str(tmp_path / "disk3")]) == 0
    with database.session() as session:
        version = current_version(session, "measurement_set", NAME)
        assert version is not None
        assert version.path == str(new / "2026-03-12" / f"{NAME}.ms")
        assert current_version(session, "calibrated_ms", NAME).inputs == {version.path: 1, "other": 2}
        assert session.get_one(CalibrationApplied, NAME).caltable_directory == str(tmp_path / "disk3" / "tables")


def test_case_07_files_that_are_missing_or_others_are_named_and_nothing_changes(platform, tmp_path, capsys):
    old, new = platform.output_dir, tmp_path / "disk2"
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
