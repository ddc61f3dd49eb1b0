"""Recovery of artificial sources: completeness, flux bias and position bias against S/N.

This module also draws their positions and fluxes; `imaging.injection` adds the sources to visibilities.
"""

# pandas' stubs do not cover selections:
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.spatial import KDTree

from dsa110_assets.common.previews import ACCENT, INK, QUIET, SMALL_DPI, canvas, png_of
from dsa110_assets.quality.verdict import Verdict

SNR_EDGES = (3.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0)
LOWEST_BEAM = 0.25
BRIGHT_SNR = 20.0
DETECTABLE_THRESHOLDS = 1.5
"""The search must find a source this many times above its threshold."""
MAX_FLUX_BIAS = 0.01
MAX_OFFSET_ARCSEC = 0.3
MAX_OFFSET_BEAMS = 0.05
MIN_COMPLETENESS = 0.95
_CLEARANCE_BEAMS = 5.0
_DRAWS_PER_SOURCE = 200


@dataclass(frozen=True)
class RecoveryBin:
    """Sources with an expected S/N in ``[snr_low, snr_high)``.

    ``n``: injected. ``found``: by the blind search. ``completeness`` and its binomial error. ``flux_bias``: weighted
    mean of forced flux over true flux, minus 1, and its error. ``east_arcsec``, ``north_arcsec``: mean offset of the
    blind position, and ``position_err_arcsec``, the error of each. NaN if nothing was measured.
    """

    snr_low: float
    snr_high: float
    n: int
    found: int
    completeness: float
    completeness_err: float
    flux_bias: float
    flux_bias_err: float
    east_arcsec: float
    north_arcsec: float
    position_err_arcsec: float


def draw_injections(
    rng: np.random.Generator,
    weight: NDArray[np.float32],
    primary_beam: NDArray[np.float32],
    wcs: WCS,
    occupied: pd.DataFrame,
    number: int,
    beam_px: float,
) -> pd.DataFrame:
    """Draw positions and fluxes of artificial sources in a tile.

    Positions are uniform over the beam above 25 %, fluxes logarithmic in S/N from 3 to 100.

    Args:
        rng: random number generator.
        weight: inverse variance of the beam-corrected image, (N, N), 1/Jy^2.
        primary_beam: (N, N).
        wcs: celestial, two axes.
        occupied: ``ra_deg, dec_deg`` of real sources. Artificial sources keep 5 beams from these and from one another.
        number: how many; fewer if the tile has no room.
        beam_px: FWHM of the restoring beam in pixels.

    Returns:
        ``name, ra_deg, dec_deg, flux_jy, snr`` (expected: flux times root of weight), ``primary_beam``.
    """
    height, width = weight.shape
    taken = [tuple(xy) for xy in np.stack(wcs.wcs_world2pix(occupied["ra_deg"], occupied["dec_deg"], 0), axis=1) if np.isfinite(xy).all()]
    rim = int(np.ceil(4 * beam_px))
    rows: list[dict[str, float | str]] = []
    for _ in range(_DRAWS_PER_SOURCE * number):
        if len(rows) == number:
            break
        x, y = rng.uniform(rim, width - 1 - rim), rng.uniform(rim, height - 1 - rim)
        pixel = round(y), round(x)
        if not (primary_beam[pixel] >= LOWEST_BEAM and weight[pixel] > 0):
            continue
        if taken and float(KDTree(taken).query((x, y))[0]) < _CLEARANCE_BEAMS * beam_px:
            continue
        snr = float(np.exp(rng.uniform(np.log(SNR_EDGES[0]), np.log(SNR_EDGES[-1]))))
        ra, dec = wcs.wcs_pix2world(x, y, 0)
        rows.append(
            {
                "name": f"injected {len(rows) + 1:03d}",
                "ra_deg": float(ra),
                "dec_deg": float(dec),
                "flux_jy": snr / float(np.sqrt(weight[pixel])),
                "snr": snr,
                "primary_beam": float(primary_beam[pixel]),
            }
        )
        taken.append((x, y))
    return pd.DataFrame(rows, columns=["name", "ra_deg", "dec_deg", "flux_jy", "snr", "primary_beam"])


