"""What is true of the sky but not in a catalog: sizes, spectra, variability, errors and gaps.

`true_sky` and `cataloged` make both from one list of sources. The sources that a caller names stay as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.simulation.imperfections import Imperfections
from dsa110_assets.simulation.sky import CALIBRATOR_NAME, Constant, LightCurve, Sinusoid, Sky

_LARGEST_ARCSEC = 90.0
_SMALLEST_ARCSEC = 1.0
_RING = 6
_ROTATION_MEASURE = 30.0
_SPEED_OF_LIGHT_M_PER_S = 299_792_458.0


def true_sky(sky: Sky, imperfections: Imperfections, *, untouched: Collection[str] = (CALIBRATOR_NAME,)) -> Sky:
    """Give sources their true spectra and light curves; fluxes stay the cataloged means.

    Spectral indices at 1.4 GHz scatter by ``spectral_scatter`` around -0.7 (de Gasperin et al. 2018: -0.79 +- 0.3).
    A share ``variable`` of those without a light curve varies sinusoidally by 10 to 50 % with periods of 2 to 30 days.
    """
    index = sky.spectral_index.copy()
    curves: list[LightCurve] = list(sky.light_curves) or [Constant() for _ in sky.names]
    for i, name in enumerate(sky.names):
        if name in untouched:
            continue
        if imperfections.spectral_scatter:
            index[i] = -0.7 + imperfections.spectral_scatter * _rng(imperfections, name, 20).standard_normal()
        rng = _rng(imperfections, name, 21)
        if rng.uniform() < imperfections.variable and isinstance(curves[i], Constant):
            curves[i] = Sinusoid(rng.uniform(0.1, 0.5), rng.uniform(2.0, 30.0), rng.uniform(0.0, 30.0))
    return replace(sky, spectral_index=index, light_curves=tuple(curves))


def resolved(sky: Sky, imperfections: Imperfections, *, untouched: Collection[str] = (CALIBRATOR_NAME,)) -> Sky:
    """Replace a share ``extended`` of the sources by components with the same total flux, spectrum and light curve.

    Half are double: two components with fluxes of 1 : 1 to 1 : 3, the size apart. Half are round: a ring of six and a
    central component with the second moments of a Gaussian whose FWHM is the size. Sizes follow Windhorst et al. (1990,
    ASP Conf. 10, 389): median ``2" (S / mJy)^0.3``, share above a size ``2^-(size / median)^0.62``; at most 90". The
    centroid is the cataloged position.
    """
    if not imperfections.extended:
        return sky
    source: list[int] = []
    share: list[float] = []
    east: list[float] = []
    north: list[float] = []
    for i, name in enumerate(sky.names):
        rng = _rng(imperfections, name, 22)
        chosen, double = rng.uniform() < imperfections.extended, rng.uniform() < 0.5
        size = min(2.0 * (1e3 * sky.flux_jy[i]) ** 0.3 * (-np.log2(rng.uniform())) ** (1 / 0.62), _LARGEST_ARCSEC)
        angle, first = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.5)
        if not chosen or name in untouched or size < _SMALLEST_ARCSEC:
            parts = [(1.0, 0.0, 0.0)]
        elif double:
            parts = [(first, (1 - first) * size, angle), (1 - first, -first * size, angle)]
        else:  # variance of a ring of radius r that holds 6/7 of the flux: 6/7 r^2 / 2 along each axis
            radius = size / np.sqrt(8 * np.log(2)) * np.sqrt(2 * (_RING + 1) / _RING)
            parts = [(1 / 7, 0.0, 0.0), *[(1 / 7, radius, angle + 2 * np.pi * k / _RING) for k in range(_RING)]]
        for fraction, distance, direction in parts:
            source.append(i)
            share.append(fraction)
            east.append(distance * np.sin(direction))
            north.append(distance * np.cos(direction))
    of = np.array(source)
    dec = sky.dec_deg[of] + np.array(north) / 3600
    many = np.bincount(of)[of] > 1
    return Sky(
        tuple(f"{sky.names[i]}#{k}" if split else sky.names[i] for k, (i, split) in enumerate(zip(source, many, strict=True))),
        (sky.ra_deg[of] + np.array(east) / 3600 / np.cos(np.radians(dec))) % 360,
        dec,
        sky.flux_jy[of] * np.array(share),
        sky.spectral_index[of],
        tuple(sky.light_curves[i] for i in source) if sky.light_curves else (),
    )


def cataloged(sky: Sky, imperfections: Imperfections, *, untouched: Collection[str] = (CALIBRATOR_NAME,)) -> Sky:
    """What a catalog has of the sky: a share ``catalog_missing`` is not in it, the other fluxes have errors."""
    known = np.array(
        [name in untouched or _rng(imperfections, name, 23).uniform() >= imperfections.catalog_missing for name in sky.names], dtype=bool
    )
    error = np.array([0.0 if name in untouched else _rng(imperfections, name, 24).standard_normal() for name in sky.names])
    flux_jy = sky.flux_jy * np.maximum(1 + imperfections.catalog_error * error, 0.1)
    return replace(sky, flux_jy=flux_jy).select(known)


def polarized_fractions(sky: Sky, imperfections: Imperfections, frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stokes Q and U over I of each source, (2, Nfreqs, Nsources).

    Fractions are exponentially distributed with mean ``polarization``, rotation measures normally with 30 rad/m^2
    (Faraday rotation of the sky is of that order at high latitudes; Taylor et al. 2009).
    """
    draws = np.array([_rng(imperfections, name.split("#")[0], 25).uniform(size=3) for name in sky.names]).reshape(-1, 3)
    fraction = np.minimum(-imperfections.polarization * np.log(1 - draws[:, 0]), 0.5)
    angle = np.pi * draws[:, 1]
    rotation = _ROTATION_MEASURE * np.sqrt(12) * (draws[:, 2] - 0.5)
    turned = 2 * (angle + rotation * (_SPEED_OF_LIGHT_M_PER_S / frequency_hz[:, np.newaxis]) ** 2)
    return fraction * np.stack([np.cos(turned), np.sin(turned)])


def _rng(imperfections: Imperfections, name: str, stream: int) -> np.random.Generator:
    """Random numbers of one source, whatever else is in the sky."""
    return np.random.default_rng([imperfections.seed, stream, zlib.crc32(name.encode())])
