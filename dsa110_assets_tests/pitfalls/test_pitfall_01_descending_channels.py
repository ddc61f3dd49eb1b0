"""Pitfall 1: subbands and channels descend in raw files; a Measurement Set has one window of ascending channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dsa110_assets.conversion import convert_observation
from dsa110_assets.simulation.array import tiny_array
from dsa110_assets.simulation.band import BandPlan
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets_tests.conftest import make_raw_tile


def test_pitfall_01_a_steep_spectrum_decreases_along_one_ascending_window(tmp_path: Path) -> None:
    from casacore.tables import table

    start_mjd, n = 61_100.2, 4
    lst_deg = local_sidereal_time_deg(start_mjd + n / 2 * 12.9 / 86400)
    sky = point_sources([lst_deg % 360], [54.6], [10.0], spectral_index=-4.0)
    raw = make_raw_tile(
        tmp_path / "raw",
        array=tiny_array(),
        band=BandPlan(4),
        n_integrations=n,
        start_mjd=start_mjd,
        sky=sky,
        receivers=Receivers.perfect(),
        noise=False,
    )
    shuffled = dict(sorted(enumerate(raw.files), key=lambda item: item[0] * 7 % 16))
    convert_observation(shuffled, tmp_path / "a.ms", flag_rfi=False)
    with table(str(tmp_path / "a.ms::SPECTRAL_WINDOW"), ack=False) as spw:
        assert spw.nrows() == 1
        freq, width = spw.getcell("CHAN_FREQ", 0), spw.getcell("CHAN_WIDTH", 0)
    assert freq.size == 64
    np.testing.assert_allclose(np.diff(freq), 187.5e6 / 64, rtol=1e-9)
    np.testing.assert_allclose(width, 187.5e6 / 64, rtol=1e-9)
    assert freq[0] - width[0] / 2 == np.float64(1498.6431884765625e6 + 244140.625 / 2 - 187.5e6)
    with table(str(tmp_path / "a.ms"), ack=False) as ms:
        cross = ms.getcol("ANTENNA1") != ms.getcol("ANTENNA2")
        amplitude = np.abs(ms.getcol("DATA")[cross]).mean(axis=(0, 2))
    # each channel has the source's flux at its own frequency, times the beam
    truth = sky.flux_at(start_mjd, freq)
    np.testing.assert_allclose(amplitude / np.ravel(truth), (amplitude / np.ravel(truth)).mean(), rtol=0.01)
    assert np.all(np.diff(amplitude) < 0)
    assert amplitude[0] / amplitude[-1] > 1.6
