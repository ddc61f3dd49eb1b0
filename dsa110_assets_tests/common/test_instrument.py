"""The primary beam and its cutoff radius agree."""

import pytest

from dsa110_assets.common.instrument import airy_power_beam, cutoff_radius_rad


def test_the_cutoff_radius_is_where_the_beam_is_at_20_percent():
    assert airy_power_beam(cutoff_radius_rad(1.4e9), 1.4e9) == pytest.approx(0.2, abs=1e-9)
