"""What goes wrong: interference in the visibilities, and files that are broken, foreign or impossible.

Interference goes into `tile.simulate_tile`; the functions on files are applied to what it wrote. Missing subbands, short
last files, dead antennas and restarts are options of the tile, the receivers and the night.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.simulation.tile import Emission, TileContext


def _horizontal(azimuth_deg: NDArray[np.float64], altitude_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    azimuth, altitude = np.radians(azimuth_deg), np.radians(altitude_deg)
    return np.stack([np.cos(altitude) * np.sin(azimuth), np.cos(altitude) * np.cos(azimuth), np.sin(altitude)], axis=-1)


@dataclass(frozen=True)
class SatelliteBurst:
    """A satellite that crosses the far side lobes: strong in a part of the band, for a few integrations.

    ``flux_jy``: apparent. ``first``, ``n_integrations``: when. ``centre_hz``, ``width_hz``: Gaussian spectrum (FWHM).
    ``azimuth_deg``, ``altitude_deg``: at the first integration; it moves ``degrees_per_integration`` in azimuth.
    """

    flux_jy: float = 2.0e4
    first: int = 10
    n_integrations: int = 3
    centre_hz: float = 1.37645e9
    width_hz: float = 2.0e7
    azimuth_deg: float = 130.0
    altitude_deg: float = 40.0
    degrees_per_integration: float = 0.8

    def emissions(self, context: TileContext) -> list[Emission]:
        """One moving plane wave."""
        step = np.arange(len(context.time_mjd)) - self.first
        on = (step >= 0) & (step < self.n_integrations)
        azimuth = np.asarray(self.azimuth_deg + self.degrees_per_integration * step, dtype=np.float64)
        spectrum = np.exp(-4 * np.log(2) * ((context.frequency_hz - self.centre_hz) / self.width_hz) ** 2)
        return [Emission(_horizontal(azimuth, np.full(len(step), self.altitude_deg)), self.flux_jy * on[:, np.newaxis] * spectrum)]

    def add_to(self, model: NDArray[np.complex64], context: TileContext) -> None:
        """Nothing beyond the plane wave."""


@dataclass(frozen=True)
class NarrowCarrier:
    """A transmitter on the horizon that fills one channel all the time."""

    frequency_hz: float = 1.4251e9
    flux_jy: float = 5.0e3
    azimuth_deg: float = 215.0

    def emissions(self, context: TileContext) -> list[Emission]:
        """A plane wave from the horizon, in the nearest channel if the carrier is in this subband."""
        distance = np.abs(context.frequency_hz - self.frequency_hz)
        width = abs(np.diff(context.frequency_hz).mean()) if len(distance) > 1 else np.inf
        spectrum = np.zeros(len(distance))
        if distance.min() <= width / 2:
            spectrum[distance.argmin()] = self.flux_jy
        n_times = len(context.time_mjd)
        return [Emission(_horizontal(np.full(n_times, self.azimuth_deg), np.zeros(n_times)), np.tile(spectrum, (n_times, 1)))]

    def add_to(self, model: NDArray[np.complex64], context: TileContext) -> None:
        """Nothing beyond the plane wave."""


@dataclass(frozen=True)
class ShortBaselineInterference:
    """Pick-up that only neighbouring dishes share: broadband, steady, of a fixed phase on each short baseline.

    ``max_baseline_m``: it halves its strength every third of this length and ends there.
    """

    flux_jy: float = 300.0
    max_baseline_m: float = 60.0

    def emissions(self, context: TileContext) -> list[Emission]:  # pyright: ignore[reportUnusedParameter]
        """It has no direction."""
        return []

    def add_to(self, model: NDArray[np.complex64], context: TileContext) -> None:
        """Add to the short cross-correlations."""
        length_m = np.linalg.norm(context.baseline_enu_m, axis=1)
        strength = np.where((length_m > 0) & (length_m < self.max_baseline_m), 0.5 ** (3 * length_m / self.max_baseline_m), 0.0)
        phase_rad = np.random.default_rng([context.seed, 21]).uniform(0, 2 * np.pi, len(length_m))
        model += (self.flux_jy * strength * np.exp(1j * phase_rad)).astype(np.complex64)[np.newaxis, :, np.newaxis]


# --- files ------------------------------------------------------------------------------------------------------------
def truncate(path: Path, keep: float = 0.4) -> None:
    """Cut a file short, as a full disk or a lost transfer does."""
    with path.open("r+b") as stream:
        stream.truncate(int(path.stat().st_size * keep))


def overwrite_start(path: Path) -> None:
    """Destroy the first kilobyte: not an HDF5 file any more."""
    with path.open("r+b") as stream:
        stream.write(b"\0" * 1024)


def remove_header_item(path: Path, item: str = "time_array") -> None:
    """Delete one item of the header, as a crash of the writer between two items does."""
    with h5py.File(path, "r+") as file:
        del file[f"Header/{item}"]


def poison(path: Path, value: float = 1e37, *, dataset: str = "visdata") -> None:
    """Fill a quarter of the rows of ``Data/<dataset>`` with an impossible value, all flags still false (pitfall 24)."""
    with h5py.File(path, "r+") as file:
        data = file[f"Data/{dataset}"]
        assert isinstance(data, h5py.Dataset)
        data[: data.shape[0] // 4] = value


def duplicate_subband_zero(path: Path) -> Path:
    """Write what a node with an unknown host name writes: a second sb00, one second later, of the wrong frequencies (pitfall 26).

    Args:
        path: any file of the group, of another subband than 0; its data and frequencies are taken.
    """
    stamp = np.datetime64(path.name[:19]) + np.timedelta64(1, "s")
    copy = path.with_name(f"{stamp}_sb00.hdf5")
    while copy.exists():
        stamp += np.timedelta64(1, "s")
        copy = path.with_name(f"{stamp}_sb00.hdf5")
    shutil.copyfile(path, copy)
    return copy


def leave_incomplete(path: Path) -> Path:
    """Rename a file back to the name that it has while it is written, as if its node had died."""
    return path.rename(path.with_name(path.name.replace(".hdf5", "_incomplete.hdf5")))
