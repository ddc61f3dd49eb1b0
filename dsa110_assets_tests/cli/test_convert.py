"""`dsa110 convert groups`: what it finds, plans, makes and rejects. Products are complete or absent."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

import astropy.units as u
import h5py
import numpy as np
import pytest
from astropy.coordinates import EarthLocation, HADec, SkyCoord
from astropy.time import Time

from dsa110_assets.catalogs import calibrators
from dsa110_assets.cli.exit_codes import EXIT_FAILED
from dsa110_assets.cli.main import run
from dsa110_assets.config import PipelineConfig
from dsa110_assets.conversion import verify_ms
from dsa110_assets.times import JD_MINUS_MJD, group_id_of, mjd_to_datetime
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.conversion.minimal_raw import SITE_ALT_M, SITE_LAT_DEG, SITE_LON_DEG, write_raw

STAR = SkyCoord("08h34m54.904117s 55d34m21.07098s")
TILE_S = 309.2376


def transit_after(mjd: float) -> float:
    """Meridian passage of the calibrator 0834+555, from astropy alone (to a second)."""
    where = EarthLocation.from_geodetic(SITE_LON_DEG * u.deg, SITE_LAT_DEG * u.deg, SITE_ALT_M * u.m)
    for _ in range(4):
        hour_angle = STAR.transform_to(HADec(obstime=Time(mjd, format="mjd"), location=where)).ha.wrap_at(180 * u.deg).hourangle
        mjd -= hour_angle / 24 * 0.9972696
    return mjd


TRANSIT = transit_after(61_000.4)
STARTS = [TRANSIT - 150 / 86400 + k * TILE_S / 86400 for k in (-1, 0, 1)]
"""Times of the first integrations of three consecutive observations. The middle one contains the transit."""
NAMES = [group_id_of(mjd + JD_MINUS_MJD) for mjd in STARTS]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in PipelineConfig.model_fields:
        monkeypatch.delenv(f"PIPELINE_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, value in {"EXPECTED_SUBBANDS": "3", "MIN_SUBBANDS": "2", "FLAG_RFI": "false", "STATE_DIR": str(tmp_path / "state")}.items():
        monkeypatch.setenv(f"PIPELINE_{name}", value)
    (tmp_path / "manual.txt").write_text(MANUAL)
    calibrators.build_calibrator_db(tmp_path / "manual.txt", tmp_path / "state" / "catalogs" / "vla_calibrators.sqlite3")


@pytest.fixture(scope="module")
def three_observations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw files of three observations. Times in their names differ from those in their headers by up to 40 s."""
    directory = tmp_path_factory.mktemp("incoming")
    for k, mjd in enumerate(STARTS):
        for subband in range(3):
            stamp = f"{mjd_to_datetime(mjd + (20 * subband - 40 * (k == 1)) / 86400):%Y-%m-%dT%H:%M:%S}"
            path = directory / f"{stamp}_sb{subband:02d}.hdf5"
            write_raw(path, subband, start_jd=mjd + JD_MINUS_MJD, dec_rad=np.radians(55.2), n_times=24, order=(2, 0, 1), n_channels=4)
    return directory


@pytest.fixture
def incoming(tmp_path: Path, three_observations: Path) -> Path:
    return Path(shutil.copytree(three_observations, tmp_path / "incoming"))


def window(first: int, last: int) -> list[str]:
    """START and END of a window that contains the observations ``first`` to ``last``."""
    return [f"{mjd_to_datetime(STARTS[k] + offset / 86400):%Y-%m-%dT%H:%M:%S}" for k, offset in ((first, -60), (last, 60))]


