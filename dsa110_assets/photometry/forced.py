"""Flux densities of point sources at given positions, measured with a matched filter of the restoring beam's shape.

Formulas, for a source at a fixed position with the beam ``k`` (peak 1), the image ``d`` and the noise map ``n``:

* flux ``S = sum(k d / n^2) / sum(k^2 / n^2)``: the least-squares amplitude of a fixed shape (Condon 1997, PASP 109,
  166, section 2; the same estimator as the ASKAP surveys' forced photometry). Blended sources share one system ``A S =
  b``, ``A_ij = sum(k_i k_j / n^2)``, ``b_i = sum(k_i d / n^2)``.
* statistical error ``sigma_S^2 = (A^-1 B A^-1)_ii``, ``B_ij = sum_pq k_i(p) rho(p - q) k_j(q) / (n_p n_q)``: the exact
  variance of that estimator if the noise has the autocorrelation ``rho``, here a Gaussian with
  ``noise_correlation_beams`` = c times the beam's widths. On a uniform map it is ``sigma_S = n sqrt(4 / (1 + 2 /
  c^2))``: 1.155 n for the noise of a naturally weighted image (c = 1, autocorrelation = beam). Condon's equation (41)
  with exponents 3/2 and equation (21) give, for a *fitted* point source in noise smoothed by the beam, ``sigma_S = n``,
  the local noise: ``error_model="condon1997"``.
* calibration error ``f S``, added in quadrature if ``calibration_error`` f > 0. It is common to an image, so light
  curves leave it at 0 and normalize instead. `images` adds what is not common: `common.calibration_error` and
  `common.halos`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dsa110_assets.common.cross_match import linked_pairs
from dsa110_assets.common.fits_planes import pixel_positions, sky_positions
from dsa110_assets.common.restoring_beam import AREA_PER_FWHM2, FWHM_PER_SIGMA, BeamFrame, RestoringBeam, pixel_forms
from dsa110_assets.common.robust import MEDIAN_ERROR
from dsa110_assets.errors import PhotometryError

_SAME_SOURCE_BEAMS = 0.1
_ANNULUS_SAMPLES = 128
_STRIPE_ROWS = 256
_EDGE, _INVALID = 1, 2


@dataclass(frozen=True)
class PhotometryOptions:
    """Options of the measurement. Lengths are in beams (full widths at half maximum), never in pixels (pitfall 17).

    ``kernel_radius_beams``: radius at which the beam is cut off. ``blend_beams``: positions closer than this many BMAJ
    are fitted together, 0 for none. ``annulus_beams``: inner and outer radius of the background annulus.
    ``subtract_background``: off, because a cleaned image has no offset and the annulus would add its own noise.
    ``noise_correlation_beams``: width of the noise autocorrelation. ``error_model``: see the module. ``error_scale``:
    factor on the statistical error, e.g. from `measured_error_factor`. ``calibration_error``: fraction of the flux.
    ``limit_sigma``: a flux below this many errors is a limit. ``min_coverage``: smallest share of the beam on valid
    pixels. ``beam_frame``: see `restoring_beam.pixel_forms`.
    """

    kernel_radius_beams: float = 1.6
    blend_beams: float = 1.5
    annulus_beams: tuple[float, float] = (3.0, 6.0)
    subtract_background: bool = False
    noise_correlation_beams: float = 1.0
    error_model: Literal["correlated", "condon1997"] = "correlated"
    error_scale: float = 1.0
    calibration_error: float = 0.0
    limit_sigma: float = 3.0
    min_coverage: float = 0.7
    beam_frame: BeamFrame = "sky"

    def __post_init__(self) -> None:
        inner, outer = self.annulus_beams
        if not 1.5 <= inner < outer:
            raise PhotometryError(
                "photometry options",
                f"the annulus {inner}-{outer} beams would lie inside the source's own beam",
                "give annulus_beams an inner radius of at least 1.5 beams",
            )


def measure(
    image: NDArray[np.float32],
    noise: NDArray[np.float32],
    wcs: WCS,
    beam: RestoringBeam,
    ra_deg: ArrayLike,
    dec_deg: ArrayLike,
    *,
    options: PhotometryOptions | None = None,
) -> pd.DataFrame:
    """Point-source flux densities at fixed ICRS positions.

    Args:
        image: Jy/beam, shape (ny, nx), NaN where there are no data; any byte order.
        noise: noise map, Jy/beam, same shape; NaN, 0 or infinite where there are no data.
        wcs: coordinates of the image; only the celestial part is used.
        beam: restoring beam.
        ra_deg: ICRS right ascensions, shape (Npos,).
        dec_deg: ICRS declinations, shape (Npos,).
        options: see `PhotometryOptions`.

    Returns:
        One row for each position, in order: ``ra_deg, dec_deg, x_pixel, y_pixel, flux_jy, flux_err_jy``,
        ``calibration_err_jy`` (the part of the error that is not statistical), ``noise_jy_per_beam`` (noise map at the
        position), ``background_jy_per_beam`` and ``annulus_rms_jy_per_beam`` (median and robust scatter of the
        annulus), ``snr`` (flux over its statistical error), ``upper_limit_jy`` (``limit_sigma`` statistical errors; NaN
        for a detection), ``is_limit``, ``n_blend`` (sources fitted together, 1 when alone), ``coverage`` (0..1),
        ``flags`` (comma-separated: ``outside, edge, nan, blended, duplicate``). Flux and error are NaN where the
        coverage is below ``min_coverage``: no flux at the edge is better than a wrong one.

    Raises:
        PhotometryError: arrays that are not two-dimensional or differ in shape.
    """
    chosen = options or PhotometryOptions()
    data, sigma = _checked_maps(image, noise)
    ra, dec = np.atleast_1d(np.asarray(ra_deg, dtype=np.float64)), np.atleast_1d(np.asarray(dec_deg, dtype=np.float64))
    if ra.shape != dec.shape or ra.ndim != 1:
        raise PhotometryError("positions", f"ra_deg has shape {ra.shape}, dec_deg {dec.shape}", "give two arrays of shape (Npos,)")
    x, y = pixel_positions(wcs, ra, dec)
    order = np.lexsort((np.nan_to_num(x), np.nan_to_num(y) // _STRIPE_ROWS))  # neighbors share pixels in the cache
    table = _measure_sorted(data, sigma, wcs, beam, (ra[order], dec[order], x[order], y[order]), chosen)
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    return table.iloc[back].reset_index(drop=True)


def _measure_sorted(
    data: NDArray[np.float32],
    sigma: NDArray[np.float32],
    wcs: WCS,
    beam: RestoringBeam,
    positions: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    chosen: PhotometryOptions,
) -> pd.DataFrame:
    ra, dec, x, y = positions
    ny, nx = data.shape
    inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    form = np.full((ra.size, 3), np.nan)
    if inside.any():
        form[inside] = pixel_forms(beam, wcs, ra[inside], dec[inside], chosen.beam_frame)
    center_noise = np.full(ra.size, np.nan)
    center_noise[inside] = _interpolated(sigma, x[inside], y[inside])
    inside &= np.isfinite(form).all(axis=1)
    measurable = inside & np.isfinite(center_noise)
    representative = _representatives(beam, ra, dec, measurable)
    groups = _groups(beam, ra, dec, measurable & (representative == np.arange(ra.size)), chosen.blend_beams)
    result = _filter(data, sigma, x, y, form=form, center_noise=center_noise, groups=groups, measurable=measurable, options=chosen)
    for name in ("flux", "variance", "coverage", "n_blend", "bits"):
        result[name] = result[name][representative]
    return _table(ra, dec, x, y, inside=inside, center_noise=center_noise, representative=representative, result=result, options=chosen)


def measured_error_factor(
    image: NDArray[np.float32],
    noise: NDArray[np.float32],
    wcs: WCS,
    beam: RestoringBeam,
    *,
    options: PhotometryOptions | None = None,
    positions: int = 4000,
    seed: int = 20110,
) -> float:
    """Value for ``error_scale``: the width of flux over error at random positions of this image.

    The noise's autocorrelation depends on the imaging weights; this measures its effect on the filter. The width is the
    median minus the 15.87th percentile, the side that sources on the blank sky hardly affect. Its own relative error is
    about 1.3 / sqrt(2 N) for N independent beams. NaN if fewer than 100 positions are usable.
    """
    chosen = replace(options or PhotometryOptions(), blend_beams=0.0, error_scale=1.0, calibration_error=0.0)
    data, sigma = _checked_maps(image, noise)
    rows, columns = np.nonzero(np.isfinite(data) & np.isfinite(sigma))
    if rows.size == 0:
        return float("nan")
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, rows.size, positions)
    ra, dec = sky_positions(wcs, columns[picked] + rng.uniform(-0.5, 0.5, positions), rows[picked] + rng.uniform(-0.5, 0.5, positions))
    table = measure(data, sigma, wcs, beam, ra, dec, options=chosen)
    ratio = (table["flux_jy"] / table["flux_err_jy"]).to_numpy()
    ratio = ratio[np.isfinite(ratio)]
    if ratio.size < 100:
        return float("nan")
    low, middle = np.percentile(ratio, [15.865525393145708, 50.0])
    return float(middle - low)


def _checked_maps(image: NDArray[np.float32], noise: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Native-endian, contiguous float32 maps of one shape. numba cannot read FITS's big-endian arrays (pitfall 9)."""
    if np.ndim(image) != 2 or np.shape(image) != np.shape(noise):
        raise PhotometryError(
            "image and noise map",
            f"shapes {np.shape(image)} and {np.shape(noise)}; two maps of one shape (ny, nx) were expected",
            "drop the frequency and Stokes axes before measuring",
        )
    return np.ascontiguousarray(image, dtype=np.float32), np.ascontiguousarray(noise, dtype=np.float32)


