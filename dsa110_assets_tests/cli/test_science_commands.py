"""`dsa110 mosaic`, `photometry` and `lightcurve` work on the registry and on files, without Dagster."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.io.votable.ucd import parse_ucd

from dsa110_assets import content
from dsa110_assets.catalogs.calibrators import build_calibrator_db
from dsa110_assets.cli.main import run
from dsa110_assets.photometry.tables import _UCDS
from dsa110_assets.quality import gate
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries import (
    candidates,
    photometry,
    replace_photometry,
    source_table,
    upsert_image,
    upsert_mosaic,
    upsert_qa_metric,
    upsert_sources,
)
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import gates
from dsa110_assets.stages.provenance.contents import parts_of
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.times import datetime_to_mjd, group_time
from dsa110_assets.variability import LightCurves, lightcurves, normalise
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.mosaicking.tile_files import DRIFT_DEG, TileTruth, write_tile
from dsa110_assets_tests.notebooks import NOTEBOOKS, run_notebook
from dsa110_assets_tests.registry_fixture import add_observation

SOURCES = [(128.3, 54.6, 0.4), (129.6, 54.2, 0.25), (130.4, 55.0, 0.3)]
START = datetime_to_mjd(group_time("2026-03-12T05:00:00"))


@pytest.fixture
def platform(registry_config, database, monkeypatch, tmp_path):
    """Three tiles of a strip around 0834+555, a fourth in another strip, and three sources."""
    for name in ("database_url", "state_dir", "scratch_dir", "input_dir", "output_dir"):
        value = getattr(registry_config, name)
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", value.get_secret_value() if name == "database_url" else str(value))
    monkeypatch.chdir(tmp_path)
    (registry_config.state_dir / "catalogs").mkdir()
    (tmp_path / "manual.txt").write_text(MANUAL)
    build_calibrator_db(tmp_path / "manual.txt", registry_config.state_dir / "catalogs" / "vla_calibrators.sqlite3")
    with database.session() as session:
        for i in range(4):
            truth = TileTruth(
                127.5 + i * DRIFT_DEG, dec_deg=54.6 if i < 3 else 41.0, size=192, cell_arcsec=50.0, start_mjd=START + i * 309.2376 / 86400
            )
            made = write_tile(registry_config.scratch_dir / f"t{i}", truth, SOURCES, i)
            add_observation(session, made.group_id, dec_deg=truth.dec_deg)
            upsert_image(
                session, directory=str(made.directory), group_id=made.group_id, mid_mjd=made.mid_mjd, ra_deg=truth.ra_deg, dec_deg=truth.dec_deg,
                pointing_dec_deg=truth.dec_deg, noise_jy_per_beam=0.005, thermal_jy_per_beam=0.005, peak_jy_per_beam=0.4, bmaj_arcsec=150.0,
                bmin_arcsec=120.0, bpa_deg=25.0,
            )  # fmt: skip
            for check in gate.TILE_CHECKS:
                upsert_qa_metric(session, "tile_image", made.group_id, check, 1.0, passed=True)
        frame = pd.DataFrame(SOURCES, columns=["ra_deg", "dec_deg", "reference_flux_jy"]).assign(name=["a", "b", "c"])
        upsert_sources(session, frame, origin="nvss")
    return registry_config


def test_a_completed_observation_with_a_refused_tile_shows_why_and_what_to_do(platform, database, capsys):
    """The same words appear in both tables, for one observation, in JSON and in the alert."""
    refused, good = "2026-03-12T05:05:09", "2026-03-12T05:00:00"
    with database.session() as session:
        upsert_qa_metric(session, "tile_image", refused, "noise_over_thermal", 3.2, limit_low=0.8, limit_high=2.0, passed=False)
        for group in session.query(IngestGroup):
            group.state, group.completed_at = GroupState.COMPLETED, now()
        verdict = gates.verdicts(session, [refused])[refused]
    assert verdict.line().startswith("refused: noise 3.2 times thermal (limits 0.8 and 2). Next: too high: look at ")
    for arguments in ([], ["--refused"], [refused]):
        assert run(["ingest", "status", *arguments]) == 0
        assert verdict.line() in capsys.readouterr().out
    run(["ingest", "status", "--refused"])
    assert good not in capsys.readouterr().out
    for arguments in (["--refused"], [refused]):
        assert run(["ingest", "status", *arguments, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        (shown,) = [one["verdict"] for one in result["observations"]] if "observations" in result else [result["verdict"]]
        assert (shown["word"], shown["reason"], shown["next_step"]) == ("refused", verdict.reason, verdict.next_step)
    assert run(["alerts"]) == 1
    listed = capsys.readouterr().out
    assert "mosaics leave out 1 of the tiles of 2026-03-12: noise (1)" in listed
    assert verdict.next_step in listed


def test_mosaic_of_a_time_range_is_planned_and_built_from_one_strip(platform, tmp_path, capsys):
    times = ["--since", "2026-03-12T05:00:00", "--until", "2026-03-12T05:30:00"]
    assert run(["mosaic", "plan", "--name", "flare", *times, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["tiles"] == ["2026-03-12T05:00:00", "2026-03-12T05:05:09", "2026-03-12T05:10:18"]
    assert len(plan["left_out"]) == 1
    assert run(["mosaic", "plan", "--name", "flare", *times]) == 0
    assert "another declination strip" in capsys.readouterr().out
    assert run(["mosaic", "build", "--name", "flare", "--output", str(tmp_path / "out"), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["path"] == str(tmp_path / "out")
    assert result["tiles"] == 3
    assert result["snr_scatter"] == pytest.approx(1.0, abs=0.1)
    header = fits.getheader(tmp_path / "out" / "flare-image.fits")
    assert header["DSANTILE"] == 3
    assert run(["db", "query", "SELECT kind, n_tiles, directory FROM mosaics", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"kind": "custom", "n_tiles": 3, "directory": str(tmp_path / "out")}]


def test_mosaics_around_several_calibrators_are_centered_on_their_transits(platform, capsys):
    assert run(["mosaic", "create", "--calibrator", "0834+555", "--calibrator", "J0834+555", "--timespan-minutes", "9", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["name"] for result in results] == ["0834+555_2026-03-12"] * 2
    # it transits 15.1 s (of right ascension) after the middle of the second tile: 4.5 minutes each way reach two tiles
    assert run(["mosaic", "create", "--calibrator", "0834+555", "--timespan-minutes", "12", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    middle = np.mean([datetime_to_mjd(pd.Timestamp(plan[key]).to_pydatetime()) for key in ("since", "until")])
    transit = START + (128.72877 - (127.5 + DRIFT_DEG)) / 360 * 0.99727 + 1.5 * 309.2376 / 86400
    assert abs(middle - transit) * 86400 < 2
    assert plan["tiles"] == ["2026-03-12T05:00:00", "2026-03-12T05:05:09", "2026-03-12T05:10:18"]
    assert run(["mosaic", "create", "--calibrator", "3C286", "--dry-run"]) == 2
    assert "no imaged tile observed it" in capsys.readouterr().err


def test_a_tile_with_a_bad_image_is_left_out(platform, database, capsys):
    times = ["--since", "2026-03-12T05:00:00", "--until", "2026-03-12T05:30:00"]
    with database.session() as session:
        upsert_qa_metric(session, "tile_image", "2026-03-12T05:05:09", "dynamic_range", 2.0, passed=False, reason="far too low")
    assert run(["mosaic", "plan", "--name", "flare", *times, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["tiles"] == ["2026-03-12T05:00:00", "2026-03-12T05:10:18"]
    assert plan["left_out"]["2026-03-12T05:05:09"].startswith("refused: dynamic range 2. Next: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "--name", "hourly_x", "--since", "2026-03-12", "--until", "2026-03-13"], "are reserved"),
        (["plan", "--name", "x", "--since", "2026-03-13", "--until", "2026-03-12"], "before it begins"),
        (["plan", "--name", "x", "--since", "2026-04-12", "--until", "2026-04-13"], "no imaged tile"),
        (["build", "--name", "never"], "no plan of this name"),
    ],
)
def test_impossible_mosaics_are_explained(platform, capsys, arguments, message):
    assert run(["mosaic", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def mosaic(platform, tmp_path, capsys):
    assert run(["mosaic", "plan", "--name", "m", "--since", "2026-03-12T05:00", "--until", "2026-03-12T05:30"]) == 0
    assert run(["mosaic", "build", "--name", "m", "--output", str(tmp_path / "m")]) == 0
    capsys.readouterr()
    return tmp_path / "m" / "m-image.fits"


@pytest.mark.parametrize("measured", [True, False])
def test_the_notebook_of_a_field_runs_without_a_blind_search(mosaic, database, tmp_path, monkeypatch, capsys, measured):
    """The hour has no source catalog; with and without forced fluxes."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    with pytest.raises(SystemExit, match="no hourly mosaic yet"):
        run_notebook(NOTEBOOKS / "field.ipynb", tmp_path)
    with database.session() as session:
        times = {"start_mjd": START, "mid_mjd": START + 0.01, "end_mjd": START + 0.02}
        upsert_mosaic(
            session, name="m", kind="hourly", directory=str(mosaic.parent), **times, ra_deg=128.7, dec_deg=54.6, noise_jy_per_beam=0.002,
            group_ids=[],
        )  # fmt: skip
        if measured:
            run(["photometry", "peak", "--image", str(mosaic), "--output", "f.parquet"])
            rows = pd.read_parquet("f.parquet").assign(
                source_id=source_table(session).set_index("name").loc[["a", "b", "c"], "source_id"].to_numpy()
            )
            replace_photometry(session, "m", rows, time_mjd=START + 0.01)
    found = run_notebook(NOTEBOOKS / "field.ipynb", tmp_path)
    assert len(found["matched"]) == (3 if measured else 0)
    assert "the blind search has not run" in capsys.readouterr().out


