"""Pitfall 31: the registry and the file system disagree unnoticed."""

import json
import os
import shutil
import time

import pytest

from dsa110_assets.cli.main import run
from dsa110_assets.folders import Folder
from dsa110_assets.products import ProductPaths
from dsa110_assets.publication import checksum, publish, size_bytes
from dsa110_assets.registry import audit as audit_module
from dsa110_assets.registry import provenance, queries
from dsa110_assets.registry.audit import audit
from dsa110_assets_tests.registry_fixture import add_observation

GROUP, OTHER = "2026-03-01T05:10:00", "2026-03-01T05:20:00"


def _product(path, content=b"visibilities"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with publish(path) as staged:
        staged.mkdir()
        (staged / "table.f0").write_bytes(content)
    old = time.time() - 7200
    os.utime(path, (old, old))


@pytest.fixture
def agreeing(database, registry_config):
    """A Measurement Set and a mosaic, published and registered."""
    paths = ProductPaths.of(registry_config)
    ms, mosaic = paths.measurement_set(GROUP), paths.mosaic_dir("hourly_2026-03-01T05")
    _product(ms)
    _product(mosaic)
    with database.session() as session:
        add_observation(session, GROUP)
        queries.upsert_measurement_set(
            session, path=str(ms), group_id=GROUP, kind="raw", status="ok", start_mjd=61100.0, mid_mjd=61100.1, end_mjd=61100.2, ra_deg=1.0,
            dec_deg=16.0, pointing_dec_deg=16.0, n_channels=768, flagged_fraction=0.1, size_bytes=size_bytes(ms),
        )  # fmt: skip
        queries.upsert_mosaic(
            session, name="hourly_2026-03-01T05", kind="hourly", directory=str(mosaic), start_mjd=61100.0, mid_mjd=61100.1, end_mjd=61100.2, ra_deg=1.0,
            dec_deg=16.0, noise_jy_per_beam=1e-3, group_ids=[GROUP],
        )  # fmt: skip
        provenance.record_version(
            session, "measurement_set", GROUP, path=ms, recipe=provenance.Recipe("s", "c"), checksum=checksum(ms), size_bytes=size_bytes(ms)
        )
    return paths


def _kinds(database, paths, **options):
    return {(d.kind, d.product, d.path.rsplit("/", 1)[-1]) for d in audit(database, paths, **options)}


def test_pitfall_31_no_difference_is_reported_if_registry_and_disk_agree(database, agreeing):
    assert _kinds(database, agreeing, contents="checksum") == set()


def test_pitfall_31_a_removed_product_is_reported(database, agreeing):
    shutil.rmtree(agreeing.measurement_set(GROUP))
    shutil.rmtree(agreeing.mosaic_dir("hourly_2026-03-01T05"))
    assert _kinds(database, agreeing) == {("missing", "ms_index", f"{GROUP}.ms"), ("missing", "mosaics", "hourly_2026-03-01T05")}


def test_pitfall_31_an_unregistered_product_is_reported_once_it_is_old(database, agreeing):
    _product(agreeing.calibrated_ms(OTHER))
    _product(agreeing.image_dir(OTHER))
    _product(agreeing.calibration_dir(OTHER))
    assert _kinds(database, agreeing) == {
        ("unregistered", "ms_index", f"{OTHER}.cal.ms"), ("unregistered", "images", OTHER), ("unregistered", "caltables", OTHER),
    }  # fmt: skip
    assert _kinds(database, agreeing, settling_s=1e6) == set()


@pytest.mark.parametrize(("content", "notices"), [(b"longer visibilities", {"size", "checksum"}), (b"VISIBILITIES", {"checksum"})])
def test_pitfall_31_a_changed_product_is_reported(database, agreeing, content, notices):
    (agreeing.measurement_set(GROUP) / "table.f0").write_bytes(content)
    for contents in ("size", "checksum"):
        expected = {("changed", "measurement_set", f"{GROUP}.ms")} if contents in notices else set()
        assert _kinds(database, agreeing, contents=contents) == expected


def test_pitfall_31_many_products_are_compared_in_parts(database, agreeing, monkeypatch):
    """Each part is small, all products take part, and progress ends at the number of products."""
    monkeypatch.setattr(audit_module, "PART", 2)
    groups = [f"2026-03-01T06:{minute:02d}:00" for minute in range(0, 50, 10)]
    for group in groups:
        _product(agreeing.measurement_set(group))
    with database.session() as session:
        for group in groups:
            add_observation(session, group)
            queries.upsert_measurement_set(
                session, path=str(agreeing.measurement_set(group)), group_id=group, kind="raw", status="ok", start_mjd=61100.0, mid_mjd=61100.1,
                end_mjd=61100.2, ra_deg=1.0, dec_deg=16.0, pointing_dec_deg=16.0, n_channels=768, flagged_fraction=0.1, size_bytes=12,
            )  # fmt: skip
    shown = []
    (agreeing.folder(Folder.MOSAICS) / "plans").mkdir()
    os.utime(agreeing.mosaic_plans, (0, 0))
    assert audit(database, agreeing, contents="checksum", progress=lambda *one: shown.append(one)) == []
    assert [one for one in shown if one[0] == "registered in ms_index"] == [("registered in ms_index", done, 6) for done in (2, 4, 6, 6)]
    assert [one[1] for one in shown if one[0] == "on disk for ms_index"] == [2, 4, 6]
    shutil.rmtree(agreeing.measurement_set(groups[0]))
    _product(agreeing.image_dir(groups[0]))
    (agreeing.measurement_set(GROUP) / "table.f0").write_bytes(b"other")
    assert _kinds(database, agreeing, contents="size") == {
        ("missing", "ms_index", f"{groups[0]}.ms"), ("unregistered", "images", groups[0]), ("changed", "measurement_set", f"{GROUP}.ms"),
    }  # fmt: skip


def test_pitfall_31_db_check_reports_the_difference_and_exits_with_1(database, agreeing, registry_config, monkeypatch, capsys):
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    assert run(["db", "check"]) == 0
    assert "agree" in capsys.readouterr().out
    shutil.rmtree(agreeing.measurement_set(GROUP))
    assert run(["db", "check", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["path"]) == ("missing", str(agreeing.measurement_set(GROUP)))
    assert "backfill" in found["next_step"]
