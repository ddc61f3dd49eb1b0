"""`dsa110 catalogs` makes, lists and searches catalogs, and predicts transits of calibrators."""

from __future__ import annotations

import json

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, HADec, SkyCoord
from astropy.time import Time

from dsa110_assets.catalogs import calibrators, surveys
from dsa110_assets.cli.exit_codes import EXIT_FAILED, EXIT_RETRY
from dsa110_assets.cli.main import run
from dsa110_assets.config import PipelineConfig
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.catalogs.vizier import ANSWERS, served
from dsa110_assets_tests.conversion.minimal_raw import SITE_ALT_M, SITE_LAT_DEG, SITE_LON_DEG, write_raw
from dsa110_assets_tests.reference_data import reference_data

SITE = EarthLocation.from_geodetic(SITE_LON_DEG * u.deg, SITE_LAT_DEG * u.deg, SITE_ALT_M * u.m)


@pytest.fixture(autouse=True)
def state(monkeypatch, tmp_path):
    for name in PipelineConfig.model_fields:
        monkeypatch.delenv(f"PIPELINE_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manual.txt").write_text(MANUAL)
    for name in ("STATE_DIR", "INPUT_DIR", "OUTPUT_DIR", "SCRATCH_DIR"):
        (tmp_path / name.lower()).mkdir()
        monkeypatch.setenv(f"PIPELINE_{name}", str(tmp_path / name.lower()))
    return tmp_path / "state_dir" / "catalogs"


@pytest.fixture
def with_calibrators(state, tmp_path):
    calibrators.build_calibrator_db(tmp_path / "manual.txt", state / "vla_calibrators.sqlite3")
    write_raw(tmp_path / "input_dir" / "2025-11-20T06:00:01_sb00.hdf5", 0, start_jd=2461000.75, dec_rad=0.95)
    return state


