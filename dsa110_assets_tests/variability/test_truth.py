"""From measured fluxes of simulated nights with known truth to candidates: normalization, indices and score."""

import numpy as np
import pytest

from dsa110_assets.variability import LightCurves, ese_candidates, ese_scores, metrics, normalise

from .skies import simulate


@pytest.fixture(scope="module")
def month():
    night = simulate(
        20,
        n_sources=300,
        n_epochs=30,
        gain_rms=0.05,
        n_variable=15,
        variable_rms=0.15,
        ese_depths=(0.5, 0.4, 0.6),
        ese_epochs=((12, 1), (5, 4), (20, 7)),
    )
    measured = LightCurves.from_table(night.table)
    return night, measured, *normalise(measured)


def test_month_constant_sources_have_reduced_chi_square_one_after_normalization(month):
    night, measured, normalised, fit = month
    constant = np.setdiff1d(np.arange(300), np.concatenate([night.ese, night.variable]))
    eta = metrics(normalised).set_index("source_id").loc[constant, "eta"]
    assert eta.mean() == pytest.approx(1.0, abs=0.1)
    bright = eta[night.mean_jy[constant] > 0.1]
    assert len(bright) > 10
    assert bright.mean() == pytest.approx(1.0, abs=0.25)
    assert np.exp(np.log(fit.factor).mean()) == pytest.approx(1.0, abs=1e-6)
    truth = night.gain / np.exp(np.log(night.gain).mean())
    pull = (fit.factor / truth - 1) / (fit.factor_err / fit.factor)
    assert np.abs(fit.factor / truth - 1).max() < 0.01
    assert 0.6 < pull.std() < 1.4
    assert measured.n_epochs == normalised.n_epochs == 30


def test_month_all_events_are_in_the_top_ten_without_a_false_candidate(month):
    night, _, normalised, _ = month
    scores = ese_scores(normalised)
    ranked = scores.sort_values("score", ascending=False)
    assert set(night.ese) <= set(ranked["source_id"].iloc[:10])
    candidates = ese_candidates(scores)
    assert set(night.ese) <= set(candidates["source_id"])
    assert len(set(candidates["source_id"]) - set(night.ese)) == 0  # score 5: one false list in 1.7 million
    one = scores.set_index("source_id")
    for source, depth, length, start in ((0, 0.5, 1, 12), (1, 0.4, 4, 5), (2, 0.6, 7, 20)):
        assert one.loc[source, "depth"] == pytest.approx(depth, abs=0.1)
        assert one.loc[source, "kind"] == "dip"
        assert length / 2 <= one.loc[source, "event_epochs"] <= length + 1
        assert 61000 + start - 1 <= one.loc[source, "epoch_mjd"] <= 61000 + start + length


def test_month_variables_are_found_by_eta_and_v(month):
    night, _, normalised, _ = month
    table = metrics(normalised).set_index("source_id")
    bright_variable = night.variable[night.mean_jy[night.variable] > 0.05]
    assert (table.loc[bright_variable, "chi2_probability"] < 1e-6).all()
    assert table.loc[bright_variable, "v"].median() == pytest.approx(0.15, abs=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_two_nights_the_event_is_the_top_candidate_among_mild_variables(seed):
    night = simulate(
        100 + seed,
        n_sources=50,
        n_epochs=2,
        gain_rms=0.05,
        n_variable=8,
        variable_rms=0.0,
        ese_depths=(0.5,),
        ese_epochs=((1, 1),),
        faintest_jy=0.02,
    )
    table = night.table
    rng = np.random.default_rng(seed)
    change = 1 + rng.choice([-1, 1], 8) * rng.uniform(0.10, 0.15, 8)
    second = table["mosaic_name"] == "nightly_001"
    factor = table["source_id"].map(dict(zip(night.variable, change, strict=True))).fillna(1.0)
    table.loc[second, "flux_jy"] *= factor[second]
    normalised, fit = normalise(LightCurves.from_table(table))
    ratio = fit.factor[1] / fit.factor[0] / (night.gain[1] / night.gain[0])
    assert abs(ratio - 1) < 4 * np.hypot(*(fit.factor_err / fit.factor))
    assert abs(ratio - 1) < 0.05
    candidates = ese_candidates(ese_scores(normalised))
    assert candidates["source_id"].tolist() == [0]
    assert candidates["rank"].tolist() == [1]
    row = candidates.iloc[0]
    assert row["depth"] == pytest.approx(0.5, abs=0.08)
    assert row["epoch_name"] == "nightly_001"
    assert row["score"] >= 5
