"""Predicted visibilities equal CASA's own transform of the same source, and a direct sum through the drifting beam."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration.model import build_model, predict_model
from dsa110_assets.common.directions import TilePointing
from dsa110_assets.errors import NonRetriableError
from dsa110_assets_tests.calibration.small_ms import source_frame, write_small_ms


def read(ms, column):
    with table(str(ms), ack=False) as main:
        return main.getcol(column)


def test_model_equals_a_direct_sum_through_the_drifting_beam(tmp_path, calibrator_sky):
    tile = write_small_ms(tmp_path / "tile.ms", calibrator_sky)
    report = predict_model(tile.path, calibrator_sky, smearing=False)
    model = read(tile.path, "MODEL_DATA")
    for polarization in range(2):  # unpolarized: XX = YY = I
        assert np.abs(model[..., polarization] - tile.model).max() < 1e-6 * np.abs(tile.model).max()
    assert report.n_sources == 3
    assert report.brightest == "0834+555"


def test_model_equals_casas_transform_of_a_point_source(tmp_path):
    """Every integration points at the source, which is off the phase center, so that the beam does not matter."""
    sky = source_frame([("off axis", 129.9, 56.1, 2.0, 0.0)])
    tile = write_small_ms(tmp_path / "tile.ms", sky, n_ant=6, n_time=2)
    with table(f"{tile.path}::POINTING", readonly=False, ack=False) as pointing:
        pointing.putcol("DIRECTION", np.broadcast_to(np.radians([129.9, 56.1]), (pointing.nrows(), 1, 2)).copy())
    shutil.copytree(tile.path, tmp_path / "casa.ms")
    predict_model(tile.path, sky, smearing=False)
    script = (
        "import dsa110_assets, casatools, casatasks\n"
        "cl = casatools.componentlist()\n"
        "cl.addcomponent(dir='ICRS 129.9deg 56.1deg', flux=2.0, fluxunit='Jy', freq='1.4GHz', shape='point')\n"
        "cl.rename('point.cl'); cl.close()\n"
        "casatasks.ft(vis='casa.ms', complist='point.cl', usescratch=True)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=200, capture_output=True)
    expected, mine = read(tmp_path / "casa.ms", "MODEL_DATA"), read(tile.path, "MODEL_DATA")
    assert np.abs(expected).max() == pytest.approx(2.0, rel=1e-4)
    assert np.abs(mine - expected).max() < 2e-4  # CASA computes phases in single precision


def test_only_bright_sources_in_the_beam_enter_the_model():
    pointing = TilePointing(61_100 + np.arange(5) * 1e-4, np.linspace(359.5, 0.7, 5) % 360, np.full(5, 40.0), 0.1, 40.0)
    pointing = TilePointing(pointing.time_mjd, np.array([359.5, 359.8, 0.1, 0.4, 0.7]), pointing.dec_deg, 0.1, 40.0)
    sky = source_frame(
        [
            ("near", 0.3, 40.2, 0.06, np.nan),
            ("faint", 0.3, 40.4, 0.04, np.nan),
            ("dimmed", 0.1, 42.2, 0.2, np.nan),
            ("far", 0.1, 50.0, 90.0, np.nan),
        ]
    )
    assert build_model(sky, pointing, np.array([1.4e9])).names == ("near",)
    with pytest.raises(NonRetriableError, match="no source"):
        build_model(sky, pointing, np.array([1.4e9]), min_apparent_jy=1.0)
