"""Adaptive photometry: combine adjacent channels until they reach the requested signal-to-noise.

A bin's flux is the *weighted mean* of its channels' fluxes, with weights 1/sigma^2 (pitfall 16: images in Jy/beam are
averaged, never added up). A bin ends when its *expected* signal-to-noise, the full-band flux over the bin's error,
reaches the target. Ending it when its measured flux exceeds a threshold would select upward noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.restoring_beam import BeamFrame, RestoringBeam
from dsa110_assets.errors import PhotometryError
from dsa110_assets.photometry.forced import PhotometryOptions, measure


@dataclass(frozen=True)
class ChannelImage:
    """Image of one channel.

    ``image``, ``noise``: Jy/beam, shape (ny, nx). ``wcs``: celestial. ``beam``: restoring beam. ``frequency_hz``:
    center. ``beam_frame``: see `restoring_beam.pixel_forms`; None takes that of the options.
    """

    image: NDArray[np.float32]
    noise: NDArray[np.float32]
    wcs: WCS
    beam: RestoringBeam
    frequency_hz: float
    beam_frame: BeamFrame | None = None


def adaptive(
    channels: Sequence[ChannelImage],
    ra_deg: ArrayLike,
    dec_deg: ArrayLike,
    *,
    target_snr: float = 5.0,
    options: PhotometryOptions | None = None,
) -> pd.DataFrame:
    """Fluxes in as many frequency bins as each source is bright enough for.

    Args:
        channels: images of adjacent channels, in any order.
        ra_deg: ICRS right ascensions, shape (Npos,).
        dec_deg: ICRS declinations, shape (Npos,).
        target_snr: expected signal-to-noise of each bin. A source that does not reach it in the full band gets one bin.
        options: see `PhotometryOptions`.

    Returns:
        One row for each bin: ``position`` (index of the input), ``ra_deg, dec_deg, bin, n_channels, frequency_hz``
        (weighted mean), ``frequency_low_hz, frequency_high_hz`` (centers of the outermost channels), ``flux_jy,
        flux_err_jy, snr``, ``upper_limit_jy, is_limit``. Positions without any valid channel have no row.

    Raises:
        PhotometryError: no channel was given.
    """
    if not channels:
        raise PhotometryError("adaptive photometry", "no channel image was given", "give the channel images of the tile")
    chosen = options or PhotometryOptions()
    ordered = sorted(channels, key=lambda channel: channel.frequency_hz)
    frequency = np.array([channel.frequency_hz for channel in ordered])
    tables = [
        measure(c.image, c.noise, c.wcs, c.beam, ra_deg, dec_deg, options=replace(chosen, beam_frame=c.beam_frame or chosen.beam_frame))
        for c in ordered
    ]
    flux = np.stack([table["flux_jy"].to_numpy() for table in tables], axis=1)
    error = np.stack([table["flux_err_jy"].to_numpy() for table in tables], axis=1)
    rows: list[dict[str, Any]] = []
    for position, (f, e) in enumerate(zip(flux, error, strict=True)):
        good = np.flatnonzero(np.isfinite(f) & (e > 0.0))
        for number, members in enumerate(_bins(f[good], e[good], target_snr)):
            picked = good[members]
            weight = 1.0 / e[picked] ** 2
            mean, sigma = float(np.sum(weight * f[picked]) / weight.sum()), float(1.0 / np.sqrt(weight.sum()))
            limit = mean < chosen.limit_sigma * sigma
            rows.append(
                {
                    "position": position,
                    "ra_deg": tables[0]["ra_deg"].iloc[position],
                    "dec_deg": tables[0]["dec_deg"].iloc[position],
                    "bin": number,
                    "n_channels": picked.size,
                    "frequency_hz": float(np.sum(weight * frequency[picked]) / weight.sum()),
                    "frequency_low_hz": frequency[picked[0]],
                    "frequency_high_hz": frequency[picked[-1]],
                    "flux_jy": mean,
                    "flux_err_jy": sigma,
                    "snr": mean / sigma,
                    "upper_limit_jy": chosen.limit_sigma * sigma if limit else np.nan,
                    "is_limit": limit,
                }
            )
    return pd.DataFrame(rows)


def _bins(flux_jy: NDArray[np.float64], error_jy: NDArray[np.float64], target_snr: float) -> list[NDArray[np.intp]]:
    """Runs of adjacent channels, each with an expected S/N of at least ``target_snr``; one run if the band has less."""
    if flux_jy.size == 0:
        return []
    weight = 1.0 / error_jy**2
    band_flux = np.sum(weight * flux_jy) / weight.sum()
    runs: list[list[int]] = [[]]
    for channel in range(flux_jy.size):
        runs[-1].append(channel)
        if band_flux * np.sqrt(weight[runs[-1]].sum()) >= target_snr:
            runs.append([])
    if len(runs) > 1:
        tail = runs.pop()  # the remaining channels join the last full bin
        runs[-1].extend(tail)
    return [np.array(run, dtype=np.intp) for run in runs]
