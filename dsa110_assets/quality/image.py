"""Quality of a tile image: noise, dynamic range, residual, beam, fluxes and positions against the catalogue.

What does not belong here: making images, and what a verdict leads to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import optimize, stats

from dsa110_assets import products
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets.instrument import BEAM_CUTOFF
from dsa110_assets.quality.verdict import Verdict

MIN_SOURCES = 5
"""Fewest sources for a statement about fluxes or positions."""
_FLUX_SNR = 20.0
_ISOLATION_BEAMS = 3.0
_MOST_SOURCES = 200
_MAD_TO_SIGMA = 1.4826022185056018


@dataclass(frozen=True)
class ImageLimits:
    """Limits of the verdicts on a tile image; pairs are (lowest, highest).

    ``position_beams`` and ``position_arcsec``: the offset may be as large as the larger of the two.
    """

    noise_over_thermal: tuple[float, float] = (0.8, 2.0)
    dynamic_range: float = 10.0
    residual_peak_sigma: float = 10.0
    residual_std_over_mad: float = 1.2
    beam_axis_ratio: float = 6.0
    flux_ratio: tuple[float, float] = (0.9, 1.1)
    position_beams: float = 0.05
    position_arcsec: float = 1.0


@dataclass(frozen=True)
class TilePlanes:
    """Planes of a tile, (N, N) native float32, y north: restored image and residual (Jy/beam, apparent), primary beam; and the image's FITS header."""

    image: NDArray[np.float32]
    residual: NDArray[np.float32]
    primary_beam: NDArray[np.float32]
    header: Any


@dataclass(frozen=True)
class CatalogComparison:
    """Fluxes and positions of isolated catalogue sources, shape (Nsource,).

    ``flux_ratio``: fitted apparent flux over catalogue flux times primary beam. ``east_arcsec``, ``north_arcsec``: fitted minus catalogue position.
    ``snr``: fitted flux over the noise. ``primary_beam``: at the source.
    """

    flux_ratio: NDArray[np.float64]
    east_arcsec: NDArray[np.float64]
    north_arcsec: NDArray[np.float64]
    snr: NDArray[np.float64]
    primary_beam: NDArray[np.float64]


def read_tile(directory: Path, name: str) -> TilePlanes:
    """Read what the verdicts need from the FITS files of a tile.

    Raises:
        ProductVerificationError: a file is missing or is not one plane.
    """
    planes: dict[str, NDArray[np.float32]] = {}
    header: Any = fits.Header()
    for suffix in ("residual", "pb", "image"):
        path = products.image_path(directory, name, suffix)
        try:
            with fits.open(path, memmap=False) as hdus:
                primary: Any = hdus[0]
                data, header = primary.data, primary.header
        except OSError as error:
            raise ProductVerificationError(path, f"cannot be read ({error})", "make the tile image again") from error
        if data is None or data.size != data.shape[-1] * data.shape[-2]:
            raise ProductVerificationError(path, "is not one image plane", "make the tile image again")
        planes[suffix] = np.ascontiguousarray(data.reshape(data.shape[-2:]), dtype=np.float32)  # native byte order (pitfall 9)
    return TilePlanes(planes["image"], planes["residual"], planes["pb"], header)


def judge_tile(planes: TilePlanes, sky: pd.DataFrame | None, limits: ImageLimits | None = None) -> list[Verdict]:
    """All verdicts on a tile image.

    Args:
        planes: of the tile.
        sky: reference catalogue (ra_deg, dec_deg, flux_jy) that covers the image with its surroundings, or None.
        limits: default limits when None.
    """
    limits = limits or ImageLimits()
    inside = planes.primary_beam >= BEAM_CUTOFF
    rest = planes.residual[inside].astype(np.float64)
    rest = rest[np.isfinite(rest)]
    noise = float(_MAD_TO_SIGMA * stats.median_abs_deviation(rest)) if rest.size else float("nan")
    thermal = float(planes.header.get("DSATHERM", float("nan")))
    bright = planes.image[inside]
    bright = bright[np.isfinite(bright)]
    peak = float(bright.max()) if bright.size else float("nan")
    usable = rest.size > 0 and noise > 0
    nothing = "" if usable else "no pixel inside the primary beam has noise"
    verdicts = [
        Verdict.judge(
            "noise_over_thermal",
            noise / thermal if usable and thermal > 0 else None,
            *limits.noise_over_thermal,
            nothing
            or (
                "MAD of the residual inside the beam over the prediction of the weights" if thermal > 0 else "the header has no prediction"
            ),
        ),
        Verdict.judge(
            "dynamic_range", peak / noise if usable else None, limits.dynamic_range, None, nothing or "brightest pixel over noise"
        ),
        Verdict.judge(
            "residual_peak_sigma",
            float(np.abs(rest).max()) / noise if usable else None,
            None,
            limits.residual_peak_sigma,
            nothing or "largest deviation of the residual inside the beam over noise",
        ),
        Verdict.judge(
            "residual_std_over_mad",
            float(rest.std()) / noise if usable else None,
            None,
            limits.residual_std_over_mad,
            nothing or "1 for Gaussian noise; more where sources or artefacts are left",
        ),
    ]
    major, minor = (float(planes.header.get(key, float("nan"))) * 3600 for key in ("BMAJ", "BMIN"))
    verdicts.append(
        Verdict.judge(
            "beam_axis_ratio",
            major / minor if minor > 0 else None,
            1.0,
            limits.beam_axis_ratio,
            f"beam {major:.1f} by {minor:.1f} arcsec" if minor > 0 else "the header has no beam",
        )
    )
    return verdicts + _judge_against_catalog(planes, sky, noise, major, limits)


