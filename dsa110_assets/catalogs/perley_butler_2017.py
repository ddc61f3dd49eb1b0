"""The flux density scale of Perley & Butler (2017), ApJS 230, 7: the platform's only absolute fluxes.

``log10(S / Jy) = a0 + a1 x + a2 x**2 + ...`` with ``x = log10(nu / GHz)`` (their equation 1; coefficients of their
tables 6 and 7, epoch 2016). The standards in use (3C48, 3C138, 3C147, 3C286) are smaller than 3.1 arcsec, a quarter of
this array's finest beam. Fluxes of ordinary calibrators (`calibrators`) are not on this scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.errors import FluxScaleError


@dataclass(frozen=True)
class Standard:
    """One source of the scale.

    ``name``: 3C name. ``manual_name``: J2000 name in the VLA calibrator manual. ``coefficients``: a0, a1, ... .
    ``low_ghz``/``high_ghz``: range of the polynomial's fit. ``is_variable``: Perley & Butler saw its flux change over
    years; accurate to a few percent, used when no stable standard transits. ``extent_arcsec``: largest angular size.
    """

    name: str
    manual_name: str
    coefficients: tuple[float, ...]
    low_ghz: float
    high_ghz: float
    is_variable: bool
    extent_arcsec: float


STANDARDS: dict[str, Standard] = {
    standard.name: standard
    for standard in (
        Standard("3C48", "0137+331", (1.3253, -0.7553, -0.1914, 0.0498), 0.05, 50.0, True, 1.2),
        Standard("3C123", "0437+296", (1.8017, -0.7884, -0.1035, -0.0248, 0.0090), 0.05, 50.0, False, 44.0),
        Standard("3C138", "0521+166", (1.0088, -0.4981, -0.1552, -0.0102, 0.0223), 0.2, 50.0, True, 0.7),
        Standard("3C147", "0542+498", (1.4516, -0.6961, -0.2007, 0.0640, -0.0464, 0.0289), 0.05, 50.0, True, 0.9),
        Standard("3C196", "0813+482", (1.2872, -0.8530, -0.1534, -0.0200, 0.0201), 0.05, 50.0, False, 7.0),
        Standard("3C286", "1331+305", (1.2481, -0.4507, -0.1798, 0.0357), 0.05, 50.0, False, 3.0),
        Standard("3C295", "1411+522", (1.4701, -0.7658, -0.2780, -0.0347, 0.0399), 0.05, 50.0, False, 5.0),
        Standard("3C380", "1829+487", (1.2320, -0.7909, 0.0947, 0.0976, -0.1794, -0.1566), 0.05, 4.0, False, 20.0),
    )
}
_BY_MANUAL_NAME = {standard.manual_name: standard for standard in STANDARDS.values()}


def standard(name: str) -> Standard | None:
    """Find a standard by its 3C name, with or without a blank, or its J2000 name in the VLA manual; None if unknown."""
    key = name.strip().upper().replace(" ", "")
    return STANDARDS.get(key) or _BY_MANUAL_NAME.get(key.removeprefix("J"))


def flux_jy(name: str, frequency_hz: ArrayLike) -> NDArray[np.float64]:
    """Flux density of a standard in Jy, shape of ``frequency_hz``.

    >>> float(flux_jy("3C286", 1.4e9).round(2))
    15.08

    Raises:
        FluxScaleError: not a standard, or a frequency outside the range of its polynomial; we never extrapolate.
    """
    source = standard(name)
    if source is None:
        raise FluxScaleError(name, "not a standard of Perley & Butler (2017)", f"use one of {', '.join(STANDARDS)}")
    ghz = np.asarray(frequency_hz, dtype=np.float64) / 1e9
    if np.any(ghz < source.low_ghz) or np.any(ghz > source.high_ghz):
        raise FluxScaleError(
            name, f"{ghz.min():.3f}-{ghz.max():.3f} GHz is outside {source.low_ghz}-{source.high_ghz} GHz", "use another standard"
        )
    return np.asarray(10.0 ** np.polynomial.polynomial.polyval(np.log10(ghz), np.asarray(source.coefficients)), dtype=np.float64)


def spectral_index(name: str, frequency_hz: float) -> float:
    """Slope ``d ln S / d ln nu`` of a standard at one frequency (derivative of the polynomial)."""
    flux_jy(name, frequency_hz)  # raises for unknown names and frequencies out of range
    source = standard(name)
    assert source is not None
    derivative = np.polynomial.polynomial.polyder(np.asarray(source.coefficients))
    return float(np.polynomial.polynomial.polyval(np.log10(frequency_hz / 1e9), derivative))