def _interpolated(array: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear value, or the nearest pixel's if a neighbor is not finite; NaN if that is not positive."""
    linear = map_coordinates(array, [y, x], order=1, mode="nearest", output=np.float64)
    nearest = array[np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)].astype(np.float64)
    value = np.where(np.isfinite(linear), linear, nearest)
    return np.where(np.isfinite(value) & (value > 0.0), value, np.nan)


def _linked(ra: NDArray[np.float64], dec: NDArray[np.float64], radius_deg: float) -> NDArray[np.intp]:
    """Label of each position's chain of neighbors (closer than ``radius_deg``), shape (Npos,)."""
    n = ra.size
    if n == 0:
        return np.zeros(0, dtype=np.intp)
    pairs = linked_pairs(ra, dec, radius_deg)
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.intp)


def _representatives(
    beam: RestoringBeam, ra: NDArray[np.float64], dec: NDArray[np.float64], measurable: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Index of the position to measure in place of each one; positions within a tenth of a beam are one source."""
    representative = np.arange(ra.size)
    index = np.flatnonzero(measurable)
    label = _linked(ra[index], dec[index], _SAME_SOURCE_BEAMS * beam.minor_deg)
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    representative[index] = index[first[inverse]]
    return representative


def _groups(
    beam: RestoringBeam, ra: NDArray[np.float64], dec: NDArray[np.float64], use: NDArray[np.bool_], blend_beams: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(offsets, members) of the groups of positions whose beams overlap."""
    index = np.flatnonzero(use)
    label = _linked(ra[index], dec[index], blend_beams * beam.major_deg) if blend_beams > 0.0 else np.arange(index.size)
    order = np.argsort(label, kind="stable")
    counts = np.bincount(label, minlength=0) if index.size else np.zeros(0, dtype=np.int64)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), index[order].astype(np.int64)


