"""Queries of the stages: rows are read back as written, replaced as a whole, and selected by observation."""

import threading
from datetime import date

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select, text

from dsa110_assets.errors import NonRetriableError, UnknownGroupError
from dsa110_assets.registry import queries
from dsa110_assets.registry.queries.measurements import add_photometry, light_curve_rows, sources_measured_in
from dsa110_assets.registry.schema import (
    CalibrationApplied,
    Detection,
    ImageRow,
    LightCurvePoint,
    MeasurementSetRow,
    MosaicRow,
    MosaicTile,
)
from dsa110_assets_tests.registry_fixture import add_observation

FIRST, SECOND, THIRD = "2026-03-01T05:10:00", "2026-03-01T05:15:09", "2026-03-01T06:00:00"


def _image(session, group_id, mid_mjd, *, dec=16.0, **changes):
    values = {
        "directory": f"/images/{group_id}", "group_id": group_id, "mid_mjd": mid_mjd, "ra_deg": 10.0, "dec_deg": dec, "pointing_dec_deg": dec,
        "noise_jy_per_beam": 1e-3, "thermal_jy_per_beam": None, "peak_jy_per_beam": 1.0, "bmaj_arcsec": 20.0, "bmin_arcsec": 15.0, "bpa_deg": 3.0,
    }  # fmt: skip
    queries.upsert_image(session, **(values | changes))


def _mosaic(session, name="m1", *, kind="hourly", mid_mjd=61100.5, group_ids=()):
    queries.upsert_mosaic(
        session, name=name, kind=kind, directory=f"/mosaics/{name}", start_mjd=mid_mjd - 0.02, mid_mjd=mid_mjd, end_mjd=mid_mjd + 0.02, ra_deg=10.0,
        dec_deg=16.0, noise_jy_per_beam=5e-4, group_ids=list(group_ids),
    )  # fmt: skip


def _fluxes(source_ids, *, seed=1, **changes):
    rng = np.random.default_rng(seed)
    n = len(source_ids)
    frame = pd.DataFrame(
        {
            "source_id": source_ids, "flux_jy": rng.normal(1, 0.1, n), "flux_err_jy": 0.1, "noise_jy_per_beam": 0.1, "background_jy_per_beam": 0.0,
            "snr": 10.0, "upper_limit_jy": np.where(np.arange(n) % 2, 0.3, np.nan), "is_limit": np.arange(n) % 2 == 1,
        }
    )  # fmt: skip
    return frame.assign(**changes)


# --- observations
def test_an_unknown_observation_is_an_error(database):
    with database.session() as session:
        add_observation(session, FIRST)
        assert queries.observation(session, FIRST).slot == "05:10"
        with pytest.raises(UnknownGroupError):
            queries.observation(session, "2026-03-01T23:00:00")


def test_a_measurement_set_that_is_made_again_has_one_row(database):
    with database.session() as session:
        add_observation(session, FIRST)
        for fraction in (0.1, 0.2):
            queries.upsert_measurement_set(
                session, path="/ms/a.ms", group_id=FIRST, kind="raw", status="ok", start_mjd=61100.0, mid_mjd=61100.1, end_mjd=61100.2, ra_deg=1.0,
                dec_deg=16.0, pointing_dec_deg=16.0, n_channels=768, flagged_fraction=fraction, size_bytes=4_000_000_000,
            )  # fmt: skip
        rows = session.scalars(select(MeasurementSetRow)).all()
        assert [(row.flagged_fraction, row.size_bytes) for row in rows] == [(0.2, 4_000_000_000)]


# --- calibration
def test_the_last_applied_tables_are_recorded_with_their_distance_in_time(database):
    with database.session() as session:
        add_observation(session, FIRST)
        for name in ("a", "b"):
            queries.upsert_caltables(
                session, directory=f"/cal/{name}", group_id=FIRST, night=date(2026, 3, 1), calibrator="3C48", refant="103", mid_mjd=61100.0,
                valid_from_mjd=61099.0, valid_to_mjd=61101.0, pointing_dec_deg=16.0, accepted=True, reasons=[], quality={},
            )  # fmt: skip
            queries.record_calibration_applied(
                session, group_id=FIRST, caltable_directory=f"/cal/{name}", rung="same night", hours_away=-2.5
            )
        (applied,) = session.scalars(select(CalibrationApplied))
        assert (applied.rung, applied.hours_away, applied.caltable_directory) == ("same night", -2.5, "/cal/b")