def test_peak_fluxes_of_registered_and_of_given_positions_in_each_format(mosaic, tmp_path):
    pd.DataFrame([{"name": n, "ra_deg": ra, "dec_deg": dec} for n, (ra, dec, _) in zip("abc", SOURCES, strict=True)]).to_csv(
        "p.csv", index=False
    )
    for suffix, more in ((".csv", ["--positions", "p.csv"]), (".parquet", []), (".vot", [])):
        assert run(["photometry", "peak", "--image", str(mosaic), "--output", f"f{suffix}", *more]) == 0
    csv, parquet = pd.read_csv("f.csv"), pd.read_parquet("f.parquet")
    assert np.all(np.abs(csv["flux_jy"] - [0.4, 0.25, 0.3]) < 4 * csv["flux_err_jy"])
    np.testing.assert_allclose(parquet["flux_jy"], csv["flux_jy"])
    described = {one["titles"]: one for one in json.loads(Path("f.csv-metadata.json").read_text())["tableSchema"]["columns"]}
    assert (described["flux_jy"]["unit"], described["flux_jy"]["ucd"]) == ("Jy", "phot.flux.density;em.radio")
    fields = {field.name: field for field in parse_single_table("f.vot").fields}
    assert str(fields["flux_err_jy"].unit) == "Jy"
    assert fields["flux_err_jy"].ucd == "stat.error;phot.flux.density;em.radio"
    assert fields["ra_deg"].ucd == "pos.eq.ra;meta.main"


