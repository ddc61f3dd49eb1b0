"""The model is right for data that are averaged over channels and integrations, like the telescope's."""

import numpy as np
import pandas as pd
import pytest
from casacore.tables import table

from dsa110_assets.calibration.model import build_model, predict_model
from dsa110_assets.common.directions import TilePointing
from dsa110_assets.common.smearing import Averaging
from dsa110_assets.conversion import convert_observation
from dsa110_assets.simulation.array import tiny_array
from dsa110_assets.simulation.band import BandPlan
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets_tests.calibration.small_ms import source_frame
from dsa110_assets_tests.conftest import make_raw_tile


@pytest.fixture(scope="module")
def off_axis(tmp_path_factory):
    """A noise-free smeared tile in Jy with sources up to 1.4 deg from the axis, and its sky."""
    from dsa110_assets.simulation.directions import local_sidereal_time_deg
    from dsa110_assets.simulation.sky import point_sources

    directory = tmp_path_factory.mktemp("smeared")
    lst_deg = local_sidereal_time_deg(61_100.2)
    truth = point_sources([lst_deg + 1.9, lst_deg - 1.6, lst_deg], [55.2, 53.9, 55.9], [9.0, 5.0, 4.0])
    raw = make_raw_tile(
        directory / "raw", array=tiny_array(), band=BandPlan(4), n_integrations=4, sky=truth, receivers=Receivers.perfect(),
        noise=False, smearing=True,
    )  # fmt: skip
    convert_observation(dict(enumerate(raw.files)), directory / "tile.ms", flag_rfi=False)
    columns = {n: getattr(truth, n) for n in ("ra_deg", "dec_deg", "flux_jy", "spectral_index")}
    return directory / "tile.ms", pd.DataFrame({"name": truth.names, **columns})


def residual(ms, sky, *, smearing):
    """Largest difference of data and model, divided by the median amplitude; cross-correlations only."""
    predict_model(ms, sky, smearing=smearing)
    with table(str(ms), ack=False) as main:
        cross = main.getcol("ANTENNA1") != main.getcol("ANTENNA2")
        data, model = main.getcol("DATA")[cross], main.getcol("MODEL_DATA")[cross]
    return float(np.abs(data - model).max() / np.median(np.abs(data)))


def test_the_model_smears_like_the_simulated_correlator(off_axis):
    ms, sky = off_axis
    assert residual(ms, sky, smearing=False) > 0.1  # without smearing, the model is off by more than 10 % on long baselines
    assert residual(ms, sky, smearing=True) < 2e-3


def test_the_model_of_averaged_channels_is_the_mean_of_the_channels_models():
    center = np.array([129.0, 54.6])
    pointing = TilePointing(61_100.2 + np.arange(3) * 1.5e-4, center[0] + np.array([-0.05, 0.0, 0.05]), np.full(3, 54.6), *center)
    sky = source_frame([("a", 130.5, 55.3, 3.0, 0.0), ("b", 128.0, 54.0, 2.0, 0.0)])
    rng = np.random.default_rng(3)
    uvw, time_s = rng.normal(0, 700, (40, 3)), np.repeat(pointing.time_mjd[:1] * 86400, 40)
    fine = 1.4e9 + 244140.625 * np.arange(12)
    native = build_model(sky, pointing, fine, averaging=Averaging(244140.625, 12.9)).predict(uvw, time_s)
    averaged = build_model(sky, pointing, fine.reshape(-1, 4).mean(axis=1), averaging=Averaging(244140.625, 12.9, 4)).predict(uvw, time_s)
    expected = native.reshape(40, 3, 4).mean(axis=2)
    assert np.abs(averaged - expected).max() < 1e-3 * np.abs(expected).max()
    assert np.abs(native[:, 1::4] - expected).max() > 0.05 * np.abs(expected).max()


def test_a_source_on_the_axis_is_not_smeared():
    """A source at the integration's meridian point has no fringes."""
    response = Averaging(1e6, 12.9).response(
        np.array([[2000.0, 1000.0, 300.0]]),
        np.array([[0.01], [0.002], [-5e-5]]),
        np.array([[0.01], [0.002], [-5e-5]]),
        0.95,
        np.array([1.4e9]),
    )
    assert response == pytest.approx(1.0, abs=1e-12)
