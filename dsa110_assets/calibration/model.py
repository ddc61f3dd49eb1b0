"""Model visibilities of a tile: point sources predicted through the drifting beam.

``V(t, b, nu) = sum_s S_s (nu / 1.4 GHz)**alpha_s A(s, t, nu) R(s, b, t, nu) exp(2 pi i nu tau)`` with ``tau = (u l + v
m + w (n - 1)) / c``. A is the Airy power beam around the meridian point of integration t, because the dishes do not
track (pitfall 37), evaluated in every channel. R is the fraction that averaging over the channel and the integration
leaves (`common.smearing`). u, v, w are those of the Measurement Set (meters). The sky is unpolarized: XX = YY = I, each
in Jy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.common.directions import TilePointing, angular_separation_rad
from dsa110_assets.common.instrument import airy_power_beam
from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S, direction_cosines
from dsa110_assets.common.measurement_sets import (
    SECONDS_PER_DAY,
    open_table,
    read_apparent_scale,
    read_averaging,
    read_channels,
    read_tile_pointing,
    row_blocks,
)
from dsa110_assets.common.smearing import Averaging
from dsa110_assets.errors import FluxScaleError, NoModelError, NonRetriableError

REFERENCE_FREQUENCY_HZ = 1.4e9
DEFAULT_SPECTRAL_INDEX = -0.7
PART_OF = "part_of"
"""Optional column of a sky: name of the source that a row is a component of."""


@dataclass(frozen=True)
class ModelReport:
    """Summary of a model.

    ``n_sources``: in the model. ``brightest``: name of the brightest. ``apparent_jy``: sum of the tile-averaged
    apparent fluxes.
    """

    n_sources: int
    brightest: str
    brightest_apparent_jy: float
    apparent_jy: float


@dataclass(frozen=True)
class TileModel:
    """Everything needed to predict any row of a tile.

    ``names``: of the sources. ``lmn`` (3, Nsources): direction cosines l, m and n - 1 from the phase center.
    ``amplitude_jy`` (Ntimes, Nchan, Nsources): apparent fluxes. ``time_s`` (Ntimes,): MJD seconds of the integrations.
    ``frequency_hz`` (Nchan,): evenly spaced. ``pointing_lmn`` (3, Ntimes): the meridian points, like ``lmn``.
    ``dec_rad``: of the phase center. ``averaging``: None for data that are not smeared.
    """

    names: tuple[str, ...]
    lmn: NDArray[np.float64]
    amplitude_jy: NDArray[np.float64]
    time_s: NDArray[np.float64]
    frequency_hz: NDArray[np.float64]
    pointing_lmn: NDArray[np.float64]
    dec_rad: float
    averaging: Averaging | None = None

    def predict(self, uvw_m: NDArray[np.float64], time_s: NDArray[np.float64]) -> NDArray[np.complex64]:
        """Predict the visibilities of rows with ``uvw_m`` (Nrows, 3) at ``time_s`` (Nrows,), MJD seconds.

        Returns:
            (Nrows, Nchan), for both polarizations.
        """
        from dsa110_assets.calibration._kernels import predict

        index = np.abs(time_s[:, None] - self.time_s[None, :]).argmin(axis=1) if time_s.size else np.zeros(0, dtype=np.int64)
        tolerance = np.diff(self.time_s).min() / 2 if self.time_s.size > 1 else 60.0
        if time_s.size and np.abs(time_s - self.time_s[index]).max() > tolerance:
            raise NonRetriableError("POINTING", "has no entry at the time of some rows", "convert the observation again")
        out = np.empty((uvw_m.shape[0], self.frequency_hz.size), dtype=np.complex64)
        step = (self.frequency_hz[-1] - self.frequency_hz[0]) / max(self.frequency_hz.size - 1, 1)
        delay = (uvw_m @ self.lmn) / SPEED_OF_LIGHT_M_PER_S
        predict(
            np.ascontiguousarray(delay),
            index,
            self.amplitude_jy,
            self.response(uvw_m, index),
            float(self.frequency_hz[0]),
            float(step),
            out,
        )
        return out

    def response(self, uvw_m: NDArray[np.float64], time_index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Fraction that averaging leaves, (Nrows, Nsources, 3): coefficients of a parabola over the band (-1 to 1).

        Smearing of 20 % differs from the parabola by less than 1e-5.
        """
        if self.averaging is None:
            return np.zeros((0, 0, 3))
        ends = self.frequency_hz[[0, -1]]
        three = np.array([ends[0], ends.mean(), ends[1]])
        low, middle, high = np.moveaxis(
            self.averaging.response(uvw_m, self.lmn, self.pointing_lmn[:, time_index], self.dec_rad, three), 2, 0
        )
        return np.stack([middle, (high - low) / 2, (high + low) / 2 - middle], axis=2)

    def report(self) -> ModelReport:
        """Summary for logs and metadata."""
        mean = self.amplitude_jy.mean(axis=(0, 1))
        brightest = int(np.argmax(mean))
        return ModelReport(len(self.names), self.names[brightest], float(mean[brightest]), float(mean.sum()))


