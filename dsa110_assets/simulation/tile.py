"""Simulation of one observation: sixteen subband files of up to 24 integrations, as they land on disk.

The visibilities follow from geometry alone. Per integration, evaluated at its center, ::

    V = sum_s S_s(t, f) A(theta_s, f) exp(+2 pi i f / c  b . (s - s0)),      b = r(ant_2) - r(ant_1)

with all vectors in local east-north-up axes: ``s`` is the source above the site, ``s0`` the meridian point at the
pointing declination, A the Airy power beam around ``s0``. The correlator also stops the fringes inside each
integration: ``s0`` moves with the sky between its edges. Losses by averaging over a channel and an integration are
optional (``smearing``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.simulation.array import DISH_DIAMETER_M, ArrayLayout
from dsa110_assets.simulation.band import N_SUBBANDS, BandPlan
from dsa110_assets.simulation.beam import power_beam
from dsa110_assets.simulation.directions import meridian_enu, sky_rotation_rate, source_enu
from dsa110_assets.simulation.emission import Emission, Interference, TileContext
from dsa110_assets.simulation.imperfect_sky import polarized_fractions, resolved
from dsa110_assets.simulation.imperfections import NONE, Imperfections, ionospheric_phase_rad
from dsa110_assets.simulation.receivers import N_POLARIZATIONS, Receivers, noise_sigma_jy
from dsa110_assets.simulation.sky import Sky
from dsa110_assets.simulation.uvh5 import (
    HEADER_INTEGRATION_S,
    INTEGRATION_S,
    SAMPLE_S,
    SAMPLES_PER_INTEGRATION,
    SubbandHeader,
    write_subband,
)

INTEGRATIONS_PER_TILE = 24
TILE_S = INTEGRATIONS_PER_TILE * INTEGRATION_S
SECONDS_PER_DAY = 86_400.0
_FIELD_RADIUS_DEG = 12.0


@dataclass(frozen=True)
class NameJitter:
    """Delays with which the sixteen nodes open their files, in seconds after the observation's first sample.

    Usually within ``usual_s``; after a restart of the correlator half of the nodes are later by one delay from
    ``restart_s``. On bad days (`bad_day`) that delay is 58 to 60 s in every observation.
    """

    usual_s: tuple[float, float] = (0.0, 2.0)
    restart_s: tuple[float, float] = (13.0, 21.0)
    restart: bool = False

    @classmethod
    def bad_day(cls) -> NameJitter:
        """The names of a day on which half of the nodes are a minute late."""
        return cls(restart_s=(58.0, 60.0), restart=True)

    def delays_s(self, seed: Sequence[int]) -> NDArray[np.float64]:
        """Draw one delay for each subband, shape (16,)."""
        rng = np.random.default_rng([*seed, 7])
        delays = rng.uniform(*self.usual_s, N_SUBBANDS)
        if self.restart:
            late = rng.permutation(N_SUBBANDS)[: N_SUBBANDS // 2]
            delays[late] += rng.uniform(*self.restart_s)
        return delays


def integration_times_mjd(start_mjd: float, n_integrations: int) -> NDArray[np.float64]:
    """Centers of the integrations (UTC); the first is ``start_mjd``."""
    return start_mjd + np.arange(n_integrations, dtype=np.float64) * (INTEGRATION_S / SECONDS_PER_DAY)


@dataclass(frozen=True)
class _Field:
    """Sources over the array during a tile, whatever the frequency.

    ``enu``: (Ntimes, Nsources, 3). ``center``: the correlator's phase center, (Ntimes, 3). ``axis``: of the beam.
    ``observed_s``: duration of each integration's data. ``electrons``: TECU, (Ntimes, Nants, Nsources), empty without
    an ionosphere.
    """

    sky: Sky
    array: ArrayLayout
    time_mjd: NDArray[np.float64]
    enu: NDArray[np.float64]
    center: NDArray[np.float64]
    axis: NDArray[np.float64]
    north: NDArray[np.float64]
    observed_s: NDArray[np.float64]
    imperfections: Imperfections
    electrons: NDArray[np.float64]

    @classmethod
    def over(
        cls,
        array: ArrayLayout,
        sky: Sky,
        time_mjd: NDArray[np.float64],
        declination_deg: float,
        samples: NDArray[np.int64],
        imperfections: Imperfections,
    ) -> _Field:
        """Choose the sources above the horizon within 12 deg of the beam's axis."""
        axis = meridian_enu(declination_deg)
        early_s = 0.5 * SAMPLE_S * (SAMPLES_PER_INTEGRATION - samples)
        time_mjd = time_mjd - early_s / SECONDS_PER_DAY
        sky = resolved(sky, imperfections)
        middle = source_enu(sky.ra_deg, sky.dec_deg, time_mjd[[len(time_mjd) // 2]])[0]
        sky = sky.select((middle @ axis > np.cos(np.radians(_FIELD_RADIUS_DEG))) & (middle[:, 2] > 0))
        enu = source_enu(sky.ra_deg, sky.dec_deg, time_mjd)
        place_m = array.enu_m[list(array.antenna_order)]
        return cls(
            sky=sky,
            array=array,
            time_mjd=time_mjd,
            enu=enu,
            center=axis - early_s[:, np.newaxis] * sky_rotation_rate(axis),
            axis=axis,
            north=meridian_enu(declination_deg + 90.0),
            observed_s=INTEGRATION_S * samples / SAMPLES_PER_INTEGRATION,
            imperfections=imperfections,
            electrons=imperfections.electrons(place_m[:, 0], place_m[:, 1], enu, time_mjd),
        )

    def visibilities(
        self, frequency_hz: NDArray[np.float64], channel_width_hz: float, emissions: Sequence[Emission], *, smearing: bool
    ) -> NDArray[np.complex64]:
        """Visibilities in Jy of sources and emissions, (Ntimes, Nbls, Nfreqs, 1), or Npols if receptors differ."""
        flux_jy = np.stack([self.sky.flux_at(float(t), frequency_hz).T for t in self.time_mjd])  # (Ntimes, Nfreqs, Nsources)
        enu, own = self.enu, None
        if self.imperfections.in_directions:
            own = self._through_each_antenna(flux_jy, frequency_hz, channel_width_hz, smearing=smearing)
            if not emissions:
                return own
            enu, flux_jy = enu[:, :0], flux_jy[:, :, :0]
        else:
            flux_jy *= power_beam((enu @ self.axis)[:, np.newaxis, :], frequency_hz[np.newaxis, :, np.newaxis])
        if emissions:
            enu = np.concatenate([enu, np.stack([e.direction_enu for e in emissions], axis=1)], axis=1)
            flux_jy = np.concatenate([flux_jy, np.stack([e.flux_jy for e in emissions], axis=2)], axis=2)
        model = _kernels().point_source_visibilities(
            np.ascontiguousarray(flux_jy),
            *self._fringes(enu),
            np.ascontiguousarray(self.array.baseline_enu_m()),
            float(frequency_hz[0]),
            _step(frequency_hz),
            channel_width_hz if smearing else 0.0,
            smearing * self.observed_s,
        )[..., np.newaxis]
        return model if own is None else own + model

    def _through_each_antenna(
        self, flux_jy: NDArray[np.float64], frequency_hz: NDArray[np.float64], channel_width_hz: float, *, smearing: bool
    ) -> NDArray[np.complex64]:
        """Visibilities of the sources with the antennas' own beams, paths and feeds."""
        numbers, effects = self.array.antenna_order, self.imperfections
        middle_hz = float(frequency_hz.mean())
        east, north = self.enu[:, :, 0], self.enu @ self.north
        center, first = (effects.voltage_beams(numbers, east, north, hz, DISH_DIAMETER_M) for hz in (middle_hz, float(frequency_hz[0])))
        index_1, index_2 = _positions(self.array)
        return _kernels().imperfect_visibilities(
            np.ascontiguousarray(flux_jy),
            polarized_fractions(self.sky, effects, frequency_hz),
            *self._fringes(self.enu),
            np.ascontiguousarray(self.array.baseline_enu_m()),
            index_1,
            index_2,
            float(frequency_hz[0]),
            _step(frequency_hz),
            channel_width_hz if smearing else 0.0,
            smearing * self.observed_s,
            center,
            first - center,
            ionospheric_phase_rad(self.electrons, middle_hz),
            effects.leakages(numbers),
        )

    def _fringes(self, enu: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Offsets from the phase center, and their rates."""
        rate = sky_rotation_rate(enu) - sky_rotation_rate(self.axis)
        return np.ascontiguousarray(enu - self.center[:, np.newaxis, :]), np.ascontiguousarray(rate)


def _kernels() -> ModuleType:
    from dsa110_assets.simulation import _kernels

    return _kernels


def _step(frequency_hz: NDArray[np.float64]) -> float:
    return float(frequency_hz[1] - frequency_hz[0]) if len(frequency_hz) > 1 else 0.0


def _positions(array: ArrayLayout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of each baseline's antennas in ``antenna_order``."""
    position = {number: i for i, number in enumerate(array.antenna_order)}
    one, two = (np.array([position[int(a)] for a in ants], dtype=np.int64) for ants in array.baselines())
    return one, two


def model_visibilities(
    time_mjd: NDArray[np.float64],
    frequency_hz: NDArray[np.float64],
    channel_width_hz: float,
    declination_deg: float,
    sky: Sky,
    array: ArrayLayout,
    *,
    smearing: bool = False,
    imperfections: Imperfections = NONE,
) -> NDArray[np.complex64]:
    """Compute noise-free visibilities in Jy of complete integrations.

    Leaves out sources below the horizon or more than 12 deg from the beam's axis. With ``smearing``, each source is
    reduced by the sinc factors of its delay over a channel and of its residual fringe rate over an integration.

    Returns:
        (Ntimes, Nbls, Nfreqs), for XX and YY; (Ntimes, Nbls, Nfreqs, Npols) if ``imperfections`` are in the directions.
    """
    samples = np.full(len(time_mjd), SAMPLES_PER_INTEGRATION)
    field = _Field.over(array, sky, time_mjd, declination_deg, samples, imperfections)
    model = field.visibilities(frequency_hz, channel_width_hz, (), smearing=smearing)
    return model if imperfections.in_directions else model[..., 0]


def simulate_tile(
    out_dir: Path,
    *,
    start_mjd: float,
    declination_deg: float,
    sky: Sky,
    array: ArrayLayout,
    band: BandPlan,
    seed: int,
    n_integrations: int = INTEGRATIONS_PER_TILE,
    sefd_jy: float = 6500.0,
    noise: bool = True,
    receivers: Receivers | None = None,
    interference: Sequence[Interference] = (),
    smearing: bool = False,
    subbands: Sequence[int] | None = None,
    in_order: bool = False,
    dwell_s: float = 0.0,
    jitter: NameJitter | None = None,
    service_declination_deg: float | None = None,
    ending: Sequence[int] = (),
    imperfections: Imperfections = NONE,
    on_file: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write the raw files of one observation.

    Args:
        out_dir: flat directory of raw files; created if missing.
        start_mjd: center of the first integration, UTC (``time_array[0]`` of the files).
        declination_deg: pointing, an apparent declination of date.
        sky, array, band: the sources, the antennas and the channels.
        seed: of the noise and of the clocks; it is combined with the observation's start, so that one seed serves a
        night.
        n_integrations: fewer than 24 for the short last file of a run.
        sefd_jy: of every antenna and polarization.
        noise: add thermal noise at the level of the radiometer equation (`receivers.noise_sigma_jy`).
        receivers: gains and dead antennas; realistic ones (``Receivers()``) by default, ``Receivers.perfect()`` for Jy.
        interference: see `faults`.
        smearing: apply the losses of averaging over channels and integrations.
        subbands: which to write; all sixteen by default.
        in_order: write sb00 first; else in a random order from the seed, as files arrive from sixteen nodes.
        dwell_s: wait after each file, for tests that watch the directory.
        jitter: of the file names.
        service_declination_deg: a stale ``phase_center_dec`` for the extra keywords; the true one by default.
        ending: numbers of samples of the last integrations, in which the correlator's buffer ended. ``(40, 0)``: the
        last but one is the mean of its first 40 samples, and the last has none, so that its data are NaN.
        ``time_array`` stays the center of the complete integration.
        imperfections: of the telescope; none by default. ``sky`` holds the true spectra and light curves already.
        on_file: called with each file once it has its final name.

    Returns:
        The files in order of subband.
    """
    receivers = imperfections.receivers(Receivers() if receivers is None else receivers)
    interference = (*interference, *imperfections.interference())
    out_dir.mkdir(parents=True, exist_ok=True)
    time_mjd = integration_times_mjd(start_mjd, n_integrations)
    samples = np.array([SAMPLES_PER_INTEGRATION] * (n_integrations - len(ending)) + list(ending))
    noisier = np.sqrt(SAMPLES_PER_INTEGRATION / np.maximum(samples, 1))
    tile_seed = (seed, round(start_mjd * SECONDS_PER_DAY))
    first_sample_mjd = start_mjd - 0.5 * INTEGRATION_S / SECONDS_PER_DAY
    opened_mjd = first_sample_mjd + (jitter or NameJitter()).delays_s(tile_seed) / SECONDS_PER_DAY
    index_1, index_2 = _positions(array)
    field = _Field.over(array, sky, time_mjd, declination_deg, samples, imperfections)
    order = list(range(N_SUBBANDS)) if subbands is None else list(subbands)
    if not in_order:
        np.random.default_rng([*tile_seed, 8]).shuffle(order)
    files: dict[int, Path] = {}
    for subband in order:
        frequency_hz = band.frequencies_hz(subband)
        context = TileContext(time_mjd, frequency_hz, array.baseline_enu_m(), declination_deg, seed)
        model = field.visibilities(
            frequency_hz,
            band.channel_width_hz,
            [emission for source in interference for emission in source.emissions(context)],
            smearing=smearing,
        )
        for source in interference:
            for pol in range(model.shape[3]):
                source.add_to(model[..., pol], context)
        shape = (*model.shape[:3], N_POLARIZATIONS, 2)
        deviates = np.random.default_rng([*tile_seed, 9, subband]).standard_normal(shape if noise else 0, dtype=np.float32)
        visibilities = _kernels().corrupt(
            model,
            deviates.reshape(shape if noise else (0, 0, 0, 0, 0)),
            receivers.gains(array.antenna_order, frequency_hz, time_mjd) * imperfections.gains(array.antenna_order, frequency_hz, time_mjd),
            receivers.working(array.antenna_order),
            index_1,
            index_2,
            noise_sigma_jy(sefd_jy, band.channel_width_hz, HEADER_INTEGRATION_S) * noisier,
            sefd_jy if noise else 0.0,
            imperfections.system(array.antenna_order),
        )
        visibilities[samples == 0] = complex(np.nan, np.nan)  # the mean of no samples
        header = SubbandHeader(
            array=array,
            time_mjd=time_mjd,
            frequency_hz=frequency_hz,
            channel_width_hz=band.channel_width_hz,
            declination_deg=declination_deg,
            service_declination_deg=declination_deg if service_declination_deg is None else service_declination_deg,
            opened_mjd=float(opened_mjd[subband]),
            samples=samples,
        )
        files[subband] = write_subband(out_dir, subband, header, visibilities)
        if on_file is not None:
            on_file(files[subband])
        if dwell_s > 0:
            time.sleep(dwell_s)
    return [files[subband] for subband in sorted(files)]