def recovery_table(injected: pd.DataFrame, measured: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """True, forced and blind measurements, one row for each artificial source.

    Args:
        injected: from `draw_injections`.
        measured: forced fluxes by ``name``: ``flux_jy, flux_err_jy``.
        pairs: blind matches: ``catalog_name`` (artificial source), ``ra_offset_arcsec, dec_offset_arcsec``.

    Returns:
        The columns of ``injected`` and ``measured_jy, measured_err_jy, found, east_arcsec, north_arcsec`` (NaN where
        missing).
    """
    forced, blind = measured.set_index("name"), pairs.set_index("catalog_name")
    names = injected["name"]
    return injected.assign(
        measured_jy=names.map(forced["flux_jy"].to_dict()).astype(float),
        measured_err_jy=names.map(forced["flux_err_jy"].to_dict()).astype(float),
        found=names.isin(blind.index),
        east_arcsec=names.map(blind["ra_offset_arcsec"].to_dict()).astype(float),
        north_arcsec=names.map(blind["dec_offset_arcsec"].to_dict()).astype(float),
    )


def bin_by_snr(table: pd.DataFrame, edges: Sequence[float] = SNR_EDGES) -> list[RecoveryBin]:
    """Completeness and biases in bins of expected S/N. Empty bins are left out."""
    bins: list[RecoveryBin] = []
    for low, high in itertools.pairwise(edges):
        inside = (table["snr"].to_numpy() >= low) & (table["snr"].to_numpy() < high)
        if inside.any():
            bins.append(make_bin(table[inside], low, high))
    return bins


def make_bin(table: pd.DataFrame, low: float, high: float) -> RecoveryBin:
    """Figures of all sources of a table. ``low`` and ``high`` are only recorded."""
    n, found = len(table), int(table["found"].sum())
    share = found / n if n else np.nan
    smoothed = (found + 1.0) / (n + 2.0)  # Laplace's rule; without it the error of 0 or n of n would be 0
    truth = table["flux_jy"].to_numpy(dtype=float)
    ratio, error = table["measured_jy"].to_numpy(dtype=float) / truth, table["measured_err_jy"].to_numpy(dtype=float) / truth
    good = np.isfinite(ratio) & (error > 0)
    weight = 1.0 / error[good] ** 2
    bias = float(np.sum(weight * (ratio[good] - 1.0)) / weight.sum()) if good.any() else np.nan
    east, north = (table[name].to_numpy(dtype=float) for name in ("east_arcsec", "north_arcsec"))
    here = np.isfinite(east) & np.isfinite(north)
    spread = float(np.sqrt(0.5 * (np.var(east[here], ddof=1) + np.var(north[here], ddof=1)))) if here.sum() > 1 else np.nan
    return RecoveryBin(
        snr_low=float(low),
        snr_high=float(high),
        n=n,
        found=found,
        completeness=share,
        completeness_err=float(np.sqrt(smoothed * (1.0 - smoothed) / n)) if n else np.nan,
        flux_bias=bias,
        flux_bias_err=float(1.0 / np.sqrt(weight.sum())) if good.any() else np.nan,
        east_arcsec=float(np.mean(east[here])) if here.any() else np.nan,
        north_arcsec=float(np.mean(north[here])) if here.any() else np.nan,
        position_err_arcsec=spread / np.sqrt(int(here.sum())) if here.sum() > 1 else np.nan,
    )


@dataclass(frozen=True)
class NightRecovery:
    """Recovery of a night's artificial sources.

    ``bright``: sources above S/N `BRIGHT_SNR`, for biases. ``detectable``: those that the blind search must find, for
    completeness.
    """

    bright: RecoveryBin
    detectable: RecoveryBin

    @property
    def offset_arcsec(self) -> float:
        """Length of the mean offset of blind positions."""
        return float(np.hypot(self.bright.east_arcsec, self.bright.north_arcsec))

    def figures(self) -> dict[str, float]:
        """Named figures, units in the names."""
        return {
            "completeness_above_threshold": self.detectable.completeness,
            "flux_bias": self.bright.flux_bias,
            "flux_bias_err": self.bright.flux_bias_err,
            "position_offset_arcsec": self.offset_arcsec,
            "position_bias_east_arcsec": self.bright.east_arcsec,
            "position_bias_north_arcsec": self.bright.north_arcsec,
        }

    def verdicts(self, *, beam_arcsec: float) -> list[Verdict]:
        """Verdicts against the limits, which are widened by two errors.

        ``beam_arcsec``: major axis of the widest restoring beam among the tiles.
        """
        bright, detectable = self.bright, self.detectable
        margin = 2.0 * bright.flux_bias_err
        allowed = max(MAX_OFFSET_ARCSEC, MAX_OFFSET_BEAMS * beam_arcsec)
        return [
            Verdict.judge(
                "flux_bias",
                bright.flux_bias,
                -MAX_FLUX_BIAS - margin,
                MAX_FLUX_BIAS + margin,
                f"{bright.n} sources above S/N {BRIGHT_SNR:g}; limits widened by two errors",
            ),
            Verdict.judge("flux_bias_err", bright.flux_bias_err, None, None, "error of flux_bias"),
            Verdict.judge(
                "position_offset_arcsec",
                self.offset_arcsec,
                None,
                allowed,
                f"mean offset of {bright.found} blind positions above S/N {BRIGHT_SNR:g}",
            ),
            Verdict.judge(
                "completeness",
                detectable.completeness,
                MIN_COMPLETENESS - 2.0 * detectable.completeness_err,
                None,
                f"of {detectable.n} sources above {DETECTABLE_THRESHOLDS:g} times the search's threshold",
            ),
        ]


def night_recovery(table: pd.DataFrame, search_sigma: float) -> NightRecovery:
    """Sum up a night. ``table``: from `recovery_table`. ``search_sigma``: threshold of the blind search."""
    lowest = DETECTABLE_THRESHOLDS * search_sigma
    return NightRecovery(
        bright=make_bin(table[table["snr"] >= BRIGHT_SNR], BRIGHT_SNR, np.inf),
        detectable=make_bin(table[table["snr"] >= lowest], lowest, np.inf),
    )


def bins_table(bins: Sequence[RecoveryBin]) -> pd.DataFrame:
    """Bins as a table."""
    return pd.DataFrame([asdict(one) for one in bins])


def recovery_png(bins: Sequence[RecoveryBin], trend: pd.DataFrame, title: str) -> bytes:
    """Plot completeness, flux bias and position bias against S/N, and the nights' flux bias.

    Args:
        bins: from `bin_by_snr`.
        trend: ``night, flux_bias, flux_bias_err`` of the nights so far, in order.
        title: title of the figure.
    """
    figure = canvas(9.0, 6.0, dpi=SMALL_DPI, constrained=True)
    axes = figure.subplots(2, 2)
    middle = [np.sqrt(one.snr_low * one.snr_high) for one in bins]
    axes[0, 0].errorbar(middle, [b.completeness for b in bins], [b.completeness_err for b in bins], fmt="o-", color=INK)
    axes[0, 0].set_ylabel("completeness of the blind search")
    axes[0, 0].set_ylim(-0.05, 1.1)
    axes[0, 1].errorbar(middle, [100 * b.flux_bias for b in bins], [100 * b.flux_bias_err for b in bins], fmt="o", color=INK)
    axes[0, 1].set_ylabel("flux bias (%)")
    error = [b.position_err_arcsec for b in bins]
    axes[1, 0].errorbar(middle, [b.east_arcsec for b in bins], error, fmt="o", color=INK, label="east")
    axes[1, 0].errorbar(np.array(middle) * 1.05, [b.north_arcsec for b in bins], error, fmt="s", color=ACCENT, label="north")
    axes[1, 0].set_ylabel("position bias (arcsec)")
    axes[1, 0].legend()
    for one in (axes[0, 0], axes[0, 1], axes[1, 0]):
        one.set_xscale("log")
        one.set_xlabel("expected S/N")
    for one in (axes[0, 1], axes[1, 0]):
        one.axhline(0.0, color=QUIET, linestyle="--", linewidth=1)
    number = np.arange(len(trend))
    axes[1, 1].errorbar(number, 100 * trend["flux_bias"], 100 * trend["flux_bias_err"], fmt="o", color=INK)
    axes[1, 1].axhline(0.0, color=QUIET, linestyle="--", linewidth=1)
    step = max(1, len(trend) // 6)
    axes[1, 1].set_xticks(number[::step], list(trend["night"])[::step], rotation=30, fontsize=7)
    axes[1, 1].set_ylabel("flux bias above S/N 20 (%)")
    figure.suptitle(title, fontsize=10)
    return png_of(figure)
