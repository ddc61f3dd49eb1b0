"""The flux scale equals the published one, as recorded in CASA's own data package, and refuses to extrapolate."""

import casadata
import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.catalogs import perley_butler_2017
from dsa110_assets.errors import FluxScaleError


@pytest.mark.parametrize("name", sorted(perley_butler_2017.STANDARDS))
def test_coefficients_equal_casas(name):
    with table(f"{casadata.datapath}/nrao/VLA/standards/PerleyButler2017Coeffs", ack=False) as published:
        latest = published.getcell(f"{name}_coeffs", published.nrows() - 1)
    frequency = np.linspace(1.3e9, 1.5e9, 5)
    expected = 10 ** sum(float(a) * np.log10(frequency / 1e9) ** i for i, a in enumerate(latest))
    np.testing.assert_allclose(perley_butler_2017.flux_jy(name, frequency), expected, rtol=1e-6)


def test_spectral_index_is_the_slope_of_the_flux():
    for name in perley_butler_2017.STANDARDS:
        low, high = perley_butler_2017.flux_jy(name, [1.3999e9, 1.4001e9])
        slope = np.log(high / low) / np.log(1.4001 / 1.3999)
        assert perley_butler_2017.spectral_index(name, 1.4e9) == pytest.approx(slope, abs=1e-6)


def test_a_source_or_a_frequency_outside_the_scale_is_refused():
    with pytest.raises(FluxScaleError, match="not a standard"):
        perley_butler_2017.flux_jy("3C454.3", 1.4e9)
    with pytest.raises(FluxScaleError, match="outside"):
        perley_butler_2017.flux_jy("3C380", 8e9)
