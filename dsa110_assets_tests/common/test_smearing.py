"""The loss by averaging equals explicit averages of the fringe of a source."""

import numpy as np
import pytest

from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S, baseline_rate, direction_cosines
from dsa110_assets.common.smearing import Averaging, largest_bandwidth_loss


def test_the_loss_equals_an_explicit_average_over_the_band():
    """Average the fringe over a fine grid of frequencies."""
    rng = np.random.default_rng(1)
    uvw = rng.normal(0, 400, (50, 3)) * [1, 1, 0]
    bandwidth, radius = 4e6, 0.03
    frequency = np.linspace(-bandwidth / 2, bandwidth / 2, 4001)
    losses = []
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        tau = uvw @ [np.sin(radius) * np.cos(angle), np.sin(radius) * np.sin(angle), 0] / 299_792_458
        losses.append(1 - np.mean(np.exp(2j * np.pi * tau[:, None] * frequency)).real)
    assert largest_bandwidth_loss(uvw, bandwidth, radius) == pytest.approx(max(losses), abs=2e-4)


def test_the_response_of_an_image_is_the_mean_of_fringes_averaged_in_frequency_and_time():
    """Fine grids: fringes stopped at the meridian point, three channels averaged at the phase center."""
    rng = np.random.default_rng(3)
    uvw, dec = rng.normal(0, 700, (40, 3)), np.radians(54.6)
    lmn = direction_cosines(np.radians([0.8, -1.5]), np.radians([54.9, 53.6]), 0.0, dec)
    pointing = direction_cosines(np.radians(rng.uniform(-0.6, 0.6, 40)), np.full(40, dec), 0.0, dec)
    frequency, width, duration = 1.4e9, 0.7e6, 12.88
    inside = width * (np.arange(400) + 0.5) / 400 - width / 2
    t = duration * (np.arange(300) + 0.5) / 300 - duration / 2
    expected = np.zeros(2)
    for row in range(40):
        rate = baseline_rate(uvw[row : row + 1], dec)[0]
        for source in range(2):
            away_m = uvw[row] @ (lmn[:, source] - pointing[:, row])
            in_channel = np.exp(2j * np.pi * inside / SPEED_OF_LIGHT_M_PER_S * away_m).mean()
            of_channels = np.exp(2j * np.pi * width * np.array([-1, 0, 1]) / SPEED_OF_LIGHT_M_PER_S * (uvw[row] @ lmn[:, source])).mean()
            across_band = in_channel * of_channels
            fringe_hz = frequency / SPEED_OF_LIGHT_M_PER_S * (rate @ (lmn[:, source] - pointing[:, row]))
            expected[source] += (across_band * np.exp(2j * np.pi * fringe_hz * t).mean()).real / 40
    found = Averaging(width, duration, 3).mean_response(uvw, lmn, pointing, dec, frequency)
    assert found == pytest.approx(expected, abs=1e-4)
    assert found.max() < 0.999  # otherwise the test would pass without any loss


def test_the_response_of_a_visibility_is_its_averaged_fringe_stopped_at_the_meridian_point():
    rng = np.random.default_rng(4)
    uvw, dec = rng.normal(0, 900, (30, 3)), np.radians(54.6)
    lmn = direction_cosines(np.radians([0.8, -1.5]), np.radians([54.9, 53.6]), 0.0, dec)
    pointing = direction_cosines(np.radians(rng.uniform(-0.6, 0.6, 30)), np.full(30, dec), 0.0, dec)
    averaging = Averaging(channel_hz=244_140.625, integration_s=12.88)
    frequency = np.array([1.32e9, 1.49e9])
    found = averaging.response(uvw, lmn, pointing, dec, frequency)
    nu = averaging.channel_hz * ((np.arange(300) + 0.5) / 300 - 0.5)
    t = averaging.integration_s * ((np.arange(300) + 0.5) / 300 - 0.5)
    for row in range(30):
        rate = baseline_rate(uvw[row : row + 1], dec)[0]
        for source in range(2):
            away = lmn[:, source] - pointing[:, row]
            delay_s, drift = uvw[row] @ away / SPEED_OF_LIGHT_M_PER_S, rate @ away / SPEED_OF_LIGHT_M_PER_S
            for channel in range(2):
                fringe = np.exp(2j * np.pi * nu * delay_s).mean() * np.exp(2j * np.pi * frequency[channel] * drift * t).mean()
                assert found[row, source, channel] == pytest.approx(fringe.real, abs=1e-4)
    assert found.min() < 0.99


def test_averaging_channels_about_the_phase_center_loses_as_much_as_an_explicit_sum():
    uvw = np.array([[1200.0, -300.0, 40.0]])
    dec = np.radians(54.6)
    lmn = direction_cosines(np.radians([1.2]), np.radians([55.4]), 0.0, dec)
    pointing = np.zeros((3, 1))
    one, eight = (Averaging(244_140.625, 1e-6, n).response(uvw, lmn, pointing, dec, np.array([1.4e9]))[0, 0, 0] for n in (1, 8))
    phase = 2 * np.pi * 244_140.625 * (np.arange(8) - 3.5) * (uvw @ lmn)[0, 0] / SPEED_OF_LIGHT_M_PER_S
    assert eight / one == pytest.approx(np.exp(1j * phase).mean().real, rel=1e-9)
