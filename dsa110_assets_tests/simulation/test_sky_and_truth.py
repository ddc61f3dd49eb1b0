"""The simulated sky has realistic counts, its light curves follow their definitions, and its catalogs are readable."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from scipy.integrate import quad

from dsa110_assets.simulation.reference import flux_table, write_reference_catalogs, write_truth
from dsa110_assets.simulation.sky import (
    CALIBRATOR_NAME,
    Constant,
    ScatteringEvent,
    Sinusoid,
    Tabulated,
    demo_sky,
    draw_fluxes,
    euclidean_counts,
    iau_name,
    point_sources,
    sources_per_square_degree,
)
from dsa110_assets_tests.reference_data import reference_data


@pytest.fixture(scope="module")
def strip():
    return demo_sky(
        seed=3, ra_range_deg=(350.0, 375.0), dec_range_deg=(52.0, 57.0), event=(100.0, 106.0), event_position_deg=(1.0, 54.0), min_jy=0.1
    )


def test_counts_equal_the_observed_ones():
    rows = [
        line.split()
        for line in reference_data("de_zotti_1p4.txt").read_text().splitlines()
        if line.strip() and line.strip()[0] in "-0123456789"
    ]
    observed = np.array([[float(value) for value in row[:3]] for row in rows])
    observed = observed[(observed[:, 0] > -1.45) & (observed[:, 0] < 0.4) & (observed[:, 2] < 0.15 * observed[:, 1])]
    assert len(observed) > 15
    ratio = euclidean_counts(10 ** observed[:, 0]) / observed[:, 1]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.05)
    assert np.percentile(np.abs(np.log(ratio)), 80) < 0.2  # the surveys themselves scatter by this much
    slopes = [np.polyfit(observed[:, 0], np.log10(counts), 1)[0] for counts in (observed[:, 1], euclidean_counts(10 ** observed[:, 0]))]
    assert slopes[1] == pytest.approx(slopes[0], abs=0.07)


def test_density_equals_that_of_the_nvss():
    nvss = pd.read_parquet(reference_data("nvss_above_50mJy.parquet"))
    cap = nvss[(nvss["dec_deg"] > 40) & (nvss["dec_deg"] < 70)]
    area = 360 * np.degrees(np.sin(np.radians(70)) - np.sin(np.radians(40)))
    observed = ((cap["peak_jy_per_beam"] > 0.12) & (cap["peak_jy_per_beam"] < 2.5)).sum() / area
    # NVSS peaks miss the extended third of the flux of some sources
    assert sources_per_square_degree(0.12, 2.5) == pytest.approx(observed, rel=0.25)


def test_drawn_fluxes_follow_the_counts():
    flux = draw_fluxes(np.random.default_rng(1), 40_000, 0.1, 3.0)
    edges = np.geomspace(0.1, 3.0, 9)
    seen, _ = np.histogram(flux, edges)
    density = [quad(lambda s: float(euclidean_counts(np.array(s))) * s**-2.5, a, b)[0] for a, b in itertools.pairwise(edges)]
    expected = 40_000 * np.array(density) / np.sum(density)
    assert (np.abs(seen - expected) < 4.5 * np.sqrt(expected)).all()


def test_demo_sky_has_no_blends_and_stays_in_its_strip(strip):
    where = SkyCoord(strip.ra_deg, strip.dec_deg, unit="deg")
    separation = where[2:, np.newaxis].separation(where[np.newaxis]).arcmin
    separation[np.arange(len(strip) - 2), np.arange(2, len(strip))] = np.inf
    assert separation.min() > 4.0
    assert ((strip.ra_deg[1:] >= 350) | (strip.ra_deg[1:] <= 15)).all()
    assert ((strip.dec_deg[1:] >= 52) & (strip.dec_deg[1:] <= 57)).all()
    assert strip.flux_jy.min() >= 0.1
    expected = 25 * np.degrees(np.sin(np.radians(57)) - np.sin(np.radians(52))) * sources_per_square_degree(0.1, 2.5)
    assert abs(len(strip) - 2 - expected) < 4 * np.sqrt(expected)
    assert len(set(strip.names)) == len(strip)


def test_demo_sky_is_the_same_for_the_same_seed(strip):
    again = demo_sky(
        seed=3, ra_range_deg=(350.0, 375.0), dec_range_deg=(52.0, 57.0), event=(100.0, 106.0), event_position_deg=(1.0, 54.0), min_jy=0.1
    )
    assert again.names == strip.names
    assert np.array_equal(again.flux_jy, strip.flux_jy)


def test_light_curves_follow_their_definitions(strip):
    event = strip.light_curves[1]
    assert isinstance(event, ScatteringEvent)
    assert event.factor(90.0) == pytest.approx(1.0, abs=1e-6)
    assert event.factor(103.0) == pytest.approx(0.5, abs=1e-6)
    assert event.factor(115.0) == pytest.approx(1.0, abs=1e-6)
    assert max(event.factor(t) for t in np.arange(99, 101, 0.01)) > 1.2
    assert max(event.factor(t) for t in np.arange(105, 107, 0.01)) > 1.2
    assert Tabulated((1.0, 2.0), (1.0, 0.4)).factor(1.5) == pytest.approx(0.7)
    assert Constant().factor(5.0) == 1.0
    variable = [c for c in strip.light_curves if isinstance(c, Sinusoid)]
    assert len(variable) == 8
    assert max(variable[0].factor(t) for t in np.arange(0, 14, 0.05)) == pytest.approx(1.13, abs=0.005)


def test_flux_at_has_spectrum_and_variability():
    sky = point_sources([10.0, 20.0], [0.0, 0.0], [1.0, 2.0], spectral_index=[-0.7, 0.0])
    np.testing.assert_allclose(sky.flux_at(0.0), [1.0, 2.0])
    np.testing.assert_allclose(sky.flux_at(0.0, np.array([1.4e9, 2.8e9])), [[1.0, 2**-0.7], [2.0, 2.0]])


def test_names_are_truncated_as_the_iau_recommends():
    assert iau_name(128.728767, 55.572520) == "J083454+553421"
    assert iau_name(0.001, -0.51) == "J000000-003036"


def test_calibrator_entry_equals_that_of_the_manual(tmp_path, strip):
    """The lines equal those of the real manual for 0834+555, except for the B1950 line and other bands."""
    files = write_reference_catalogs(strip, tmp_path)
    ours = files.vla_calibrators.read_text().splitlines()
    real = reference_data("vla_calibrators.txt").read_text().splitlines()
    start = next(i for i, line in enumerate(real) if line.startswith(CALIBRATOR_NAME))
    entry = [line.rstrip() for line in real[start : start + 12]]
    assert ours[:2] == real[:2]
    assert ours[3].rstrip() == entry[0]
    for line in ours[4:8]:
        assert line.split() in [candidate.split() for candidate in entry]


def test_catalogs_hold_only_quiescent_fluxes(tmp_path, strip):
    files = write_reference_catalogs(strip, tmp_path)
    nvss = pd.read_parquet(files.nvss)
    assert list(nvss.columns) == ["ra_deg", "dec_deg", "peak_jy_per_beam"]
    assert len(nvss) == len(strip)
    np.testing.assert_array_equal(nvss["peak_jy_per_beam"], strip.flux_jy)
    monitored = pd.read_csv(files.monitored)
    assert list(monitored.columns) == ["name", "ra_deg", "dec_deg"]
    assert strip.names[1] in set(monitored["name"])
    assert len(monitored) == 9


def test_truth_files_agree_with_the_sky(tmp_path, strip):
    parquet, as_json = write_truth(strip, tmp_path, {"a": 95.0, "b": 103.0}, {"event_source": strip.names[1]})
    table = pd.read_parquet(parquet)
    pd.testing.assert_frame_equal(table, flux_table(strip, {"a": 95.0, "b": 103.0}))
    content = json.loads(as_json.read_text())
    assert content["event_source"] == strip.names[1]
    row = next(s for s in content["sources"] if s["name"] == strip.names[1])
    assert row["flux_jy_b"] == pytest.approx(0.5 * row["flux_jy_a"], rel=1e-3)
    assert list(table["name"]) == list(strip.names)
