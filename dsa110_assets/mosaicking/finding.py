"""Blind source finding in a mosaic, and matching detections with a catalog.

AegeanTools (Hancock et al. 2012, 2018) searches with the mosaic's own noise map, in a child process with a wall-clock
limit. This module judges its results: it drops detections at the rim, and rejects fits that disagree with the pixels
(pitfall 23).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.coordinates import Angle
from astropy.wcs import WCS

from dsa110_assets.common.child_process import Child, run_child
from dsa110_assets.common.cross_match import nearest
from dsa110_assets.common.fits_planes import celestial_wcs, mapped_plane
from dsa110_assets.common.restoring_beam import FWHM_PER_SIGMA, RestoringBeam
from dsa110_assets.mosaicking._aegean import north_in_pixels

SOURCE_COLUMNS = (
    "name",
    "ra_deg",
    "dec_deg",
    "ra_err_deg",
    "dec_err_deg",
    "peak_jy_per_beam",
    "peak_err_jy_per_beam",
    "flux_jy",
    "flux_err_jy",
    "noise_jy_per_beam",
    "snr",
    "major_arcsec",
    "minor_arcsec",
    "pa_deg",
    "fit_ok",
)
_WINDOW_PX = 2048
_PIXEL_AGREEMENT = 0.25
"""Largest relative difference between a fitted peak and the mosaic's own pixels there."""
MATCH_RADIUS_ARCSEC = 10.0


def find_sources(image_path: Path, noise_path: Path, *, sigma: float = 7.0, timeout_s: float = 900.0) -> pd.DataFrame:
    """Find sources whose peak is above ``sigma`` times the noise map.

    Args:
        image_path: mosaic, Jy/beam, with its restoring beam in the header.
        noise_path: noise map of the same shape, Jy/beam.
        sigma: detection threshold.
        timeout_s: wall-clock limit of the search.

    Returns:
        One row per detection, brightest first, with `SOURCE_COLUMNS`: name (``DSA JHHMMSS.s+DDMMSS``); ICRS position
        and its errors in degrees on the sky (``ra_err_deg`` is of RA cos(dec)); fitted peak and integrated flux density
        with errors; noise and ``snr`` = peak / noise; fitted FWHM and position angle (north through east) *not*
        deconvolved from the beam. The errors are Condon's for the mosaic's own noise. Aegean's fit hardly moves
        position angles from the beam's; do not derive orientations from them. ``fit_ok`` is False if the fit disagreed
        with the pixels: position, peak and flux are then those of the brightest pixel. Detections within one beam of
        the mosaic's rim are left out.

    Raises:
        ChildFailedError: the search died or did not end in time.
    """
    with tempfile.TemporaryDirectory(prefix="aegean-") as scratch:
        request, result = Path(scratch) / "request.json", Path(scratch) / "result.json"
        with mapped_plane(image_path) as (image, header):
            wcs = celestial_wcs(header)
            beam = RestoringBeam.from_header(header)
            cell_deg = 1.0 / north_in_pixels(wcs, *_middle(wcs, image.shape))[0]
            margin = int(np.ceil(8.0 * beam.major_deg / cell_deg))
            request.write_text(
                json.dumps(
                    {
                        "image": str(image_path.absolute()),
                        "noise": str(noise_path.absolute()),
                        "sigma": sigma,
                        "window_px": max(_WINDOW_PX, 4 * margin),
                        "margin_px": margin,
                        "result": str(result),
                    }
                )
            )
            ended = run_child(
                Child("Aegean", [sys.executable, "-m", "dsa110_assets.mosaicking._aegean", str(request)]),
                subject=image_path,
                timeout_s=timeout_s,
                timeout_advice="raise the threshold, or look for artifacts in the mosaic",
            )
            ended.raise_if_failed(image_path, "read the run's log", result=result)
            raw = json.loads(result.read_text())
            with mapped_plane(noise_path) as (noise, _):
                rows = [row for row in (_judge(source, image, noise, wcs, beam, sigma) for source in raw) if row is not None]
    table = pd.DataFrame(rows, columns=list(SOURCE_COLUMNS))
    return table.sort_values("peak_jy_per_beam", ascending=False, ignore_index=True)


