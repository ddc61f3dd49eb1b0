"""Injected interference is flagged, the sky and the bandpass are not.

Truth: the same simulation without interference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.conversion.tile import Tile, read_tile
from dsa110_assets.flagging import FlagReason, FlagReport, flag_visibilities
from dsa110_assets.simulation.array import demo_array
from dsa110_assets.simulation.band import demo_band
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.faults import NarrowCarrier, SatelliteBurst, ShortBaselineInterference
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import Sky, point_sources
from dsa110_assets_tests.conftest import RawTile, make_raw_tile

SIGMA_JY = 6500.0 / np.sqrt(2 * 1_464_843.75 * 12.8849)


def in_memory(raw: RawTile) -> Tile:
    return read_tile(dict(enumerate(raw.files)), 16, np.zeros)


def flagged(tile: Tile, **options) -> tuple[np.ndarray, FlagReport]:
    """Flags of the cross-correlations, and the report; leaves the tile's visibilities unchanged."""
    reasons = tile.reasons.copy()
    report = flag_visibilities(
        tile.vis.copy(),
        reasons,
        ant_1=tile.ant_1,
        ant_2=tile.ant_2,
        antenna_names=tile.header.antenna_names,
        baseline_length_m=np.linalg.norm(tile.uvw_m[0], axis=1),
        freq_hz=tile.freq_hz,
        **options,
    )
    return reasons[:, tile.ant_1 != tile.ant_2], report


@pytest.fixture(scope="module")
def clean(demo_raw_tile: RawTile) -> Tile:
    return in_memory(demo_raw_tile)


def bright_sky(raw: RawTile) -> Sky:
    lst_deg = local_sidereal_time_deg(raw.start_mjd + 0.5 * 309 / 86400)
    ra = [lst_deg % 360, (lst_deg + 0.5) % 360, (lst_deg - 0.7) % 360]
    return point_sources(ra, [54.6, 55.3, 54.0], [20.0, 10.0, 6.0])


def test_noise_and_the_calibrator_are_not_flagged(clean: Tile) -> None:
    reasons, report = flagged(clean)
    assert (reasons != 0).mean() < 0.005
    assert report.dead_receptors == ()
    assert report.fraction == pytest.approx((reasons != 0).mean(), abs=1e-12)


def test_beats_of_bright_sources_are_not_interference(tmp_path: Path, demo_raw_tile: RawTile) -> None:
    """20, 10 and 6 Jy in one beam: 58 sigma on each visibility, with fringes in time and frequency."""
    tile = in_memory(make_raw_tile(tmp_path, array=demo_array(), band=demo_band(), n_integrations=24, sky=bright_sky(demo_raw_tile)))
    reasons, _ = flagged(tile)
    assert (reasons != 0).mean() < 0.005


@dataclass(frozen=True)
class Case:
    interference: tuple
    false: float


@pytest.mark.parametrize(
    "case",
    {
        "satellite": Case((SatelliteBurst(),), 0.02),
        "weak burst": Case((SatelliteBurst(flux_jy=40.0, width_hz=1e8, first=15, n_integrations=1),), 0.02),
        "carrier": Case((NarrowCarrier(),), 0.005),
        "weak carrier": Case((NarrowCarrier(flux_jy=30.0),), 0.005),
        "everything": Case((SatelliteBurst(), NarrowCarrier(), ShortBaselineInterference()), 0.02),
    }.items(),
    ids=lambda item: item[0].replace(" ", "_"),
)
def test_interference_above_5_sigma_is_found_and_little_else(tmp_path: Path, clean: Tile, case: tuple[str, Case]) -> None:
    raw = make_raw_tile(tmp_path, array=demo_array(), band=demo_band(), n_integrations=24, interference=case[1].interference)
    tile = in_memory(raw)
    reasons, _ = flagged(tile)
    cross = tile.ant_1 != tile.ant_2
    autos = np.zeros((117, *clean.vis.shape[2:]))
    for b in np.flatnonzero(~cross):
        autos[clean.ant_1[b]] = np.median(clean.vis[:, b].real, axis=0)
    system = np.sqrt(autos[clean.ant_1] * autos[clean.ant_2])[cross]  # 6500 Jy in raw units
    added_sigma = np.abs(tile.vis - clean.vis)[:, cross] / (system * SIGMA_JY / 6500.0)
    contaminated, free = added_sigma > 5, added_sigma < 1
    assert contaminated.mean() > 0.005
    assert (reasons[contaminated] != 0).mean() >= 0.95
    assert (reasons[free] != 0).mean() < case[1].false


def test_a_tile_with_missing_subbands_keeps_its_quality(clean: Tile) -> None:
    tile = replace(clean, vis=clean.vis.copy(), reasons=clean.reasons.copy())
    for band in (slice(40, 48), slice(96, 112)):
        tile.vis[:, :, band] = 0
        tile.reasons[:, :, band] = FlagReason.MISSING_SUBBAND
    reasons, report = flagged(tile)
    assert (reasons[..., 0, :] != 0).mean() < 0.01
    present = np.delete(reasons, np.r_[40:48, 96:112], axis=2)
    assert (present != 0).mean() < 0.005
    assert report.by_reason["missing_subband"] == pytest.approx(24 / 128)
    assert max(report.by_antenna.values()) < 0.01  # missing data do not count against an antenna


