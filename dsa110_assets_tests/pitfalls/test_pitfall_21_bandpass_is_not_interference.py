"""Pitfall 21: bandpass features (a line at 1422 MHz, subband edges) taken for interference, or the reverse."""

from __future__ import annotations

import numpy as np

from dsa110_assets.conversion.tile import read_tile
from dsa110_assets.flagging import flag_visibilities
from dsa110_assets_tests.conftest import RawTile


def _flags(tile, vis: np.ndarray) -> np.ndarray:
    reasons = tile.reasons.copy()
    flag_visibilities(
        vis,
        reasons,
        ant_1=tile.ant_1,
        ant_2=tile.ant_2,
        antenna_names=tile.header.antenna_names,
        baseline_length_m=np.linalg.norm(tile.uvw_m[0], axis=1),
        freq_hz=tile.freq_hz,
    )
    return reasons[:, tile.ant_1 != tile.ant_2] != 0


def test_pitfall_21_edges_and_lines_of_the_bandpass_are_kept_and_a_carrier_is_flagged(demo_raw_tile: RawTile) -> None:
    tile = read_tile(dict(enumerate(demo_raw_tile.files)), 16, np.zeros)
    plain = _flags(tile, tile.vis.copy())
    rng = np.random.default_rng(21)
    n_chan, n_ant = tile.freq_hz.size, len(tile.header.antenna_names)
    gain = np.ones((n_ant, n_chan))
    edges = np.isin(np.arange(n_chan) % 8, (0, 7))
    gain[:, edges] *= rng.uniform(0.3, 0.6, (n_ant, 1))  # the filter bank's response drops at subband edges
    line = np.abs(tile.freq_hz - 1422e6).argmin()
    gain[:, line] *= rng.uniform(1.3, 2.5, n_ant)
    shaped = tile.vis * (gain[tile.ant_1] * gain[tile.ant_2])[None, :, :, None].astype(np.float32)
    flags = _flags(tile, shaped.astype(np.complex64))
    assert flags.mean() < plain.mean() + 0.002
    assert flags[:, :, line].mean() < 0.01
    assert flags[:, :, edges].mean() < 0.01

    carrier = shaped.astype(np.complex64)
    cross = tile.ant_1 != tile.ant_2
    noise = np.abs(carrier[:, cross][:, :, line]).mean()
    turning = np.exp(1j * rng.uniform(0, 2 * np.pi, (24, int(cross.sum()), 1)))  # a fixed transmitter: the sky's fringes turn it
    carrier[:, cross, line] += (30 * noise * turning).astype(np.complex64)
    assert _flags(tile, carrier)[:, :, line].mean() > 0.95