def answer(capsys, *arguments, code=0):
    assert run(["catalogs", *map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_real_manual_and_nvss_become_registered_tables(capsys, monkeypatch, state, database):
    from dsa110_assets.registry.schema import ProductVersion

    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    made = answer(capsys, "refresh", "calibrators", "--file", reference_data("vla_calibrators.txt"))
    assert made["entries"] == 1865
    assert made["with_20cm_flux"] == 1041 - 13  # 13 of the 1041 values are 0.00, which is not a flux density
    assert answer(capsys, "refresh", "nvss", "--file", reference_data("nvss_above_50mJy.parquet"))["sources"] == 125_309
    with database.session() as session:
        assert {row.product for row in session.query(ProductVersion)} == {"calibrator_catalog", "nvss_catalog"}
    listed = {row["name"]: row for row in answer(capsys, "list")}
    assert listed["calibrators"]["sources"] == 1865
    assert listed["nvss"]["sources"] == 125_309
    assert "refresh vlass" in listed["vlass"]["contents"]
    cone = answer(capsys, "cone", 128.7288, 55.5725, 0.5)
    assert cone[0]["name"] == "NVSS J083454+553420"
    assert cone[0]["separation_arcmin"] < 0.1
    nvss = surveys.load(state / "nvss.parquet")
    covered = f"declination {nvss.dec_deg.min():+.1f} to {nvss.dec_deg.max():+.1f} deg, above {1e3 * nvss.flux_jy.min():.3g} mJy"
    assert listed["nvss"]["contents"].startswith(covered)
    mine = answer(capsys, "strip", 54.6, 1.35, "--ra-from", 350, "--ra-to", 10, "--min-mjy", 500)
    inside = (np.abs(nvss.dec_deg - 54.6) <= 1.35) & ((nvss.ra_deg >= 350) | (nvss.ra_deg <= 10)) & (nvss.flux_jy >= 0.5)
    assert {row["name"] for row in mine} == set(nvss.name[inside])
    assert len(mine) > 3


def test_surveys_come_from_vizier(capsys, monkeypatch, state, tmp_path, database):
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    with served(tmp_path, ANSWERS) as (host, certificate, _):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        monkeypatch.setenv("PIPELINE_VIZIER_SERVER", host)
        assert answer(capsys, "refresh", "vlass", "--dec", 54.6)["sources"] == 2
        assert answer(capsys, "refresh", "nvss", "--dec", 54.6, "--min-mjy", 50)["sources"] == 2
        assert run(["catalogs", "refresh", "first", "--dec", "54.6"]) == EXIT_FAILED
        assert "no source there" in capsys.readouterr().err
        assert run(["catalogs", "refresh", "first"]) == EXIT_FAILED
        assert "--dec" in capsys.readouterr().err
        monkeypatch.setenv("PIPELINE_NVSS_FILE", str(tmp_path / "nvss.parquet"))
        assert run(["catalogs", "refresh", "nvss", "--dec", "54.6"]) == EXIT_FAILED
        assert "PIPELINE_NVSS_FILE" in capsys.readouterr().err
    listed = {row["name"]: row for row in answer(capsys, "list")}
    assert [listed[name]["sources"] for name in ("calibrators", "nvss", "first", "racs", "vlass")] == [0, 2, 0, 0, 2]
    assert "+50.6 to +58.6" in listed["vlass"]["contents"]
    assert [row["name"] for row in answer(capsys, "cone", 128.7288, 55.5725, 0.1, "--catalog", "vlass")] == ["VLASS1QL J083454.90+553421.1"]
    assert answer(capsys, "cone", 10, 0, 0.1, "--catalog", "vlass", code=1) == []
    assert run(["catalogs", "cone", "128.7288", "55.5725", "1", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("name,ra_deg,dec_deg,flux_jy")
    assert run(["catalogs", "refresh", "vlass", "--dec", "54.6"]) == EXIT_RETRY  # the service is down


def test_transit_times_are_astropys_to_a_second(capsys, with_calibrators):
    rows = answer(capsys, "transits", "3C286", "--start", "2026-03-12", "--days", 3)
    assert [row["calibrator"] for row in rows] == ["1331+305"] * 3
    star = SkyCoord("13h31m08.287984s 30d30m32.95885s")
    for row in rows:
        when = Time(row["mjd"], format="mjd")
        assert abs((Time(row["transit"]) - when).sec) < 0.11
        seen = star.transform_to(HADec(obstime=when, location=SITE)).ha.wrap_at(180 * u.deg)
        assert abs(seen.to_value(u.hourangle)) * 3600 < 1.0
        assert star.transform_to(AltAz(obstime=when, location=SITE)).alt.deg == pytest.approx(row["elevation_deg"], abs=0.01)
        assert row["flux_jy"] == pytest.approx(15.08, abs=0.01)
        assert row["scale"] == "Perley-Butler 2017"


def test_a_pointing_lists_only_calibrators_that_may_set_the_flux_scale(capsys, with_calibrators):
    assert [row["calibrator"] for row in answer(capsys, "transits", "--dec", 54.6, "--start", "2026-03-12")] == ["0834+555"]
    assert answer(capsys, "transits", "--dec", 16.2, "--start", "2026-03-12", code=1) == []  # 3C454.3 varies, 1911+161 has no flux
    variable = answer(capsys, "transits", "3C454.3", "--dec", 16.2, "--start", "2026-03-12")[0]
    assert (variable["flux_jy"], variable["scale"]) == (None, "none: variable")
    assert variable["beam"] > 0.98
    assert answer(capsys, "transits", "1911+161", "--start", "2026-03-12")[0]["scale"] == "none: no flux at 20 cm"


def test_transits_need_a_site_and_a_calibrator_or_declination(capsys, with_calibrators, tmp_path):
    assert run(["catalogs", "transits"]) == EXIT_FAILED
    assert "--dec" in capsys.readouterr().err
    (empty := tmp_path / "empty").mkdir()
    assert run(["catalogs", "transits", "3C286", "--raw", str(empty)]) == EXIT_FAILED
    assert "site" in capsys.readouterr().err
