"""Pitfall 10: a calibrator without a 20 cm flux silently got 1.0 or 2.5 Jy. No flux: no calibration, a clear error."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.calibration.model import build_model
from dsa110_assets.catalogs import calibrators, sky
from dsa110_assets.common.directions import TilePointing
from dsa110_assets.errors import FluxScaleError, NoCalibratorError
from dsa110_assets_tests.catalogs.manual import MANUAL

CATALOG = calibrators.parse_manual(MANUAL)


def tile_on(star):
    ra = star.ra_deg + np.linspace(-0.6, 0.6, 24)
    return TilePointing(61_100 + np.arange(24) * 1.5e-4, ra % 360, np.full(24, star.dec_deg), star.ra_deg, star.dec_deg)


@pytest.mark.parametrize("name", ["1911+161", "0922-399", "1256-057"])
def test_pitfall_10_a_calibrator_without_flux_is_refused(name):
    star = calibrators.find(CATALOG, name)
    assert star.flux_jy is None
    with pytest.raises(FluxScaleError, match=f"{name.replace('+', chr(92) + '+')}.*no flux density"):
        star.flux_at_jy()
    assert calibrators.in_tile(CATALOG, tile_on(star), compact_only=False) == []
    with pytest.raises(NoCalibratorError):
        calibrators.require_in_tile(CATALOG, tile_on(star), subject="2026-03-01T00:00:00")


def test_pitfall_10_a_variable_source_never_sets_the_scale():
    star = calibrators.find(CATALOG, "3C454.3")
    assert star.flux_jy == 10.0
    assert not star.sets_flux_scale
    with pytest.raises(FluxScaleError, match="varies"):
        star.flux_at_jy()
    assert calibrators.in_tile(CATALOG, tile_on(star)) == []
    assert calibrators.in_tile(CATALOG, tile_on(star), include_variable=True) == [star]
    with pytest.raises(FluxScaleError, match="2253"):
        calibrators.require_in_tile(CATALOG, tile_on(star), subject="2026-03-01T00:00:00")


def test_pitfall_10_a_model_with_a_source_of_unknown_flux_is_refused():
    star = calibrators.find(CATALOG, "0834+555")
    field = pd.DataFrame([["unknown", star.ra_deg, star.dec_deg, np.nan, np.nan]], columns=list(sky.COLUMNS))
    with pytest.raises(FluxScaleError, match="unknown"):
        build_model(field, tile_on(star), np.array([1.40e9, 1.41e9]))
