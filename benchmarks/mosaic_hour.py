"""Time, memory and accuracy of an hourly mosaic of 12 tiles of 4096 x 4096, and of `reproject` on the same tiles.

    python benchmarks/mosaic_hour.py [--tiles 12] [--size 4096] [--peer-tiles 2] [--directory DIR]

Each side runs in its own process, to measure its own peak memory. The peer is `reproject_and_coadd` with bicubic
`reproject_interp`. For the same result it needs the tiles divided by their beams, and also reprojects the weights. It
runs on the first ``--peer-tiles`` tiles; times are compared per tile. Prints one JSON line.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy import fft
from scipy.interpolate import RectBivariateSpline

from dsa110_assets.common.instrument import BAND_CENTRE_HZ, drift_averaged_power_beam
from dsa110_assets.mosaicking import TileImage, find_sources, make_mosaic
from dsa110_assets.products import image_path

CELL_ARCSEC = 3.0
BEAM_ARCSEC = (24.0, 18.0, 20.0)
NOISE_JY = 0.003
DECLINATION_DEG = 54.6
DRIFT_DEG = 1.292
SOURCES_PER_DEG2 = 10
BUDGET_S, BUDGET_GB = 60.0, 4.0


def write_tiles(directory: Path, n_tiles: int, size: int) -> list[tuple[float, float, float]]:
    """Write the tiles of an hour and return the sources (ra, dec, flux)."""
    rng = np.random.default_rng(1)
    width = (n_tiles - 1) * DRIFT_DEG + 3.0
    n_sources = int(SOURCES_PER_DEG2 * width * np.cos(np.radians(DECLINATION_DEG)) * 3.0)
    sources = np.stack([355.0 + rng.uniform(-1.5, width - 1.5, n_sources), DECLINATION_DEG + rng.uniform(-1.5, 1.5, n_sources)], axis=1)
    flux = 0.02 * rng.pareto(1.2, n_sources) + 0.02
    x = np.arange(size, dtype=np.float64)
    pa = np.radians(BEAM_ARCSEC[2])
    major, minor = np.array(BEAM_ARCSEC[:2]) / CELL_ARCSEC

    def restored(east: np.ndarray, north: np.ndarray) -> np.ndarray:
        along, across = north * np.cos(pa) + east * np.sin(pa), east * np.cos(pa) - north * np.sin(pa)
        return np.exp(-4 * np.log(2) * ((along / major) ** 2 + (across / minor) ** 2))

    lag = (fft.fftfreq(size) * size).astype(np.float32)
    kernel = restored(-lag[None, :], lag[:, None])
    transfer = fft.rfft2((kernel / np.sqrt(np.sum(kernel**2))).astype(np.float32), workers=2)
    for i in range(n_tiles):
        ra0 = (355.0 + i * DRIFT_DEG) % 360.0
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---SIN", "DEC--SIN"], [ra0, DECLINATION_DEG], [size / 2 + 1] * 2
        wcs.wcs.cdelt, wcs.wcs.radesys = [-CELL_ARCSEC / 3600, CELL_ARCSEC / 3600], "ICRS"
        pointings = np.radians(ra0 + (np.arange(24) - 11.5) / 24 * DRIFT_DEG)
        coarse = np.linspace(0, size - 1, 65)
        gx, gy = np.meshgrid(coarse, coarse)
        ra, dec = wcs.wcs_pix2world(gx.ravel(), gy.ravel(), 0)
        declination = np.full(24, np.radians(DECLINATION_DEG))
        level = drift_averaged_power_beam(np.radians(ra), np.radians(dec), pointings, declination, BAND_CENTRE_HZ).reshape(gx.shape)
        beam = RectBivariateSpline(coarse, coarse, level)
        pb = beam(x, x).astype(np.float32)
        image = NOISE_JY * fft.irfft2(fft.rfft2(rng.standard_normal((size, size), dtype=np.float32), workers=2) * transfer, workers=2)
        for (source_ra, source_dec), source_flux in zip(sources, flux, strict=True):
            if abs((source_ra - ra0 + 180) % 360 - 180) > 6:
                continue
            sx, sy = (float(v) for v in wcs.wcs_world2pix(source_ra, source_dec, 0))
            if not (30 < sx < size - 31 and 30 < sy < size - 31):
                continue
            rows, columns = np.arange(round(sy) - 30, round(sy) + 31), np.arange(round(sx) - 30, round(sx) + 31)
            image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += (source_flux * float(beam(sy, sx)[0, 0])) * restored(
                -(columns - sx)[None, :], (rows - sy)[:, None]
            )
        start = 61100.0 + i * 309.2376 / 86400
        name = f"2026-03-01T{i // 60:02d}:{i % 60:02d}:00"
        header = wcs.to_header()
        header["BMAJ"], header["BMIN"], header["BPA"] = BEAM_ARCSEC[0] / 3600, BEAM_ARCSEC[1] / 3600, BEAM_ARCSEC[2]
        header["DSANOISE"], header["MJD-BEG"], header["MJD-END"], header["DSAGROUP"] = NOISE_JY, start, start + 309.2376 / 86400, name
        for suffix, pixels in (("image", image), ("pb", pb), ("weight", np.where(pb >= 0.2, pb**2 / NOISE_JY**2, 0))):
            fits.writeto(image_path(directory, name, suffix), pixels.astype(np.float32), header, overwrite=True)
    return [(float(r) % 360, float(d), float(f)) for (r, d), f in zip(sources, flux, strict=True)]


def ours(directory: Path) -> dict[str, float]:
    """Make the mosaic and compare it with the sources."""
    tiles = [TileImage.of(directory, path.name.removesuffix("-image.fits")) for path in sorted(directory.glob("*-image.fits"))]
    began = time.perf_counter()
    report = make_mosaic(tiles, directory / "mosaic", "hour", provenance={})
    seconds = time.perf_counter() - began
    image = fits.getdata(image_path(directory / "mosaic", "hour", "image"))
    wcs = WCS(fits.getheader(image_path(directory / "mosaic", "hour", "image")))
    began = time.perf_counter()
    found = find_sources(*(image_path(directory / "mosaic", "hour", suffix) for suffix in ("image", "noise")), sigma=7.0)
    finding = time.perf_counter() - began
    ratios = []
    for ra, dec, flux in json.loads((directory / "truth.json").read_text()):
        column, row = (round(float(v)) for v in wcs.wcs_world2pix(ra, dec, 0))
        around = image[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        if flux > 1.0 and around.shape == (7, 7) and np.isfinite(around).all():
            # the logarithm of a Gaussian is a parabola, whose vertex is the peak
            yy, xx = np.mgrid[-3:4, -3:4]
            terms = np.stack([np.ones(49), xx.ravel(), yy.ravel(), xx.ravel() ** 2, xx.ravel() * yy.ravel(), yy.ravel() ** 2], axis=1)
            c = np.linalg.lstsq(terms * around.reshape(-1, 1), np.log(around).ravel() * around.ravel(), rcond=None)[0]
            vertex = np.linalg.solve([[2 * c[3], c[4]], [c[4], 2 * c[5]]], [-c[1], -c[2]])
            ratios.append(np.exp(c[0] + 0.5 * (c[1] * vertex[0] + c[2] * vertex[1])) / flux)
    return {
        "seconds": seconds,
        "finding_seconds": finding,
        "found": len(found),
        "finding_peak_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6,
        "rows": report.shape[0],
        "columns": report.shape[1],
        "snr_scatter": report.snr_scatter,
        "bright_sources": len(ratios),
        "median_flux_ratio": float(np.median(ratios)) if ratios else float("nan"),
    }


def peer(directory: Path, n_tiles: int) -> dict[str, float]:
    """Combine the first tiles with `reproject_and_coadd` on the grid of their own mosaic."""
    from reproject import reproject_interp
    from reproject.mosaicking import reproject_and_coadd

    from dsa110_assets.mosaicking.grid import choose_grid

    tiles = [TileImage.of(directory, path.name.removesuffix("-image.fits")) for path in sorted(directory.glob("*-image.fits"))][:n_tiles]
    grid = choose_grid(tiles, CELL_ARCSEC)
    began = time.perf_counter()
    inputs = [(tile.plane("image") / tile.plane("pb"), tile.wcs()) for tile in tiles]
    weights = [tile.plane("weight") for tile in tiles]
    reproject_and_coadd(
        inputs, grid.wcs, shape_out=grid.shape, input_weights=weights, reproject_function=reproject_interp, order="bicubic", parallel=False
    )
    return {"seconds": time.perf_counter() - began, "tiles": len(tiles)}


def main() -> None:
    """Write the tiles, run both sides, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=12)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--peer-tiles", type=int, default=2)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--side", choices=("ours", "peer"))
    arguments = parser.parse_args()
    if arguments.side:
        result = ours(arguments.directory) if arguments.side == "ours" else peer(arguments.directory, arguments.peer_tiles)
        result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        directory = Path(scratch)
        (directory / "truth.json").write_text(json.dumps(write_tiles(directory, arguments.tiles, arguments.size)))
        result: dict[str, object] = {"tiles": arguments.tiles, "size": arguments.size, "budget_s": BUDGET_S, "budget_gb": BUDGET_GB}
        for side in ("ours", "peer"):
            command = [sys.executable, __file__, "--side", side, "--directory", scratch, "--peer-tiles", str(arguments.peer_tiles)]
            result[side] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print(json.dumps(result))


if __name__ == "__main__":
    main()