def build_model(
    sky: pd.DataFrame,
    pointing: TilePointing,
    frequency_hz: NDArray[np.float64],
    *,
    min_apparent_jy: float = 0.05,
    radius_deg: float = 3.0,
    averaging: Averaging | None = None,
) -> TileModel:
    """Choose the sources that matter in a tile and compute their apparent fluxes.

    Args:
        sky: columns of `catalogs.sky.COLUMNS`, and `PART_OF` where sources have components; a NaN spectral index means
        -0.7.
        pointing: of the tile.
        frequency_hz: channel centers, evenly spaced, shape (Nchan,).
        min_apparent_jy: leave out sources that never get brighter than this (flux times beam).
        radius_deg: leave out sources that never come closer than this to the center of the beam.
        averaging: that of the data; None if they are not smeared.

    Raises:
        FluxScaleError: a source in the field has no finite flux (pitfall 10).
        NoModelError: no source is left.
        NonRetriableError: the channels are not evenly spaced.
    """
    frequency = np.asarray(frequency_hz, dtype=np.float64)
    if frequency.size > 2 and np.ptp(np.diff(frequency)) > 1e-6 * abs(frequency[1] - frequency[0]) + 1.0:
        raise NonRetriableError("SPECTRAL_WINDOW", "channels are not evenly spaced", "convert the observation into one spectral window")
    ra, dec = np.radians(sky["ra_deg"].to_numpy(np.float64)), np.radians(sky["dec_deg"].to_numpy(np.float64))
    p_ra, p_dec = np.radians(pointing.ra_deg), np.radians(pointing.dec_deg)
    # cut in declination first, which is fast; the catalog has 100 000 sources
    candidate = np.flatnonzero(np.abs(dec[:, None] - np.array([[p_dec.min(), p_dec.max()]])).min(axis=1) <= np.radians(radius_deg))
    separation = angular_separation_rad(ra[candidate, None], dec[candidate, None], p_ra[None, :], p_dec[None, :])
    near = separation.min(axis=1) <= np.radians(radius_deg)
    candidate, separation = candidate[near], separation[near]
    rows = sky.iloc[candidate]
    flux = rows["flux_jy"].to_numpy(np.float64)
    if not np.isfinite(flux).all():
        name = rows["name"].to_numpy()[~np.isfinite(flux)][0]
        raise FluxScaleError(name, "has no flux density in the sky model", "remove it or give its flux; none is assumed")
    alpha = rows["spectral_index"].to_numpy(np.float64)
    alpha = np.where(np.isfinite(alpha), alpha, DEFAULT_SPECTRAL_INDEX)
    middle = float(frequency.mean())
    apparent = flux * (middle / REFERENCE_FREQUENCY_HZ) ** alpha * airy_power_beam(separation.min(axis=1), middle, pointing.dish_diameter_m)
    if PART_OF in rows.columns:  # keep the components of a source together
        apparent = pd.Series(apparent).groupby(rows[PART_OF].to_numpy()).transform("sum").to_numpy(np.float64)
    chosen = np.flatnonzero(apparent >= min_apparent_jy)
    if chosen.size == 0:
        raise NoModelError(
            "sky model",
            f"no source above {min_apparent_jy} Jy (apparent) within {radius_deg} deg of the tile",
            "refresh the reference catalog or lower PIPELINE_CAL_MODEL_MIN_JY",
        )
    candidate, separation, flux, alpha = candidate[chosen], separation[chosen], flux[chosen], alpha[chosen]
    beam = airy_power_beam(separation.T[:, None, :], frequency[None, :, None], pointing.dish_diameter_m)
    spectrum = flux * (frequency[:, None] / REFERENCE_FREQUENCY_HZ) ** alpha
    phase_ra, phase_dec = np.radians(pointing.phase_ra_deg), np.radians(pointing.phase_dec_deg)
    lmn = direction_cosines(ra[candidate], dec[candidate], phase_ra, phase_dec)
    return TileModel(
        names=tuple(str(n) for n in sky["name"].to_numpy()[candidate]),
        lmn=lmn,
        amplitude_jy=np.ascontiguousarray(beam * spectrum[None]),
        time_s=pointing.time_mjd * SECONDS_PER_DAY,
        frequency_hz=frequency,
        pointing_lmn=direction_cosines(p_ra, p_dec, phase_ra, phase_dec),
        dec_rad=float(phase_dec),
        averaging=averaging,
    )


