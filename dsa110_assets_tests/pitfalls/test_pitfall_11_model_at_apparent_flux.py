"""Pitfall 11: the calibrator's model at full flux although it is off the beam's center, or MODEL_DATA left at zero."""

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration.model import predict_model
from dsa110_assets.calibration.solve import solve
from dsa110_assets.errors import CalibrationQualityError, NonRetriableError
from dsa110_assets_tests.calibration.small_ms import airy, source_frame, write_small_ms

CENTRE = (128.7, 55.4)


def test_pitfall_11_model_is_the_apparent_flux_of_each_integration_and_channel(tmp_path):
    """The amplitude of a source 1 deg north of the beam is flux x beam of the integration, never the flux."""
    sky = source_frame([("off axis", 128.7, 56.4, 10.0, 0.0)])
    tile = write_small_ms(tmp_path / "tile.ms", sky, center=CENTRE, n_ant=4, n_time=24)
    predict_model(tile.path, sky, smearing=False)
    with table(str(tile.path), ack=False) as ms:
        amplitude = np.abs(ms.getcol("MODEL_DATA")[..., 0]).reshape(24, -1, tile.frequency_hz.size)
    hour_angle = np.radians(12.884901888 * 360 / 86164.0905) * (np.arange(24) - 11.5)
    d1, d2 = np.radians(55.4), np.radians(56.4)
    separation = np.arccos(np.sin(d1) * np.sin(d2) + np.cos(d1) * np.cos(d2) * np.cos(hour_angle))
    expected = 10.0 * airy(separation[:, None], tile.frequency_hz[None, :])
    np.testing.assert_allclose(amplitude, np.broadcast_to(expected[:, None, :], amplitude.shape), rtol=1e-5)
    assert amplitude.max() < 7.5
    assert np.ptp(amplitude[:, 0, 0]) > 0.1  # it drifts


def test_pitfall_11_a_zero_model_is_refused(tmp_path):
    sky = source_frame([("a", 128.7, 55.5, 10.0, 0.0)])
    tile = write_small_ms(tmp_path / "tile.ms", sky, n_ant=4, n_time=1)
    with pytest.raises(NonRetriableError, match="MODEL_DATA"):
        solve(tile.path, tmp_path / "tables")  # no sky, no model
    predict_model(tile.path, sky, smearing=False)
    with table(str(tile.path), readonly=False, ack=False) as ms:
        ms.putcol("MODEL_DATA", np.zeros_like(ms.getcol("MODEL_DATA")))
    with pytest.raises(CalibrationQualityError, match="zero"):
        solve(tile.path, tmp_path / "tables")


def test_pitfall_11_no_source_in_the_field_is_an_error_not_a_zero_model(tmp_path):
    tile = write_small_ms(tmp_path / "tile.ms", source_frame([("a", 128.7, 55.5, 10.0, 0.0)]), n_ant=4, n_time=1)
    with pytest.raises(NonRetriableError, match="no source"):
        predict_model(tile.path, source_frame([("elsewhere", 10.0, 55.5, 10.0, 0.0)]))
    with table(str(tile.path), ack=False) as ms:
        assert "MODEL_DATA" not in ms.colnames()
