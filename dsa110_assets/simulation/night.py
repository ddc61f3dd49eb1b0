"""Simulation of a night of consecutive tiles, and the plan of the demo's two nights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.time import Time

from dsa110_assets.simulation.array import ArrayLayout, demo_array
from dsa110_assets.simulation.band import BandPlan, demo_band
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.emission import Interference
from dsa110_assets.simulation.imperfect_sky import cataloged, true_sky
from dsa110_assets.simulation.imperfections import NONE, Imperfections
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.reference import ReferenceFiles, write_reference_catalogs, write_truth
from dsa110_assets.simulation.sky import CALIBRATOR_NAME, Sky, demo_sky
from dsa110_assets.simulation.tile import INTEGRATIONS_PER_TILE, SECONDS_PER_DAY, TILE_S, NameJitter, simulate_tile
from dsa110_assets.simulation.uvh5 import INTEGRATION_S

SIDEREAL_DAY_S = 86_164.0905


@dataclass(frozen=True)
class NightTruth:
    """Facts of a simulated night.

    ``tile_start_mjd``: center of the first integration of each tile, UTC. ``files``: raw files of each tile in order of
    subband. ``mid_mjd``: middle of the night's data.
    """

    declination_deg: float
    tile_start_mjd: tuple[float, ...]
    files: tuple[tuple[Path, ...], ...]
    mid_mjd: float


def tile_starts_mjd(start_mjd: float, n_tiles: int) -> tuple[float, ...]:
    """Start times of consecutive tiles, every 309.2376 s without a gap."""
    return tuple(start_mjd + i * TILE_S / SECONDS_PER_DAY for i in range(n_tiles))


def mid_time_mjd(start_mjd: float, n_tiles: int) -> float:
    """Middle of the data of ``n_tiles`` full tiles."""
    return start_mjd + (n_tiles * TILE_S - INTEGRATION_S) / 2 / SECONDS_PER_DAY


def simulate_night(
    out_dir: Path,
    *,
    start_mjd: float,
    n_tiles: int,
    declination_deg: float,
    sky: Sky,
    array: ArrayLayout,
    band: BandPlan,
    seed: int,
    receivers: Receivers | None = None,
    interference: Sequence[Interference] = (),
    tiles: Sequence[int] | None = None,
    restart_tiles: Collection[int] = (),
    last_integrations: int = INTEGRATIONS_PER_TILE,
    ending: Sequence[int] = (),
    service_declination_deg: float | None = None,
    imperfections: Imperfections = NONE,
    noise: bool = True,
    in_order: bool = False,
    dwell_s: float = 0.0,
    on_file: Callable[[Path], None] | None = None,
    on_tile: Callable[[int, list[Path]], None] | None = None,
) -> NightTruth:
    """Write the raw files of consecutive tiles. For arguments that are not listed, see `tile.simulate_tile`.

    Args:
        start_mjd: center of the night's first integration, UTC.
        n_tiles: number of consecutive tiles, one every 309.2376 s.
        tiles: which of them to write, in this order; all by default.
        restart_tiles: tiles whose files have the scattered names of a correlator restart.
        last_integrations: integrations of the last of the ``n_tiles``.
        ending: numbers of samples of its last integrations (see `tile.simulate_tile`).
        on_tile: called with number and files of each complete tile.
    """
    starts = tile_starts_mjd(start_mjd, n_tiles)
    files: list[tuple[Path, ...]] = []
    chosen = list(range(n_tiles)) if tiles is None else list(tiles)
    for number in chosen:
        written = simulate_tile(
            out_dir,
            start_mjd=starts[number],
            declination_deg=declination_deg,
            sky=sky,
            array=array,
            band=band,
            seed=seed,
            n_integrations=last_integrations if number == n_tiles - 1 else INTEGRATIONS_PER_TILE,
            noise=noise,
            receivers=receivers,
            interference=interference,
            in_order=in_order,
            dwell_s=dwell_s,
            jitter=NameJitter(restart=number in restart_tiles),
            ending=ending if number == n_tiles - 1 else (),
            service_declination_deg=service_declination_deg,
            imperfections=imperfections,
            on_file=on_file,
        )
        files.append(tuple(written))
        if on_tile is not None:
            on_tile(number, written)
    return NightTruth(declination_deg, tuple(starts[i] for i in chosen), tuple(files), mid_time_mjd(start_mjd, n_tiles))


@dataclass(frozen=True)
class DemoNight:
    """One night of the demo: ``date`` (UTC, YYYY-MM-DD), center of its first integration, its receivers.

    ``service_declination_deg``: what the correlator's service read when it started.
    """

    date: str
    start_mjd: float
    receivers: Receivers
    service_declination_deg: float


@dataclass(frozen=True)
class DemoPlan:
    """Plan of the demo: the same strip of sky at the same sidereal time on two nights.

    ``sky``: the true one. ``catalog``: what an observer knows of it. ``calibrator``, ``event_source``: names in both.
    ``calibrator_tile``: number of the tile in which the calibrator transits. ``ending``: numbers of samples of each
    night's last integrations: the correlator's run ends there. ``imperfections``: of telescope and catalog.
    """

    nights: tuple[DemoNight, ...]
    n_tiles: int
    declination_deg: float
    sky: Sky
    catalog: Sky
    calibrator: str
    calibrator_tile: int
    event_source: str
    seed: int
    array: ArrayLayout = field(default_factory=demo_array)
    band: BandPlan = field(default_factory=demo_band)
    ending: tuple[int, ...] = (40, 0)
    imperfections: Imperfections = NONE

    def simulate(
        self,
        out_dir: Path,
        night: int,
        *,
        tiles: Sequence[int] | None = None,
        dwell_s: float = 0.0,
        on_file: Callable[[Path], None] | None = None,
        on_tile: Callable[[int, list[Path]], None] | None = None,
    ) -> NightTruth:
        """Write the raw files of one night, of all tiles or of some."""
        one = self.nights[night]
        return simulate_night(
            out_dir,
            start_mjd=one.start_mjd,
            n_tiles=self.n_tiles,
            declination_deg=self.declination_deg,
            sky=self.sky,
            array=self.array,
            band=self.band,
            seed=self.seed,
            receivers=one.receivers,
            tiles=tiles,
            restart_tiles=(0,),
            ending=self.ending,
            service_declination_deg=one.service_declination_deg,
            imperfections=self.imperfections,
            dwell_s=dwell_s,
            on_file=on_file,
            on_tile=on_tile,
        )

    def write_references(self, directory: Path) -> ReferenceFiles:
        """Write the catalogs that the pipeline may read."""
        return write_reference_catalogs(self.catalog, directory, calibrators=(self.calibrator,))

    def write_truth(self, directory: Path) -> tuple[Path, Path]:
        """Write ``truth.parquet`` and ``truth.json``; the columns ``flux_jy_<date>`` hold the fluxes of each night."""
        return write_truth(
            self.sky,
            directory,
            {n.date: mid_time_mjd(n.start_mjd, self.n_tiles) for n in self.nights},
            {
                "declination_deg": self.declination_deg,
                "calibrator": self.calibrator,
                "event_source": self.event_source,
                "tile_start_mjd": {n.date: list(tile_starts_mjd(n.start_mjd, self.n_tiles)) for n in self.nights},
            },
        )


DEMO_DECLINATION_DEG = 54.6
DEMO_FIRST_START = "2026-03-12T05:04:30"
DEMO_CALIBRATOR_TILE = 1
"""With this start 0834+555 transits in the second tile; the second night starts at 05:00:34."""


def demo_plan(*, n_tiles: int = 12, seed: int = 110, min_jy: float = 0.12, imperfections: Imperfections = NONE) -> DemoPlan:
    """Make the plan of the demo: two nights of ``n_tiles`` tiles, one sidereal day apart.

    Between the nights one source drops by half (an extreme scattering event), and some vary by about 10 %. In the first
    night the correlator's service still has the declination of the strip before (+16.3). Each night's last file has a
    partial and an empty integration. With ``imperfections`` the sky has other spectra and more variables than the
    catalog says, which always knows the calibrator and the source of the event.
    """
    start: Any = Time(DEMO_FIRST_START, format="isot", scale="utc").mjd
    calibrator_tile = min(DEMO_CALIBRATOR_TILE, n_tiles - 1)
    first_mjd = float(start) + (DEMO_CALIBRATOR_TILE - calibrator_tile) * TILE_S / SECONDS_PER_DAY
    starts = (first_mjd, first_mjd + SIDEREAL_DAY_S / SECONDS_PER_DAY)
    nights = tuple(
        DemoNight(
            str(Time(start, format="mjd", scale="utc").isot)[:10],
            start,
            Receivers(seed=seed + i, drift_amplitude=0.003, drift_phase_deg=0.3),
            service_declination_deg=16.3 if i == 0 else DEMO_DECLINATION_DEG,
        )
        for i, start in enumerate(starts)
    )
    # right ascension of date minus ICRS grows by 3.07 s a year: a third of a degree in 2026, well inside the margin
    west_deg = local_sidereal_time_deg(first_mjd)
    east_deg = west_deg + n_tiles * TILE_S / SIDEREAL_DAY_S * 360.0
    margin_deg = 3.2 / float(np.cos(np.radians(DEMO_DECLINATION_DEG)))
    sky = demo_sky(
        seed=seed,
        ra_range_deg=(west_deg - margin_deg, east_deg + margin_deg),
        dec_range_deg=(DEMO_DECLINATION_DEG - 3.2, DEMO_DECLINATION_DEG + 3.2),
        min_jy=min_jy,
        event=(first_mjd + 0.52, first_mjd + 6.0),
        event_position_deg=(west_deg + 0.62 * (east_deg - west_deg), DEMO_DECLINATION_DEG - 0.35),
        epoch_mjd=first_mjd,
    )
    known = (CALIBRATOR_NAME, sky.names[1])
    return DemoPlan(
        nights=nights,
        n_tiles=n_tiles,
        declination_deg=DEMO_DECLINATION_DEG,
        sky=true_sky(sky, imperfections, untouched=known),
        catalog=cataloged(sky, imperfections, untouched=known),
        imperfections=imperfections,
        calibrator=CALIBRATOR_NAME,
        calibrator_tile=calibrator_tile,
        event_source=sky.names[1],
        seed=seed,
    )
