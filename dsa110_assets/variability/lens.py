"""Light curves behind a Gaussian plasma lens, the model of an extreme scattering event.

Clegg, Fey & Lazio (1998, ApJ 496, 253): a column density ``N_0 exp(-(x / a)^2)`` refracts a ray that passes at ``u = x
/ a`` to

    u' = u (1 + alpha exp(-u^2)),    alpha = lambda^2 r_e N_0 D / (pi a^2)

``u'`` is the observer's position in units of ``a``, ``r_e`` the classical electron radius, ``D`` the distance. The gain
of one image is ``1 / |du' / du| = 1 / |1 + (1 - 2 u^2) alpha exp(-u^2)|``, and the flux is the sum over all images: a
core dimmed to ``1 / (1 + alpha)`` between two bright regions. If alpha is at least ``e^1.5 / 2 = 2.24``, these contain
a second and third image between caustics. The lens moves light but loses none: the mean of the gain over all ``u'`` is
1. ``alpha`` is proportional to lambda^2, so at lower frequency the core is deeper and the bright regions lie farther
out.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

ALPHAS = (1.0, 3.0, 10.0)
"""Strengths of the templates. The fits of Clegg et al. to two events are 0.3 to 20 between 8.1 and 1.4 GHz."""
SOURCE_SIZE = 0.3
"""One sigma of the source's Gaussian brightness in units of ``a``, the same for all templates."""
HALF_CELLS = 10
_REACH = 40.0
_CELL = 0.02


def gain(u_prime: NDArray[np.float64], alpha: float, source_size: float = SOURCE_SIZE) -> NDArray[np.float64]:
    """Flux relative to that without the lens, in the shape of ``u_prime``.

    Args:
        u_prime: the observer's positions in units of the lens's radius ``a``, any shape; beyond 40 the gain is 1.
        alpha: strength of refraction, 0 to 70 (where the outer caustic is at 31).
        source_size: one sigma of a Gaussian source in units of ``a``.
    """
    place, flux = _gain_table(float(alpha), float(source_size))
    return np.interp(u_prime, place, flux, left=1.0, right=1.0).astype(np.float64)


def core_half_width(alpha: float, source_size: float = SOURCE_SIZE) -> float:
    """``u'`` at which the core has risen halfway from its lowest flux to 1."""
    place, flux = _gain_table(float(alpha), float(source_size))
    middle = place.size // 2
    half = 0.5 * (1.0 + flux[middle])
    return float(place[middle:][np.argmax(flux[middle:] > half)])


@lru_cache(maxsize=1)
def template_bank() -> NDArray[np.float64]:
    """Relative flux minus 1 for each of `ALPHAS`, shape (Nshapes, 2 HALF_CELLS + 1).

    Each value is the mean over a cell of a fifth of the core's width.
    """
    from dsa110_assets.variability._kernels import CORE_CELLS

    fine = (np.arange(-50, 50) + 0.5) / 100.0
    cells = np.arange(-HALF_CELLS, HALF_CELLS + 1)[:, None] + fine[None, :]
    return np.stack([gain(cells * (2.0 * core_half_width(alpha) / CORE_CELLS), alpha).mean(axis=1) - 1.0 for alpha in ALPHAS])


@lru_cache(maxsize=256)
def _gain_table(alpha: float, source_size: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centers of cells of `_CELL` in ``u'``, and the mean gain in each.

    The gain in a cell of ``u'`` is the total length of the stretches of ``u`` that are refracted into it, over the
    cell's own length. So no light is lost at caustics, where the gain of a point source is infinite.
    """
    u = np.linspace(-_REACH - 1.0, _REACH + 1.0, 40_001)
    seen = u * (1.0 + alpha * np.exp(-u * u))
    edges = np.arange(-_REACH, _REACH + 0.5 * _CELL, _CELL)
    turns = np.flatnonzero(np.diff(np.sign(np.diff(seen))) != 0) + 1
    length = np.zeros(edges.size - 1)
    for first, last in zip([0, *turns], [*turns, u.size - 1], strict=True):
        branch, place = u[first : last + 1], seen[first : last + 1]
        if place[-1] < place[0]:
            branch, place = branch[::-1], place[::-1]
        length += np.abs(np.diff(np.interp(edges, place, branch)))
    centres = 0.5 * (edges[1:] + edges[:-1])
    flux = length / _CELL
    if source_size > 0.0:
        reach = int(np.ceil(5.0 * source_size / _CELL))
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _CELL / source_size) ** 2)
        flux = np.convolve(np.pad(flux, reach, constant_values=1.0), kernel / kernel.sum(), mode="valid")
    return centres, flux.astype(np.float64)
