"""Blind source finding in a mosaic, and matching detections with a catalog.

AegeanTools (Hancock et al. 2012, 2018) searches with the mosaic's own noise map, in a child process with a wall-clock
limit. This module judges its results: it drops detections at the rim, shoulders of other sources and repeats, and
rejects fits that disagree with the pixels (pitfall 23).
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
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.calibration_error import calibration_errors_jy
from dsa110_assets.common.child_process import Child, run_child
from dsa110_assets.common.cross_match import linked_pairs, nearest
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
    "calibration_err_jy",
    "noise_jy_per_beam",
    "snr",
    "major_arcsec",
    "minor_arcsec",
    "pa_deg",
    "reliable",
)
_WINDOW_PX = 2048
_PIXEL_AGREEMENT = 0.25
"""Largest relative difference between a fitted peak and the mosaic's own pixels there."""
MATCH_RADIUS_ARCSEC = 10.0
GLARE_RANGE, GLARE_BEAMS = 1000.0, 10.0
"""Within this many beams of a source nothing fainter than its peak over this range is believed.

What calibration leaves around a source is in proportion to it; tiles reach a dynamic range of some thousands.
"""


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
        deconvolved from the beam. The errors are Condon's for the mosaic's own noise; those of fluxes have in addition
        ``calibration_err_jy``, what is not noise (`calibration_error`). Aegean's fit hardly moves
        position angles from the beam's; do not derive orientations from them. Each row is a local maximum of the
        mosaic and stands once: of two rows within half a beam, the brighter good fit stays. ``reliable`` is False if
        the fit disagreed with the pixels (position, peak and flux are then those of the local maximum), and in the
        glare of a source (`GLARE_RANGE`). Detections within one beam of the mosaic's rim are left out.

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
                table = _without_repeats(pd.DataFrame(rows, columns=list(SOURCE_COLUMNS)), beam.major_deg / 2.0)
                peak = table["peak_jy_per_beam"].to_numpy(np.float64)
                ra, dec = (table[name].to_numpy(np.float64) for name in ("ra_deg", "dec_deg"))
                more = calibration_errors_jy(image, noise, header, wcs, beam, ra, dec, peak)
    table["calibration_err_jy"] = more * table["flux_jy"].to_numpy(np.float64) / peak
    for error, its_part in (("flux_err_jy", table["calibration_err_jy"]), ("peak_err_jy_per_beam", more)):
        table[error] = np.hypot(table[error].to_numpy(np.float64), np.asarray(its_part, dtype=np.float64))
    glare = _in_glare(table["ra_deg"], table["dec_deg"], table["peak_jy_per_beam"], table, beam.major_deg)
    table["reliable"] = table["reliable"].astype(bool) & ~glare
    return table.sort_values("peak_jy_per_beam", ascending=False, ignore_index=True)


