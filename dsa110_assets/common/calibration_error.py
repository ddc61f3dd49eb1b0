"""What is wrong with a flux beyond noise: errors of the antennas' gains, as a share of the flux.

Each antenna sees a source with its own gain error: what the tables do not know, where its dish points, how wide its
beam is. The mean of these errors over the antennas is the source's flux error. It is no noise of the image, because it
grows with the flux: at 2 %, a source of 1 Jy is 20 mJy off. The imager measures it (`imaging.flux_errors`) and writes
it to the headers; photometry and source catalogs read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.fits_planes import number
from dsa110_assets.common.halos import Halos
from dsa110_assets.common.restoring_beam import RestoringBeam

SHARE_KEYWORD, SLOPE_KEYWORD = "DSAFERR", "DSAFERRD"
RA_KEYWORD, DEC_KEYWORD = "DSAFERRA", "DSAFERDC"
_LARGEST_SHARE = 1.0
"""A larger one in a header is no measurement."""


@dataclass(frozen=True)
class CalibrationError:
    """Standard deviation of fluxes from errors of gains, as a share of the flux.

    ``share``: at the center of the beam. ``per_deg``: its growth with the distance from there; both add in quadrature.
    ``center``: ICRS right ascension and declination of the beam's center, deg. In a mosaic of a drift scan the right
    ascension is NaN: a source drifts through the beam from side to side, which cancels, and only the distance in
    declination counts.
    """

    share: float
    per_deg: float
    center: tuple[float, float]

    def shares(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.float64]:
        """Share of the flux at ICRS positions, shape (Npos,)."""
        ra, dec = np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64)
        ra0, dec0 = self.center
        distance = (
            np.degrees(angular_separation_rad(np.radians(ra), np.radians(dec), np.radians(ra0), np.radians(dec0)))
            if np.isfinite(ra0)
            else np.abs(dec - dec0)
        )
        return np.hypot(self.share, self.per_deg * distance)

    def at_deg(self, distance: float) -> float:
        """Share of the flux at a distance from the beam's center."""
        return float(np.hypot(self.share, self.per_deg * distance))

    def write_to(self, header: fits.Header) -> None:
        """Write the keywords."""
        header[SHARE_KEYWORD] = (self.share, "error of gains: share of flux, beam's center")
        header[SLOPE_KEYWORD] = (self.per_deg, "the same: growth per deg from there")
        if np.isfinite(self.center[0]):
            header[RA_KEYWORD] = (self.center[0], "deg, ICRS, the beam's center")
        header[DEC_KEYWORD] = (self.center[1], "deg, ICRS, the beam's center")

    @classmethod
    def from_header(cls, header: fits.Header) -> Self | None:
        """Read the keywords; None if the image has none, as those of other programs and earlier versions."""
        share, per_deg, dec = (number(header, key) for key in (SHARE_KEYWORD, SLOPE_KEYWORD, DEC_KEYWORD))
        if not (0 <= share <= _LARGEST_SHARE and 0 <= per_deg <= _LARGEST_SHARE and abs(dec) <= 90):
            return None
        return cls(share, per_deg, (number(header, RA_KEYWORD), dec))

    @classmethod
    def of_mosaic(cls, tiles: Sequence[Self | None], dec_deg: float) -> Self | None:
        """Error of a mosaic around a declination, from those of its tiles; None if no tile has one.

        The dishes are the same in each tile, and so are their errors: the mosaic has their mean, not less.
        """
        known = [tile for tile in tiles if tile is not None]
        if not known:
            return None
        share, per_deg = (float(np.sqrt(np.mean(np.square([getattr(one, name) for one in known])))) for name in ("share", "per_deg"))
        return cls(share, per_deg, (float("nan"), dec_deg))


def calibration_errors_jy(
    image: NDArray[np.floating],
    noise: NDArray[np.floating],
    header: fits.Header,
    wcs: WCS,
    beam: RestoringBeam,
    ra_deg: ArrayLike,
    dec_deg: ArrayLike,
    flux_jy: ArrayLike,
) -> NDArray[np.float64]:
    """Error of each flux that is not noise, Jy: its share by the header, and artifacts of bright sources around it.

    Args:
        image, noise: of the image, Jy/beam, (ny, nx).
        header, wcs, beam: of the image.
        ra_deg, dec_deg, flux_jy: ICRS positions and fluxes, shape (Npos,); NaN is allowed.
    """
    error = CalibrationError.from_header(header)
    own = np.abs(error.shares(ra_deg, dec_deg) * np.asarray(flux_jy, dtype=np.float64)) if error else 0.0
    return np.hypot(own, Halos.measure(image, noise, wcs, beam).errors_jy(ra_deg, dec_deg))
