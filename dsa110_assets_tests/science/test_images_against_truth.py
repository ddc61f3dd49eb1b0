"""Images of three simulated fields have the true fluxes in each ring of the beam, positions, errors and completeness.

A small version of `benchmarks.image_science`: declinations +54.6 and +16.3, and across 0h; 24 antennas, 60 sources from
5 to 300 sigma in each field.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.image_science import RINGS_DEG, Measured, Setup, fields, observe


@pytest.fixture(scope="module")
def measured() -> dict[str, Measured]:
    return {name: observe(dec, start, Setup.small(), seed) for seed, (name, dec, start) in enumerate(fields(), start=1)}


@pytest.fixture(scope="module")
def sources(measured: dict[str, Measured]) -> pd.DataFrame:
    return pd.concat([field.sources for field in measured.values()])


@pytest.mark.parametrize("ring", RINGS_DEG)
def test_median_flux_is_right_in_each_ring_of_the_beam(sources: pd.DataFrame, ring: tuple[float, float]):
    strong = sources[(sources["snr"] > 20) & sources["radius_deg"].between(*ring, inclusive="left")]
    error = 1.2533 * np.sqrt((1 / strong["snr"] ** 2).mean() / len(strong))
    assert len(strong) >= 5
    assert strong["ratio"].median() == pytest.approx(1.0, abs=max(0.01, 3 * error))


def test_positions_are_right_in_each_field(measured: dict[str, Measured]):
    for name, field in measured.items():
        for axis in ("east", "north"):
            assert abs(np.median(getattr(field.exact, f"{axis}_arcsec"))) < 0.1, (name, axis)


def test_errors_of_fluxes_describe_their_scatter_below_and_above_50_sigma(sources: pd.DataFrame):
    for chosen in (sources["snr"] < 50, sources["snr"] >= 50):
        pull = sources["pull"][chosen]
        assert abs(pull.mean()) < 3.5 / np.sqrt(len(pull))
        assert pull.std() == pytest.approx(1.0, abs=max(0.1, 2 / np.sqrt(2 * len(pull))))


@pytest.mark.parametrize("axis", ["east", "north"])
def test_errors_of_positions_describe_their_scatter_below_and_above_50_sigma(measured: dict[str, Measured], axis: str):
    pull = np.concatenate([getattr(one.exact, f"{axis}_arcsec") / getattr(one.exact, f"{axis}_error_arcsec") for one in measured.values()])
    snr = np.concatenate([one.exact.snr for one in measured.values()])
    for chosen in (pull[snr < 50], pull[snr >= 50]):
        assert chosen.size > 40
        assert abs(chosen.mean()) < 3.5 / np.sqrt(chosen.size)
        assert chosen.std() == pytest.approx(1.0, abs=max(0.1, 2.5 / np.sqrt(2 * chosen.size)))


def test_noise_is_thermal_and_every_source_above_8_sigma_is_found(measured: dict[str, Measured]):
    for name, field in measured.items():
        assert field.report.noise_jy_per_beam == pytest.approx(field.report.thermal_jy_per_beam, rel=0.05), name
        assert field.sources["seen"][field.sources["snr"] > 8].all(), name