# --- images and mosaics
def test_tiles_are_selected_by_time_of_observation_and_strip_and_not_by_creation(database):
    with database.session() as session:
        for group_id, mid, dec in [(THIRD, 61100.3, 16.0), (FIRST, 61100.1, 16.0), (SECOND, 61100.2, 30.0)]:  # made in this order
            add_observation(session, group_id)
            _image(session, group_id, mid, dec=dec)
        assert [row.group_id for row in queries.tiles_in_window(session, 61100.1, 61100.3)] == [FIRST, SECOND]
        assert [row.group_id for row in queries.tiles_in_window(session, 61100.0, 61101.0, pointing_dec_deg=16.2)] == [FIRST, THIRD]
        narrow = queries.tiles_in_window(session, 61100.0, 61101.0, pointing_dec_deg=16.2, tolerance_deg=0.1)
        assert narrow == [], "the tolerance decides"


def test_images_replace_those_of_another_directory(database):
    with database.session() as session:
        add_observation(session, FIRST)
        _image(session, FIRST, 61100.1)
        _image(session, FIRST, 61100.1, directory="/elsewhere", thermal_jy_per_beam=2e-4)
        row = queries.image_of(session, FIRST)
        assert (row.directory, row.thermal_jy_per_beam) == ("/elsewhere", 2e-4)
        assert len(session.scalars(select(ImageRow)).all()) == 1


def test_a_mosaic_that_is_made_again_has_its_new_tiles_only(database):
    with database.session() as session:
        for group_id, mid in [(FIRST, 61100.1), (SECOND, 61100.2), (THIRD, 61100.3)]:
            add_observation(session, group_id)
            _image(session, group_id, mid)
        _mosaic(session, group_ids=[FIRST, SECOND])
        _mosaic(session, group_ids=[THIRD, SECOND])
        assert [row.group_id for row in queries.mosaic_tiles(session, "m1")] == [SECOND, THIRD]
        assert session.get_one(MosaicRow, "m1").n_tiles == 2
        assert len(session.scalars(select(MosaicTile)).all()) == 2


# --- sources and detections
def test_sources_keep_their_identity_when_their_position_improves(database):
    first = pd.DataFrame(
        {
            "name": ["b", "a", 'it\'s, "odd"'],
            "ra_deg": [1.0, 2.0, 3.0],
            "dec_deg": [10.0, 20.0, 30.0],
            "reference_flux_jy": [1.0, np.nan, 3.0],
        }
    )
    with database.session() as session:
        ids = queries.upsert_sources(session, first, origin="nvss")
        again = queries.upsert_sources(
            session, first.iloc[::-1].assign(ra_deg=[3.001, 2.001, 1.001], reference_flux_jy=np.nan), origin="blind"
        )
    assert again.tolist() == ids[::-1].tolist()
    assert len(set(ids)) == 3
    with database.session() as session:
        table = queries.source_table(session).set_index("name")
        assert table.loc[["b", "a", 'it\'s, "odd"'], "ra_deg"].tolist() == [1.001, 2.001, 3.001]
        assert table.loc["b", "reference_flux_jy"] == 1.0
        assert np.isnan(table.loc["a", "reference_flux_jy"])
        assert set(table["origin"]) == {"nvss"}
        assert queries.source_table(session, dec_min_deg=15, dec_max_deg=25)["name"].tolist() == ["a"]


def test_a_source_that_leaves_the_list_is_retired_and_can_return(database):
    frame = pd.DataFrame({"name": ["a", "b"], "ra_deg": [1.0, 2.0], "dec_deg": [10.0, 20.0]})
    with database.session() as session:
        queries.upsert_sources(session, frame, origin="monitored")
        assert queries.retire_sources(session, origin="monitored", keep=["a"]) == 1
        assert queries.source_table(session)["name"].tolist() == ["a"]
        assert queries.source_table(session, active_only=False)["name"].tolist() == ["a", "b"]
        queries.upsert_sources(session, frame, origin="monitored")
        assert queries.source_table(session)["name"].tolist() == ["a", "b"]


@pytest.mark.parametrize(("names", "ras"), [(["a", "a"], [1.0, 2.0]), (["a", "b"], [1.0, np.nan])])
def test_repeated_names_and_positions_that_are_not_finite_are_refused(database, names, ras):
    with pytest.raises(NonRetriableError), database.session() as session:
        queries.upsert_sources(session, pd.DataFrame({"name": names, "ra_deg": ras, "dec_deg": 1.0}), origin="nvss")


