"""Simulated faults: interference in the visibilities, and files that are damaged or wrong.

Pass interference to `tile.simulate_tile`; apply the functions on files to its output. Missing subbands, short last
files, dead antennas and restarts are options of the tile, the receivers and the night.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.simulation.emission import Emission, TileContext
from dsa110_assets.simulation.uvh5 import INTEGRATION_S


def _horizontal(azimuth_deg: NDArray[np.float64], altitude_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    azimuth, altitude = np.radians(azimuth_deg), np.radians(altitude_deg)
    return np.stack([np.cos(altitude) * np.sin(azimuth), np.cos(altitude) * np.cos(azimuth), np.sin(altitude)], axis=-1)


@dataclass(frozen=True)
class SatelliteBurst:
    """A satellite that crosses the far sidelobes: strong in a part of the band, for a few integrations.

    ``flux_jy``: apparent. ``first``, ``n_integrations``: when. ``center_hz``, ``width_hz``: Gaussian spectrum (FWHM).
    ``azimuth_deg``, ``altitude_deg``: at the first integration; it moves ``degrees_per_integration`` in azimuth.
    """

    flux_jy: float = 2.0e4
    first: int = 10
    n_integrations: int = 3
    center_hz: float = 1.37645e9
    width_hz: float = 2.0e7
    azimuth_deg: float = 130.0
    altitude_deg: float = 40.0
    degrees_per_integration: float = 0.8

    def emissions(self, context: TileContext) -> list[Emission]:
        """One moving plane wave."""
        step = np.arange(len(context.time_mjd)) - self.first
        on = (step >= 0) & (step < self.n_integrations)
        azimuth = np.asarray(self.azimuth_deg + self.degrees_per_integration * step, dtype=np.float64)
        spectrum = np.exp(-4 * np.log(2) * ((context.frequency_hz - self.center_hz) / self.width_hz) ** 2)
        return [Emission(_horizontal(azimuth, np.full(len(step), self.altitude_deg)), self.flux_jy * on[:, np.newaxis] * spectrum)]

    def add_to(self, model: NDArray[np.complex64], context: TileContext) -> None:
        """Add nothing: the plane wave is all."""


@dataclass(frozen=True)
class FaintSatellites:
    """Passes of satellites near the noise of a visibility, of which a flagger finds a part.

    ``flux_jy``: median apparent flux; the logarithm scatters by 0.7. ``per_hour``: mean rate. Each lasts for one to
    three integrations and is 5 to 40 MHz wide, at a random frequency and direction. ``seed``: with the observation's
    start, of all of them.
    """

    flux_jy: float
    per_hour: float
    seed: int

    def bursts(self, context: TileContext) -> list[SatelliteBurst]:
        """The passes of an observation, the same in each subband."""
        n_times = len(context.time_mjd)
        rng = np.random.default_rng([self.seed, round(float(context.time_mjd[0]) * 86_400)])
        return [
            SatelliteBurst(
                flux_jy=self.flux_jy * float(np.exp(0.7 * rng.standard_normal())),
                first=int(rng.integers(0, n_times)),
                n_integrations=int(rng.integers(1, 4)),
                center_hz=float(rng.uniform(1.32e9, 1.49e9)),
                width_hz=float(rng.uniform(5e6, 4e7)),
                azimuth_deg=float(rng.uniform(0, 360)),
                altitude_deg=float(rng.uniform(20, 80)),
            )
            for _ in range(rng.poisson(self.per_hour * n_times * INTEGRATION_S / 3600))
        ]

    def emissions(self, context: TileContext) -> list[Emission]:
        """One moving plane wave for each pass."""
        return [emission for burst in self.bursts(context) for emission in burst.emissions(context)]

    def add_to(self, model: NDArray[np.complex64], context: TileContext) -> None:
        """Add nothing: the plane waves are all."""


@dataclass(frozen=True)
class NarrowCarrier:
    """A transmitter on the horizon that always fills one channel."""

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
        """Add nothing: the plane wave is all."""


@dataclass(frozen=True)
class ShortBaselineInterference:
    """Pickup that only neighboring dishes share: broadband, steady, with a fixed phase on each short baseline.

    ``max_baseline_m``: longest affected baseline; the strength halves with each third of this length.
    """

    flux_jy: float = 300.0
    max_baseline_m: float = 60.0

    def emissions(self, context: TileContext) -> list[Emission]:  # pyright: ignore[reportUnusedParameter]
        """Return nothing: pickup has no direction."""
        return []

    def add_to(self, model: NDArray[np.complex64], context: TileContext) -> None:
        """Add to the short cross-correlations."""
        length_m = np.linalg.norm(context.baseline_enu_m, axis=1)
        strength = np.where((length_m > 0) & (length_m < self.max_baseline_m), 0.5 ** (3 * length_m / self.max_baseline_m), 0.0)
        phase_rad = np.random.default_rng([context.seed, 21]).uniform(0, 2 * np.pi, len(length_m))
        model += (self.flux_jy * strength * np.exp(1j * phase_rad)).astype(np.complex64)[np.newaxis, :, np.newaxis]


# --- files ------------------------------------------------------------------------------------------------------------
def truncate(path: Path, keep: float = 0.4) -> None:
    """Truncate a file, as a full disk or an aborted transfer does."""
    with path.open("r+b") as stream:
        stream.truncate(int(path.stat().st_size * keep))


def overwrite_start(path: Path) -> None:
    """Overwrite the first kilobyte, so that the file is no longer HDF5."""
    with path.open("r+b") as stream:
        stream.write(b"\0" * 1024)


def remove_header_item(path: Path, item: str = "time_array") -> None:
    """Delete one header item, as a crash of the writer does."""
    with h5py.File(path, "r+") as file:
        del file[f"Header/{item}"]


def fill_with_absurd_values(path: Path, value: float = 1e37, *, dataset: str = "visdata") -> None:
    """Fill a quarter of the rows of ``Data/<dataset>`` with an impossible value; flags stay false (pitfall 24)."""
    with h5py.File(path, "r+") as file:
        data = file[f"Data/{dataset}"]
        assert isinstance(data, h5py.Dataset)
        data[: data.shape[0] // 4] = value


def duplicate_subband_zero(path: Path) -> Path:
    """Write a second sb00, one second later, with wrong frequencies, like a node of unknown name (pitfall 26).

    Args:
        path: any file of the observation except subband 0; its data and frequencies are copied.
    """
    stamp = np.datetime64(path.name[:19]) + np.timedelta64(1, "s")
    copy = path.with_name(f"{stamp}_sb00.hdf5")
    while copy.exists():
        stamp += np.timedelta64(1, "s")
        copy = path.with_name(f"{stamp}_sb00.hdf5")
    shutil.copyfile(path, copy)
    return copy


def leave_incomplete(path: Path) -> Path:
    """Rename a file back to its name during writing, as if its node had died."""
    return path.rename(path.with_name(path.name.replace(".hdf5", "_incomplete.hdf5")))
