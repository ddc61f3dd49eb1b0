"""Each part of the flagger against a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.flagging import _interference_kernels as kernels
from dsa110_assets.flagging import sky_filter
from dsa110_assets.flagging.sky_filter import sky_basis
from dsa110_assets.flagging.threads import over_range

BAND = {"bandwidth_hz": 187.5e6, "duration_s": 309.2, "top_hz": 1.4986e9}


def residual_of(vis: np.ndarray, basis: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes (Npols, Ntimes, Nchan) of visibilities (Ntimes, Nchan, Npols) minus the sky, and the noise."""
    n_times, n_chan, n_pol = vis.shape
    planes = np.ascontiguousarray(vis.astype(np.complex64).view(np.float32).transpose(2, 0, 1))
    size, sigma = np.empty((n_pol, n_times, n_chan), np.float32), np.empty(n_pol)
    kernels.subtract_sky(planes, np.zeros(size.shape, np.uint8), *basis, np.empty((0, n_times, n_chan), np.float32), size, sigma)
    return size, sigma


def extend(flags: np.ndarray, missing: np.ndarray, eta: float) -> np.ndarray:
    return kernels.extend(flags.astype(np.uint8), missing.astype(np.uint8), eta).astype(bool)


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
    residual, sigma = residual_of(vis, sky_basis(length_m, 24, n_chan, **BAND))
    assert residual.max() < 6.5  # pure noise of 37 000 samples reaches 4.6
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
    residual, _ = residual_of(vis, sky_basis(450.0, 24, 256, **BAND))
    assert residual[:, 9, 60:200].min() > 4000
    residual[:, 9, 60:200] = 0
    assert residual.max() < 7


def test_the_fit_of_the_sky_is_the_least_squares_solution() -> None:
    """Compared with numpy's solver on the unmasked visibilities, with some missing and no outliers."""
    rng = np.random.default_rng(8)
    basis = sky_basis(100.0, 24, 128, **BAND)
    vis = (20 * fringes(100.0, 0.013, 128, 0.3)).astype(np.complex64)[:, :, None]
    vis += (rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape)).astype(np.complex64)
    bad = rng.random((1, 24, 128)) < 0.02
    planes = np.ascontiguousarray(vis.view(np.float32).transpose(2, 0, 1))
    size, sigma = np.empty((1, 24, 128), np.float32), np.empty(1)
    kernels.subtract_sky(planes, bad.astype(np.uint8), *basis, np.empty((0, 24, 128), np.float32), size, sigma)
    design = np.einsum("ti,kj->tkij", *basis).reshape(24 * 128, -1).astype(float)
    good = ~bad[0].ravel()
    solution = np.linalg.lstsq(design[good], vis.ravel()[good], rcond=None)[0]
    expected = np.abs(vis.ravel() - design @ solution)
    assert np.abs(size.ravel() - expected)[good].max() < 0.1 * sigma[0]
    assert np.sqrt(np.mean((size.ravel() - expected)[good] ** 2)) < 0.02 * sigma[0]


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


def aoflagger_finds(planes: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Flags of AOFlagger's SumThreshold for amplitudes (Npols, Ntimes, Nchan) and a mask (Ntimes, Nchan)."""
    import aoflagger

    n_pol, n_times, n_chan = planes.shape
    flagger = aoflagger.AOFlagger()
    images = flagger.make_image_set(n_times, n_chan, 2 * n_pol)
    images.set(0.0)
    for p, plane in enumerate(planes):
        images.set_image_buffer(2 * p, np.ascontiguousarray(plane.T, dtype=np.float64))
    known = flagger.make_flag_mask(n_times, n_chan, False)
    known.set_buffer(np.ascontiguousarray(missing.T))
    strategy = flagger.load_strategy_file(str(Path(__file__).with_name("aoflagger.lua")))
    return strategy.run(images, known).get_buffer().T & ~missing


@pytest.mark.parametrize("n_chan", [128, 768])
@pytest.mark.parametrize("missing_share", [0.0, 0.02, 0.3])
def test_sum_threshold_finds_what_aoflagger_finds(n_chan: int, missing_share: float) -> None:
    rng = np.random.default_rng(9)
    theirs, both, mine_only = 0, 0, 0
    for _ in range(12):
        planes = np.abs(rng.normal(size=(2, 24, n_chan)) + 1j * rng.normal(size=(2, 24, n_chan))) - 1.1774
        planes[:, 5:9, n_chan // 8 : n_chan // 2] += rng.uniform(0.5, 3)  # a burst, a carrier, a weak broad integration
        planes[1, :, n_chan // 2 + 4 : n_chan // 2 + 6] += rng.uniform(0.5, 3)
        planes[0, 12] += rng.uniform(0, 0.6)
        missing = rng.random((24, n_chan)) < missing_share
        missing[:, -n_chan // 8 :] |= missing_share > 0
        planes[:, missing] = 0
        found = missing.astype(np.uint8)
        for plane in planes.astype(np.float32):
            kernels.sum_threshold(plane, found.copy(), found)
        mine, reference = found.astype(bool) & ~missing, aoflagger_finds(planes, missing)
        theirs, both, mine_only = theirs + reference.sum(), both + (mine & reference).sum(), mine_only + (mine & ~reference).sum()
    assert theirs > 24 * n_chan // 2
    if missing_share == 0:
        assert (both, mine_only) == (theirs, 0)
    assert both >= 0.98 * theirs
    assert mine_only <= 0.001 * 12 * 24 * n_chan


def test_ranges_cover_everything_once() -> None:
    for size in (0, 1, 7, 100):
        for threads in (1, 3, 8):
            pieces = over_range(lambda first, last: list(range(first, last)), size, threads=threads)
            assert [n for piece in pieces for n in piece] == list(range(size))


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