def test_concurrent_writers_of_the_same_sources_agree(database):
    frame = pd.DataFrame({"name": [f"s{i}" for i in range(500)], "ra_deg": 1.0, "dec_deg": 2.0})
    found, barrier = {}, threading.Barrier(3, timeout=30)

    def work(seed):
        shuffled = frame.sample(frac=1, random_state=seed)
        barrier.wait()
        with database.session() as session:
            found[seed] = dict(zip(shuffled["name"], queries.upsert_sources(session, shuffled, origin="nvss"), strict=True))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert found[0] == found[1] == found[2]


def test_detections_of_a_mosaic_are_replaced(database):
    frame = pd.DataFrame(
        {
            "ra_deg": [1.0, 2.0], "dec_deg": 16.0, "ra_err_arcsec": 0.1, "dec_err_arcsec": 0.1, "peak_jy_per_beam": [3.0, 2.0], "flux_jy": 1.0,
            "flux_err_jy": 0.1, "snr": 9.0, "reliable": [True, False], "matched_name": ["NVSS J1", None], "separation_arcsec": [0.3, np.nan],
        }
    )  # fmt: skip
    with database.session() as session:
        _mosaic(session)
        assert queries.replace_detections(session, "m1", frame.iloc[[1, 0, 1]]) == 3
        assert queries.replace_detections(session, "m1", frame) == 2
        found = session.scalars(select(Detection).where(Detection.mosaic_name == "m1").order_by(Detection.number)).all()
    assert [(row.number, row.peak_jy_per_beam, row.reliable, row.matched_name) for row in found] == [
        (1, 3.0, True, "NVSS J1"),
        (2, 2.0, False, None),
    ]


# --- measurements
@pytest.fixture
def sources(database):
    with database.session() as session:
        return queries.upsert_sources(session, pd.DataFrame({"name": ["a", "b", "c"], "ra_deg": 1.0, "dec_deg": 2.0}), origin="nvss")


def test_the_part_of_an_error_that_is_not_noise_is_kept_with_the_flux(database, sources):
    with database.session() as session:
        _mosaic(session)
        queries.replace_photometry(session, "m1", _fluxes(sources, calibration_err_jy=[0.02, 0.0, np.nan], time_mjd=61100.5))
        rows = queries.photometry(session).set_index("source_id").loc[sources]
        assert rows["calibration_err_jy"].to_numpy() == pytest.approx([0.02, 0.0, np.nan], nan_ok=True)
        assert light_curve_rows(session, int(sources[0]))[0]["calibration_err_jy"] == 0.02
        assert light_curve_rows(session, int(sources[2]))[0]["calibration_err_jy"] is None
        add_photometry(session, "m1", [int(sources[0])], _fluxes(sources[:1], time_mjd=61100.5), pd.DataFrame())
        assert sources_measured_in(session, "m1")["calibration_err_jy"].isna().tolist() == [True, False, True]
        found = pd.DataFrame(
            {"ra_deg": [1.0], "dec_deg": 16.0, "ra_err_arcsec": 0.1, "dec_err_arcsec": 0.1, "peak_jy_per_beam": 3.0, "flux_jy": 1.0,
             "flux_err_jy": 0.1, "calibration_err_jy": 0.03, "snr": 9.0, "reliable": True}
        )  # fmt: skip
        queries.replace_detections(session, "m1", found)
        assert session.scalar(select(Detection.calibration_err_jy)) == 0.03


def test_photometry_is_read_back_as_it_was_measured(database, sources):
    rows = _fluxes(sources, flags=["", "blend,edge", "x"], time_mjd=[61100.5, 61130.25, 61100.75])
    with database.session() as session:
        assert queries.replace_photometry(session, "m1", rows) == 3
    with database.session() as session:
        found = queries.photometry(session)
    pd.testing.assert_frame_equal(
        found[list(rows.columns)].astype({"flags": "str"}), rows.astype({"flags": "str", "source_id": "int64"}), check_exact=True
    )
    assert found["mosaic_name"].tolist() == ["m1"] * 3


