"""Channels are averaged as far as the smearing budget allows, and no further."""

import numpy as np
import pytest

from dsa110_assets.calibration.smearing import choose_factor, cutoff_radius_rad, smearing_loss
from dsa110_assets.instrument import airy_power_beam


def test_cutoff_radius_is_where_the_beam_is_at_20_per_cent():
    assert airy_power_beam(cutoff_radius_rad(1.4e9), 1.4e9) == pytest.approx(0.2, abs=1e-9)


def test_loss_equals_the_average_over_a_fine_band():
    """Against a brute-force average of the fringe over frequency."""
    rng = np.random.default_rng(1)
    uvw = rng.normal(0, 400, (50, 3)) * [1, 1, 0]
    bandwidth, radius = 4e6, 0.03
    frequency = np.linspace(-bandwidth / 2, bandwidth / 2, 4001)
    losses = []
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        tau = uvw @ [np.sin(radius) * np.cos(angle), np.sin(radius) * np.sin(angle), 0] / 299_792_458
        losses.append(1 - np.mean(np.exp(2j * np.pi * tau[:, None] * frequency)).real)
    assert smearing_loss(uvw, bandwidth, radius) == pytest.approx(max(losses), abs=2e-4)


def test_the_factor_is_the_largest_divisor_within_the_budget():
    uvw = np.random.default_rng(2).normal(0, 250, (500, 3)) * [1, 1, 0.05]
    factor, loss = choose_factor(uvw, 244140.625, 768, 1.405e9, 0.01)
    assert loss < 0.01
    assert 768 % factor == 0
    following = next(f for f in range(factor + 1, 769) if 768 % f == 0)
    assert smearing_loss(uvw, following * 244140.625, cutoff_radius_rad(1.405e9)) >= 0.01
    assert choose_factor(uvw, 244140.625, 768, 1.405e9, 0.3)[0] > factor


def test_wide_channels_are_never_averaged():
    uvw = np.random.default_rng(2).normal(0, 900, (500, 3)) * [1, 1, 0.05]
    assert choose_factor(uvw, 6 * 244140.625, 128, 1.405e9, 0.01)[0] == 1