def _judge_against_catalog(
    planes: TilePlanes, sky: pd.DataFrame | None, noise: float, beam_arcsec: float, limits: ImageLimits
) -> list[Verdict]:
    position_limit = (
        max(limits.position_beams * beam_arcsec, limits.position_arcsec) if math.isfinite(beam_arcsec) else limits.position_arcsec
    )
    ratio: float | None = None
    offset: float | None = None
    if sky is None or not (math.isfinite(noise) and noise > 0 and math.isfinite(beam_arcsec)):
        reason = "no reference catalogue" if sky is None else "the image has no noise or no beam"
    else:
        found = compare_with_catalog(planes, sky, noise)
        n = found.flux_ratio.size
        reason = f"{n} isolated catalogue sources above {_FLUX_SNR:.0f} sigma"
        if n >= MIN_SOURCES:
            ratio = float(np.median(found.flux_ratio))
            offset = float(np.hypot(np.median(found.east_arcsec), np.median(found.north_arcsec)))
        else:
            reason += f", at least {MIN_SOURCES} are needed"
    return [
        Verdict.judge("flux_ratio_to_catalog", ratio, *limits.flux_ratio, reason),
        Verdict.judge("position_offset_arcsec", offset, None, position_limit, reason),
    ]


def compare_with_catalog(planes: TilePlanes, sky: pd.DataFrame, noise_jy_per_beam: float) -> CatalogComparison:
    """Fit the restoring beam at catalogue positions expected above 20 sigma and isolated by 3 beams; the brightest 200.

    A source that the catalogue has and the image has not is part of the result, with its low ratio.
    """
    header = planes.header
    size = planes.image.shape[0]
    cell_arcsec = abs(float(header["CDELT2"])) * 3600
    inverse = _inverse_covariance(header, cell_arcsec)
    beam_px = float(header["BMAJ"]) * 3600 / cell_arcsec
    pixel = WCS(header).celestial.world_to_pixel_values(sky["ra_deg"].to_numpy(dtype=float), sky["dec_deg"].to_numpy(dtype=float))
    x, y = np.asarray(pixel[0]), np.asarray(pixel[1])
    reach = max(3, math.ceil(beam_px))
    with np.errstate(invalid="ignore"):
        inside = (x > reach + 1) & (y > reach + 1) & (x < size - reach - 2) & (y < size - reach - 2)
    x, y, flux = x[inside], y[inside], sky["flux_jy"].to_numpy(dtype=float)[inside]
    beam = planes.primary_beam[np.round(y).astype(int), np.round(x).astype(int)].astype(float)
    apparent = flux * beam
    rows: list[tuple[float, float, float, float, float]] = []
    for k in np.argsort(-apparent):
        if apparent[k] < _FLUX_SNR * noise_jy_per_beam or len(rows) == _MOST_SOURCES:
            break
        near = np.hypot(x - x[k], y - y[k]) < _ISOLATION_BEAMS * beam_px
        if beam[k] < BEAM_CUTOFF or apparent[near].sum() > 1.02 * apparent[k]:
            continue
        fitted, dy, dx = _fit_beam_at(planes.image, float(y[k]), float(x[k]), inverse, reach)
        rows.append((fitted / float(apparent[k]), -dx * cell_arcsec, dy * cell_arcsec, fitted / noise_jy_per_beam, float(beam[k])))
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return CatalogComparison(*(table[:, n] for n in range(5)))


def _inverse_covariance(header: Any, cell_arcsec: float) -> NDArray[np.float64]:
    """Inverse covariance of the restoring beam, pixels^-2, axes (y north, x west)."""
    pa = np.radians(float(header["BPA"]))
    sigma = [float(header[key]) * 3600 / cell_arcsec / np.sqrt(8 * np.log(2)) for key in ("BMAJ", "BMIN")]
    axes = np.array([[np.cos(pa), -np.sin(pa)], [np.sin(pa), np.cos(pa)]])
    return axes.T @ np.diag([sigma[0] ** -2, sigma[1] ** -2]) @ axes


def _fit_beam_at(image: NDArray[np.float32], y: float, x: float, inverse: NDArray[np.float64], reach: int) -> tuple[float, float, float]:
    """Least-squares amplitude and shift (y, x; pixels, at most one beam) of the beam near a position."""
    row, column = round(y), round(x)
    cut = image[row - reach : row + reach + 1, column - reach : column + reach + 1].astype(np.float64)
    dy = (np.arange(row - reach, row + reach + 1) - y)[:, None]
    dx = (np.arange(column - reach, column + reach + 1) - x)[None, :]

    def residuals(p: NDArray[np.float64]) -> NDArray[np.float64]:
        north, west = dy - p[1], dx - p[2]
        shape = np.exp(-0.5 * (inverse[0, 0] * north**2 + 2 * inverse[0, 1] * north * west + inverse[1, 1] * west**2))
        return (p[0] * shape - cut).ravel()

    start = np.array([float(cut[reach, reach]), 0.0, 0.0])
    bound = float(reach)
    fit = optimize.least_squares(
        residuals, start, bounds=([-np.inf, -bound, -bound], [np.inf, bound, bound]), x_scale=[abs(start[0]) + 1e-9, 1, 1]
    )
    return float(fit.x[0]), float(fit.x[1]), float(fit.x[2])
