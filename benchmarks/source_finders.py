"""AegeanTools and PyBDSF on the same mosaic of known sources: completeness, false detections, fluxes, positions, time.

    python -m benchmarks.source_finders --mosaic DIR --truth TRUTH.csv [--bdsf-python PYTHON]

``DIR`` has ``<name>-image.fits`` and ``<name>-noise.fits``, as `make month` leaves them in
``build/month/products/mosaics``. ``TRUTH.csv`` has ``name, ra_deg, dec_deg, flux_jy`` (``python -m benchmarks.month
--truth TRUTH.csv``). PyBDSF is not a dependency: ``--bdsf-python`` is the interpreter of an environment that has it.
Both search at 7 sigma with the mosaic's own noise map. Prints one JSON line for each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import map_coordinates

from dsa110_assets.mosaicking import crossmatch, find_sources

SIGMA = 7.0
_CHILD = """
import sys, json, warnings
warnings.simplefilter("ignore")
import bdsf
image, rms, mean, frequency, out = sys.argv[1:]
found = bdsf.process_image(image, rmsmean_map_filename=[mean, rms], thresh="hard", thresh_pix=7.0, thresh_isl=4.0, frequency=float(frequency),
    quiet=True, ncores=1, output_opts=False)
found.write_catalog(outfile=out, format="csv", catalog_type="srl", clobber=True)
"""


def aegean(image: Path, noise: Path) -> pd.DataFrame:
    """Detections of the platform's finder."""
    return find_sources(image, noise, sigma=SIGMA)


def pybdsf(image: Path, noise: Path, python: str) -> pd.DataFrame:
    """Detections of PyBDSF, run in its own environment."""
    with tempfile.TemporaryDirectory() as scratch:
        zero, catalog = Path(scratch) / "zero.fits", Path(scratch) / "found.csv"
        for name, path in (("image.fits", image), ("noise.fits", noise)):  # PyBDSF needs its maps beside the image
            (Path(scratch) / name).symlink_to(path.absolute())
        with fits.open(noise) as hdus:
            fits.writeto(zero, np.zeros_like(hdus[0].data), hdus[0].header)
        frequency = str(fits.getheader(image)["RESTFRQ"])
        command = [python, "-c", _CHILD, "image.fits", "noise.fits", "zero.fits", frequency, "found.csv"]
        subprocess.run(command, check=True, capture_output=True, cwd=scratch, env={})
        table = pd.read_csv(catalog, comment="#", skipinitialspace=True)
        if "RA" not in table.columns:  # the header line is a comment
            names = [line for line in catalog.read_text().splitlines() if line.startswith("#")][-1].lstrip("# ").split(", ")
            table = pd.read_csv(catalog, comment="#", names=names, skipinitialspace=True)
    return pd.DataFrame(
        {
            "name": [f"b{i}" for i in range(len(table))],
            "ra_deg": table["RA"],
            "dec_deg": table["DEC"],
            "flux_jy": table["Peak_flux"],
            "peak_jy_per_beam": table["Peak_flux"],
        }
    )


def judge(found: pd.DataFrame, truth: pd.DataFrame, image: Path, noise: Path) -> dict[str, object]:
    """Compare detections with the truth, with the true S/N from the noise map."""
    header = fits.getheader(image)
    x, y = WCS(header).wcs_world2pix(truth["ra_deg"], truth["dec_deg"], 0)
    with fits.open(noise) as hdus:
        sigma = map_coordinates(np.nan_to_num(hdus[0].data, nan=np.inf).astype(float), [y, x], order=0, cval=np.inf)
    snr = truth["flux_jy"].to_numpy() / sigma
    pairs = crossmatch(found, truth, 0.5 * float(header["BMAJ"]) * 3600)
    seen = truth.index.isin(pairs["catalog_index"])
    bright = pairs[snr[pairs["catalog_index"]] > 20]
    peak = (
        found["peak_jy_per_beam"].to_numpy()[found.index.get_indexer(bright["found_index"])]
        / truth["flux_jy"].to_numpy()[bright["catalog_index"]]
    )
    faint = pairs[(snr[pairs["catalog_index"]] > 7) & (snr[pairs["catalog_index"]] < 20)]
    return {
        "found": len(found),
        "false": len(found) - len(pairs),
        **{
            f"completeness_{a}_{b}": f"{seen[(snr >= a) & (snr < b)].sum()}/{((snr >= a) & (snr < b)).sum()}"
            for a, b in ((6, 8), (8, 10), (10, 1000))
        },
        "peak_ratio_median": round(float(np.median(peak)), 4),
        "peak_ratio_scatter": round(float(np.std(peak)), 4),
        "offset_rms_bright_arcsec": round(float(np.sqrt(np.mean(bright["separation_arcsec"] ** 2))), 3),
        "offset_rms_faint_arcsec": round(float(np.sqrt(np.mean(faint["separation_arcsec"] ** 2))), 3),
    }


def main() -> None:
    """Run both finders and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mosaic", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--bdsf-python")
    arguments = parser.parse_args()
    image = next(arguments.mosaic.glob("*-image.fits"))
    noise = Path(str(image).replace("-image.fits", "-noise.fits"))
    truth = pd.read_csv(arguments.truth)
    for name, search in (("AegeanTools", lambda: aegean(image, noise)), ("PyBDSF", lambda: pybdsf(image, noise, arguments.bdsf_python))):
        if name == "PyBDSF" and not arguments.bdsf_python:
            continue
        began = time.perf_counter()
        found = search()
        seconds = time.perf_counter() - began
        print(json.dumps({"finder": name, "seconds": round(seconds, 1), **judge(found, truth, image, noise)}))


if __name__ == "__main__":
    main()
