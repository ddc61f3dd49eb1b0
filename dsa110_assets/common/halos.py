"""Artifacts around the bright sources of an image, beyond what its noise map has.

Errors of calibration scatter a part of a source's flux around it. The noise map has this only as the mean of wide
boxes. `Halos.measure` compares the scatter of pixels over noise in rings around bright sources with that of the whole
image. What is more is a share of the source's flux, the same for all sources of the image but for their noise, so the
rings of the brightest are averaged. Nothing is added farther out than `REACH_DEG`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.cross_match import linked_pairs, pairs_between
from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.fits_planes import pixel_positions, sky_positions
from dsa110_assets.common.restoring_beam import AREA_PER_FWHM2, RestoringBeam
from dsa110_assets.common.robust import robust_sigma

REACH_DEG = 0.5
_RINGS_BEAMS = (2.5, 5.0, 10.0, 20.0, 40.0)
"""Edges of the rings. Closer in is the source itself."""
_LEAST_SNR = 100.0
_MOST_SOURCES, _MOST_MEASURED = 5000, 20
_ALONE = 2.0
"""A source is measured if it is this many times brighter, over its noise, than all others within reach."""
_SAMPLES, _SAMPLES_OF_IMAGE = 4000, 40_000
_LEAST_FILLED = 0.5
"""Share of a ring on valid pixels, below which it is not measured."""
_SIGNIFICANT = 3.0
_MAD_ERROR = 1.167
"""Relative error of the robust scatter of n values, times the root of n."""
_BLOCK_ROWS = 512


@dataclass(frozen=True)
class Halos:
    """Bright sources of an image, and the scatter of their artifacts.

    ``ra_deg``, ``dec_deg``, ``peak_jy`` (Nsource,): the sources. ``edges_deg`` (Nring + 1,): of the rings.
    ``share`` (Nring,): standard deviation of the artifacts beyond the noise map's, as a share of the peak.
    """

    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    peak_jy: NDArray[np.float64]
    edges_deg: NDArray[np.float64]
    share: NDArray[np.float64]

    @classmethod
    def measure(cls, image: NDArray[np.floating], noise: NDArray[np.floating], wcs: WCS, beam: RestoringBeam) -> Self:
        """Measure an image with its noise map, (ny, nx) each, Jy/beam. The same image gives the same halos."""
        edges = np.minimum(beam.major_deg * np.array(_RINGS_BEAMS), REACH_DEG)
        edges = edges[: int(np.searchsorted(edges, REACH_DEG)) + 1]
        y, x, peak, snr = _bright(image, noise)
        ra, dec = sky_positions(wcs, x, y)
        first = _brightest_of_each(ra, dec, peak, edges[0])
        ra, dec, peak, snr = ra[first], dec[first], peak[first], snr[first]
        share = np.zeros(max(edges.size - 1, 0))
        chosen = _alone(ra, dec, snr)
        if share.size and chosen.size:
            share = _shares(image, noise, wcs, beam, (ra[chosen], dec[chosen], snr[chosen]), edges)
        return cls(ra, dec, peak, edges, share)

    def errors_jy(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.float64]:
        """Standard deviation of the artifacts of all other sources at ICRS positions, Jy; shape (Npos,)."""
        ra, dec = np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64)
        variance = np.zeros(ra.shape)
        if not self.share.any():
            return variance
        here = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        near, of = pairs_between(ra[here], dec[here], self.ra_deg, self.dec_deg, float(self.edges_deg[-1]))
        at = here[near]
        apart = _apart_deg(ra[at], dec[at], self.ra_deg[of], self.dec_deg[of])
        ring = np.clip(np.searchsorted(self.edges_deg, apart, side="right") - 1, 0, self.share.size - 1)
        other = apart > 0.5 * self.edges_deg[0]  # nearer in is the source itself
        np.add.at(variance, at[other], (self.share[ring[other]] * self.peak_jy[of[other]]) ** 2)
        return np.sqrt(variance)


def _apart_deg(
    ra1: NDArray[np.float64], dec1: NDArray[np.float64], ra2: NDArray[np.float64], dec2: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(np.degrees(angular_separation_rad(*(np.radians(one) for one in (ra1, dec1, ra2, dec2)))), dtype=np.float64)


def _bright(image: NDArray[np.floating], noise: NDArray[np.floating]) -> tuple[NDArray[np.float64], ...]:
    """Local maxima (y, x) far above the noise, brightest first, with their values and S/N."""
    parts: list[NDArray[np.float64]] = []
    for start in range(0, image.shape[0], _BLOCK_ROWS):
        values, sigma = image[start : start + _BLOCK_ROWS], noise[start : start + _BLOCK_ROWS]
        with np.errstate(invalid="ignore"):
            rows, columns = np.nonzero((values > _LEAST_SNR * sigma) & (sigma > 0))
        top = _are_local_maxima(image, rows + start, columns)
        parts.append(np.stack([rows[top] + start, columns[top]]).astype(np.float64))
    y, x = np.concatenate(parts, axis=1)
    value, own_noise = (one[y.astype(np.intp), x.astype(np.intp)].astype(np.float64) for one in (image, noise))
    snr = value / own_noise
    order = np.argsort(-value, kind="stable")[:_MOST_SOURCES]
    return y[order], x[order], value[order], snr[order]


def _are_local_maxima(image: NDArray[np.floating], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether pixels are no less than their neighbors."""
    highest = np.ones(rows.size, dtype=bool)
    own = image[rows, columns]
    for down, right in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
        y, x = np.clip(rows + down, 0, image.shape[0] - 1), np.clip(columns + right, 0, image.shape[1] - 1)
        highest &= ~(image[y, x] > own)
    return highest


