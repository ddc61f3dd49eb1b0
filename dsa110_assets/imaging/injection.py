"""Artificial point sources in the visibilities of a calibrated Measurement Set, to test how the pipeline recovers them.

The signal is what the array would have recorded: it drifts through the beam, has a spectrum, and is smeared by
averaging in time and frequency.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.common.directions import TilePointing, angular_separation_rad
from dsa110_assets.common.instrument import airy_power_beam
from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S, baseline_rate, direction_cosines
from dsa110_assets.common.measurement_sets import (
    SECONDS_PER_DAY,
    open_table,
    read_antenna_pairs,
    read_averaging,
    read_tile_pointing,
    require_calibrated,
    row_blocks,
)
from dsa110_assets.common.smearing import Averaging
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.visibilities import read_spectral_setup

_BLOCK_BYTES = 200_000_000
INJECTED_KEYWORD = "DSA110_INJECTED"


def inject_sources(source: Path, destination: Path, sources: pd.DataFrame, options: ImagingOptions) -> None:
    """Copy a calibrated Measurement Set and add unpolarized point sources to DATA; the original is only read.

    Args:
        source: calibrated Measurement Set.
        destination: the copy; its table keyword `INJECTED_KEYWORD`, the number of added sources, shows that it is not
            real data.
        sources: ``ra_deg, dec_deg`` (ICRS) and ``flux_jy`` (true flux at the reference frequency), one row each.
        options: ``reference_frequency_hz`` and ``spectral_index`` of the sources; ``correct_smearing``: smear them.

    Raises:
        MeasurementSetError: not a calibrated Measurement Set.
    """
    require_calibrated(source)  # otherwise an injected source would not be in Jy
    shutil.copytree(source, destination)
    frequency_hz, _ = read_spectral_setup(destination)
    averaging = read_averaging(destination)
    pointing = read_tile_pointing(destination)
    with open_table(destination, writable=True) as main:
        time_mjd = np.asarray(main.getcol("TIME"), dtype=np.float64) / SECONDS_PER_DAY
        time_index = np.abs(pointing.time_mjd[None, :] - np.unique(time_mjd)[:, None]).argmin(axis=1)[
            np.unique(time_mjd, return_inverse=True)[1]
        ]
        for start, count in row_blocks(main.nrows(), frequency_hz.size, bytes_per_block=_BLOCK_BYTES):
            signal = point_source_visibilities(
                np.asarray(main.getcol("UVW", start, count), dtype=np.float64),
                time_index[start : start + count].astype(np.int32),
                sources,
                options,
                pointing=pointing,
                frequency_hz=frequency_hz,
                averaging=averaging,
            )
            antenna1, antenna2 = read_antenna_pairs(main, start, count)
            cross = (antenna1 != antenna2)[:, None, None]
            main.putcol("DATA", main.getcol("DATA", start, count) + signal[:, :, None] * cross, start, count)
        main.putkeyword(INJECTED_KEYWORD, len(sources))


def point_source_visibilities(
    uvw_m: NDArray[np.float64],
    time_index: NDArray[np.int32],
    sources: pd.DataFrame,
    options: ImagingOptions,
    *,
    pointing: TilePointing,
    frequency_hz: NDArray[np.float64],
    averaging: Averaging,
) -> NDArray[np.complex64]:
    """Visibilities of point sources, (nrow, nchan), Jy.

    They are ``sum S A(t, f) (f/f0)**alpha exp(+2 pi i f/c (u l + v m + w (n - 1)))``, smeared if
    ``options.correct_smearing``. ``uvw_m`` (nrow, 3) points from antenna 2 to antenna 1. ``time_index`` (nrow,) is the
    integration of each row in ``pointing``.
    """
    from dsa110_assets.imaging import _kernels

    ra, dec = (np.radians(sources[name].to_numpy(dtype=np.float64)) for name in ("ra_deg", "dec_deg"))
    ra0, dec0 = np.radians(pointing.phase_ra_deg), np.radians(pointing.phase_dec_deg)
    axis_ra, axis_dec = np.radians(pointing.ra_deg), np.radians(pointing.dec_deg)
    separation = angular_separation_rad(ra[:, None], dec[:, None], axis_ra, axis_dec)
    spectrum = (frequency_hz / options.reference_frequency_hz) ** options.spectral_index
    flux = sources["flux_jy"].to_numpy(dtype=np.float64)[:, None, None]
    n_block = -(-frequency_hz.size // _kernels.LANES)
    amplitude = np.zeros((*separation.shape, n_block * _kernels.LANES), dtype=np.float32)
    amplitude[:, :, : frequency_hz.size] = airy_power_beam(separation[:, :, None], frequency_hz, pointing.dish_diameter_m) * spectrum * flux
    smeared = float(options.correct_smearing)
    minus_signal = np.zeros((uvw_m.shape[0], frequency_hz.size), dtype=np.complex64)
    _kernels.subtract_points(
        uvw_m,
        baseline_rate(uvw_m, dec0) * averaging.integration_s * smeared,
        time_index,
        frequency_hz / SPEED_OF_LIGHT_M_PER_S,
        direction_cosines(ra, dec, ra0, dec0, by_products=True),
        direction_cosines(axis_ra, axis_dec, ra0, dec0, by_products=True),
        amplitude.reshape(*separation.shape, n_block, _kernels.LANES),
        averaging.channel_hz / SPEED_OF_LIGHT_M_PER_S * smeared,
        averaging.channels,
        minus_signal,
    )
    return -minus_signal