def answer(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict:
    assert run(["convert", "groups", *map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def field_of(ms: str) -> list[str]:
    from casacore.tables import table

    with table(f"{ms}::FIELD", ack=False) as t:
        return t.getcol("NAME")


def test_a_window_is_converted_and_the_field_is_named_after_the_calibrator(capsys, incoming, tmp_path):
    done = answer(capsys, incoming, tmp_path / "ms", *window(0, 2))["observations"]
    assert [row["observation"] for row in done] == NAMES
    assert {row["action"] for row in done} == {"converted"}
    assert [row["field"] for row in done] == ["meridian", "0834+555", "meridian"]
    for row in done:
        verify_ms(Path(row["path"]), thorough=True)
        assert field_of(row["path"]) == [row["field"]]
    assert sorted(p.name for p in (tmp_path / "ms").rglob("*.ms")) == [f"{name}.ms" for name in NAMES]
    assert not [p for p in (tmp_path / "ms").rglob("*") if p.name.startswith(".staging")]
    again = answer(capsys, incoming, tmp_path / "other", *window(1, 1), "--no-rename-calibrator-fields", "--writer", "parallel-subband")[
        "observations"
    ]
    assert field_of(again[0]["path"]) == ["meridian"]


def test_observations_belong_to_a_window_by_their_header_not_by_their_name(capsys, incoming, tmp_path):
    start = f"{mjd_to_datetime(STARTS[1] - 10 / 86400):%Y-%m-%dT%H:%M:%S}"  # the names of observation 1 begin 40 s earlier
    end = f"{mjd_to_datetime(STARTS[2] - 10 / 86400):%Y-%m-%dT%H:%M:%S}"
    found = answer(capsys, incoming, tmp_path / "ms", start, end, "--find-only")
    assert [row["observation"] for row in found["observations"]] == [NAMES[1]]
    assert found["observations"][0]["missing_subbands"] == []
    assert found["refused"] == []


def test_find_only_and_dry_run_write_nothing(capsys, incoming, tmp_path):
    before = sorted(incoming.iterdir())
    assert answer(capsys, incoming, tmp_path / "ms", *window(0, 2), "--find-only")["observations"][0]["action"] == "found"
    plan = answer(capsys, incoming, tmp_path / "ms", *window(0, 2), "--dry-run")["observations"]
    assert [row["action"] for row in plan] == ["convert"] * 3
    assert run(["convert", "groups", str(incoming), str(tmp_path / "ms"), *window(0, 2), "--dry-run"]) == 0
    table = capsys.readouterr().out
    assert "Would be done" in table
    assert all(name in table for name in (*NAMES, "0834+555"))
    assert not (tmp_path / "ms").exists()
    assert sorted(incoming.iterdir()) == before


def test_around_a_calibrators_transit(capsys, incoming, tmp_path):
    found = answer(capsys, incoming, tmp_path / "ms", "--calibrator", "J0834+555", "--find-only")
    assert [row["observation"] for row in found["observations"]] == [NAMES[1]]
    seen = found["observations"][0]["transit"]
    assert abs(Time(seen).mjd - TRANSIT) * 86400 < 1.5  # printed to the second
    assert [one["transit"] for one in found["transits"]] == [seen]
    assert 0.9 < found["transits"][0]["beam"] < 1
    wide = answer(capsys, incoming, tmp_path / "ms", *window(0, 2), "--calibrator", "0834+555", "--window-minutes", "10", "--dry-run")
    assert [row["observation"] for row in wide["observations"]] == NAMES
    assert [row["transit"] is not None for row in wide["observations"]] == [False, True, False]


def test_a_calibrator_that_is_not_in_the_data_is_reported(capsys, incoming, tmp_path):
    assert run(["convert", "groups", str(incoming), str(tmp_path / "ms"), "--calibrator", "3C286"]) == EXIT_FAILED
    assert "1331+305" in (message := capsys.readouterr().err)
    assert "transits" in message
    assert run(["convert", "groups", str(incoming), str(tmp_path / "ms"), "--calibrator", "nobody"]) == EXIT_FAILED
    assert "not in the calibrator catalog" in capsys.readouterr().err
    for path in incoming.iterdir():  # the same transit, but the dishes point 30 degrees away
        with h5py.File(path, "r+") as file:
            file["Header/phase_center_app_dec"][...] = np.radians(25.0)
    assert run(["convert", "groups", str(incoming), str(tmp_path / "ms"), "--calibrator", "0834+555"]) == EXIT_FAILED
    assert "declination 25.00" in capsys.readouterr().err.replace("\n", " ")


def test_skip_existing_keeps_complete_products_and_replaces_partial_ones(capsys, incoming, tmp_path):
    arguments = (incoming, tmp_path / "ms", *window(0, 2))
    paths = [Path(row["path"]) for row in answer(capsys, *arguments)["observations"]]
    written = [p.stat().st_ino for p in paths]
    assert [row["action"] for row in answer(capsys, *arguments, "--skip-existing")["observations"]] == ["skip"] * 3
    assert [p.stat().st_ino for p in paths] == written

    # a copy that lost the middle of its visibilities, a truncated one, and one whose raw files have changed since
    data = max(paths[0].glob("table.f*_TSM*"), key=lambda p: p.stat().st_size)
    with data.open("r+b") as file:
        file.seek(data.stat().st_size // 2)
        file.write(bytes(data.stat().st_size // 4))
    verify_ms(paths[0])  # the quick check reads only both ends and passes
    truncated = min((p for p in paths[1].glob("table.f*") if p.stat().st_size > 5000), key=lambda p: p.stat().st_size)
    os.truncate(truncated, truncated.stat().st_size // 2)
    next(incoming.glob(f"{NAMES[2][:10]}*{mjd_to_datetime(STARTS[2]):%H:%M:%S}_sb00.hdf5")).unlink()
    plan = answer(capsys, *arguments, "--skip-existing", "--dry-run")["observations"]
    assert [row["action"] for row in plan] == ["replace"] * 3
    assert "contradict" in plan[0]["reason"]
    assert "not complete" in plan[1]["reason"]
    assert "other files" in plan[2]["reason"]
    assert [row["action"] for row in answer(capsys, *arguments, "--skip-existing")["observations"]] == ["converted"] * 3
    for path in paths:
        verify_ms(path, thorough=True)
    assert [row["action"] for row in answer(capsys, *arguments, "--skip-existing")["observations"]] == ["skip"] * 3


def test_incomplete_observations_and_rejected_files_are_listed_with_reasons(capsys, incoming, tmp_path):
    mine = [sorted(p for p in incoming.iterdir() if abs(Time(p.name[:19]).mjd - mjd) * 86400 < 100) for mjd in STARTS]
    for path in mine[0][1:]:
        path.unlink()
    stray = incoming / f"{NAMES[1]}_sb00.hdf5"  # an unknown node's sb00 with the frequencies of another
    write_raw(stray, 5, start_jd=STARTS[1] + JD_MINUS_MJD, dec_rad=np.radians(55.2), order=(2, 0, 1), n_channels=4)
    (incoming / f"{NAMES[1]}_sb01_incomplete.hdf5").write_bytes(b"being written")
    result = answer(capsys, incoming, tmp_path / "ms", *window(0, 1))
    assert [row["action"] for row in result["observations"]] == ["leave", "converted"]
    assert "1 of 3 subbands" in result["observations"][0]["reason"]
    assert result["observations"][1]["missing_subbands"] == []
    assert [Path(row["path"]).name for row in result["refused"]] == [stray.name]
    assert "sb05" in result["refused"][0]["reason"]


def test_one_bad_observation_does_not_stop_the_others(capsys, incoming, tmp_path):
    bad = next(p for p in incoming.iterdir() if p.name.endswith("sb01.hdf5") and abs(Time(p.name[:19]).mjd - STARTS[0]) * 86400 < 100)
    with h5py.File(bad, "r+") as file:
        file["Header/phase_center_app_dec"][...] = np.radians(40.0)
    result = answer(capsys, incoming, tmp_path / "ms", *window(0, 2), code=EXIT_FAILED)["observations"]
    assert [row["action"] for row in result] == ["failed", "converted", "converted"]
    assert "pointing declination" in result[0]["reason"]
    assert bad.name in result[0]["reason"]
    assert sorted(p.stem for p in (tmp_path / "ms").rglob("*.ms")) == NAMES[1:]
    assert not list((tmp_path / "ms").rglob(".staging*"))


def test_leftovers_of_a_killed_conversion_are_removed(capsys, incoming, tmp_path):
    night = tmp_path / "ms" / NAMES[1][:10]
    killed, other = (night / ".staging" / name / f"{NAMES[1]}.ms" for name in ("killed", "other"))
    journal = tmp_path / "state" / "staging"
    journal.mkdir()
    for path in (killed, other):
        path.mkdir(parents=True)
        (journal / path.parent.name).write_text(str(path.parent))
    with (journal / "other").open() as entry:
        fcntl.flock(entry, fcntl.LOCK_EX)  # as a living process holds it
        answer(capsys, incoming, tmp_path / "ms", *window(1, 1))
    assert not killed.exists()
    assert other.exists()


def test_nothing_found_exits_with_1_and_wrong_arguments_are_reported(capsys, incoming, tmp_path):
    assert answer(capsys, incoming, tmp_path / "ms", "2020-01-01", "2020-01-02", code=1)["observations"] == []
    assert run(["convert", "groups", str(incoming), str(tmp_path / "ms"), "2020-01-01", "2020-01-02"]) == 1
    names = sorted(path.name[:19] for path in incoming.iterdir())
    assert f"the 9 raw files in {incoming} have names of {names[0]} to {names[-1]}" in " ".join(capsys.readouterr().err.split())
    for arguments, word in (
        ((incoming, tmp_path / "ms", "2026-01-02", "2026-01-01"), "not after"),
        ((incoming, tmp_path / "ms", "yesterday", "2026-01-01"), "not a time"),
        ((incoming, tmp_path / "ms"), "both are needed"),
        ((tmp_path / "absent", tmp_path / "ms", "2026-01-01", "2026-01-02"), "cannot be listed"),
    ):
        assert run(["convert", "groups", *map(str, arguments)]) == EXIT_FAILED
        assert word in capsys.readouterr().err


def test_the_platforms_own_directory_is_filled_through_the_queue(capsys, incoming, tmp_path, monkeypatch, database):
    from dsa110_assets.registry.schema import MeasurementSetRow, ProductVersion

    output = tmp_path / "own"
    for name, value in {
        "INPUT_DIR": incoming, "OUTPUT_DIR": output, "SCRATCH_DIR": tmp_path / "scratch", "DATABASE_URL": database.url
    }.items():  # fmt: skip
        monkeypatch.setenv(f"PIPELINE_{name}", str(value))
    row = answer(capsys, incoming, output, *window(1, 1))["observations"][0]
    assert row["action"] == "converted"
    verify_ms(Path(row["path"]))
    with database.session() as session:
        registered = session.get_one(MeasurementSetRow, row["path"])
        assert (registered.group_id, registered.calibrator, registered.status) == (NAMES[1], "0834+555", "flagged")
        assert session.query(ProductVersion).filter_by(product="measurement_set", key=NAMES[1]).count() == 1
    assert run(["convert", "groups", str(incoming), str(output), *window(1, 1), "--no-rename-calibrator-fields"]) == EXIT_FAILED
    assert "PIPELINE_OUTPUT_DIR" in capsys.readouterr().err
