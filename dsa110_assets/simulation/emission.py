"""Signals that are not of the sky: what a fault tells the simulator of a tile (`faults`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Emission:
    """A signal that the array receives from one direction, primary beam included.

    ``direction_enu``: unit vectors (Ntimes, 3). ``flux_jy``: apparent flux density (Ntimes, Nfreqs), may be zero at
    times.
    """

    direction_enu: NDArray[np.float64]
    flux_jy: NDArray[np.float64]


@dataclass(frozen=True)
class TileContext:
    """Properties of the current subband for a fault; see `tile.simulate_tile` for their meaning."""

    time_mjd: NDArray[np.float64]
    frequency_hz: NDArray[np.float64]
    baseline_enu_m: NDArray[np.float64]
    declination_deg: float
    seed: int


class Interference(Protocol):
    """Unwanted signals, from a direction or directly in the visibilities."""

    def emissions(self, context: TileContext) -> list[Emission]:
        """Return the signals that arrive as plane waves."""
        ...

    def add_to(self, model: NDArray[np.complex64], context: TileContext) -> None:
        """Change the model visibilities (Ntimes, Nbls, Nfreqs), Jy, in place."""
        ...
