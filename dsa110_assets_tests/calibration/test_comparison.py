"""Tables are chosen by what they do to the tile: the nearest ones stay, unless the gains have jumped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.calibration.caltable import CalTable
from dsa110_assets.calibration.comparison import MIN_SIGNIFICANCE, compare_tables
from dsa110_assets.errors import NoModelError
from dsa110_assets_tests.calibration.small_ms import SmallMs, source_frame, write_small_ms

SKY = [("a", 128.4, 55.7, 0.3, -0.7), ("b", 129.9, 55.1, 0.25, np.nan), ("c", 128.9, 54.9, 0.12, -0.7), ("d", 127.9, 55.6, 0.3, -0.7)]
SIGMA_JY = 6500.0 / np.sqrt(2 * 4 * 244140.625 * 12.884901888)
ANTENNAS = slice(100, 112)


@pytest.fixture(scope="module")
def tile(tmp_path_factory) -> SmallMs:
    """An ordinary field, far from a calibrator: 0.9 Jy in all, and the noise of the telescope."""
    directory = tmp_path_factory.mktemp("jump")
    return write_small_ms(directory / "tile.ms", source_frame(SKY), n_ant=12, n_chan=32, n_time=6, noise=SIGMA_JY)


def tables_of(gain: np.ndarray, tile: SmallMs) -> list[CalTable]:
    gain = gain[None]
    n = tile.frequency_hz.size
    return [
        CalTable(
            Path("tables"),
            "B Jones",
            np.array([61_100.25 * 86400.0]),
            tile.frequency_hz,
            np.full(n, 4 * 244140.625),
            np.zeros(n, dtype=int),
            gain,
            np.zeros(gain.shape, bool),
            np.ones(gain.shape),
            tuple(str(i + 1) for i in range(117)),
            (),
            None,
        )
    ]


def jumped(tile: SmallMs, *, phase_deg: float = 0.0, amplitude: float = 0.0, scale: float = 1.0, seed: int = 3) -> list[CalTable]:
    """Tables whose receptors differ from the tile's gains."""
    rng = np.random.default_rng(seed)
    gain = tile.gain.copy()
    turn = np.exp(1j * np.radians(rng.normal(0, phase_deg, (12, 1, 2))))
    gain[ANTENNAS] *= scale * turn * np.exp(rng.normal(0, amplitude, (12, 1, 2)))
    return tables_of(gain, tile)


@pytest.mark.parametrize(
    "change",
    [{"phase_deg": 180.0}, {"phase_deg": 40.0}, {"amplitude": 0.5}, {"scale": 2.0}, {"scale": 0.5}],
    ids=str,
)
def test_after_a_jump_of_the_gains_the_other_tables_win(tile, change):
    found = compare_tables(tile.path, [jumped(tile, **change), jumped(tile, phase_deg=3.0)], tile.sky, smearing=False)
    assert found.best == 1
    assert found.significance > MIN_SIGNIFICANCE
    back = compare_tables(tile.path, [jumped(tile, phase_deg=3.0), jumped(tile, **change)], tile.sky, smearing=False)
    assert back.best == 0
    assert back.significance == pytest.approx(-found.significance)


def test_it_takes_no_jump_to_be_won_by_noise(tile):
    """Forty sets of tables as good as the nearest ones: none replaces them."""
    pulls = [
        compare_tables(tile.path, [jumped(tile, phase_deg=2.0), jumped(tile, phase_deg=2.0, seed=seed)], tile.sky, smearing=False)
        for seed in range(10, 50)
    ]
    assert all(one.best == 0 for one in pulls)
    assert max(abs(one.significance) for one in pulls) < MIN_SIGNIFICANCE - 1


def test_the_flux_scale_is_not_drawn_to_the_catalog(tile):
    """A catalog 15 % too bright, and tables that would make the sky agree with it: the nearest ones stay."""
    bright = tile.sky.assign(flux_jy=tile.sky["flux_jy"] * 1.15)
    flattering = jumped(tile, scale=1 / np.sqrt(1.15))
    found = compare_tables(tile.path, [tables_of(tile.gain, tile), flattering], bright, smearing=False)
    assert found.best == 0
    assert abs(found.significance) < 2.0
    assert found.scales[0] == pytest.approx(1 / 1.15, abs=0.05)


def test_a_jump_is_seen_with_half_the_sky_missing_from_the_catalog(tile):
    found = compare_tables(tile.path, [jumped(tile, phase_deg=180.0), tables_of(tile.gain, tile)], tile.sky.iloc[:2], smearing=False)
    assert found.best == 1
    assert found.n_sources == 2


def test_antennas_without_a_solution_are_left_out_of_the_comparison_alike(tile):
    """Tables that flag most antennas are not worse for it, and a flagged value is never used."""
    true = tables_of(tile.gain, tile)[0]
    flag = true.flag.copy()
    flag[:, 104:] = True
    gain = np.where(flag, 1e9, true.gain)
    found = compare_tables(tile.path, [[replace(true, gain=gain, flag=flag)], [true]], tile.sky, smearing=False)
    assert (found.best, found.significance) == (0, 0.0)


def test_without_a_source_there_is_nothing_to_compare_with(tile):
    with pytest.raises(NoModelError):
        compare_tables(tile.path, [tables_of(tile.gain, tile)] * 2, tile.sky, min_apparent_jy=5.0, smearing=False)
