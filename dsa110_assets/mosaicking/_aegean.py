"""Child process of `finding`: run AegeanTools on a mosaic, window by window, and write what it found as JSON.

``python -m dsa110_assets.mosaicking._aegean REQUEST`` with ``REQUEST`` a JSON file (image, noise, sigma, window_px,
margin_px, result). It is a separate process so that a fit that never ends can be stopped.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets.common.fits_planes import celestial_wcs, mapped_plane
from dsa110_assets.common.restoring_beam import RestoringBeam

FIELDS = ("ra", "dec", "peak_flux", "int_flux", "a", "b", "pa", "flags")


def search(image_path: Path, noise_path: Path, sigma: float, window_px: int, margin_px: int, scratch: Path) -> list[dict[str, float]]:
    """All components above ``sigma``, found in overlapping windows of the mosaic.

    A component counts only for the window whose core it lies in. Aegean reads files only (2.3.5 fails on the HDU lists
    that its documentation allows), so windows go through ``scratch``.
    """
    found: list[dict[str, float]] = []
    with mapped_plane(image_path) as (image, header), mapped_plane(noise_path) as (noise, _):
        wcs = celestial_wcs(header)
        height, width = image.shape
        for y in range(0, height, window_px):
            for x in range(0, width, window_px):
                y0, y1 = max(y - margin_px, 0), min(y + window_px + margin_px, height)
                x0, x1 = max(x - margin_px, 0), min(x + window_px + margin_px, width)
                pixels = np.array(image[y0:y1, x0:x1], dtype=np.float32)
                rms = np.array(noise[y0:y1, x0:x1], dtype=np.float32)
                with np.errstate(invalid="ignore"):
                    if not np.any(pixels > sigma * rms):
                        continue
                finder = source_finder()  # takes seconds: only when there is something to fit
                log = logging.getLogger("AegeanTools")
                log.setLevel(logging.ERROR)
                part = window_header(header, wcs, x0, y0, pixels.shape)
                files = [str(scratch / f"{kind}.fits") for kind in ("image", "noise", "background")]
                for file, plane in zip(files, (pixels, rms, np.zeros_like(pixels)), strict=True):
                    fits.writeto(file, plane, part, overwrite=True)
                sources = finder(log=log).find_sources_in_image(
                    files[0],
                    rmsin=files[1],
                    bkgin=files[2],
                    innerclip=sigma,  # pyright: ignore[reportArgumentType]
                    outerclip=min(4.0, sigma - 1.0),  # pyright: ignore[reportArgumentType]
                    nonegative=True,
                    docov=False,  # `finding` computes the errors, and Aegean's matrices cost most of the time
                    cores=1,
                    progress=False,
                )
                for source in sources:
                    column, row = wcs.wcs_world2pix(source.ra, source.dec, 0)
                    if x <= column + 0.5 < x + window_px and y <= row + 0.5 < y + window_px:
                        found.append({key: float(getattr(source, key)) for key in FIELDS})
    return found


def source_finder() -> Any:
    """AegeanTools' finder, able to go on after a fit whose matrix is singular.

    Version 2.3.5 names that exception by ``np.linalg.linalg``, which numpy 2 does not have.
    """
    if not hasattr(np.linalg, "linalg"):
        np.linalg.linalg = np.linalg  # pyright: ignore[reportAttributeAccessIssue]
    from AegeanTools.source_finder import SourceFinder

    return SourceFinder


def window_header(header: fits.Header, wcs: WCS, x0: int, y0: int, shape: tuple[int, ...]) -> fits.Header:
    """Header of a window, with the restoring beam that Aegean needs.

    Aegean converts the header's beam to pixels at the reference position and uses that beam all over the image. The
    beam of a mosaic is constant on the sky. So the header's beam is turned and scaled to be right in pixels at the
    window's center.
    """
    part = wcs.to_header()
    part["CRPIX1"] = float(wcs.wcs.crpix[0]) - x0
    part["CRPIX2"] = float(wcs.wcs.crpix[1]) - y0
    ra, dec = wcs.wcs_pix2world(x0 + (shape[1] - 1) / 2, y0 + (shape[0] - 1) / 2, 0)
    scale, turn = north_in_pixels(wcs, float(ra), float(dec))
    reference_scale, reference_turn = north_in_pixels(wcs, float(wcs.wcs.crval[0]), float(wcs.wcs.crval[1]))
    beam = RestoringBeam.from_header(header)
    RestoringBeam(
        beam.major_deg * scale / reference_scale, beam.minor_deg * scale / reference_scale, beam.pa_deg + turn - reference_turn
    ).write_to(part)
    return part


def north_in_pixels(wcs: WCS, ra_deg: float, dec_deg: float) -> tuple[float, float]:
    """Pixels per degree along the local north, and the angle of north from +y toward -x, degrees."""
    step = 1e-3
    x, y = wcs.wcs_world2pix([ra_deg, ra_deg], [dec_deg - step, dec_deg + step], 0)
    return float(np.hypot(x[1] - x[0], y[1] - y[0]) / (2 * step)), float(np.degrees(np.arctan2(-(x[1] - x[0]), y[1] - y[0])))


def main() -> None:
    """Read the request, search, write the result beside it."""
    warnings.simplefilter("ignore")  # AegeanTools and lmfit warn about every fit; errors still stop the process
    request = json.loads(Path(sys.argv[1]).read_text())
    result = Path(request["result"])
    found = search(
        Path(request["image"]), Path(request["noise"]), request["sigma"], request["window_px"], request["margin_px"], result.parent
    )
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