def _filter(
    data: NDArray[np.float32],
    sigma: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    form: NDArray[np.float64],
    center_noise: NDArray[np.float64],
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
    measurable: NDArray[np.bool_],
    options: PhotometryOptions,
) -> dict[str, NDArray[Any]]:
    """Run the compiled loops and return arrays of shape (Npos,) by name."""
    from dsa110_assets.photometry import _kernels

    n = x.size
    offsets, members = groups
    median, spread = np.full(n, np.nan), np.full(n, np.nan)
    inner, outer = options.annulus_beams
    per_beam = FWHM_PER_SIGMA**2
    picked = np.flatnonzero(measurable)
    local_median, local_spread = np.full(picked.size, np.nan), np.full(picked.size, np.nan)
    _kernels.annulus_statistics(
        data, x[picked], y[picked], form[picked], per_beam * inner**2, per_beam * outer**2, _ANNULUS_SAMPLES, local_median, local_spread
    )
    median[picked], spread[picked] = local_median, local_spread
    subtracted = np.nan_to_num(median) if options.subtract_background else np.zeros(n)
    flux, variance, coverage, bits = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n), np.zeros(n, dtype=np.int64)
    q_max = per_beam * options.kernel_radius_beams**2
    _kernels.fit_groups(
        data,
        sigma,
        x,
        y,
        form,
        offsets,
        members,
        subtracted,
        center_noise,
        q_max,
        options.noise_correlation_beams,
        flux,
        variance,
        coverage,
        bits,
    )
    n_blend = np.zeros(n)
    n_blend[members] = np.repeat(np.diff(offsets), np.diff(offsets))
    if options.error_model == "condon1997":
        variance = np.where(np.isfinite(variance), center_noise**2, np.nan)
    variance = variance * options.error_scale**2
    if options.subtract_background:  # error of a median over the annulus's independent beams, times the filter's response
        beams = np.pi * (outer**2 - inner**2) / AREA_PER_FWHM2
        variance = variance + (2.0 * MEDIAN_ERROR * np.nan_to_num(spread)) ** 2 / beams
    return {"flux": flux, "variance": variance, "coverage": coverage, "bits": bits, "n_blend": n_blend, "median": median, "spread": spread}


