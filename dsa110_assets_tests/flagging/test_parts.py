"""Each part of the flagger against a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.errors import ChildFailedError
from dsa110_assets.flagging import allocate_shared, interference, sky_filter
from dsa110_assets.flagging.extension import extend
from dsa110_assets.flagging.shared import attach, descriptor_of
from dsa110_assets.flagging.sky_filter import sky_basis, subtract_sky
from dsa110_assets.flagging.threads import over_range

BAND = {"bandwidth_hz": 187.5e6, "duration_s": 309.2, "top_hz": 1.4986e9}


def fringes(length_m: float, offset_rad: float, n_chan: int, phase: float) -> np.ndarray:
    """A unit source at the edge of the beam, along the baseline: delay and rate follow from geometry."""
    freq = 1.3112e9 + (np.arange(n_chan) + 0.5) * 187.5e6 / n_chan
    time = (np.arange(24) - 11.5) * 12.8849
    delay = length_m * offset_rad / 299_792_458.0 * (1 + 7.292e-5 * time)
    return np.exp(2j * np.pi * delay[:, None] * freq + 1j * phase)


@pytest.mark.parametrize("n_chan", [128, 768])
@pytest.mark.parametrize("length_m", [6.0, 100.0, 450.0, 1200.0])
def test_sources_in_the_beam_are_subtracted_to_below_the_noise(length_m: float, n_chan: int) -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(24, n_chan, 2)) + 1j * rng.normal(size=(24, n_chan, 2))
    sky = 30 * fringes(length_m, 0.013, n_chan, 0.3) + 20 * fringes(length_m, -0.024, n_chan, 1.0)
    vis = (noise + sky[:, :, None]).astype(np.complex64)
    residual, sigma = subtract_sky(vis, np.zeros(vis.shape, dtype=bool), sky_basis(length_m, 24, n_chan, **BAND))
    assert np.abs(residual).max() < 6.5  # pure noise of 37 000 samples reaches 4.6
    assert sigma == pytest.approx([1.0, 1.0], abs=0.25)  # the fit takes part of the noise


def test_the_sequences_equal_scipys() -> None:
    from scipy.signal.windows import dpss

    mine, theirs = sky_filter._sequences(256, 12), dpss(256, 6, 15).T
    overlap = np.abs(mine.T @ theirs)
    np.testing.assert_allclose(np.sort(overlap.max(axis=0)), 1, atol=1e-5)
    np.testing.assert_allclose(mine.T @ mine, np.eye(15), atol=1e-5)


def test_a_burst_does_not_leak_into_other_integrations() -> None:
    rng = np.random.default_rng(6)
    vis = rng.normal(size=(24, 256, 2)) + 1j * rng.normal(size=(24, 256, 2)) + 20 * fringes(450.0, 0.013, 256, 0.0)[:, :, None]
    vis[9, 60:200] += 5000.0
    residual, _ = subtract_sky(vis.astype(np.complex64), np.zeros(vis.shape, dtype=bool), sky_basis(450.0, 24, 256, **BAND))
    assert np.abs(residual[9, 60:200]).min() > 4000
    residual[9, 60:200] = 0
    assert np.abs(residual).max() < 7


def brute_force_sir(flags: np.ndarray, eta: float) -> np.ndarray:
    """The operator by its definition: flag every interval of which at least 1 - eta is flagged."""
    out = np.zeros_like(flags)
    for first in range(flags.size):
        for last in range(first + 1, flags.size + 1):
            if flags[first:last].sum() >= (1 - eta) * (last - first) - 1e-9:
                out[first:last] = True
    return out


@pytest.mark.parametrize("eta", [0.1, 0.2, 0.5])
def test_the_rank_operator_equals_its_definition(eta: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(6):
        flags = rng.random((24, 40)) < rng.choice([0.05, 0.4, 0.8])
        none = np.zeros_like(flags)
        expected = np.array([brute_force_sir(row, eta) for row in flags]) | np.array([brute_force_sir(c, eta) for c in flags.T]).T
        np.testing.assert_array_equal(extend(flags, none, eta), expected)


def test_missing_samples_neither_stop_nor_support_the_extension() -> None:
    flags = np.zeros((24, 100), dtype=bool)
    flags[:, 20:40] = True
    missing = np.zeros_like(flags)
    missing[:, 40:60] = True
    wide = extend(flags, missing, 0.1)
    assert not (wide & missing).any()
    assert wide[:, 60:62].all()  # across the gap: a tenth of 20 flagged
    assert not wide[:, 63:].any()


def test_a_shared_array_can_be_mapped_by_its_descriptor() -> None:
    array = allocate_shared((3, 4), np.float32)
    array[1, 2] = 5
    descriptor = descriptor_of(array)
    assert descriptor is not None
    other = attach(descriptor, (3, 4), "float32")
    other[0, 0] = 7
    assert array[0, 0] == 7
    assert other[1, 2] == 5
    assert descriptor_of(array[1:]) is None
    assert descriptor_of(np.zeros(3)) is None


def test_shared_arrays_release_their_descriptors() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(6):
        allocate_shared((1000,), np.float64)[0] = 1
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_ranges_cover_everything_once() -> None:
    for size in (0, 1, 7, 100):
        for threads in (1, 3, 8):
            pieces = over_range(lambda first, last: list(range(first, last)), size, threads=threads)
            assert [n for piece in pieces for n in piece] == list(range(size))


def flag_ones(**options) -> None:
    vis = np.ones((4, 2, 16, 2), dtype=np.complex64)
    interference.flag_interference(
        vis,
        np.zeros(vis.shape, dtype=np.uint8),
        crosses=np.array([0, 1]),
        ant_1=np.array([0, 0], dtype=np.int32),
        ant_2=np.array([1, 2], dtype=np.int32),
        baseline_length_m=np.array([10.0, 20.0]),
        freq_hz=1.4e9 + np.arange(16) * 1e6,
        integration_s=12.88,
        gain=np.ones((3, 16, 2), dtype=np.float32),
        clip_sigma=7.0,
        **options,
    )


def test_the_error_of_a_flagger_that_dies_quotes_its_last_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = tmp_path / "broken.lua"
    strategy.write_text("function execute(input)\n error('no strategy')\nend\n")
    monkeypatch.setattr(interference, "STRATEGY", strategy)
    with pytest.raises(ChildFailedError, match="no strategy"):
        flag_ones()


def test_the_plot_shows_the_report(tmp_path: Path) -> None:
    from matplotlib.image import imread

    from dsa110_assets.flagging import FlagReport
    from dsa110_assets.flagging.picture import plot_flags

    def plot(**changes) -> np.ndarray:
        values = {
            "fraction": 0.1,
            "by_reason": {"rfi": 0.08, "zero": 0.02, "pickup": 0.0},
            "by_antenna": {str(n): 0.1 for n in range(1, 97)},
            "by_channel": (0.1,) * 768,
            "freq_hz": tuple(1.311e9 + 244140.625 * np.arange(768)),
            "by_baseline_m": ((0.0, 50.0, 0.3), (50.0, 100.0, 0.05)),
            "dead_receptors": (),
            "dead_antennas": (),
        }
        plot_flags(FlagReport(**(values | changes)), tmp_path / "flags.png", title="2026-03-12T05:09:39")
        assert (tmp_path / "flags.png").stat().st_size < 50_000  # the limit of Dagster's metadata
        return imread(tmp_path / "flags.png")[..., :3]

    plain = plot()
    for changes in (
        {"by_reason": {"rfi": 0.02, "zero": 0.08, "pickup": 0.0}},
        {"by_antenna": {str(n): 0.1 * (n != 40) for n in range(1, 97)}},
        {"by_channel": (0.1,) * 400 + (0.9,) * 8 + (0.1,) * 360},
        {"by_baseline_m": ((0.0, 50.0, 0.05), (50.0, 100.0, 0.3))},
    ):
        changed = np.argwhere(np.abs(plot(**changes) - plain).max(axis=-1) > 0.3)
        low, high = changed.min(axis=0), changed.max(axis=0)
        assert len(changed) > 20
        assert np.all(high - low < np.array(plain.shape[:2]) * 0.56)  # only one of the four panels changes