def _middle(wcs: WCS, shape: tuple[int, ...]) -> tuple[float, float]:
    ra, dec = wcs.wcs_pix2world((shape[-1] - 1) / 2, (shape[-2] - 1) / 2, 0)
    return float(ra), float(dec)


def _judge(
    source: dict[str, float], image: np.ndarray, noise: np.ndarray, wcs: WCS, beam: RestoringBeam, sigma: float
) -> dict[str, object] | None:
    """Catalog row for one of Aegean's components; None at the rim, or if the noise map does not support it."""
    ra, dec, peak, flux = source["ra"], source["dec"], source["peak_flux"], source["int_flux"]
    if not np.isfinite([ra, dec, peak]).all():
        return None
    px_per_deg, _ = north_in_pixels(wcs, ra, dec)
    x, y = (float(value) for value in wcs.wcs_world2pix(ra, dec, 0))
    reach = max(1, int(np.ceil(beam.major_deg * px_per_deg)))
    column, row = round(x), round(y)
    if not (reach <= column < image.shape[1] - reach and reach <= row < image.shape[0] - reach):
        return None
    around = np.asarray(image[row - reach : row + reach + 1, column - reach : column + reach + 1], dtype=np.float64)
    if not np.isfinite(around).all():
        return None
    rms = float(noise[row, column])
    half = max(1, reach // 2)
    core = around[reach - half : reach + half + 1, reach - half : reach + half + 1]
    brightest = float(core.max())
    fit_ok = abs(peak - brightest) <= _PIXEL_AGREEMENT * brightest + 2.0 * rms and flux > 0
    major, minor, pa = source["a"] / 3600.0, source["b"] / 3600.0, source["pa"]
    if not fit_ok:
        at_y, at_x = np.unravel_index(int(core.argmax()), core.shape)
        ra, dec = (float(value) for value in wcs.wcs_pix2world(column - half + at_x, row - half + at_y, 0))
        peak = flux = brightest
        major, minor, pa = beam.major_deg, beam.minor_deg, beam.pa_deg
    snr = peak / rms
    if not snr >= 0.9 * sigma:  # the brightest pixel was above sigma, so a good fit's peak is at most slightly below it
        return None
    peak_err, flux_err, ra_err, dec_err = condon_errors(peak, flux, rms, (major, minor, pa), (beam.major_deg, beam.minor_deg))
    return {
        "name": source_name(ra, dec),
        "ra_deg": float(np.mod(ra, 360.0)),
        "dec_deg": dec,
        "ra_err_deg": ra_err,
        "dec_err_deg": dec_err,
        "peak_jy_per_beam": peak,
        "peak_err_jy_per_beam": peak_err,
        "flux_jy": flux,
        "flux_err_jy": flux_err,
        "noise_jy_per_beam": rms,
        "snr": snr,
        "major_arcsec": major * 3600.0,
        "minor_arcsec": minor * 3600.0,
        "pa_deg": float(np.mod(pa + 90.0, 180.0) - 90.0),
        "fit_ok": bool(fit_ok),
    }


def condon_errors(
    peak: float, flux: float, noise: float, shape_deg: tuple[float, float, float], beam_deg: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Errors of a fitted elliptical Gaussian in noise that is correlated like the beam (Condon 1997, PASP 109, 166).

    Equations 40-42, with the exponents of eq. 41: 3/2, 3/2 for the amplitude; 5/2, 1/2 along the major axis; 1/2, 5/2
    along the minor axis. A source of the beam's shape has a peak error equal to the noise.

    Args:
        peak, noise: Jy/beam. ``flux``: integrated, Jy.
        shape_deg: fitted FWHM of major and minor axis and position angle.
        beam_deg: FWHM of the restoring beam.

    Returns:
        Errors of peak (Jy/beam), integrated flux (Jy), position in right ascension (degrees on the sky) and
        declination.
    """
    major, minor, pa = shape_deg
    beam2 = beam_deg[0] * beam_deg[1]

    def relative2(along: float, across: float) -> float:
        growth = (1.0 + beam2 / major**2) ** along * (1.0 + beam2 / minor**2) ** across
        return 2.0 / (major * minor / (4.0 * beam2) * growth * (peak / noise) ** 2)

    amplitude2, major2, minor2 = relative2(1.5, 1.5), relative2(2.5, 0.5), relative2(0.5, 2.5)
    flux_err = flux * np.sqrt(amplitude2 + beam2 / (major * minor) * (major2 + minor2))
    along, across = major2 * major**2 / FWHM_PER_SIGMA**2, minor2 * minor**2 / FWHM_PER_SIGMA**2
    sine2 = np.sin(np.radians(pa)) ** 2
    ra_err, dec_err = np.sqrt(along * sine2 + across * (1.0 - sine2)), np.sqrt(along * (1.0 - sine2) + across * sine2)
    return float(peak * np.sqrt(amplitude2)), float(flux_err), float(ra_err), float(dec_err)


def source_name(ra_deg: float, dec_deg: float) -> str:
    """Name from a position, truncated (not rounded) by the IAU's rule.

    >>> source_name(128.72870, 55.57252)
    'DSA J083454.8+553421'
    """
    hours = np.floor(np.mod(ra_deg, 360.0) / 15.0 * 36000.0 + 1e-6) / 36000.0
    degrees = np.copysign(np.floor(abs(dec_deg) * 3600.0 + 1e-6) / 3600.0, dec_deg)
    ra = Angle(hours + 1e-9, unit="hourangle").to_string(sep="", precision=1, pad=True)
    dec = Angle(degrees + np.copysign(1e-8, dec_deg), unit="deg").to_string(sep="", precision=0, pad=True, alwayssign=True)
    return f"DSA J{ra}{dec}"


def match_radius_arcsec(beam_major_deg: float = 0.0) -> float:
    """Radius for matching detections with a catalog: 10 arcsec, or half the beam's major axis if that is larger."""
    return max(MATCH_RADIUS_ARCSEC, beam_major_deg * 1800.0)


def crossmatch(found: pd.DataFrame, catalog: pd.DataFrame, radius_arcsec: float) -> pd.DataFrame:
    """Pairs of mutual nearest neighbors within a radius.

    Args:
        found: columns ``name``, ``ra_deg``, ``dec_deg``, ``flux_jy``.
        catalog: the same columns.
        radius_arcsec: largest separation.

    Returns:
        One row per pair: ``found_index``, ``catalog_index`` (row labels), ``name``, ``catalog_name``,
        ``separation_arcsec``, ``ra_offset_arcsec`` (on the sky), ``dec_offset_arcsec`` (found minus catalog),
        ``flux_ratio`` (found / catalog).
    """
    columns = [
        "found_index",
        "catalog_index",
        "name",
        "catalog_name",
        "separation_arcsec",
        "ra_offset_arcsec",
        "dec_offset_arcsec",
        "flux_ratio",
    ]
    if found.empty or catalog.empty:
        return pd.DataFrame(columns=columns)
    there, separation_deg = nearest(found["ra_deg"], found["dec_deg"], catalog["ra_deg"], catalog["dec_deg"])
    back, _ = nearest(catalog["ra_deg"], catalog["dec_deg"], found["ra_deg"], found["dec_deg"])
    here = np.flatnonzero((separation_deg * 3600.0 <= radius_arcsec) & (back[there] == np.arange(len(found))))
    there = there[here]
    a, b = found.iloc[here], catalog.iloc[there]
    ra_offset = np.mod(a["ra_deg"].to_numpy() - b["ra_deg"].to_numpy() + 180.0, 360.0) - 180.0
    values = (
        found.index[here],
        catalog.index[there],
        a["name"].to_numpy(),
        b["name"].to_numpy(),
        separation_deg[here] * 3600.0,
        ra_offset * np.cos(np.radians(b["dec_deg"].to_numpy())) * 3600.0,
        (a["dec_deg"].to_numpy() - b["dec_deg"].to_numpy()) * 3600.0,
        a["flux_jy"].to_numpy() / b["flux_jy"].to_numpy(),
    )
    return pd.DataFrame(dict(zip(columns, values, strict=True)))
