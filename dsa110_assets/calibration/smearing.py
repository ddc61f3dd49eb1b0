"""What averaging over channels and integrations takes from a source, and how many channels may be averaged.

Two kinds: what the correlator did to every visibility (`Averaging`, for models of data), and what averaging channels would do to an
image (`smearing_loss`, `choose_factor`). What does not belong here: the averaging itself (`apply`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.instrument import BEAM_CUTOFF, DISH_DIAMETER_M, SPEED_OF_LIGHT_M_PER_S

CALIBRATED_KEYWORD = "DSA110_CALIBRATED"
"""Keyword of a calibrated Measurement Set: JSON that says, among others, how many channels were averaged."""
SIDEREAL_RAD_PER_S = 7.292115855e-5
_AZIMUTHS = 12


@dataclass(frozen=True)
class Averaging:
    """What one visibility of a Measurement Set is a mean over.

    ``channel_hz``: width of the correlator's channel, over which it averaged with the fringes stopped at the meridian point of the integration.
    ``integration_s``: likewise in time. ``channels``: how many of its channels were averaged afterwards, about the phase centre.
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
        """Amplitude that is left of a source of unit amplitude, (Nrows, Nsources, Nfreqs).

        The correlator's phase ``2 pi f tau``, ``tau = b.(s - s_t)/c``, runs by ``2 pi tau dnu`` across a channel and by ``2 pi f (dtau/dt) T`` over
        an integration; each leaves a ``sinc`` (Thompson, Moran & Swenson 2017, eqs. 6.66 and 6.80). The mean of N channels
        leaves ``sin(N x) / (N sin x)``, ``x = pi dnu b.(s - s0)/c``.

        Args:
            uvw_m: (Nrows, 3).
            lmn: (3, Nsources) direction cosines l, m, n - 1 from the phase centre s0.
            pointing_lmn: (3, Nrows): those of the row's meridian point s_t.
            dec_rad: of the phase centre.
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


def read_averaging(ms: Path) -> Averaging:
    """What the visibilities of a Measurement Set of the platform are means over; a calibrated one says how many channels."""
    from casacore.tables import table

    with table(f"{ms}::SPECTRAL_WINDOW", ack=False) as window:
        width_hz = abs(float(np.atleast_1d(window.getcell("CHAN_WIDTH", 0))[0]))
    with table(str(ms), ack=False) as main:
        integration_s = float(main.getcell("INTERVAL", 0))
        record = json.loads(main.getkeyword(CALIBRATED_KEYWORD)) if CALIBRATED_KEYWORD in main.keywordnames() else {}
    channels = int(record.get("channels_averaged", 1))
    return Averaging(width_hz / channels, integration_s, channels)


def baseline_rate(uvw_m: NDArray[np.float64], dec_rad: float) -> NDArray[np.float64]:
    """Rate of change of baselines by the rotation of the Earth, m/s, shape (N, 3): ``omega x b`` with the pole at (0, cos dec, sin dec).

    The pole is that of the ICRS; that of date is 0.15 deg away, which changes a smearing by 0.3 % of itself.
    """
    u, v, w = uvw_m.T
    cos, sin = np.cos(dec_rad), np.sin(dec_rad)
    return SIDEREAL_RAD_PER_S * np.stack([cos * w - sin * v, sin * u, -cos * u], axis=1)


def cutoff_radius_rad(frequency_hz: float, level: float = BEAM_CUTOFF) -> float:
    """Angle from the axis at which the Airy power beam falls to ``level``."""
    from scipy.optimize import root_scalar
    from scipy.special import j1

    x = float(root_scalar(lambda v: (2 * j1(v) / v) ** 2 - level, bracket=(1e-6, 3.8317), method="brentq").root)
    return float(np.arcsin(x * SPEED_OF_LIGHT_M_PER_S / (np.pi * DISH_DIAMETER_M * frequency_hz)))


def smearing_loss(uvw_m: NDArray[np.float64], bandwidth_hz: float, radius_rad: float, weight: NDArray[np.float64] | None = None) -> float:
    """Fractional loss of peak flux of a point source ``radius_rad`` from the phase centre, natural weights, worst position angle.

    A channel of width B loses ``1 - sinc(B tau)`` with ``tau = (u l + v m + w (n - 1)) / c`` (Thompson, Moran & Swenson 2017, section 6.3.1);
    the image's peak loses the weighted mean over visibilities.

    Args:
        uvw_m: (Nrows, 3), metres; a sample of rows suffices.
        bandwidth_hz: of an averaged channel.
        radius_rad: distance from the phase centre.
        weight: (Nrows,); equal when None.
    """
    angle = np.linspace(0.0, 2 * np.pi, _AZIMUTHS, endpoint=False)
    n_minus_1 = np.sqrt(1 - np.sin(radius_rad) ** 2) - 1
    direction = np.stack([np.sin(radius_rad) * np.cos(angle), np.sin(radius_rad) * np.sin(angle), np.full(angle.size, n_minus_1)])
    kept = np.sinc(bandwidth_hz * (uvw_m @ direction) / SPEED_OF_LIGHT_M_PER_S)
    return float(1.0 - np.average(kept, axis=0, weights=weight).min())


def choose_factor(
    uvw_m: NDArray[np.float64], channel_width_hz: float, n_channels: int, frequency_hz: float, max_smearing: float
) -> tuple[int, float]:
    """Largest divisor of ``n_channels`` for which a source at the 20 % beam radius loses less than ``max_smearing``; 1 if none does.

    Returns:
        (channels to average, loss with that factor).
    """
    radius = cutoff_radius_rad(frequency_hz)
    best, loss = 1, smearing_loss(uvw_m, channel_width_hz, radius)
    for factor in (f for f in range(2, n_channels + 1) if n_channels % f == 0):
        candidate = smearing_loss(uvw_m, factor * channel_width_hz, radius)
        if candidate >= max_smearing:
            break  # the loss grows with the factor
        best, loss = factor, candidate
    return best, loss
