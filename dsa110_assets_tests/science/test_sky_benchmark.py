"""The benchmark of imperfections measures what it says: pulls to the catalog, matches, a sky with a calibrator."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.sky import (
    SMALLEST_SEPARATION_ARCMIN,
    Setup,
    centers,
    draw_sky,
    effects_of,
    shares_of_points,
    table,
    towards_catalog,
    within,
)
from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.simulation.imperfections import Imperfections
from dsa110_assets.simulation.sky import Sky


@pytest.mark.parametrize("absorbed", [0.0, 0.14, 1.0])
def test_the_share_of_a_catalogs_errors_that_comes_back_is_measured_with_its_error(absorbed):
    rng = np.random.default_rng(1)
    true = rng.uniform(0.02, 0.4, 300)
    catalog = np.where(rng.uniform(size=300) < 0.2, 0.0, true * (1 + 0.1 * rng.standard_normal(300)))
    flux = true + absorbed * (catalog - true) + 0.002 * rng.standard_normal(300)
    sources = pd.DataFrame({"true_jy": true, "catalog_jy": catalog, "flux_err_jy": 0.002, "pull": (flux - true) / 0.002})
    share, error = towards_catalog(sources)
    assert error < 1.0
    assert abs(share - 100 * absorbed) < 4 * error
    assert towards_catalog(sources.assign(catalog_jy=true)) is None


@pytest.mark.parametrize("declination", [54.6, 16.3, -5.0])
def test_the_sky_has_its_calibrator_first_and_no_blends(declination):
    setup = Setup(declination, 1)
    sky = draw_sky(setup)
    ra0, dec0 = centers(setup)[0]
    assert sky.names[0] == "0834+555"
    assert (sky.ra_deg[0], sky.dec_deg[0]) == pytest.approx((ra0, dec0 + 0.3))
    ra, dec = np.radians(sky.ra_deg), np.radians(sky.dec_deg)
    apart = angular_separation_rad(ra[:, None], dec[:, None], ra[None], dec[None]) + 10 * np.eye(len(sky))
    assert np.degrees(apart.min()) * 60 > SMALLEST_SEPARATION_ARCMIN
    assert sorted(np.round(np.degrees(apart[0, 1:13]), 2)) == [0.2] * 4 + [0.4] * 4 + [0.8] * 4


def test_each_row_of_the_table_is_one_effect():
    assert effects_of("none", 3) == Imperfections(seed=3)
    assert effects_of("ionosphere", 3) == Imperfections(seed=3, ionosphere_tecu=0.02)
    assert effects_of("all", 3).catalog_missing == 0.2


def test_matches_are_those_within_the_radius():
    here = pd.DataFrame({"ra_deg": [10.0, 20.0], "dec_deg": [5.0, 5.0]})
    there = pd.DataFrame({"ra_deg": [10.001], "dec_deg": [5.0]})
    assert list(within(here, there, 0.002)) == [True, False]
    assert list(within(here, there.iloc[:0], 0.002)) == [False, False]


def test_the_table_has_a_row_for_each_result():
    row = {
        "effect": "none", "bias_percent": [[0.1, 0.2, 30]] * 3, "bias_from_calibrator_percent": [[-0.1, 0.2, 4]] * 3,
        "to_catalog_percent": {"calibrator's tile": None, "later": [1.0, 0.2]}, "pull_width": 1.0, "pull_width_robust": 1.0,
        "pull_width_by_noise": 1.4, "noise_away_over_thermal": [0.99, 1.05, 1.1],
        "extended": [3, -234.5, -2.0, 1.5],
        "largest_pull": [3.1, "J0", 0.1, 1], "noise_over_thermal": [1.0, 1.1, 1.2], "false": [0, 1, 2], "detected": [50, 60, 70],
        "lost": [1, 200], "position_median_arcsec": [0.01, -0.01], "position_largest_arcsec": 1.0, "position_pull_width": 1.0,
        "failed_checks": [[], ["completeness"], []], "accepted": False,
    }  # fmt: skip
    head, rule, *body = table([row, row]).splitlines()
    assert len(body) == 2
    assert len({line.count("|") for line in (head, rule, *body)}) == 1
    assert "3 of 180" in body[0]
    assert "completeness; tables" in body[0]


def test_the_share_of_a_double_is_what_a_matched_filter_finds_in_its_image():
    """Two components, 20 and 10 arcsec from the middle, in an image made pixel by pixel."""
    beam = RestoringBeam.from_arcsec(24.0, 15.0, 65.0)
    angle = np.radians(65.0)
    y, x = np.mgrid[-80:81, -80:81].astype(float)  # north, east; arcsec

    def beam_at(north, east):
        along = (y - north) * np.cos(angle) + (x - east) * np.sin(angle)
        across = -(y - north) * np.sin(angle) + (x - east) * np.cos(angle)
        return np.exp(-4 * np.log(2) * ((along / 24.0) ** 2 + (across / 15.0) ** 2))

    image, middle = 0.4 * beam_at(12.0, 16.0) + 0.8 * beam_at(-6.0, -8.0), beam_at(0.0, 0.0)
    dec = np.array([54.0 + 12 / 3600, 54.0 - 6 / 3600, 54.0])
    ra = np.array([10.0 + 16 / 3600 / np.cos(np.radians(dec[0])), 10.0 - 8 / 3600 / np.cos(np.radians(dec[1])), 12.0])
    parts = Sky(("a#0", "a#1", "b"), ra, dec, np.array([0.4, 0.8, 2.0]), np.full(3, -0.7))
    sky = Sky(("a", "b"), np.array([10.0, 12.0]), np.array([54.0, 54.0]), np.array([1.2, 2.0]), np.full(2, -0.7))
    shares = shares_of_points(parts, sky, beam)
    assert shares["a"] == pytest.approx((image * middle).sum() / (middle**2).sum() / 1.2, rel=1e-4)
    assert 0.3 < shares["a"] < 0.9
    assert shares["b"] == pytest.approx(1.0)