def _table(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    inside: NDArray[np.bool_],
    center_noise: NDArray[np.float64],
    representative: NDArray[np.intp],
    result: dict[str, NDArray[Any]],
    options: PhotometryOptions,
) -> pd.DataFrame:
    enough = (result["coverage"] >= options.min_coverage) & np.isfinite(result["variance"])
    flux = np.where(enough, result["flux"], np.nan)
    statistical = np.where(enough, np.sqrt(np.where(enough, result["variance"], 0.0)), np.nan)
    snr = flux / statistical
    is_limit = enough & (snr < options.limit_sigma)
    duplicate = np.bincount(representative, minlength=ra.size)[representative] > 1 if ra.size else np.zeros(0, dtype=bool)
    bits = result["bits"].astype(np.int64)
    named = (
        ("outside", ~inside),
        ("edge", inside & ((bits & _EDGE) > 0)),
        ("nan", inside & (((bits & _INVALID) > 0) | ~np.isfinite(center_noise))),
        ("blended", result["n_blend"] > 1),
        ("duplicate", duplicate),
    )
    code = sum((condition.astype(np.int64) << bit for bit, (_, condition) in enumerate(named)), np.zeros(ra.size, dtype=np.int64))
    texts = np.array(
        [",".join(name for bit, (name, _) in enumerate(named) if value >> bit & 1) for value in range(1 << len(named))], dtype=object
    )
    return pd.DataFrame(
        {
            "ra_deg": ra,
            "dec_deg": dec,
            "x_pixel": x,
            "y_pixel": y,
            "flux_jy": flux,
            "flux_err_jy": np.hypot(statistical, options.calibration_error * flux),
            "calibration_err_jy": np.abs(options.calibration_error * flux),
            "noise_jy_per_beam": center_noise,
            "background_jy_per_beam": result["median"],
            "annulus_rms_jy_per_beam": result["spread"],
            "snr": snr,
            "upper_limit_jy": np.where(is_limit, options.limit_sigma * statistical, np.nan),
            "is_limit": is_limit,
            "n_blend": result["n_blend"].astype(np.int64),
            "coverage": result["coverage"],
            "flags": texts[code],
        }
    )
