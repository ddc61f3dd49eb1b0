"""Pitfall 13: imaging refuses an uncalibrated Measurement Set and never falls back to another column."""

from __future__ import annotations

import shutil

import pytest

from dsa110_assets.errors import ImagingError, MeasurementSetError
from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets_tests.imaging.synthetic_ms import write_tile


def test_pitfall_13_every_engine_refuses_data_without_the_calibration_mark(tmp_path):
    from casacore.tables import table

    tile = write_tile(tmp_path / "c.ms", [], n_antenna=6, n_time=2, n_channel=4)
    raw = tmp_path / "raw.ms"
    shutil.copytree(tile.ms, raw)
    with table(str(raw), readonly=False, ack=False) as main:
        main.removekeyword("DSA110_CALIBRATED")
    for engine in ("wgridder", "wproject", "wsclean"):
        with pytest.raises(MeasurementSetError, match="not calibrated"):
            image_tile(raw, tmp_path, "t", ImagingOptions(engine=engine, image_size=64, cell_arcsec=10.0), mask_sky=None, provenance={})
    assert list(tmp_path.glob("*.fits")) == []


def test_pitfall_13_calibrated_data_that_are_all_zero_are_refused(tmp_path):
    from casacore.tables import table

    tile = write_tile(tmp_path / "z.ms", [], n_antenna=6, n_time=2, n_channel=4)
    with table(str(tile.ms), readonly=False, ack=False) as main:
        main.putcol("DATA", 0 * main.getcol("DATA"))
    with pytest.raises(ImagingError, match="noise of the residual is 0"):
        image_tile(tile.ms, tmp_path, "t", ImagingOptions(image_size=64, cell_arcsec=10.0), mask_sky=None, provenance={})
