"""Imaging engine ``wproject``: CASA's tclean with w-projection, in a child process. It is the reference for the others.

casatools may crash or leak, and ignores requests to stop. A child process with a wall-clock limit contains all that.
Run as a module, this file is the child.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.child_process import Child, run_child
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.imaging.engine import EngineImages
from dsa110_assets.imaging.options import ImagingOptions

_PLANES = {"dirty": "residual", "psf": "psf", "model": "model", "residual": "residual", "restored": "image"}


def run(ms: Path, options: ImagingOptions, mask: NDArray[np.bool_] | None) -> EngineImages:
    """Image, clean and restore with CASA.

    Args:
        ms: calibrated Measurement Set; only read.
        options: options of the image.
        mask: (N, N), where to search; None for everywhere.

    Raises:
        ChildFailedError: the child died or ran out of time.
    """
    with tempfile.TemporaryDirectory(prefix="tclean-") as scratch:
        job = {
            "ms": str(ms.absolute()),
            "size": options.image_size,
            "cell_arcsec": options.cell_arcsec,
            # CASA takes no robustness above 2
            "weighting": "natural" if options.weighting == "briggs" and options.briggs_robust > 2 else options.weighting,
            "robust": min(options.briggs_robust, 2.0),
            "uvrange": f"{options.uv_min_lambda}~{options.uv_max_lambda or 1e9}lambda"
            if options.uv_min_lambda or options.uv_max_lambda
            else "",
            "uvtaper": [f"{options.taper_arcsec}arcsec"] if options.taper_arcsec else [],
            "niter": options.niter,
            "search_sigma": options.auto_mask_sigma,
            "deep_sigma": options.auto_threshold_sigma,
            "multiscale": options.multiscale,
            "mask": None if mask is None else "mask.npy",
        }
        if mask is not None:
            np.save(Path(scratch) / "mask.npy", mask)
        (Path(scratch) / "job.json").write_text(json.dumps(job))
        ended = run_child(
            Child("tclean", [sys.executable, "-m", "dsa110_assets.imaging.tclean", scratch], cwd=Path(scratch)),
            subject=ms,
            timeout_s=options.child_timeout_s,
            timeout_advice="retry, or raise its time limit",
        )
        result_file = Path(scratch) / "result.json"
        ended.raise_if_failed(ms, "read its message; retry once", result=result_file)
        result = json.loads(result_file.read_text())
        planes: dict[str, NDArray[np.float32]] = {name: np.load(Path(scratch) / f"{name}.npy") for name in _PLANES}
    return EngineImages(
        dirty=planes["dirty"],
        psf=planes["psf"],
        model=planes["model"],
        residual=planes["residual"],
        restored=planes["restored"],
        beam=RestoringBeam.from_arcsec(*result["beam"]),
        bright_sources=0,
        major_cycles=int(result["major_cycles"]),
        minor_iterations=int(result["iterations"]),
        converged=int(result["iterations"]) < options.niter or options.niter == 0,
    )


def _child(scratch: Path) -> None:
    """Run tclean according to ``job.json``: dirty image, search inside the mask, deeper cleaning at the components."""
    from casatasks import tclean

    job = json.loads((scratch / "job.json").read_text())
    base = str(scratch / "tile")
    common: dict[str, Any] = {
        "vis": job["ms"],
        "imagename": base,
        "datacolumn": "data",
        "imsize": [job["size"], job["size"]],
        "cell": [f"{job['cell_arcsec']}arcsec"],
        "stokes": "I",
        "specmode": "mfs",
        "gridder": "wproject",
        "wprojplanes": -1,
        "pblimit": -0.1,
        "weighting": job["weighting"],
        "robust": job["robust"],
        "uvrange": job["uvrange"],
        "uvtaper": job["uvtaper"],
        "deconvolver": "multiscale" if job["multiscale"] else "clark",
        "savemodel": "none",
    }
    if job["multiscale"]:
        common["scales"] = [0, 5, 15]
    tclean(**common, niter=0)
    _save(scratch, base, "dirty")
    iterations = majors = 0
    if job["niter"] > 0:
        mask = np.ones((job["size"], job["size"]), dtype=bool) if job["mask"] is None else np.load(scratch / job["mask"])
        for sigma in (job["search_sigma"], job["deep_sigma"]):
            if mask is not None and mask.any() and iterations < job["niter"]:
                _set_mask(base, mask)
                outcome: Any = tclean(
                    **common,
                    niter=job["niter"] - iterations,
                    nsigma=float(sigma),
                    usemask="user",
                    mask=f"{base}.clean-mask",
                    calcpsf=False,
                    calcres=False,
                    restart=True,
                )
                iterations += int(outcome["iterdone"])
                majors += int(outcome["nmajordone"])
                mask = _read(f"{base}.model") != 0
    for name in ("psf", "model", "residual", "restored"):
        _save(scratch, base, name)
    (scratch / "result.json").write_text(json.dumps({"beam": _beam(f"{base}.image"), "iterations": iterations, "major_cycles": majors}))


def _read(image: str) -> NDArray[np.float32]:
    """Plane (y, x) of a CASA image."""
    from casatools import image as image_tool

    ia = image_tool()
    ia.open(image)
    try:
        return np.ascontiguousarray(ia.getchunk()[:, :, 0, 0].T.astype(np.float32))
    finally:
        ia.close()


def _save(scratch: Path, base: str, name: str) -> None:
    np.save(scratch / f"{name}.npy", _read(f"{base}.{_PLANES[name]}"))


def _set_mask(base: str, mask: NDArray[np.bool_]) -> None:
    """Write the mask as an image like the residual, and delete tclean's masks from the previous step."""
    import shutil

    from casatools import image as image_tool

    for suffix in ("mask", "clean-mask"):
        shutil.rmtree(f"{base}.{suffix}", ignore_errors=True)
    shutil.copytree(f"{base}.residual", f"{base}.clean-mask")
    ia = image_tool()
    ia.open(f"{base}.clean-mask")
    try:
        ia.putchunk(mask.T.astype(np.float32)[:, :, None, None])
    finally:
        ia.close()


def _beam(image: str) -> list[float]:
    """Major and minor axis in arcsec, position angle in degrees in [0, 180)."""
    from casatools import image as image_tool
    from casatools import quanta

    ia, qa = image_tool(), quanta()
    ia.open(image)
    try:
        beam = ia.restoringbeam()
    finally:
        ia.close()
    axes = [float(qa.convert(beam[axis], "arcsec")["value"]) for axis in ("major", "minor")]
    return [*axes, float(qa.convert(beam["positionangle"], "deg")["value"]) % 180.0]


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