def test_every_ucd_is_in_the_ivoa_vocabulary():
    for ucd in _UCDS.values():
        parse_ucd(ucd, check_controlled_vocabulary=True)


def test_adaptive_combines_the_channels_that_are_given(mosaic, tmp_path):
    channels = []
    for i, frequency in enumerate((1.35e9, 1.40e9, 1.45e9)):
        channels += ["--image", str(tmp_path / f"ch{i}-image.fits")]
        for kind in ("image", "noise"):
            with fits.open(mosaic.with_name(f"m-{kind}.fits")) as hdus:
                hdus[0].header["RESTFRQ"] = frequency
                hdus.writeto(tmp_path / f"ch{i}-{kind}.fits")
    assert run(["photometry", "adaptive", *channels, "--output", "s.parquet", "--target-snr", "5"]) == 0
    table = pd.read_parquet("s.parquet")
    assert table.groupby("name").size().tolist() == [3, 3, 3]
    np.testing.assert_allclose(table["frequency_hz"], [1.35e9, 1.40e9, 1.45e9] * 3)


@pytest.mark.parametrize("path", ["hour", "hour/m"])
def test_adaptive_finds_the_channels_of_a_mosaic(mosaic, tmp_path, path):
    (tmp_path / "hour").mkdir()
    for i, frequency in enumerate((1.35e9, 1.40e9, 1.45e9)):
        for kind in ("image", "noise"):
            with fits.open(mosaic.with_name(f"m-{kind}.fits")) as hdus:
                hdus[0].header["RESTFRQ"] = frequency
                hdus.writeto(tmp_path / "hour" / f"m-ch{i:02d}-{kind}.fits")
    (tmp_path / "hour" / "m-image.fits").write_bytes(mosaic.read_bytes())  # the whole band is not a channel
    assert run(["photometry", "adaptive", "--image", path, "--output", "s.parquet", "--target-snr", "5"]) == 0
    table = pd.read_parquet("s.parquet")
    assert table.groupby("name").size().tolist() == [3, 3, 3]
    np.testing.assert_allclose(table["frequency_hz"], [1.35e9, 1.40e9, 1.45e9] * 3)


