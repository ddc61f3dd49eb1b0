"""Structure of primary calibrators: CASA's transform of its models agrees; standards without a model are refused."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration.model import predict_model
from dsa110_assets.calibration.resolved import components, with_structure
from dsa110_assets.errors import FluxScaleError
from dsa110_assets_tests.calibration.small_ms import source_frame, write_small_ms

STAR, RA_DEG, DEC_DEG = "3C138", np.degrees(1.40134565), np.degrees(0.29041334)
"""The standard with the largest phase shift, and the reference direction of its model in CASA's image."""


def test_components_transform_as_casas_model_image(tmp_path):
    """Compares the exact transform of each pixel of CASA's image, CASA's ft of it, and our components' prediction.

    Beam and smearing are off.
    """
    import casadata

    ra_deg, dec_deg = RA_DEG, DEC_DEG
    point = source_frame([(STAR, ra_deg, dec_deg, 22.0, 0.0)])
    tile = write_small_ms(tmp_path / "tile.ms", point, n_ant=8, n_time=1, n_chan=2, center=(ra_deg, dec_deg))
    with table(str(tile.path), readonly=False, ack=False) as ms:  # baselines of the real array's size: up to 2.6 km
        uvw = ms.getcol("UVW")
        uvw[:, :2] *= 2500 / np.hypot(uvw[:, 0], uvw[:, 1]).max()
        uvw[:, 2] = 0
        ms.putcol("UVW", uvw)
    with table(f"{tile.path}::POINTING", readonly=False, ack=False) as pointing:
        pointing.putcol("DIRECTION", np.broadcast_to(np.radians([ra_deg, dec_deg]), (pointing.nrows(), 1, 2)).copy())
    shutil.copytree(tile.path, tmp_path / "casa.ms")
    image = f"{casadata.datapath}/nrao/VLA/CalModels/{STAR}_L.im"
    script = f"import dsa110_assets, casatasks\ncasatasks.ft(vis='casa.ms', model={image!r}, usescratch=True)\n"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=200, capture_output=True)
    predict_model(tile.path, with_structure(point), smearing=False)
    with table(str(tmp_path / "casa.ms"), ack=False) as casa, table(str(tile.path), ack=False) as ours:
        uvw = ours.getcol("UVW")
        cross = ours.getcol("ANTENNA1") != ours.getcol("ANTENNA2")  # ft leaves autocorrelations at zero
        expected, mine = casa.getcol("MODEL_DATA")[cross], ours.getcol("MODEL_DATA")[cross]
    with table(f"{tile.path}::SPECTRAL_WINDOW", ack=False) as window:
        freq_hz = window.getcell("CHAN_FREQ", 0)
    from casacore.images import image as open_image

    pixels = np.asarray(open_image(image).getdata(), dtype=float).squeeze()
    direction = open_image(image).coordinates().get_coordinate("direction")
    step, middle = direction.get_increment(), direction.get_referencepixel()  # (dec, ra), rad
    row, column = np.nonzero(pixels)
    north, east = (row - middle[0]) * step[0], (column - middle[1]) * step[1]
    path = (np.outer(uvw[cross, 0], east) + np.outer(uvw[cross, 1], north))[:, None, :] * (freq_hz / 299_792_458.0)[None, :, None]
    exact = (np.exp(2j * np.pi * path) @ pixels[row, column])[:, :, None]
    total_jy = pixels.sum()
    assert np.abs(mine - 22.0).max() > 0.02 * 22.0  # it is resolved
    assert np.abs(mine / 22.0 - exact / total_jy).max() < 1e-3
    assert np.abs(expected - exact).max() / total_jy < 6e-3  # CASA's degridding error, ten times that of merged components


@pytest.mark.parametrize("name", ["3C48", "3C138", "3C147", "3C286"])
def test_the_core_is_at_the_catalog_position_and_no_flux_is_lost(name):
    share, east, north = components(name)
    assert share.sum() == pytest.approx(1, abs=1e-12)
    assert np.hypot(east[0], north[0]) < 0.3
    assert share[0] > 0.3
    radius = np.hypot(east, north)
    assert radius[np.abs(share) > 0.001].max() < 5.0
    assert share.size < 60  # few enough to predict


def test_a_standard_becomes_its_components_and_others_stay():
    sky = source_frame([("1331+305", 202.7845, 30.5092, 15.0, -0.5), ("b", 203.0, 30.0, 1.0, np.nan)])
    result = with_structure(sky)
    assert result["name"].iloc[0] == "1331+305"
    assert result["flux_jy"].sum() == pytest.approx(16.0)
    assert result["name"].iloc[-1] == "b"
    assert len(result) > 2
    others = source_frame([("0834+555", 128.7, 55.5, 8.8, -0.36)])
    assert with_structure(others) is others


@pytest.mark.parametrize("name", ["3C123", "3C196", "1411+522"])
def test_a_standard_without_a_model_is_refused(name):
    with pytest.raises(FluxScaleError, match=r"resolves, and has no L-band model"):
        with_structure(source_frame([(name, 10.0, 29.0, 20.0, -0.8)]))
