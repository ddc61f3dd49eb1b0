"""Bright sources outside an image leave nothing in it, whether a catalog has them or not.

The small version of `benchmarks.outside_frame`: a source 4.7 arcmin beyond the edge, five more that no catalog has, and
a calibrator of 8 Jy at 2.5 deg, simulated with geometry alone.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.outside_frame import Field, image, make_field, small


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Field:
    return make_field(tmp_path_factory.mktemp("outside"), small(), seed=1)


@pytest.fixture(scope="module")
def blind(outside: Field) -> dict[str, float]:
    """Figures of the image with nothing known and no search."""
    return image(outside, small(), known=0, search=False)[1]


def test_unknown_sources_beyond_the_edge_are_found_and_leave_no_false_detection(outside: Field, blind: dict[str, float]) -> None:
    report, figures = image(outside, small(), known=0, search=True)
    assert blind["noise_over_thermal"] > 1.5  # what they do
    assert blind["false"] >= 5
    assert figures["noise_over_thermal"] == pytest.approx(1.0, abs=0.05)
    assert figures["false"] == 0
    true = np.concatenate([outside.outside[["ra_deg", "dec_deg", "flux_jy"]], outside.calibrator[["ra_deg", "dec_deg", "flux_jy"]]])
    found = {one.separation_of(*row[:2]): one for row in true for one in report.outside if one.separation_of(*row[:2]) < 5 / 3600}
    assert len(found) == len(report.outside) == 7
    for ra_deg, dec_deg, flux_jy in true:
        nearest = min(report.outside, key=lambda one: one.separation_of(ra_deg, dec_deg))
        assert nearest.flux_jy == pytest.approx(flux_jy, abs=max(0.02 * flux_jy, 5 * nearest.flux_error_jy))


def test_the_calibrator_list_alone_lowers_the_noise(outside: Field, blind: dict[str, float]) -> None:
    _, figures = image(outside, small(), known=1, search=False, find=False)
    assert figures["noise_over_thermal"] < blind["noise_over_thermal"] - 0.1


def test_the_search_adds_nothing_where_all_is_known(outside: Field) -> None:
    without, _ = image(outside, small(), known=2, search=False, find=False)
    searched, figures = image(outside, small(), known=2, search=True)
    assert searched.noise_jy_per_beam == pytest.approx(without.noise_jy_per_beam, rel=1e-3)
    assert searched.bright_sources == without.bright_sources
    assert figures["false"] == 0