def count_negative(image_path: Path, noise_path: Path, found: pd.DataFrame, *, sigma: float = 7.0) -> int:
    """Number of places where the mosaic is below ``-sigma`` times its noise map, in groups of touching pixels.

    The sky has no negative sources. So this is the number of false detections to expect above ``sigma``: noise and
    artifacts of either sign are about as frequent. Places within one beam of the mosaic's rim, and in the glare of a
    detection, are left out, as such detections are not reliable.

    Args:
        image_path, noise_path: as for `find_sources`.
        found: its result.
        sigma: its threshold.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    with mapped_plane(image_path) as (image, header), mapped_plane(noise_path) as (noise, _):
        wcs = celestial_wcs(header)
        beam_deg = RestoringBeam.from_header(header).major_deg
        reach = max(1, int(np.ceil(beam_deg * north_in_pixels(wcs, *_middle(wcs, image.shape))[0])))
        places: list[tuple[int, int]] = []
        for first in range(0, image.shape[0], _WINDOW_PX):
            with np.errstate(invalid="ignore"):
                rows, columns = np.nonzero(image[first : first + _WINDOW_PX] < -sigma * noise[first : first + _WINDOW_PX])
            pixels = zip((rows + first).tolist(), columns.tolist(), strict=True)
            places += [(row, column) for row, column in pixels if _is_inside(image, row, column, reach)]
        if not places:
            return 0
        rows, columns = np.array(places).T
        ra, dec = wcs.wcs_pix2world(columns, rows, 0)
        glare = _in_glare(ra, dec, -np.array([image[place] for place in places]), found, beam_deg)
    places = [place for place, hidden in zip(places, glare, strict=True) if not hidden]
    if not places:
        return 0
    pairs = cKDTree(places).query_pairs(1.5, output_type="ndarray")  # also diagonal neighbors
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(places), len(places)))
    return int(connected_components(links, directed=False)[0])


def _in_glare(ra_deg: ArrayLike, dec_deg: ArrayLike, strength: ArrayLike, found: pd.DataFrame, beam_deg: float) -> NDArray[np.bool_]:
    """Whether places of some strength (absolute, Jy/beam) lie in the glare of a detection; see `GLARE_RANGE`."""
    ra, dec, here = (np.asarray(one, dtype=np.float64) for one in (ra_deg, dec_deg, strength))
    hidden = np.zeros(len(here), dtype=bool)
    bright = found[found["peak_jy_per_beam"] > GLARE_RANGE * here.min(initial=np.inf)]
    if bright.empty:
        return hidden
    everywhere = np.concatenate([ra, bright["ra_deg"]]), np.concatenate([dec, bright["dec_deg"]])
    peaks = bright["peak_jy_per_beam"].to_numpy(dtype=np.float64)
    first, second = np.sort(linked_pairs(*everywhere, GLARE_BEAMS * beam_deg), axis=1).T
    across = (first < len(here)) & (second >= len(here))
    first, second = first[across], second[across] - len(here)
    hidden[first[peaks[second] > GLARE_RANGE * here[first]]] = True
    return hidden


def _is_inside(image: np.ndarray, row: int, column: int, reach: int) -> bool:
    """Whether all pixels within ``reach`` of a pixel, along rows and columns, exist and are finite."""
    if not (reach <= column < image.shape[1] - reach and reach <= row < image.shape[0] - reach):
        return False
    return bool(np.isfinite(image[row - reach : row + reach + 1, column - reach : column + reach + 1]).all())


def _without_repeats(table: pd.DataFrame, radius_deg: float) -> pd.DataFrame:
    """Of rows within a radius of one another, keep good fits before bad ones, and bright ones before faint ones."""
    ordered = table.sort_values(["reliable", "peak_jy_per_beam"], ascending=False, ignore_index=True)
    if len(ordered) < 2:
        return ordered
    repeats: set[int] = set()
    for first, second in sorted(
        (min(pair), max(pair)) for pair in linked_pairs(ordered["ra_deg"], ordered["dec_deg"], radius_deg).tolist()
    ):
        if first not in repeats:
            repeats.add(second)
    return ordered.drop(index=list(repeats))


def _middle(wcs: WCS, shape: tuple[int, ...]) -> tuple[float, float]:
    ra, dec = wcs.wcs_pix2world((shape[-1] - 1) / 2, (shape[-2] - 1) / 2, 0)
    return float(ra), float(dec)


def _judge(
    source: dict[str, float], image: np.ndarray, noise: np.ndarray, wcs: WCS, beam: RestoringBeam, sigma: float
) -> dict[str, object] | None:
    """Catalog row for one of Aegean's components.

    None at the rim, on the shoulder of another source (no local maximum within half a beam), or if the noise map does
    not support it.
    """
    ra, dec, peak, flux = source["ra"], source["dec"], source["peak_flux"], source["int_flux"]
    if not np.isfinite([ra, dec, peak]).all():
        return None
    px_per_deg, _ = north_in_pixels(wcs, ra, dec)
    x, y = (float(value) for value in wcs.wcs_world2pix(ra, dec, 0))
    reach = max(1, int(np.ceil(beam.major_deg * px_per_deg)))
    column, row = round(x), round(y)
    if not _is_inside(image, row, column, reach):
        return None
    around = np.asarray(image[row - reach : row + reach + 1, column - reach : column + reach + 1], dtype=np.float64)
    rms = float(noise[row, column])
    top = _local_maximum(around, max(1, reach // 2))
    if top is None:
        return None
    brightest = float(around[top])
    fits = abs(peak - brightest) <= _PIXEL_AGREEMENT * brightest + 2.0 * rms and flux > 0
    major, minor, pa = source["a"] / 3600.0, source["b"] / 3600.0, source["pa"]
    if not fits:
        ra, dec = (float(value) for value in wcs.wcs_pix2world(column - reach + top[1], row - reach + top[0], 0))
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
        "calibration_err_jy": 0.0,
        "noise_jy_per_beam": rms,
        "snr": snr,
        "major_arcsec": major * 3600.0,
        "minor_arcsec": minor * 3600.0,
        "pa_deg": float(np.mod(pa + 90.0, 180.0) - 90.0),
        "reliable": bool(fits),
    }


def _local_maximum(around: np.ndarray, half: int) -> tuple[int, int] | None:
    """The brightest pixel within ``half`` of the middle that is no less than its eight neighbors; None if none is."""
    from scipy.ndimage import maximum_filter

    middle = around.shape[0] // 2
    core = np.s_[middle - half : middle + half + 1]
    tops = np.where(around == maximum_filter(around, size=3, mode="nearest"), around, -np.inf)[core, core]
    row, column = (int(index) for index in np.unravel_index(int(tops.argmax()), tops.shape))
    return None if np.isneginf(tops[row, column]) else (middle - half + row, middle - half + column)


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
