"""Channels are averaged as far as the smearing limit allows, and no further."""

import numpy as np

from dsa110_assets.calibration.apply import choose_factor
from dsa110_assets.common.instrument import cutoff_radius_rad
from dsa110_assets.common.smearing import largest_bandwidth_loss


def test_the_factor_is_the_largest_divisor_within_the_limit():
    uvw = np.random.default_rng(2).normal(0, 250, (500, 3)) * [1, 1, 0.05]
    factor, loss = choose_factor(uvw, 244140.625, 768, 1.405e9, 0.01)
    assert loss < 0.01
    assert 768 % factor == 0
    following = next(f for f in range(factor + 1, 769) if 768 % f == 0)
    assert largest_bandwidth_loss(uvw, following * 244140.625, cutoff_radius_rad(1.405e9)) >= 0.01
    assert choose_factor(uvw, 244140.625, 768, 1.405e9, 0.3)[0] > factor


def test_wide_channels_are_never_averaged():
    uvw = np.random.default_rng(2).normal(0, 900, (500, 3)) * [1, 1, 0.05]
    assert choose_factor(uvw, 6 * 244140.625, 128, 1.405e9, 0.01)[0] == 1
