"""Plots are PNG files of a useful size, made without pyplot's global state."""

import sys

import matplotlib.image
import numpy as np
import pytest

from dsa110_assets.errors import LightCurveError
from dsa110_assets.variability import LightCurves, eta_v_png, light_curve_png, metrics, normalise

from .skies import simulate


def test_light_curve_and_population_are_drawn(tmp_path):
    night = simulate(
        90, n_sources=100, n_epochs=30, gain_rms=0.05, n_variable=5, variable_rms=0.3, ese_depths=(0.5,), ese_epochs=((10, 4),)
    )
    normalised, _ = normalise(LightCurves.from_table(night.table))
    pyplot_before = "matplotlib.pyplot" in sys.modules
    for small in (True, False):
        for number, png in enumerate(
            (
                light_curve_png(normalised, 0, baseline_jy=0.08, event_mjd=61011.5, small=small),
                eta_v_png(metrics(normalised), highlight=0, small=small),
            )
        ):
            path = tmp_path / f"{number}{small}.png"
            path.write_bytes(png)
            pixels = matplotlib.image.imread(path)
            assert pixels.shape[0] > 150
            assert np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0).shape[0] > 10
            assert not small or len(png) < 50_000
    assert pyplot_before or "matplotlib.pyplot" not in sys.modules
    with pytest.raises(LightCurveError, match="no light curve"):
        light_curve_png(normalised, 12345)
