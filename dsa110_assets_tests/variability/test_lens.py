"""Light curves behind the lens, compared with its equation solved image by image."""

import numpy as np
import pytest
from scipy.optimize import brentq

from dsa110_assets.variability import lens


def images(u_prime, alpha):
    """All roots of u (1 + alpha exp(-u^2)) = u'."""
    u = np.linspace(-60, 60, 24_001)
    value = u * (1 + alpha * np.exp(-(u**2))) - u_prime
    crossings = np.flatnonzero(np.sign(value[:-1]) * np.sign(value[1:]) < 0)
    return [brentq(lambda x: x * (1 + alpha * np.exp(-(x**2))) - u_prime, u[k], u[k + 1], xtol=1e-14) for k in crossings]


def summed_gain(u_prime, alpha):
    return sum(1 / abs(1 + (1 - 2 * u**2) * alpha * np.exp(-(u**2))) for u in images(u_prime, alpha))


@pytest.mark.parametrize(("alpha", "most_images"), [(1.0, 1), (3.0, 3), (10.0, 3), (25.0, 3)])
def test_gain_is_the_sum_over_all_images_of_the_published_lens(alpha, most_images):
    places = np.arange(-12.0301, 12.0, 0.1237)
    counts = [len(images(place, alpha)) for place in places]
    assert max(counts) == most_images
    u = np.linspace(0, 6, 600_001)
    slope = 1 + (1 - 2 * u**2) * alpha * np.exp(-(u**2))
    turn = u[np.flatnonzero(np.diff(np.sign(slope)) != 0)]
    caustics = np.abs(turn * (1 + alpha * np.exp(-(turn**2))))
    calm = np.array([not caustics.size or np.abs(abs(place) - caustics).min() > 0.15 for place in places])
    expected = np.array([summed_gain(place, alpha) for place in places])
    np.testing.assert_allclose(lens.gain(places, alpha, 0.0)[calm], expected[calm], rtol=5e-3)
    assert lens.gain(np.array([0.01]), alpha, 0.0)[0] == pytest.approx(1 / (1 + alpha), rel=2e-3)


def test_a_resolved_source_is_the_mean_of_its_points_and_no_light_is_lost():
    alpha, size = 3.0, 0.4
    rng = np.random.default_rng(1)
    for place in (0.0, 1.7, 2.6, 4.0):
        points = place + size * rng.standard_normal(3000)
        expected = np.array([summed_gain(p, alpha) for p in points])
        assert lens.gain(np.array([place]), alpha, size)[0] == pytest.approx(expected.mean(), abs=5 * expected.std() / 3000**0.5)
    everywhere = np.linspace(-35, 35, 140_001)
    for strength in (1.0, 3.0, 10.0, 25.0):
        assert lens.gain(everywhere, strength).mean() == pytest.approx(1.0, abs=2e-4)


def test_templates_are_a_core_between_two_bright_sides():
    bank = lens.template_bank()
    middle = bank.shape[1] // 2
    for alpha, shape in zip(lens.ALPHAS, bank, strict=True):
        np.testing.assert_allclose(shape, shape[::-1], atol=1e-3)
        assert shape[middle] == pytest.approx(lens.gain(np.zeros(1), alpha)[0] - 1, abs=0.03)
        assert shape[middle + 3 : middle + 9].max() > 0.25
        assert abs(shape[-1]) < 0.06
    assert lens.gain(np.zeros(1), 3.0 * 1.3)[0] < lens.gain(np.zeros(1), 3.0)[0]  # deeper at lower frequency