def model_of_tile(ms: Path, sky: pd.DataFrame, *, min_apparent_jy: float, radius_deg: float, smearing: bool) -> TileModel:
    """`build_model` for a Measurement Set: its pointing, its channels, and with ``smearing`` its averaging."""
    return build_model(
        sky,
        read_tile_pointing(ms),
        read_channels(ms)[0],
        min_apparent_jy=min_apparent_jy,
        radius_deg=radius_deg,
        averaging=read_averaging(ms) if smearing else None,
    )


def predict_model(
    ms: Path, sky: pd.DataFrame, *, min_apparent_jy: float = 0.05, radius_deg: float = 3.0, smearing: bool = True
) -> ModelReport:
    """Fill MODEL_DATA of a Measurement Set, in blocks of rows; add the column if it is missing.

    Args:
        ms: written by `conversion`; its POINTING table gives the pointing of each integration.
        sky: columns of `catalogs.sky.COLUMNS`.
        min_apparent_jy: faintest apparent flux of a source in the model.
        radius_deg: farthest source.
        smearing: smear the model as the telescope's data are; False for simulations without smearing.

    Raises:
        FluxScaleError: a source in the field has no flux.
        NonRetriableError: no source is bright enough; MODEL_DATA must not be zero (pitfall 11).
    """
    model = model_of_tile(ms, sky, min_apparent_jy=min_apparent_jy, radius_deg=radius_deg, smearing=smearing)
    with open_table(ms, writable=True) as main:
        _add_model_column(main)
        n_pol = main.getcell("DATA", 0).shape[1]
        for start, count in row_blocks(main.nrows(), model.frequency_hz.size):
            uvw = np.asarray(main.getcol("UVW", start, count), dtype=np.float64) * read_apparent_scale(main)
            one = model.predict(uvw, np.asarray(main.getcol("TIME", start, count), dtype=np.float64))
            main.putcol("MODEL_DATA", np.repeat(one[:, :, None], n_pol, axis=2), start, count)
        main.flush()
    return model.report()


def _add_model_column(main: Any) -> None:
    """Add MODEL_DATA in the shape of DATA, with its own storage tiles."""
    if "MODEL_DATA" in main.colnames():
        return
    from casacore.tables import makearrcoldesc, maketabdesc

    n_chan, n_pol = main.getcell("DATA", 0).shape
    rows = max(1, (1 << 20) // (8 * n_chan * n_pol))
    description = maketabdesc([makearrcoldesc("MODEL_DATA", 0.0 + 0.0j, ndim=2, shape=[n_chan, n_pol], valuetype="complex", options=5)])
    manager = {
        "TYPE": "TiledColumnStMan",
        "NAME": "TiledModel",
        "SPEC": {"DEFAULTTILESHAPE": np.array([n_pol, n_chan, rows], dtype=np.int32)},
    }
    main.addcols(description, manager)