def test_adaptive_finds_the_channels_of_a_tile(platform, tmp_path):
    """Beam-corrected images, with the noise from their weights."""
    truth = TileTruth(128.5, size=192, cell_arcsec=50.0)
    for i in range(2):
        tile = write_tile(tmp_path / "t", truth, SOURCES, i, channel=i, frequency_hz=1.35e9 + 1e8 * i)
        with fits.open(tile.path("image")) as image, fits.open(tile.path("pb")) as pb:
            image[0].data /= pb[0].data
            image.writeto(tile.path("image-pb"))
    assert run(["photometry", "adaptive", "--image", "t", "--output", "s.parquet", "--target-snr", "5"]) == 0
    table = pd.read_parquet("s.parquet")
    np.testing.assert_allclose(table["frequency_hz"], [1.35e9, 1.45e9] * 3)
    flux = table["name"].map(dict(zip("abc", (one[2] for one in SOURCES), strict=True)))
    assert np.all(np.abs(table["flux_jy"] - flux) < 4 * table["flux_err_jy"])


def test_adaptive_reports_no_channels_and_channels_of_several_images(mosaic, tmp_path, capsys):
    assert run(["photometry", "adaptive", "--image", str(mosaic.parent), "--output", "s.csv"]) == 2
    assert "dsa110 image --ms MS --imagename NAME --channels 4" in capsys.readouterr().err
    for name in ("a", "b"):
        (tmp_path / f"{name}-ch00-image.fits").touch()
    assert run(["photometry", "adaptive", "--image", str(tmp_path), "--output", "s.csv"]) == 2
    assert "channel images of a, b" in capsys.readouterr().err


def test_a_wrong_suffix_and_a_missing_noise_map_are_reported(mosaic, tmp_path, capsys):
    assert run(["photometry", "peak", "--image", str(mosaic), "--output", "f.txt"]) == 2
    assert "use one of" in capsys.readouterr().err
    mosaic.with_name("m-noise.fits").unlink()
    assert run(["photometry", "peak", "--image", str(mosaic), "--output", "f.csv"]) == 2
    assert "no noise map" in capsys.readouterr().err
    assert not Path("f.csv").exists()