def test_photometry_of_a_mosaic_is_replaced_as_a_whole(database, sources):
    with database.session() as session:
        queries.replace_photometry(session, "m1", _fluxes(sources), time_mjd=61100.5)
        queries.replace_photometry(session, "m2", _fluxes(sources), time_mjd=61101.5)
    with database.session() as session:
        assert queries.replace_photometry(session, "m1", _fluxes(sources[:1], flux_jy=7.0), time_mjd=61131.0) == 1  # another month
    with database.session() as session:
        found = queries.photometry(session)
        assert found.groupby("mosaic_name", observed=True).size().to_dict() == {"m1": 1, "m2": 3}
        assert queries.photometry(session, start_mjd=61102.0, end_mjd=61140.0)["flux_jy"].tolist() == [7.0]
        assert queries.photometry(session, source_ids=[sources[2]], columns=["source_id", "time_mjd"]).to_dict("list") == {
            "source_id": [sources[2]],
            "time_mjd": [61101.5],
        }


def test_channel_fluxes_of_a_source_are_read_back_in_order_and_replaced_with_their_mosaic(database, sources):
    rows = pd.DataFrame(
        {
            "source_id": np.repeat(sources[:2], 2), "channel": [1, 0, 0, 1], "time_mjd": 61100.5, "frequency_hz": [1.45e9, 1.35e9, 1.35e9, 1.45e9],
            "flux_jy": [0.9, 1.1, 2.0, np.nan], "flux_err_jy": [0.02, 0.01, 0.01, 0.02],
        }
    )  # fmt: skip
    with database.session() as session:
        _mosaic(session, "m1")
        assert queries.replace_channel_photometry(session, "m1", rows) == 3  # one is not finite
        assert queries.replace_channel_photometry(session, "m2", rows.assign(time_mjd=61099.5, flux_jy=5.0)) == 4
    with database.session() as session:
        found = queries.channel_photometry(session, source_ids=[sources[0]])
        assert found["time_mjd"].tolist() == [61099.5, 61099.5, 61100.5, 61100.5]
        assert found["flux_jy"].tolist() == [5.0, 5.0, 1.1, 0.9]
        assert found["frequency_hz"].tolist() == [1.35e9, 1.45e9] * 2
        assert (
            queries.channel_photometry(session, end_mjd=61100.0, source_range=(sources[1], sources[2]))["mosaic_name"].tolist()
            == ["m2"] * 2
        )
        assert set(queries.channel_photometry(session, mosaic_kind="hourly")["mosaic_name"]) == {"m1"}  # m2 is not registered
        assert queries.replace_channel_photometry(session, "m2", rows.iloc[:0]) == 0
        assert set(queries.channel_photometry(session)["mosaic_name"]) == {"m1"}


def test_a_position_without_a_measurement_has_no_row(database, sources):
    with database.session() as session:
        assert queries.replace_photometry(session, "m1", _fluxes(sources, flux_jy=[1.0, np.nan, np.inf]), time_mjd=61100.5) == 1
        assert queries.photometry(session)["source_id"].tolist() == [sources[0]]
        assert queries.replace_photometry(session, "m1", _fluxes(sources).iloc[:0], time_mjd=61100.5) == 0
        assert queries.photometry(session).empty


def test_a_failed_measurement_leaves_the_old_one(database, sources):
    with database.session() as session:
        queries.replace_photometry(session, "m1", _fluxes(sources), time_mjd=61100.5)
    with pytest.raises(NonRetriableError, match="snr_of_another"), database.session() as session:  # noqa: PT012
        queries.replace_photometry(session, "m1", _fluxes(sources), time_mjd=61100.5)
        raise NonRetriableError("snr_of_another", "something after it fails", "nothing")
    with database.session() as session:
        assert len(queries.photometry(session)) == 3


def test_two_runs_of_one_mosaic_take_turns(database, sources):
    barrier, finished = threading.Barrier(2, timeout=30), []

    def work(seed):
        barrier.wait()
        for _ in range(3):
            with database.session() as session:
                queries.replace_photometry(session, "m1", _fluxes(sources, seed=seed), time_mjd=61100.5)
        finished.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(finished) == [1, 2]  # neither ended in an exception
    with database.session() as session:
        assert len(queries.photometry(session)) == 3


def test_photometry_can_be_read_for_one_kind_of_mosaic(database, sources):
    with database.session() as session:
        for name, kind in [("hour", "hourly"), ("night", "nightly")]:
            _mosaic(session, name, kind=kind)
            queries.replace_photometry(session, name, _fluxes(sources), time_mjd=61100.5)
        assert set(queries.photometry(session, mosaic_kind="hourly")["mosaic_name"]) == {"hour"}


