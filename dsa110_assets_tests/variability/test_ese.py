"""The ESE score's stated false-alarm rate and completeness, by Monte Carlo."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dsa110_assets.variability import EseOptions, EventSearch, LightCurves, ese_candidates, ese_scores
from dsa110_assets.variability.ese import trials_corrected


def curves(flux, error):
    n_sources, n_epochs = flux.shape
    return LightCurves(
        source_id=np.arange(n_sources),
        epoch_name=np.array([f"e{k:03d}" for k in range(n_epochs)]),
        epoch_mjd=61000.0 + np.arange(n_epochs, dtype=float),
        offsets=np.arange(n_sources + 1, dtype=np.int64) * n_epochs,
        epoch=np.tile(np.arange(n_epochs, dtype=np.int32), n_sources),
        flux_jy=flux.ravel().astype(float),
        flux_err_jy=np.broadcast_to(error, flux.shape).ravel().astype(float),
        is_limit=np.zeros(flux.size, dtype=bool),
        normalised=True,
    )


@pytest.mark.parametrize(("n_epochs", "tightness"), [(2, 0.85), (3, 0.6), (6, 0.6), (30, 0.2)])
def test_false_alarm_rate_is_the_stated_one(n_epochs, tightness):
    """300 lists of 60 constant sources: the fraction with an event of FAP < p is at most p, and not far below it."""
    rng = np.random.default_rng(40 + n_epochs)
    n_lists, n_sources, options = 300, 60, EseOptions(ordinary_variability=0.05)
    mean = 10 ** rng.uniform(-2, 0, (n_lists * n_sources, 1))
    error = (
        mean
        * 10 ** rng.uniform(-2, -0.7, mean.shape)
        * rng.uniform(0.7, 1.5, (n_lists, 1, n_epochs)).repeat(n_sources, axis=1).reshape(-1, n_epochs)
    )
    flux = mean * (1 + 0.05 * rng.standard_normal(error.shape)) + error * rng.standard_normal(error.shape)
    table = ese_scores(curves(flux, error), options=options)
    strongest = table["significance"].to_numpy().reshape(n_lists, n_sources).max(axis=1)
    _, best = trials_corrected(strongest, table["trials"].to_numpy().reshape(n_lists, n_sources).sum(axis=1))
    for stated in (0.1, 0.3):
        found = np.mean(best < stated)
        noise = np.sqrt(stated * (1 - stated) / n_lists)
        assert found < stated + 3 * noise
        assert found > tightness * stated - 3 * noise


@pytest.mark.parametrize(("n_epochs", "length"), [(2, 1), (5, 1), (12, 2), (30, 5)])
def test_at_least_95_percent_of_events_of_5_sigma_plus_noise_are_found(n_epochs, length):
    """Dips with a score of 5 + 1.645 without noise: noise takes 5 % of them below 5. Among 50 sources, 250 lists."""
    rng = np.random.default_rng(60 + n_epochs)
    lists, options = 250, EseOptions(ordinary_variability=0.03)
    error, start = 0.02, max(1, n_epochs // 2 - length // 2)
    depths = np.linspace(0.02, 1.5, 500)
    clean = np.ones((depths.size, n_epochs))
    clean[:, start : start + length] -= depths[:, None]
    significance = ese_scores(curves(clean, np.full(clean.shape, error)), options=options)["significance"].to_numpy()
    one_list = ese_scores(curves(np.ones((50, n_epochs)), np.full((50, n_epochs), error)), options=options)
    depth = depths[np.searchsorted(trials_corrected(significance, one_list.attrs["trials"])[0], 5 + 1.645)]
    flux = 1 + error * rng.standard_normal((lists, 50, n_epochs))
    flux[:, 0, start : start + length] -= depth
    table = ese_scores(curves(flux.reshape(-1, n_epochs), np.full((lists * 50, n_epochs), error)), options=options)
    score, _ = trials_corrected(table["significance"].to_numpy(), one_list.attrs["trials"])
    found = (score.reshape(lists, 50) >= 5).sum(axis=0)
    assert found[1:].sum() == 0
    assert found[0] / lists >= 0.95


def test_trials_correction_equals_scipy_and_stays_exact_in_the_far_tail():
    z = np.array([0.0, 1.0, 3.0, 5.0, 8.0])
    score, probability = trials_corrected(z, 1000)
    single = 2 * stats.norm.sf(z)
    np.testing.assert_allclose(probability, -np.expm1(1000 * np.log1p(-np.minimum(single, 1 - 1e-16))), rtol=1e-6)
    np.testing.assert_allclose(score[2:], stats.norm.isf(probability[2:] / 2), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(trials_corrected(z, 1)[0], z, atol=1e-9)
    far, _ = trials_corrected(np.array([60.0]), 1e6)
    assert 59.7 < far[0] < 60.0


def test_the_significance_of_two_epochs_is_their_difference_over_its_error():
    row = ese_scores(curves(np.array([[0.5, 0.3]]), np.array([[0.03, 0.04]])), options=EseOptions(ordinary_variability=0.0)).iloc[0]
    assert row["significance"] == pytest.approx(0.2 / 0.05)
    assert row["score"] == pytest.approx(0.2 / 0.05)  # one source, two epochs: one test
    assert row["epoch_name"] == "e001"
    assert row["depth"] == pytest.approx(0.4)


def test_a_catalog_flux_decides_which_of_two_epochs_is_the_event():
    light = curves(np.array([[0.5, 0.3], [0.5, 0.3]]), np.full((2, 2), 0.01))
    table = ese_scores(light, catalogue_flux_jy=np.array([0.5, 0.3]), options=EseOptions(catalogue_error=0.1))
    assert table["epoch_name"].tolist() == ["e001", "e000"]
    assert table["kind"].tolist() == ["dip", "brightening"]
    single = ese_scores(curves(np.array([[0.2]]), np.array([[0.01]])), catalogue_flux_jy=np.array([1.0]))
    assert single["depth"].iloc[0] == pytest.approx(0.8)
    assert single["significance"].iloc[0] > 4
    nothing = ese_scores(curves(np.array([[0.2]]), np.array([[0.01]])))
    assert nothing["score"].iloc[0] == 0
    assert nothing["kind"].iloc[0] == "none"


def test_a_dip_between_caustic_spikes_is_recognized():
    rng = np.random.default_rng(9)
    flux = 1 + 0.02 * rng.standard_normal((20, 40))
    flux[3, 18:22] -= 0.35
    flux[3, [17, 22]] += 0.3
    scores = ese_scores(curves(flux, np.full((20, 40), 0.02)), options=EseOptions(ordinary_variability=0.03))
    row = ese_candidates(scores).iloc[0]
    assert row["source_id"] == 3
    assert row["kind"] == "lens"
    assert "brighter before and" in row["reasons"]
    assert "no channel images" in row["reasons"]
    assert row["duration_d"] == pytest.approx(4, abs=1)


def test_an_epoch_in_which_many_sources_deviate_is_marked_suspect():
    rng = np.random.default_rng(10)
    flux = 1 + 0.01 * rng.standard_normal((60, 10))
    flux[:12, 4] -= 0.5
    scores = ese_scores(curves(flux, np.full((60, 10), 0.01)))
    assert scores["suspect_epoch"].iloc[:12].all()
    assert "check its calibration" in scores["reasons"].iloc[0]
    assert isinstance(scores, pd.DataFrame)


def test_a_search_in_parts_equals_the_search_of_the_whole():
    """Trials and suspect epochs are counted over all parts."""
    rng = np.random.default_rng(11)
    flux = 1 + 0.01 * rng.standard_normal((90, 12))
    flux[10:40, 7] -= 0.5
    whole = curves(flux, np.full((90, 12), 0.01))
    search = EventSearch()
    for first in (0, 35, 60):
        search.add(whole.select(np.arange(first, {0: 35, 35: 60, 60: 90}[first])))
    together = ese_scores(whole)
    pd.testing.assert_frame_equal(search.scores(), together)
    assert search.scores().attrs["trials"] == together.attrs["trials"]
    assert together["suspect_epoch"].iloc[10:40].all()
