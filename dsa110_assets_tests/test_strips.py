"""Strips have one rule, and the settings decide their tolerance."""

import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.strips import in_strip, is_one_strip, main_strip

MOVED = [54.2, 54.2, 54.0, 54.0, 54.0]


def test_the_tolerance_decides_which_strip_has_most_pointings():
    assert main_strip(MOVED, 0.1) == 54.0, "three of five"
    assert [in_strip(dec, main_strip(MOVED, 0.1), 0.1) for dec in MOVED] == [False, False, True, True, True]
    assert all(in_strip(dec, main_strip(MOVED, 0.5), 0.5) for dec in MOVED), "all five are one strip"


def test_the_main_strip_does_not_depend_on_the_order_of_pointings():
    assert main_strip([16.0, 54.0], 0.5) == main_strip([54.0, 16.0], 0.5) == 16.0
    assert main_strip([54.0, 54.3, 16.0, 16.1], 0.5) == main_strip([16.1, 16.0, 54.3, 54.0], 0.5) == 16.0, "closer together"
    with pytest.raises(ValueError, match="empty"):
        main_strip([], 0.5)


@pytest.mark.parametrize("tolerance_deg", [0.05, 0.2, 0.5, 3.0])
def test_tiles_chosen_for_a_strip_are_accepted_as_one(tolerance_deg: float):
    pointings = [16.0, 16.04, 16.3, 54.0, 54.1, 54.45, 54.5, 55.0]
    for strip in pointings:
        assert is_one_strip([dec for dec in pointings if in_strip(dec, strip, tolerance_deg)], tolerance_deg)
    assert not is_one_strip(pointings, tolerance_deg)


def test_both_settings_have_the_rules_default_tolerance():
    config = PipelineConfig.model_fields
    assert config["cal_declination_tolerance_deg"].default == config["mosaic_declination_tolerance_deg"].default == 0.5