def test_without_rfi_only_impossible_values_are_flagged(clean: Tile) -> None:
    reasons, report = flagged(clean, rfi=False)
    assert not reasons.any()
    assert report.fraction == 0


def test_dead_antennas_and_receptors_are_found_from_the_data(tmp_path: Path) -> None:
    receivers = Receivers(seed=11, dead_antennas=(45, 102), dead_receivers=((37, 1),))
    raw = make_raw_tile(tmp_path, array=demo_array(), band=demo_band(), n_integrations=24, receivers=receivers)
    tile = in_memory(raw)
    reasons, report = flagged(tile)
    assert report.dead_antennas == ("46", "103")
    assert set(report.dead_receptors) == {("46", "X"), ("46", "Y"), ("103", "X"), ("103", "Y"), ("38", "Y")}
    cross = tile.ant_1 != tile.ant_2
    with_dead = np.isin(tile.ant_1[cross], (45, 102)) | np.isin(tile.ant_2[cross], (45, 102))
    with_half = (tile.ant_1[cross] == 37) | (tile.ant_2[cross] == 37)
    assert (reasons[:, with_dead] != 0).all()
    assert (reasons[:, with_half, :, 1] != 0).all()
    assert (reasons[:, with_half & ~with_dead, :, 0] != 0).mean() < 0.005
    assert report.by_antenna["46"] == 1.0
    assert report.by_antenna["38"] == pytest.approx(0.5 + 0.5 * 2 / 23, abs=0.01)


def test_receptors_far_too_loud_or_quiet_are_dead(clean: Tile) -> None:
    for factor, name in ((1e-3, "5"), (1e4, "8")):
        tile = replace(clean, vis=clean.vis.copy())
        antenna = int(name) - 1
        mine = (tile.ant_1 == antenna) | (tile.ant_2 == antenna)
        both = (tile.ant_1 == antenna) & (tile.ant_2 == antenna)
        tile.vis[:, mine, :, 0] *= np.sqrt(factor)
        tile.vis[:, both, :, 0] *= np.sqrt(factor)
        _, report = flagged(tile, rfi=False)
        assert report.dead_receptors == ((name, "X"),)


def test_cross_correlations_without_a_baseline_are_flagged(clean: Tile) -> None:
    uvw = clean.uvw_m.copy()
    crosses = np.flatnonzero(clean.ant_1 != clean.ant_2)
    uvw[:, crosses[3]], uvw[:, crosses[9]] = 0.0, np.nan
    reasons, report = flagged(replace(clean, uvw_m=uvw), rfi=False)
    assert sorted(np.flatnonzero((reasons == FlagReason.NO_BASELINE).all(axis=(0, 2, 3)))) == [3, 9]
    assert report.by_reason["no_baseline"] == pytest.approx(2 / crosses.size)
    assert report.fraction == pytest.approx(2 / crosses.size)


def test_impossible_values_are_flagged_and_removed() -> None:
    rng = np.random.default_rng(3)
    vis = (rng.normal(size=(4, 3, 8, 2)) + 1j * rng.normal(size=(4, 3, 8, 2))).astype(np.complex64)
    vis[:, [0, 2]] += 100  # autocorrelations
    before = vis.copy()
    vis[0, 1, 0, 0], vis[1, 1, 1, 0], vis[2, 1, 2, 1], vis[3, 1, 3, 1] = np.nan, 1e37, 1j * np.inf, 0
    samples = np.ones(vis.shape, dtype=np.float32)
    samples[0, 1, 4, 0], samples[0, 1, 5, 0], samples[0, 1, 6, 0], samples[0, 1, 7, 0] = 0, -1, np.nan, 1e37
    reasons = np.zeros(vis.shape, dtype=np.uint8)
    report = flag_visibilities(
        vis,
        reasons,
        ant_1=np.array([0, 0, 1], dtype=np.int32),
        ant_2=np.array([0, 1, 1], dtype=np.int32),
        antenna_names=["1", "2"],
        baseline_length_m=np.array([0.0, 30.0, 0.0]),
        freq_hz=1.4e9 + np.arange(8) * 1e6,
        samples=samples,
        rfi=False,
    )
    expected = np.zeros(vis.shape, dtype=np.uint8)
    expected[0, 1, 0, 0] = expected[1, 1, 1, 0] = expected[2, 1, 2, 1] = FlagReason.ABSURD_VALUE
    expected[3, 1, 3, 1] = FlagReason.ZERO
    expected[0, 1, 4:, 0] = FlagReason.NO_SAMPLES
    np.testing.assert_array_equal(reasons, expected)
    assert np.isfinite(vis).all()
    np.testing.assert_array_equal(vis[reasons == 0], before[reasons == 0])
    assert report.by_reason["no_samples"] == 4 / 64
    assert report.by_reason["absurd_value"] == 3 / 64
    assert report.by_channel[0] == 1 / 8
    assert report.by_baseline_m == ((0.0, 50.0, 8 / 64),)