def test_a_light_curve_has_measured_and_normalized_fluxes_side_by_side(database, sources):
    with database.session() as session:
        for name, mjd in [("m2", 61101.5), ("m1", 61100.5)]:
            _mosaic(session, name, mid_mjd=mjd)
            queries.replace_photometry(session, name, _fluxes(sources, flux_jy=mjd - 61100), time_mjd=mjd)
        queries.replace_factors(session, _factors(["m1"], factor=2.0), _own([], [], []))
        found = queries.light_curve(session, sources[0])
    assert found["time_mjd"].tolist() == [61100.5, 61101.5]
    assert found["flux_jy"].tolist() == [0.5, 1.5]
    assert found["normalised_flux_jy"].iloc[0] == 0.25
    assert np.isnan(found["normalised_flux_jy"].iloc[1])
    assert found["mosaic_kind"].tolist() == ["hourly", "hourly"]


def _factors(names, **changes):
    values = {"mosaic_name": names, "factor": 1.0, "factor_err": 0.01, "n_reference": 10, "usable": True, "noise_scale": 1.0, "gauge": 0}
    return pd.DataFrame(values | changes)


def _own(ids, names, ratio):
    return pd.DataFrame({"source_id": ids, "mosaic_name": names, "ratio": ratio, "weight": 1.0, "weighted_flux": 1.0})


def _points(session):
    rows = session.execute(
        select(LightCurvePoint.source_id, LightCurvePoint.mosaic_name, LightCurvePoint.flux_jy, LightCurvePoint.flux_err_jy)
    )
    return {(row.source_id, row.mosaic_name): (row.flux_jy, row.flux_err_jy) for row in rows}


def test_a_flux_is_divided_by_the_factor_of_its_epoch_and_a_references_by_that_of_the_others(database, sources):
    with database.session() as session:
        for name in ("m1", "m2"):
            _mosaic(session, name)
            queries.replace_photometry(session, name, _fluxes(sources, flux_jy=1.0), time_mjd=61100.5)
        assert _points(session) == {}, "no light curve before there are factors"
        own = _own(sources[:1], ["m1"], [1.25])
        queries.replace_factors(session, _factors(["m1", "m2"], factor=[2.0, np.nan], usable=[True, False], noise_scale=0.9), own)
        points = _points(session)
        assert set(points) == {(source, "m1") for source in sources}, "an epoch without a usable factor is left out"
        assert points[sources[0], "m1"] == pytest.approx((1 / 2.5, 0.9 * np.hypot(0.1, 0.01 / 2.5) / 2.5), rel=1e-12)
        assert points[sources[1], "m1"] == pytest.approx((1 / 2.0, 0.9 * np.hypot(0.1, 0.01 / 2.0) / 2.0), rel=1e-12)
        queries.replace_factors(session, _factors(["m1"], factor=4.0), _own([], [], []))
        assert _points(session)[sources[0], "m1"][0] == 0.25, "the factors of an epoch are replaced with its references'"


def test_an_excluded_epoch_leaves_all_light_curves_at_once_and_comes_back(database, sources):
    with database.session() as session:
        _mosaic(session, "m1")
        queries.replace_photometry(session, "m1", _fluxes(sources), time_mjd=61100.5)
        queries.replace_factors(session, _factors(["m1"]), _own([], [], []))
        before = _points(session)
        queries.exclude_epoch(session, "m1", reason="rain", person="J. Doe")
        assert _points(session) == {}
        queries.include_epoch(session, "m1")
        assert _points(session) == before


def test_an_epoch_begins_and_ends_with_its_fluxes_and_only_hours_make_one(database, sources):
    with database.session() as session:
        for name, kind in (("hour", "hourly"), ("night", "nightly")):
            _mosaic(session, name, kind=kind)
            queries.replace_photometry(session, name, _fluxes(sources), time_mjd=61100.5)
        epochs = queries.epoch_rows(session)
        assert [(one["mosaic_name"], one["n_measured"], one["usable"]) for one in epochs] == [("hour", len(sources), False)]
        queries.replace_photometry(session, "hour", _fluxes(sources[:0]), time_mjd=61100.5)
        assert queries.epoch_rows(session) == []


# --- variability and candidates
def _figures(ids):
    return pd.DataFrame(
        {"source_id": ids, "n_epochs": 5, "mean_flux_jy": 1.0, "eta": [1.0] + [np.nan] * (len(ids) - 1), "v": 0.1, "vs": 1.0, "m": 0.1, "chi2": 4.0,
         "chi2_probability": 0.5, "ese_score": 1.0}
    )  # fmt: skip


