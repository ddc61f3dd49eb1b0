"""A small month through image files, from tiles to candidates; `make month` is the large one."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.mosaicking import make_mosaic
from dsa110_assets.photometry import measure_mosaic
from dsa110_assets.variability import LightCurves, ese_candidates, ese_scores, metrics, normalise
from dsa110_assets_tests.mosaicking.tile_files import TileTruth, write_tile

N_EPOCHS, N_SOURCES = 9, 60
EVENT, VARIABLES = "s0", ("s1", "s2", "s3")


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    rng = np.random.default_rng(30)
    gain = np.exp(0.05 * rng.standard_normal(N_EPOCHS))
    where = np.empty((0, 2))
    while len(where) < N_SOURCES:
        one = rng.uniform(-1.0, 1.0, 2)
        if np.hypot(*one) < 1.0 and (np.hypot(*(where - one).T) > 0.15).all():
            where = np.vstack([where, one])
    flux = 0.05 * rng.uniform(size=N_SOURCES) ** (-1 / 1.2)
    flux[:4] = (0.3, 0.25, 0.3, 0.4)
    shape = np.ones((N_SOURCES, N_EPOCHS))
    shape[0, 5:7] = 0.45
    shape[1:4] += 0.15 * rng.standard_normal((3, N_EPOCHS))
    dec = 54.6 + 1.2 * where[:, 1]
    positions = pd.DataFrame(
        {"name": [f"s{i}" for i in range(N_SOURCES)], "ra_deg": 180.0 + 1.2 * where[:, 0] / np.cos(np.radians(dec)), "dec_deg": dec}
    )
    tables = []
    directory = tmp_path_factory.mktemp("month")
    for epoch in range(N_EPOCHS):
        sources = list(zip(positions["ra_deg"], positions["dec_deg"], gain[epoch] * flux * shape[:, epoch], strict=True))
        tile = write_tile(
            directory / f"{epoch}", TileTruth(180.0, size=200, cell_arcsec=50.0, start_mjd=61100.25 + 0.99727 * epoch), sources, 100 + epoch
        )
        make_mosaic([tile], directory / f"{epoch}", f"hourly_{epoch:02d}", provenance={}, threads=1)
        tables.append(measure_mosaic(directory / f"{epoch}", f"hourly_{epoch:02d}", positions))
    curves = LightCurves.from_table(pd.concat(tables, ignore_index=True), source="name")
    return gain, curves, *normalise(curves)


def test_constant_sources_have_reduced_chi_square_one(month):
    _, curves, normalised, _ = month
    assert curves.n_sources == N_SOURCES
    eta = metrics(normalised).set_index("source_id")["eta"].drop([EVENT, *VARIABLES])
    assert eta.mean() == pytest.approx(1.0, abs=0.15)  # the error of this mean (56 sources, 9 epochs) is 0.07


def test_drifts_of_five_percent_are_found_within_their_errors(month):
    gain, _, _, fit = month
    assert np.std(np.log(gain)) > 0.03
    ratio = np.log(fit.factor / gain)
    assert np.std(ratio) < 0.01
    assert 0.4 < np.std((ratio - ratio.mean()) / (fit.factor_err / fit.factor)) < 1.6
    assert 0.8 < fit.noise_scale < 1.25, "noise_scale is not 1 although the noise of different epochs is independent"


def test_the_event_is_the_top_candidate_and_no_constant_source_is_one(month):
    _, _, normalised, _ = month
    candidates = ese_candidates(ese_scores(normalised))
    assert candidates["source_id"].iloc[0] == EVENT
    assert set(candidates["source_id"]) <= {EVENT, *VARIABLES}
    assert candidates["depth"].iloc[0] == pytest.approx(0.55, abs=0.1)


def test_noise_that_repeats_in_every_epoch_is_not_taken_for_scatter():
    """If a third of the errors' variance repeats, light curves scatter less, and their errors become smaller."""
    from dsa110_assets_tests.variability.skies import simulate

    night = simulate(
        7, n_sources=200, n_epochs=20, gain_rms=0.05, n_variable=10, variable_rms=0.15, ese_depths=(), ese_epochs=(), faintest_jy=0.03
    )
    normalised, fit = normalise(LightCurves.from_table(night.table.assign(flux_err_jy=night.table["flux_err_jy"] / np.sqrt(2 / 3))))
    assert fit.noise_scale == pytest.approx(np.sqrt(2 / 3), rel=0.04)
    eta = metrics(normalised).set_index("source_id")["eta"].drop(night.variable)
    assert eta.mean() == pytest.approx(1.0, abs=0.1)
