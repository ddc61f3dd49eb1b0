"""Imaging engine ``wsclean``: WSClean as a child process, if it is installed.

It is Debian's package; the package of this name on PyPI is another program (pitfall 35).
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.child_process import Child, run_child
from dsa110_assets.common.fits_planes import number, read_plane, write_plane
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.errors import ChildFailedError, ConfigurationError, ImagingError
from dsa110_assets.imaging.engine import ChannelImages, EngineImages
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import PointSources
from dsa110_assets.imaging.restoring import convolve_with_beam, fit_beam


def find_wsclean() -> str:
    """Find the WSClean imager and return its path.

    Raises:
        ImagingError: it is not on PATH, or the program of that name is not the imager.
    """
    program = shutil.which("wsclean")
    if program is None:
        raise ImagingError(
            "wsclean", "not on PATH", "install Debian's package `wsclean` (never with pip), or set PIPELINE_GRIDDER=wgridder"
        )
    try:
        answer = run_child(
            Child("wsclean", [program, "--version"]), subject=program, timeout_s=60, timeout_advice="look at the machine's load"
        )
    except (ChildFailedError, ConfigurationError) as error:
        raise ImagingError(program, f"does not run ({error.cause})", "reinstall the package, or set PIPELINE_GRIDDER=wgridder") from error
    if "WSClean version" not in answer.stdout:
        raise ImagingError(
            program, "is not the imager (the package of this name on PyPI is a clipboard tool)", "install Debian's package `wsclean`"
        )
    return program


def run(ms: Path, options: ImagingOptions, mask: NDArray[np.bool_] | None) -> EngineImages:
    """Image, clean and restore with WSClean.

    Args:
        ms: calibrated Measurement Set; only read.
        options: options of the image; WSClean ignores ``max_major``, ``epsilon`` and ``bright_sigma``.
        mask: (N, N), where to clean; None for everywhere.

    Raises:
        ImagingError: WSClean is not installed.
        ChildFailedError: it failed or ran out of time.
    """
    program = find_wsclean()
    size = str(options.image_size)
    with tempfile.TemporaryDirectory(prefix="wsclean-") as scratch:
        prefix = str(Path(scratch) / "tile")
        command = [
            program,
            "-quiet",
            "-j",
            str(options.n_threads),
            "-name",
            prefix,
            "-size",
            size,
            size,
            "-scale",
            f"{options.cell_arcsec}asec",
        ]
        command += [
            "-weight",
            options.weighting,
            *([str(options.briggs_robust)] if options.weighting == "briggs" else []),
            "-pol",
            "I",
            "-data-column",
            "DATA",
            "-no-update-model-required",
        ]
        command += [
            "-make-psf",
            "-use-wgridder",
            "-temp-dir",
            scratch,
            "-niter",
            str(options.niter),
            "-mgain",
            str(min(options.major_gain, 0.85)),
        ]
        command += ["-auto-mask", str(options.auto_mask_sigma), "-auto-threshold", str(options.auto_threshold_sigma)]
        for flag, value in (("-minuv-l", options.uv_min_lambda), ("-maxuv-l", options.uv_max_lambda)):
            command += [flag, str(value)] if value else []
        if options.taper_arcsec:
            command += ["-taper-gaussian", f"{options.taper_arcsec}asec"]
        if options.multiscale:
            command.append("-multiscale")
        if options.channels > 1:
            command += [
                "-channels-out",
                str(options.channels),
                "-join-channels",
                "-fit-spectral-pol",
                str(min(options.spectral_terms, options.channels)),
            ]
        if mask is not None:
            mask_file = Path(scratch) / "mask.fits"
            write_plane(mask_file, mask)
            command += ["-fits-mask", str(mask_file)]
        ended = run_child(
            Child("wsclean", [*command, str(ms)]),
            subject=ms,
            timeout_s=options.child_timeout_s,
            timeout_advice="retry, or raise its time limit",
        )
        ended.raise_if_failed(ms, "read its message; image with PIPELINE_GRIDDER=wgridder")
        joined = options.channels > 1
        image = _read(Path(f"{prefix}-MFS" if joined else prefix), options)
        channels: list[ChannelImages] = []
        for index in range(options.channels if joined else 0):
            channel = _read(Path(f"{prefix}-{index:04d}"), options)
            if channel.psf.any():  # otherwise the channel has no data
                channels.append(ChannelImages(index, channel.model, channel.residual, channel.beam, PointSources.none()))
    return EngineImages(
        dirty=image.dirty,
        psf=image.psf,
        model=image.model,
        residual=image.residual,
        restored=convolve_with_beam(image.model, image.beam, options.cell_arcsec, options.n_threads) + image.residual,
        beam=image.beam,
        bright_sources=0,
        major_cycles=image.major_cycles,
        minor_iterations=image.minor_iterations,
        converged=image.minor_iterations < options.niter or options.niter == 0,
        channels=tuple(channels),
    )


@dataclass(frozen=True)
class _Images:
    """Images that WSClean wrote with one prefix, (N, N) each.

    ``beam`` is fitted here, because WSClean's own fit of a narrow beam can fit a side lobe.
    """

    dirty: NDArray[np.float32]
    psf: NDArray[np.float32]
    model: NDArray[np.float32]
    residual: NDArray[np.float32]
    beam: RestoringBeam
    major_cycles: int
    minor_iterations: int


def _read(prefix: Path, options: ImagingOptions) -> _Images:
    planes = {
        name: read_plane(path)[0] for name in ("dirty", "residual", "psf", "model") if (path := Path(f"{prefix}-{name}.fits")).exists()
    }
    header = read_plane(Path(f"{prefix}-image.fits"))[1]
    dirty, psf = planes["dirty"], planes["psf"]
    return _Images(
        dirty=dirty,
        psf=psf,
        model=planes.get("model", np.zeros_like(dirty)),
        residual=planes.get("residual", dirty),
        beam=fit_beam(psf, options.cell_arcsec),
        major_cycles=int(number(header, "WSCMAJOR", 0)),
        minor_iterations=int(number(header, "WSCMINOR", 0)),
    )
