"""`dsa110 calibrate` and `dsa110 apply` recover the gains and fluxes of a simulated tile of 3C286.

Errors are named, and leave no files behind.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from casacore.tables import table

from dsa110_assets.calibration.caltable import read_caltable
from dsa110_assets.calibration.resolved import components
from dsa110_assets.catalogs import calibrators, perley_butler_2017, sky
from dsa110_assets.cli import main
from dsa110_assets.conversion import convert_observation
from dsa110_assets.simulation.array import tiny_array
from dsa110_assets.simulation.band import BandPlan
from dsa110_assets.simulation.sky import Sky
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.conftest import RawTile, make_raw_tile

RA_DEG, DEC_DEG = 202.784533, 30.509155
SMEARED = True


@dataclass(frozen=True)
class CalibratorTile:
    directory: Path
    ms: Path
    raw: RawTile
    flux_jy: float


@pytest.fixture(scope="module")
def calibrator_tile(tmp_path_factory) -> CalibratorTile:
    """3C286 (CASA's model, Perley-Butler flux density) and a cataloged 2 Jy source, smeared; known gains and noise."""
    directory = tmp_path_factory.mktemp("calibrate")
    flux_jy = float(perley_butler_2017.flux_jy("3C286", 1.4e9))
    index = perley_butler_2017.spectral_index("3C286", 1.4e9)
    share, east, north = components("3C286")
    ra = np.append(RA_DEG + east / 3600 / np.cos(np.radians(DEC_DEG)), RA_DEG - 0.9)
    dec = np.append(DEC_DEG + north / 3600, DEC_DEG + 0.7)
    truth = Sky(
        tuple(f"S{i}" for i in range(ra.size)), ra, dec, np.append(flux_jy * share, 2.0), np.append(np.full(share.size, index), -0.7)
    )
    from dsa110_assets.simulation.directions import local_sidereal_time_deg

    start = 61_100.0
    start += ((RA_DEG + 0.33 - local_sidereal_time_deg(start)) % 360) / 360.9856  # of date: precession is 0.3 deg
    raw = make_raw_tile(
        directory / "raw", array=tiny_array(), band=BandPlan(4), n_integrations=8, start_mjd=start, declination_deg=DEC_DEG - 0.3, sky=truth,
        smearing=SMEARED,
    )  # fmt: skip
    convert_observation(dict(enumerate(raw.files)), directory / "tile.ms", flag_rfi=False)
    (directory / "manual.txt").write_text(MANUAL)
    catalogs = directory / "state" / "catalogs"
    calibrators.build_calibrator_db(directory / "manual.txt", catalogs / "vla_calibrators.sqlite3")
    nvss = pd.DataFrame({"ra_deg": [RA_DEG, RA_DEG - 0.9], "dec_deg": [DEC_DEG, DEC_DEG + 0.7], "peak_jy_per_beam": [14.8, 2.0]})
    nvss.to_parquet(directory / "nvss.parquet")
    sky.build_reference(directory / "nvss.parquet", catalogs / "nvss.parquet")
    return CalibratorTile(directory, directory / "tile.ms", raw, flux_jy)


@pytest.fixture(autouse=True)
def settings(calibrator_tile, monkeypatch):
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(calibrator_tile.directory / "state"))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")  # work by hand needs no registry


