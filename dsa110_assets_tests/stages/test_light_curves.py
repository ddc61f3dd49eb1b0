"""A night's update of the light curves: it reads what is new, and its factors are those of a fit to everything."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from dsa110_assets.registry import provenance
from dsa110_assets.registry.queries import exclude_epoch, include_epoch, replace_photometry, upsert_mosaic
from dsa110_assets.registry.queries.factors import epoch_rows, forget_factors
from dsa110_assets.registry.schema import Source
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.light_curves import update_light_curves
from dsa110_assets.stages.provenance.recipes import recipes
from dsa110_assets.variability import LightCurves, metrics, normalisation
from dsa110_assets_tests.variability.skies import turning
from dsa110_assets_tests.variability.test_turning_sky import by_hour, pulls

FIRST = datetime(2026, 2, 27, tzinfo=UTC)  # MJD 61098
N_NIGHTS = 10
SKY = turning(7, n_sources=700, n_nights=N_NIGHTS, first_mjd=61098.0, overlap_deg=3.0)


def _date(night):
    return (FIRST + timedelta(days=night)).date().isoformat()


def _name(mosaic):
    return f"hourly_{_date(int(mosaic[7:10]))}{mosaic[10:]}"


def _measure(session, platform, mosaic, factor=1.0):
    """Write the fluxes of an hour as its stage does."""
    rows = SKY.table[SKY.table["mosaic_name"] == mosaic]
    mjd, name = float(rows["time_mjd"].iloc[0]), _name(mosaic)
    upsert_mosaic(
        session, name=name, kind="hourly", directory=f"/{name}", start_mjd=mjd, mid_mjd=mjd, end_mjd=mjd, ra_deg=0, dec_deg=16,
        noise_jy_per_beam=1e-3, group_ids=[],
    )  # fmt: skip
    fluxes = rows[["source_id", "flux_jy", "flux_err_jy", "time_mjd"]].assign(
        flux_jy=rows["flux_jy"] * factor, source_id=rows["source_id"] + 1, noise_jy_per_beam=1e-3, background_jy_per_beam=0.0, snr=10.0,
        upper_limit_jy=np.nan, is_limit=False,
    )  # fmt: skip
    replace_photometry(session, name, fluxes)
    recipe = recipes(platform.config)["forced_photometry"]
    return provenance.record_version(session, "forced_photometry", name.removeprefix("hourly_"), recipe=recipe)


@pytest.fixture
def platform(registry_config, monkeypatch):
    """Ten nights, updated one by one as they come; epochs settle after four days."""
    monkeypatch.setattr(normalisation, "LAG_DAYS", 4.0)
    platform = Platform.open(registry_config)
    with platform.database.session() as session:
        flux = SKY.table.groupby("source_id")["flux_jy"].median()
        for number, (ra, dec) in enumerate(SKY.position_deg):
            reference = float(flux.get(number, 0.01))
            session.add(Source(source_id=number + 1, name=f"s{number}", ra_deg=ra, dec_deg=dec, reference_flux_jy=reference, origin="nvss"))
    for night in range(N_NIGHTS):
        with platform.database.session() as session:
            for hour in range(24):
                _measure(session, platform, f"hourly_{night:03d}T{hour:02d}")
        result = update_light_curves(platform, _date(night), "run")
        assert night == 0 or result.figures["unusable_epochs"] == 0, "from the second night on there are light curves"
        assert night == 0 or result.figures["sources"] == measured_so_far(platform)
    return platform


def measured_so_far(platform) -> int:
    with platform.database.session() as session:
        return session.scalar(text("SELECT count(DISTINCT source_id) FROM photometry"))


def _epochs(platform):
    with platform.database.session() as session:
        table = pd.DataFrame(epoch_rows(session)).set_index("mosaic_name")
    numbers = [f"hourly_{int(time - 61098):03d}{name[-3:]}" for name, time in zip(table.index, table["time_mjd"], strict=True)]
    return table.assign(simulated=numbers)


def _sums(session):
    stored = session.execute(text("SELECT source_id, n, weight, weighted_flux FROM reference_levels ORDER BY 1")).all()
    added = session.execute(
        text(
            "SELECT r.source_id, count(*), sum(weight), sum(weighted_flux) FROM reference_factors r JOIN epoch_factors e USING (mosaic_name) "
            "WHERE e.settled AND e.usable GROUP BY 1 ORDER BY 1"
        )
    ).all()
    return np.array(stored, dtype=float), np.array(added, dtype=float)


def test_nights_make_light_curves_that_scatter_by_their_errors_and_are_those_of_a_fit_from_the_start(platform):
    nightly = _epochs(platform)
    assert nightly["usable"].all()
    assert nightly["settled"].sum() == 24 * (N_NIGHTS - 5) + 23, "all but those of the last four days and the hour before"
    assert pulls(SKY, nightly["simulated"], nightly["factor"].to_numpy(), nightly["factor_err"].to_numpy()).std() == pytest.approx(
        1.0, abs=0.25
    )
    with platform.database.session() as session:
        np.testing.assert_allclose(*_sums(session), rtol=1e-9)
        points = pd.read_sql(text("SELECT * FROM light_curves"), session.connection())
        forget_factors(session)
    table = metrics(LightCurves.from_table(points, normalised=True)).set_index("source_id")
    constant = table.loc[table.index.isin(SKY.constant + 1) & (table["n_epochs"] > 5).to_numpy()]
    assert constant["eta"].mean() == pytest.approx(1.0, abs=0.1)
    update_light_curves(platform, _date(N_NIGHTS - 1), "run")
    again = _epochs(platform)
    difference = np.log(again["factor"] / nightly["factor"]).to_numpy()
    assert by_hour(nightly["simulated"], difference, (nightly["factor_err"] / nightly["factor"]).to_numpy()).std() < 0.5


def test_a_settled_epoch_that_is_excluded_included_or_measured_again_is_done_again_and_no_other(platform):
    name, before = _name("hourly_002T10"), _epochs(platform)
    assert before.loc[name, "settled"]
    last = _date(N_NIGHTS - 1)

    def update():
        update_light_curves(platform, last, "run")
        now = _epochs(platform)
        with platform.database.session() as session:
            np.testing.assert_allclose(*_sums(session), rtol=1e-6)
        settled = before.index[before["settled"] & (before.index != name)]
        assert (now.loc[settled, "updated_at"] == before.loc[settled, "updated_at"]).all(), "other settled epochs stay"
        return now.loc[name]

    with platform.database.session() as session:
        exclude_epoch(session, name, reason="rain", person="J. Doe")
    assert np.isnan(update()["factor"])
    with platform.database.session() as session:
        include_epoch(session, name)
    back = update()
    assert back["settled"]
    assert abs(back["factor"] - before.loc[name, "factor"]) < 0.7 * before.loc[name, "factor_err"]
    with platform.database.session() as session:
        _measure(session, platform, "hourly_002T10", factor=1.2)
    again = update()
    assert again["settled"]
    assert again["factor"] == pytest.approx(1.2 * back["factor"], abs=0.7 * 1.2 * before.loc[name, "factor_err"])


def test_the_inputs_are_the_lag_and_the_night_before_and_an_old_hour_made_again_makes_all_later_nights_stale(platform):
    def stale():
        with platform.database.session() as session:
            return [one.key for one in provenance.stale(session, recipes(platform.config)) if one.product == "light_curves"]

    with platform.database.session() as session:
        inputs = [provenance.current_version(session, "light_curves", _date(night)).inputs for night in range(N_NIGHTS)]
    assert [len(one) for one in inputs[6:]] == [len(inputs[6])] * (N_NIGHTS - 6), "no more with each night"
    assert f"light_curves/{_date(7)}" in inputs[8]
    assert f"forced_photometry/{_date(2)}T10" not in inputs[9]
    assert stale() == []
    with platform.database.session() as session:
        _measure(session, platform, "hourly_002T10", factor=1.1)
    assert stale() == [_date(night) for night in range(2, N_NIGHTS)]
    for night in range(2, N_NIGHTS):
        update_light_curves(platform, _date(night), "run")
    assert stale() == []


def test_an_update_without_news_writes_nothing_and_says_the_same(platform):
    last = _date(N_NIGHTS - 1)
    update_light_curves(platform, last, "run")  # epochs that have settled take part by their sums from now on
    before = _epochs(platform)
    with platform.database.session() as session:
        said = provenance.current_version(session, "light_curves", last).checksum
    update_light_curves(platform, last, "run")
    assert (_epochs(platform)["updated_at"] == before["updated_at"]).all()
    with platform.database.session() as session:
        assert provenance.current_version(session, "light_curves", last).checksum == said