def _brightest_of_each(
    ra: NDArray[np.float64], dec: NDArray[np.float64], value: NDArray[np.float64], radius_deg: float
) -> NDArray[np.intp]:
    """Indices of pixels without a brighter one within a radius; the pixels are in order of brightness."""
    keep = np.ones(value.size, dtype=bool)
    if value.size > 1:
        pairs = np.sort(linked_pairs(ra, dec, radius_deg), axis=1)
        keep[pairs[:, 1]] = False
    return np.flatnonzero(keep)


def _alone(ra: NDArray[np.float64], dec: NDArray[np.float64], snr: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the sources to measure, the most significant first."""
    others = np.zeros(snr.size)
    if snr.size > 1:
        pairs = linked_pairs(ra, dec, REACH_DEG)
        np.maximum.at(others, pairs[:, 0], snr[pairs[:, 1]])
        np.maximum.at(others, pairs[:, 1], snr[pairs[:, 0]])
    found = np.flatnonzero(snr > _ALONE * others)
    return found[np.argsort(-snr[found], kind="stable")][:_MOST_MEASURED]


def _shares(
    image: NDArray[np.floating],
    noise: NDArray[np.floating],
    wcs: WCS,
    beam: RestoringBeam,
    sources: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    edges_deg: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Share of the peak in each ring, weighted over the sources; 0 where it is not significant."""
    rng = np.random.default_rng(110)
    ratio = _over_noise(image, noise, rng.uniform(0, image.shape[0], _SAMPLES_OF_IMAGE), rng.uniform(0, image.shape[1], _SAMPLES_OF_IMAGE))
    typical = robust_sigma(ratio)
    shares = np.zeros(edges_deg.size - 1)
    if not typical > 0:
        return shares
    for ring in range(shares.size):
        inner, outer = edges_deg[ring], edges_deg[ring + 1]
        beams = np.pi * (outer**2 - inner**2) / (AREA_PER_FWHM2 * beam.major_deg * beam.minor_deg)
        total, weights = 0.0, 0.0
        for ra, dec, snr in zip(*sources, strict=True):
            radius, angle = np.sqrt(rng.uniform(inner**2, outer**2, _SAMPLES)), rng.uniform(0, 2 * np.pi, _SAMPLES)
            at_dec = dec + radius * np.cos(angle)
            x, y = pixel_positions(wcs, ra + radius * np.sin(angle) / np.cos(np.radians(dec)), at_dec)
            values = _over_noise(image, noise, y + 0.5, x + 0.5)
            if values.size < _LEAST_FILLED * _SAMPLES:
                continue
            independent = min(beams * values.size / _SAMPLES, values.size)
            weight = (snr**2 / (2 * _MAD_ERROR * typical**2)) ** 2 * independent
            total += weight * (robust_sigma(values) ** 2 - typical**2) / snr**2
            weights += weight
        if weights > 0 and total / weights > _SIGNIFICANT / np.sqrt(weights):
            shares[ring] = np.sqrt(total / weights)
    return shares


def _over_noise(
    image: NDArray[np.floating], noise: NDArray[np.floating], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Finite values of image over noise at pixels' positions, counted from the edge of the first pixel."""
    inside = (y >= 0) & (x >= 0) & (y < image.shape[0]) & (x < image.shape[1])
    rows, columns = y[inside].astype(np.intp), x[inside].astype(np.intp)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.asarray(image[rows, columns], dtype=np.float64) / np.asarray(noise[rows, columns], dtype=np.float64)
    return ratio[np.isfinite(ratio)]