@pytest.fixture
def epochs(platform, database):
    """Six epochs of twenty sources. In the fourth every other source is 20 % too bright, which no gain can explain."""
    rng = np.random.default_rng(3)
    with database.session() as session:
        where = pd.DataFrame(
            {"name": [f"s{i}" for i in range(20)], "ra_deg": 120 + np.arange(20.0), "dec_deg": 54.6, "reference_flux_jy": 0.2}
        )
        upsert_sources(session, where, origin="nvss")
        table = source_table(session)
        table = table[table["name"].str.startswith("s")]
        for epoch in range(6):
            flux = 0.2 * (1 + 0.03 * epoch) + 0.002 * rng.standard_normal(20)
            if epoch == 3:
                flux[::2] *= 1.2
            name = f"hourly_2026-03-{10 + epoch}T05"
            mjd = START - 2 + epoch
            upsert_mosaic(
                session, name=name, kind="hourly", directory="d", start_mjd=mjd, mid_mjd=mjd, end_mjd=mjd, ra_deg=1, dec_deg=54.6,
                noise_jy_per_beam=0.002, group_ids=[],
            )  # fmt: skip
            rows = pd.DataFrame(
                {
                    "source_id": table["source_id"].to_numpy(), "flux_jy": flux, "flux_err_jy": 0.002, "noise_jy_per_beam": 0.002,
                    "background_jy_per_beam": 0.0, "snr": 100.0, "upper_limit_jy": np.nan, "is_limit": False,
                }
            )  # fmt: skip
            replace_photometry(session, name, rows, time_mjd=mjd)
    return int(table["source_id"].iloc[0])


