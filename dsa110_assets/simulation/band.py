"""The band of a simulated observation: sixteen subbands that always cover the telescope's 187.5 MHz."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_SUBBANDS = 16
_NATIVE_CHANNELS = 48
_NATIVE_WIDTH_HZ = 244_140.625
_NATIVE_TOP_CENTER_HZ = 1_498_643_188.4765625


@dataclass(frozen=True)
class BandPlan:
    """Channels of each subband; ``n_channels`` must divide 48, the correlator's number of channels."""

    n_channels: int = _NATIVE_CHANNELS

    def __post_init__(self) -> None:
        if self.n_channels < 1 or _NATIVE_CHANNELS % self.n_channels:
            msg = f"BandPlan: {self.n_channels} channels per subband do not divide {_NATIVE_CHANNELS}"
            raise ValueError(msg)

    @property
    def channel_width_hz(self) -> float:
        """Width of a channel, positive."""
        return _NATIVE_WIDTH_HZ * (_NATIVE_CHANNELS // self.n_channels)

    def frequencies_hz(self, subband: int) -> NDArray[np.float64]:
        """Channel centers of a subband, descending, shape (n_channels,); subband 0 is the top of the band.

        Raises:
            ValueError: there is no such subband.
        """
        if not 0 <= subband < N_SUBBANDS:
            msg = f"BandPlan: subband {subband} is not in 0..{N_SUBBANDS - 1}"
            raise ValueError(msg)
        top_edge_hz = _NATIVE_TOP_CENTER_HZ + _NATIVE_WIDTH_HZ / 2
        channel = subband * self.n_channels + np.arange(self.n_channels)
        return np.asarray(top_edge_hz - (channel + 0.5) * self.channel_width_hz, dtype=np.float64)


def full_band() -> BandPlan:
    """The correlator's own band: 48 channels of 244140.625 Hz in each subband."""
    return BandPlan(48)


def demo_band() -> BandPlan:
    """8 channels of 1.464844 MHz in each subband."""
    return BandPlan(8)