@pytest.fixture(scope="module")
def solved(calibrator_tile):
    """Directory of calibration tables, made by the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_STATE_DIR", str(calibrator_tile.directory / "state"))
        tables = calibrator_tile.directory / "tables"
        code = main.run(["calibrate", "--ms", str(calibrator_tile.ms), "--field", "3C286", "--refant", "103", "--output", str(tables)])
    assert code == 0
    return tables


def test_a_3c286_like_source_gives_the_gains_to_one_percent(calibrator_tile, solved):
    bandpass, gain = read_caltable(solved / "bandpass.cal"), read_caltable(solved / "gain.cal")
    numbers = sorted(calibrator_tile.raw.array.antenna_order)
    truth = calibrator_tile.raw.receivers.gains(tuple(numbers), bandpass.frequency_hz, np.array([calibrator_tile.raw.start_mjd]))[0]
    found = np.conj((bandpass.gain * gain.gain)[0, numbers])  # a Measurement Set holds the conjugate of raw data
    assert np.abs((np.abs(found) / np.abs(truth)).mean(axis=1) - 1).max() < 0.01
    reference = numbers.index(102)
    turn = found * np.conj(found[reference]) / (truth * np.conj(truth[reference]))
    assert np.degrees(np.abs(np.angle(turn.mean(axis=1)))).max() < 2.0


def test_a_3c286_like_source_keeps_its_flux_to_half_a_percent(calibrator_tile, solved, tmp_path, capsys):
    out = tmp_path / "out.ms"
    arguments = ["apply", "--ms", str(calibrator_tile.ms), "--caltable", str(solved), "--output", str(out), "--chan-avg", "1", "--json"]
    assert main.run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["channels_averaged"] == 1
    from dsa110_assets.calibration.model import predict_model

    truth = calibrator_tile.raw.sky
    columns = {n: getattr(truth, n) for n in ("ra_deg", "dec_deg", "flux_jy", "spectral_index")}
    predict_model(out, pd.DataFrame({"name": truth.names, **columns}), min_apparent_jy=0.0)
    with table(str(out), ack=False) as ms:
        data, model, flag = ms.getcol("DATA"), ms.getcol("MODEL_DATA"), ms.getcol("FLAG")
    scale = (~flag * (data * model.conj()).real).sum() / (~flag * np.abs(model) ** 2).sum()
    assert scale == pytest.approx(1.0, abs=0.005)
    assert not list(tmp_path.rglob(".staging*"))


def test_tables_are_written_with_their_quality_and_plots(solved):
    written = json.loads((solved / "quality.json").read_text())
    assert written["refant"] == "103"
    assert written["model"]["brightest"] == "1331+305"
    assert written["accepted"] is True
    assert {p.name for p in solved.iterdir()} >= {
        "bandpass.cal",
        "gain.cal",
        "bandpass-amplitude.png",
        "gain-time.png",
        "bandpass-flags.png",
    }


def test_existing_bandpass_and_json(calibrator_tile, solved, tmp_path, capsys):
    arguments = [
        "calibrate",
        "--ms",
        str(calibrator_tile.ms),
        "--skip-bp",
        "--bandpass",
        str(solved / "bandpass.cal"),
        "--gain-solint",
        "30s",
    ]
    assert main.run([*arguments, "--bp-minsnr", "4", "--output", str(tmp_path / "gains"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bandpass"] is None
    assert answer["tables"] == [str(tmp_path / "gains" / "gain.cal")]
    assert read_caltable(tmp_path / "gains" / "gain.cal").time_s.size == 4


def error_of(capsys, arguments) -> str:
    """Message of a command that fails with exit code 2 and prints nothing to standard output."""
    assert main.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_a_tile_without_the_calibrator_is_reported_and_leaves_nothing(calibrator_tile, tmp_path, capsys):
    message = error_of(capsys, ["calibrate", "--ms", str(calibrator_tile.ms), "--field", "0834+555", "--output", str(tmp_path / "t")])
    assert "0834+555 is not in this tile" in message
    shutil.copytree(calibrator_tile.ms, tmp_path / "elsewhere.ms")
    with table(f"{tmp_path / 'elsewhere.ms'}::POINTING", readonly=False, ack=False) as pointing:
        direction = pointing.getcol("DIRECTION")
        direction[..., 0] += 0.5
        pointing.putcol("DIRECTION", direction)
    message = error_of(capsys, ["calibrate", "--ms", str(tmp_path / "elsewhere.ms"), "--output", str(tmp_path / "t")])
    assert "no calibrator above 0.5 Jy at 20 cm transits" in message
    assert {p.name for p in tmp_path.iterdir()} == {"elsewhere.ms"}


def test_no_flux_is_assumed_for_a_calibrator_without_one(calibrator_tile, tmp_path, capsys):
    message = error_of(capsys, ["calibrate", "--ms", str(calibrator_tile.ms), "--field", "1911+161", "--output", str(tmp_path / "t")])
    assert "no flux density at 20 cm" in message


def test_a_tile_without_a_usable_reference_antenna_is_refused(calibrator_tile, tmp_path, capsys):
    shutil.copytree(calibrator_tile.ms, tmp_path / "flagged.ms")
    with table(str(tmp_path / "flagged.ms"), readonly=False, ack=False) as ms:
        flag = ms.getcol("FLAG")
        flag[:, :40] = True  # five eighths of every antenna
        ms.putcol("FLAG", flag)
    message = error_of(capsys, ["calibrate", "--ms", str(tmp_path / "flagged.ms"), "--output", str(tmp_path / "t")])
    assert "every antenna is mostly flagged" in message
    assert {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")} == {"flagged.ms"}
    assert not list(tmp_path.rglob(".staging*"))


def test_tables_of_another_strip_are_refused_by_name(calibrator_tile, solved, tmp_path, capsys):
    shutil.copytree(solved / "gain.cal", tmp_path / "gain.cal")
    with table(f"{tmp_path / 'gain.cal'}::FIELD", readonly=False, ack=False) as field:
        field.putcol("PHASE_DIR", field.getcol("PHASE_DIR") + np.radians([[[0.0, 16.0]]]))
    message = error_of(
        capsys, ["apply", "--ms", str(calibrator_tile.ms), "--caltable", str(tmp_path / "gain.cal"), "--output", str(tmp_path / "o.ms")]
    )
    assert "gain.cal: was solved at declination 46." in message
    assert "tile.ms are at 30." in message
    assert not (tmp_path / "o.ms").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate", "--ms", "absent.ms", "--output", "t"], "is not a Measurement Set"),
        (["calibrate", "--ms", "TILE", "--skip-bp", "--skip-g", "--output", "t"], "both skipped"),
        (["calibrate", "--ms", "TILE", "--skip-g"], "half a set of tables cannot be registered"),
        (["apply", "--ms", "TILE", "--caltable", "nowhere"], "neither a calibration table nor a directory"),
        (["apply", "--ms", "TILE", "--caltable", "TABLES", "--output", "TILE"], "is also an input"),
        (["apply", "--ms", "TILE", "--output", "x.ms"], "tables given by hand"),
    ],
)
def test_impossible_requests_are_explained(calibrator_tile, solved, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    places = {"TILE": str(calibrator_tile.ms), "TABLES": str(solved)}
    assert message in error_of(capsys, [places.get(a, a) for a in arguments]).replace("\n", " ")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_directory_with_other_files_is_never_replaced(calibrator_tile, tmp_path, capsys):
    (tmp_path / "precious.txt").write_text("mine")
    assert "holds no solutions" in error_of(capsys, ["calibrate", "--ms", str(calibrator_tile.ms), "--output", str(tmp_path)])
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_the_platforms_own_tile_is_solved_registered_and_calibrated(calibrator_tile, database, tmp_path, monkeypatch, capsys):
    """Without --output and --caltable the commands do what the assets do."""
    from dsa110_assets.registry.queries.observations import upsert_measurement_set
    from dsa110_assets.registry.schema import CalibrationApplied, GroupState, TileStage
    from dsa110_assets.stages.queue.attempts import now
    from dsa110_assets.times import JD_MINUS_MJD, group_id_of
    from dsa110_assets_tests.registry_fixture import add_observation

    for name in ("output", "scratch"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}_DIR", str(tmp_path / name))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    group_id = group_id_of(calibrator_tile.raw.start_mjd + JD_MINUS_MJD)
    ms = tmp_path / "output" / group_id[:10] / f"{group_id}.ms"
    assert "is not a registered" in error_of(capsys, ["calibrate", "--ms", str(calibrator_tile.ms)])
    shutil.copytree(calibrator_tile.ms, ms)
    with database.session() as session:
        group = add_observation(session, group_id, state=GroupState.PENDING, stage=TileStage.MEASUREMENT_SET, dec_deg=DEC_DEG - 0.3)
        group.pending_at = now()
        upsert_measurement_set(
            session, path=str(ms), group_id=group_id, kind="raw", status="flagged", start_mjd=group.start_mjd, mid_mjd=group.mid_mjd,
            end_mjd=group.end_mjd, ra_deg=RA_DEG, dec_deg=DEC_DEG, pointing_dec_deg=DEC_DEG - 0.3, calibrator=None, n_channels=64,
            flagged_fraction=0.0, size_bytes=1,
        )  # fmt: skip
    assert main.run(["apply", "--ms", str(ms)]) == 75  # no tables yet: may succeed later
    assert "no valid tables" in capsys.readouterr().err
    assert main.run(["calibrate", "--ms", str(ms), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["calibrator"] == "1331+305"
    assert answer["observations_released"] == 1  # the one that began to wait just now
    tables = tmp_path / "scratch" / "caltables" / group_id[:10] / group_id
    assert answer["tables"] == str(tables)
    assert main.run(["apply", "--ms", str(ms), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["tables_from"] == "same-night"
    assert done["channels_averaged"] == 1  # channels of 2.9 MHz are already wider than the smearing limit allows
    assert Path(done["output"]).is_dir()
    with database.session() as session:
        assert session.get_one(CalibrationApplied, group_id).caltable_directory == str(tables)