def test_an_epoch_is_excluded_with_a_reason_and_a_name_and_included_again(epochs, capsys):
    bad = "hourly_2026-03-13T05"
    assert run(["lightcurve", "recompute", "--night", "2026-03-15"]) == 0
    capsys.readouterr()
    assert run(["lightcurve", "show", "s0", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert [row["mosaic_name"][-5:-3] for row in before] == ["10", "11", "12", "13", "14", "15"]
    assert before[3]["normalised_flux_jy"] > 0.21
    assert run(["lightcurve", "exclude", bad, "--reason", "  ", "--by", "J. Doe", "--later"]) == 2
    assert "a reason and a name" in capsys.readouterr().err
    assert run(["lightcurve", "exclude", bad, "--reason", "thunderstorm", "--by", "J. Doe", "--later"]) == 0
    assert run(["lightcurve", "recompute", "--night", "2026-03-15"]) == 0
    assert "5 epochs (1 excluded)" in capsys.readouterr().out
    assert run(["lightcurve", "show", "s0", "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert after[3]["flux_jy"] == before[3]["flux_jy"]
    assert after[3]["normalised_flux_jy"] is None
    assert all(
        row["normalised_flux_jy"] == pytest.approx(after[0]["normalised_flux_jy"], rel=0.05) for i, row in enumerate(after) if i != 3
    )
    assert run(["lightcurve", "epochs", "--json"]) == 0
    rows = {row["mosaic_name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows[bad]["reason"], rows[bad]["excluded_by"]) == ("thunderstorm", "J. Doe")
    assert rows["hourly_2026-03-12T05"]["reason"] is None
    assert run(["lightcurve", "epochs"]) == 0
    assert run(["lightcurve", "include", bad, "--later"]) == 0
    assert run(["lightcurve", "include", bad]) == 2
    assert run(["lightcurve", "recompute", "--night", "2026-03-15"]) == 0
    assert "6 epochs (0 excluded)" in capsys.readouterr().out


def _one_more_epoch(database, day):
    """A seventh epoch of the twenty sources."""
    name, mjd = f"hourly_2026-03-{day}T05", START + day - 12
    with database.session() as session:
        table = source_table(session)
        table = table[table["name"].str.startswith("s")]
        upsert_mosaic(
            session, name=name, kind="hourly", directory="d", start_mjd=mjd, mid_mjd=mjd, end_mjd=mjd, ra_deg=1, dec_deg=54.6,
            noise_jy_per_beam=0.002, group_ids=[],
        )  # fmt: skip
        rows = pd.DataFrame(
            {
                "source_id": table["source_id"].to_numpy(), "flux_jy": 0.21, "flux_err_jy": 0.002, "noise_jy_per_beam": 0.002,
                "background_jy_per_beam": 0.0, "snr": 100.0, "upper_limit_jy": np.nan, "is_limit": False,
            }
        )  # fmt: skip
        replace_photometry(session, name, rows, time_mjd=mjd)


def _epochs_of_light_curves(database):
    from sqlalchemy import text

    with database.session() as session:
        return set(session.scalars(text("SELECT DISTINCT mosaic_name FROM light_curves")))


def test_the_next_nights_run_leaves_an_excluded_epoch_out(epochs, database):
    from dsa110_assets.stages.products import night

    bad = "hourly_2026-03-13T05"
    assert run(["lightcurve", "recompute", "--night", "2026-03-15"]) == 0
    assert bad in _epochs_of_light_curves(database)
    assert run(["lightcurve", "exclude", bad, "--reason", "thunderstorm", "--by", "J. Doe", "--later"]) == 0
    _one_more_epoch(database, 16)
    platform = Platform.open()
    results = [stage(platform, "2026-03-16", "run") for stage in (night.update_light_curves, night.update_metrics, night.rank_candidates)]
    assert results[0].figures["epochs"] == 6
    assert results[0].figures["excluded_epochs"] == 1
    seen = _epochs_of_light_curves(database)
    assert bad not in seen
    assert "hourly_2026-03-16T05" in seen


def test_an_epoch_that_is_excluded_while_the_night_is_computed_stays_excluded(epochs, database, monkeypatch):
    """A person excludes an epoch after the night's run has read the fluxes: the recomputation waits and comes last."""
    import threading

    from dsa110_assets import variability
    from dsa110_assets.stages.products import night

    reading, excluded, fit = threading.Event(), threading.Event(), variability.fit_normalisation
    bad, results = "hourly_2026-03-13T05", []

    def slow_fit(*arguments, **options):
        if threading.current_thread().name == "night":
            reading.set()
            assert excluded.wait(30)
        return fit(*arguments, **options)

    monkeypatch.setattr(variability, "fit_normalisation", slow_fit)

    def work(name):
        results.append((name, night.update_light_curves(Platform.open(), "2026-03-15", name).figures["excluded_epochs"]))

    of_the_night = threading.Thread(target=work, args=("night",), name="night")
    of_the_night.start()
    assert reading.wait(30)
    assert run(["lightcurve", "exclude", bad, "--reason", "thunderstorm", "--by", "J. Doe", "--later"]) == 0
    of_the_person = threading.Thread(target=work, args=("person",), name="person")
    of_the_person.start()
    of_the_person.join(1.0)
    assert of_the_person.is_alive()  # it waits for the night's transaction
    excluded.set()
    of_the_night.join(60)
    of_the_person.join(60)
    assert results == [("night", 0), ("person", 1)]
    assert bad not in _epochs_of_light_curves(database)


def test_light_curves_are_searched_once_for_figures_and_candidates(epochs, database, monkeypatch):
    """Candidates come from the events of the figures' run. Ranking reads only the candidates' own light curves."""
    from dsa110_assets.errors import LightCurveError
    from dsa110_assets.stages.products import examination, night

    platform, reads, read = Platform.open(), [], examination.light_curves_of
    with database.session() as session:
        table = source_table(session)
        table = table[table["name"].str.startswith("s")]
        faded = int(table["source_id"].iloc[7])
        mjd = START
        rows = pd.DataFrame(
            {
                "source_id": table["source_id"].to_numpy(), "flux_jy": np.where(table["source_id"] == faded, 0.06, 0.2), "flux_err_jy": 0.002,
                "noise_jy_per_beam": 0.002, "background_jy_per_beam": 0.0, "snr": 100.0, "upper_limit_jy": np.nan, "is_limit": False,
            }
        )  # fmt: skip
        replace_photometry(session, "hourly_2026-03-12T05", rows, time_mjd=mjd)

    def counted(session, source_ids, **options):
        reads.append(source_ids)
        return read(session, source_ids, **options)

    for module in (night, examination):
        monkeypatch.setattr(module, "light_curves_of", counted)
    night.update_light_curves(platform, "2026-03-15", "run")
    with pytest.raises(LightCurveError, match="variability_metrics"):
        night.rank_candidates(platform, "2026-03-15", "run")
    night.update_metrics(platform, "2026-03-15", "run")
    result = night.rank_candidates(platform, "2026-03-15", "run")
    everything, candidates_alone = reads
    assert isinstance(everything, tuple)
    assert candidates_alone == [faded]
    (candidate,) = result.tables["candidates"]
    assert candidate["source"] == table.set_index("source_id")["name"][faded]
    assert candidate["kind"] == "dip"
    assert "no channel images" in candidate["reasons"]
    events, folder = platform.paths.variability_dir("2026-03-15"), platform.paths.candidates_dir("2026-03-15")
    assert candidate["folder"] == str(folder / str(faded))
    assert {file.name for file in folder.iterdir()} == {str(faded), "top_candidate.png"}
    assert {file.name for file in events.iterdir()} == {"events.parquet", "eta_v.png"}
    with platform.database.session() as session:
        for product, path in (("variability_metrics", events), ("ese_candidates", folder)):
            version = current_version(session, product, "2026-03-15")
            assert version.path == str(path), f"{product} is registered where it is"
            assert version.checksum == content.checksum(parts_of(session, product, "2026-03-15", path))
        assert str(events) in version.inputs


def test_an_event_is_tested_between_the_channels_that_the_night_has(epochs, database, capsys):
    """Fading by one factor in all channels is not a candidate; fading with a lens's dependence on frequency is one."""
    from dsa110_assets.registry.queries import replace_channel_photometry

    frequency = np.array([1.33e9, 1.38e9, 1.43e9, 1.48e9])
    alpha = 2.0 * (1.405e9 / frequency) ** 2
    with database.session() as session:
        table = source_table(session)
        table = table[table["name"].str.startswith("s")]
        lens, gain_error = (int(one) for one in table["source_id"].iloc[[7, 8]])
        rng = np.random.default_rng(4)
        for epoch in range(6):
            fading = epoch == 2
            name, mjd = f"hourly_2026-03-{10 + epoch}T05", START - 2 + epoch
            parts = []
            for channel in range(4):
                flux = 0.2 * (1 + 0.03 * epoch * (1 + channel)) + 1e-3 * rng.standard_normal(len(table))
                flux[table["source_id"] == lens] *= 1 / (1 + alpha[channel]) if fading else 1.0
                flux[table["source_id"] == gain_error] *= 1 / 3 if fading else 1.0
                parts.append(
                    pd.DataFrame(
                        {
                            "source_id": table["source_id"].to_numpy(), "channel": channel, "time_mjd": mjd, "frequency_hz": frequency[channel],
                            "flux_jy": flux, "flux_err_jy": 1e-3,
                        }
                    )
                )  # fmt: skip
            replace_channel_photometry(session, name, pd.concat(parts, ignore_index=True))
            whole = np.where(fading & table["source_id"].isin([lens, gain_error]).to_numpy(), 1 / 3, 1.0) * 0.2
            rows = pd.DataFrame(
                {
                    "source_id": table["source_id"].to_numpy(), "flux_jy": whole, "flux_err_jy": 5e-4, "noise_jy_per_beam": 5e-4,
                    "background_jy_per_beam": 0.0, "snr": 400.0, "upper_limit_jy": np.nan, "is_limit": False,
                }
            )  # fmt: skip
            replace_photometry(session, name, rows, time_mjd=mjd)
    assert run(["lightcurve", "recompute", "--night", "2026-03-15"]) == 0
    assert "1 candidates" in capsys.readouterr().out
    with database.session() as session:
        ranked = candidates(session)
    assert ranked["source_id"].tolist() == [lens]
    assert "refraction as lambda^2" in ranked["reasons"].iloc[0]
    events = pd.read_parquet(next(Path(Platform.open().paths.scratch_dir).glob("variability/*/events.parquet"))).set_index("source_id")
    assert events.loc[gain_error, "chromaticity"] == "achromatic"
    assert events.loc[gain_error, "band_significance"] > 8
    assert "no lens but a gain error" in events.loc[gain_error, "reasons"]


def test_a_light_curve_is_shown_written_and_drawn(epochs, tmp_path, capsys):
    assert run(["lightcurve", "recompute", "--night", "2026-03-15"]) == 0
    assert run(["lightcurve", "show", str(epochs)]) == 0
    assert "hourly_2026-03-10T05" in capsys.readouterr().out
    assert run(["lightcurve", "show", "s0", "--output", "s0.png"]) == 0
    assert Path("s0.png").read_bytes().startswith(b"\x89PNG")
    for what, rows in (("points", 120), ("variability", 20), ("candidates", 0)):
        assert run(["lightcurve", "export", f"{what}.vot", "--what", what]) == 0
        assert len(parse_single_table(f"{what}.vot").array) == rows
    assert run(["lightcurve", "show", "nobody"]) == 2
    assert "no source has this name or number" in capsys.readouterr().err


def test_the_view_divides_as_the_fit_does(epochs, database):
    """The server's arithmetic against that of `apply_normalisation`, references and all."""
    from sqlalchemy import text

    assert run(["lightcurve", "recompute", "--night", "2026-03-15"]) == 0
    with database.session() as session:
        curves, fit = normalise(LightCurves.from_table(photometry(session)))
        points = session.execute(
            text("SELECT flux_jy, flux_err_jy, normalisation, normalisation_err FROM light_curves ORDER BY source_id, time_mjd")
        )
        shown = np.array([tuple(row) for row in points])
    assert fit.own.factor.size > 30
    assert len(shown) == curves.flux_jy.size == 120
    expected = (curves.flux_jy, curves.flux_err_jy, fit.factor[curves.epoch], fit.factor_err[curves.epoch])
    np.testing.assert_allclose(shown, np.stack(expected, axis=1), rtol=1e-12)


def test_light_curves_made_part_by_part_are_the_same(epochs, database, monkeypatch):
    from sqlalchemy import text

    def everything():
        with database.session() as session:
            points = session.execute(text("SELECT source_id, mosaic_name, flux_jy, flux_err_jy FROM light_curves ORDER BY 1, 2")).all()
            figures = session.execute(text("SELECT source_id, eta, v, ese_score FROM variability ORDER BY 1")).all()
        return np.array([row[2:] for row in points]), np.array([row[1:] for row in figures])

    assert run(["lightcurve", "recompute", "--night", "2026-03-15"]) == 0
    whole = everything()
    monkeypatch.setattr(lightcurves, "POINTS_AT_ONCE", 42)  # seven sources of six epochs
    assert run(["lightcurve", "recompute", "--night", "2026-03-15"]) == 0
    for parts, once in zip(everything(), whole, strict=True):
        np.testing.assert_allclose(parts, once, rtol=1e-9)
