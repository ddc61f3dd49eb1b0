"""Loss of signal of a source by averaging over channels and integrations.

`Averaging` is what the correlator did to every visibility, for models of data and of images. `largest_bandwidth_loss`
is what averaging does to an image at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S, baseline_rate

_AZIMUTHS = 12


@dataclass(frozen=True)
class Averaging:
    """The averaging in one visibility of a Measurement Set.

    ``channel_hz``: width of a correlator channel; the correlator averaged over it with fringes stopped at the meridian
    point of the integration. ``integration_s``: the same in time. ``channels``: how many correlator channels were
    averaged afterward, about the phase center.
    """

    channel_hz: float
    integration_s: float
    channels: int = 1

    def response(
        self,
        uvw_m: NDArray[np.float64],
        lmn: NDArray[np.float64],
        pointing_lmn: NDArray[np.float64],
        dec_rad: float,
        frequency_hz: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Remaining amplitude of a source of unit amplitude, shape (Nrows, Nsources, Nfreqs).

        The correlator's phase ``2 pi f tau``, ``tau = b.(s - s_t)/c``, changes by ``2 pi tau dnu`` across a channel and
        by ``2 pi f (dtau/dt) T`` over an integration. Each multiplies the amplitude by a ``sinc`` (Thompson, Moran &
        Swenson 2017, eqs. 6.66 and 6.80). The mean of N channels multiplies it by ``sin(N x) / (N sin x)``,
        ``x = pi dnu b.(s - s0)/c``.

        Args:
            uvw_m: (Nrows, 3), meters.
            lmn: direction cosines (l, m, n - 1) from the phase center s0, (3, Nsources).
            pointing_lmn: direction cosines of each row's meridian point s_t, (3, Nrows).
            dec_rad: declination of the phase center.
            frequency_hz: (Nfreqs,).
        """
        delay_s = (uvw_m @ lmn - np.einsum("rc,cr->r", uvw_m, pointing_lmn)[:, None]) / SPEED_OF_LIGHT_M_PER_S
        rate_m = baseline_rate(uvw_m, dec_rad)
        turn = (rate_m @ lmn - np.einsum("rc,cr->r", rate_m, pointing_lmn)[:, None]) * (self.integration_s / SPEED_OF_LIGHT_M_PER_S)
        left = np.sinc(delay_s * self.channel_hz)[:, :, None] * np.sinc(turn[:, :, None] * frequency_hz)
        if self.channels > 1:
            x = self.channel_hz * (uvw_m @ lmn) / SPEED_OF_LIGHT_M_PER_S
            left *= (np.sinc(self.channels * x) / np.sinc(x))[:, :, None]
        return left

    def mean_response(
        self, uvw_m: NDArray[np.float64], lmn: NDArray[np.float64], pointing_lmn: NDArray[np.float64], dec_rad: float, frequency_hz: float
    ) -> NDArray[np.float64]:
        """Peak of a point source in an image relative to one without averaging, shape (Nsources,).

        It is the mean over a sample of the visibilities; the arguments are those of `response`, with the effective
        frequency of the image.
        """
        return self.response(uvw_m, lmn, pointing_lmn, dec_rad, np.array([frequency_hz]))[:, :, 0].mean(axis=0)


def largest_bandwidth_loss(
    uvw_m: NDArray[np.float64], bandwidth_hz: float, radius_rad: float, weight: NDArray[np.float64] | None = None
) -> float:
    """Largest fractional loss of peak flux of a point source at ``radius_rad``, over position angles.

    A channel of width B loses ``1 - sinc(B tau)`` with ``tau = (u l + v m + w (n - 1)) / c`` (Thompson, Moran & Swenson
    2017, section 6.3.1). The peak in an image loses the weighted mean over visibilities.

    Args:
        uvw_m: (Nrows, 3), meters; a sample of rows suffices.
        bandwidth_hz: width of an averaged channel.
        radius_rad: distance from the phase center.
        weight: natural weights, (Nrows,); equal if None.
    """
    angle = np.linspace(0.0, 2 * np.pi, _AZIMUTHS, endpoint=False)
    n_minus_1 = np.sqrt(1 - np.sin(radius_rad) ** 2) - 1
    direction = np.stack([np.sin(radius_rad) * np.cos(angle), np.sin(radius_rad) * np.sin(angle), np.full(angle.size, n_minus_1)])
    kept = np.sinc(bandwidth_hz * (uvw_m @ direction) / SPEED_OF_LIGHT_M_PER_S)
    return float(1.0 - np.average(kept, axis=0, weights=weight).min())
