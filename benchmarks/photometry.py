"""Speed of forced photometry on one core, and its fluxes compared with an independent per-source least-squares fit.

    python benchmarks/photometry.py [--positions 60000] [--size 8192] [--beam-px 8]

Measures random positions in a mosaic of correlated noise, and a sample of them also with a plain numpy loop (the peer).
Prints one JSON line.
"""

import argparse
import json
import os
import time

import numpy as np
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.photometry import PhotometryOptions, measure

PIXEL_DEG = 3.0 / 3600.0


def peer(image, noise, x, y, fwhm_px, radius_beams):
    """The same estimator written with numpy for one source at a time."""
    flux = np.empty(x.size)
    reach = int(radius_beams * fwhm_px) + 1
    for i, (xs, ys) in enumerate(zip(x, y, strict=True)):
        y0, x0 = int(ys) - reach, int(xs) - reach
        cut = (slice(y0, y0 + 2 * reach + 2), slice(x0, x0 + 2 * reach + 2))
        yy, xx = np.mgrid[cut]
        q = ((xx - xs) ** 2 + (yy - ys) ** 2) / fwhm_px**2
        kernel = np.where(q <= radius_beams**2, np.exp(-4 * np.log(2) * q), 0.0)
        weight = kernel / noise[cut].astype(np.float64) ** 2
        flux[i] = np.sum(weight * image[cut]) / np.sum(weight * kernel)
    return flux


def main() -> None:
    """Simulate the mosaic, measure both ways, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, default=60_000)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--beam-px", type=float, default=8.0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    size = arguments.size
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---SIN", "DEC--SIN"], [150.0, 54.6], [size / 2, size / 2]
    wcs.wcs.cdelt = [-PIXEL_DEG, PIXEL_DEG]
    image = gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), arguments.beam_px / 2.3548 / 2**0.5)
    image *= 2e-3 / image.std()
    noise = np.full_like(image, 2e-3)
    x, y = rng.uniform(64, size - 64, (2, arguments.positions))
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    beam = RestoringBeam(arguments.beam_px * PIXEL_DEG, arguments.beam_px * PIXEL_DEG, 0.0)
    measure(image, noise, wcs, beam, ra[:10], dec[:10])  # compile
    result = {"positions": arguments.positions, "size": size, "beam_px": arguments.beam_px, "cores": os.cpu_count()}
    for name, options in (
        ("blends_fitted", PhotometryOptions(beam_frame="image")),
        ("alone", PhotometryOptions(beam_frame="image", blend_beams=0.0)),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        table = measure(image, noise, wcs, beam, ra, dec, options=options)
        result[f"{name}_wall_s"] = round(time.perf_counter() - wall, 2)
        result[f"{name}_positions_per_cpu_s"] = round(arguments.positions / (time.process_time() - cpu))
        result[f"{name}_in_blends"] = int((table["n_blend"] > 1).sum())
    sample = slice(0, 2000)
    wall = time.perf_counter()
    reference = peer(image, noise, x[sample], y[sample], arguments.beam_px, 1.6)
    result["peer_positions_per_s"] = round(reference.size / (time.perf_counter() - wall))
    result["largest_difference_in_sigma"] = float(np.max(np.abs(table["flux_jy"].to_numpy()[sample] - reference) / 2e-3))
    result["load_after"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