def _candidates(ids, score=6.0):
    return pd.DataFrame(
        {
            "source_id": ids,
            "rank": range(1, len(ids) + 1),
            "score": score,
            "epoch_mjd": 61100.0,
            "depth": 0.4,
            "false_alarm_probability": 1e-4,
            "reasons": "dip",
        }
    )


def test_variability_of_a_night_is_replaced_and_earlier_nights_stay(database, sources):
    with database.session() as session:
        queries.replace_variability(session, "2026-03-01", _figures(sources))
        queries.replace_variability(session, "2026-03-02", _figures(sources))
        queries.replace_variability(session, "2026-03-02", _figures(sources[:2]))
        assert len(queries.variability(session, "2026-03-01")) == 3
        newest = queries.variability(session)
        assert newest["name"].tolist() == ["a", "b"]
        assert newest["eta"].isna().tolist() == [False, True]


def test_an_event_keeps_its_label_whichever_rankings_find_it(database, sources):
    with database.session() as session:
        found = _candidates(sources).assign(kind="dip", first_mjd=61100.0, last_mjd=61101.0, event_id=0)
        numbers = queries.save_events(session, "2026-03-01", found)
        queries.replace_candidates(session, "2026-03-01", found.assign(event_id=numbers))
        queries.label_event(session, numbers[0], person="J. Doe", label="ese", comment="lovely")
        again = found.iloc[:1].assign(event_id=numbers[0], score=7.5, last_mjd=61103.0)
        assert queries.save_events(session, "2026-03-02", again) == numbers[:1]
        queries.replace_candidates(session, "2026-03-02", again)
        newest = queries.candidates(session)
        assert newest[["source_id", "score", "label", "comment", "event_id"]].values.tolist() == [
            [sources[0], 7.5, "ese", "lovely", numbers[0]]
        ]
        assert [str(one) for one in newest["first_night"]] == ["2026-03-01"]
        assert queries.candidates(session, "2026-03-01")["label"].fillna("").tolist() == ["ese", "", ""]
        assert queries.candidates(session, "2026-03-02", min_score=8.0).empty
        known = queries.events_of(session, [sources[0]])
        assert known[["event_id", "first_mjd", "last_mjd"]].values.tolist() == [[numbers[0], 61100.0, 61103.0]]
        with pytest.raises(NonRetriableError, match="does not exist"):
            queries.label_event(session, max(numbers) + 1, person="J. Doe", label="x", comment=None)


def test_candidates_of_an_hour_join_those_of_the_night_before_and_are_ranked_with_them(database, sources):
    with database.session() as session:
        found = _candidates(sources[:2]).assign(kind="dip", first_mjd=61100.0, last_mjd=61101.0, event_id=0)
        found = found.assign(event_id=queries.save_events(session, "2026-03-01", found))
        queries.replace_candidates(session, "2026-03-01", found)
        new = _candidates(sources[2:], score=9.0).assign(kind="dip", first_mjd=61102.0, last_mjd=61102.0, event_id=0)
        new = new.assign(event_id=queries.save_events(session, "2026-03-02", new))
        queries.add_candidates(session, "2026-03-02", new)
        queries.add_candidates(session, "2026-03-02", new.assign(score=5.5))
        assert queries.candidates(session)["source_id"].tolist() == [*sources[:2], sources[2]]
        assert queries.candidates(session)["rank"].tolist() == [1, 2, 3]
        assert len(queries.candidates(session, "2026-03-01")) == 2, "the night before stays as it was"


# --- quality
def test_a_metric_without_a_value_cannot_pass(database):
    with database.session() as session:
        queries.upsert_qa_metric(session, "tile_image", "g1", "noise", 1.0, limit_high=2.0, passed=True)
        row = queries.qa_metrics(session, "tile_image", "g1")["noise"]
        queries.upsert_qa_metric(session, "tile_image", "g1", "noise", float("nan"), passed=None, reason="no pixels")
        assert (row.value, row.passed, row.reason) == (None, None, "no pixels")
        for value in (None, float("nan")):
            with pytest.raises(NonRetriableError, match="no value"):
                queries.upsert_qa_metric(session, "tile_image", "g1", "noise", value, passed=True)


def test_a_reference_catalog_is_listed_once(database):
    with database.session() as session:
        queries.upsert_reference_catalog(session, name="nvss", path="/c/n.parquet", origin="file", n_rows=1)
        queries.upsert_reference_catalog(session, name="nvss", path="/c/n.parquet", origin="file", n_rows=2)
        assert session.execute(text("SELECT name, n_rows FROM reference_catalogs")).all() == [("nvss", 2)]
