"""Default imaging engine: ducc0's w-gridder for the measurement equation, radler or a loop over peaks for minor cycles.

Every major cycle predicts the visibilities of the model exactly, subtracts them and images the rest, so that errors of
the PSF do not stay in the result. `clean` decides where and how deep to clean, and `bright_sources` which sources are
predicted individually.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.imaging.bright_sources import subtract_bright_sources
from dsa110_assets.imaging.clean import Cleaner
from dsa110_assets.imaging.engine import EngineImages
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.gridder import Gridder
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import add_to_image, add_to_model, subtract_point_sources
from dsa110_assets.imaging.restoring import convolve_with_beam, fit_beam
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights


def predict(
    vis: Visibilities, weights: ImagingWeights, grid: ImageGrid, options: ImagingOptions, images: EngineImages
) -> NDArray[np.complex64]:
    """Predict the visibilities of the model of ``images``, (nrow, nchan).

    Bright sources have their drift, spectrum and smearing (`point_sources`); the rest is the CLEAN model.
    """
    rest = subtract_point_sources(vis, weights, grid, options, images.bright)
    model = vis.vis_jy - rest
    components = images.model.copy()
    add_to_model(components, replace(images.bright, flux_jy=-images.bright.flux_jy))
    if components.any():
        gridder = Gridder(vis, weights, grid, options)
        model += gridder.predicted(components)
    return model


def run(
    vis: Visibilities,
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    mask: NDArray[np.bool_] | None,
    sky: pd.DataFrame | None = None,
    *,
    strict_mask: bool = False,
) -> EngineImages:
    """Image, clean and restore.

    Args:
        vis, weights, grid, options: visibilities, their weights, grid and options of the image.
        mask: (N, N), where to clean first; None for everywhere.
        strict_mask: clean nowhere else; bright point sources are still fitted everywhere.
        sky: catalog (ra_deg, dec_deg, flux_jy); its bright sources outside the image are subtracted from the
            visibilities, because their side lobes would reach into the image.

    Raises:
        ImagingError: the PSF has no main lobe.
    """
    gridder = Gridder(vis, weights, grid, options)
    psf = gridder.psf()
    beam = fit_beam(psf, options.cell_arcsec)
    dirty = gridder.dirty()
    found = subtract_bright_sources(vis, weights, grid, options, gridder=gridder, psf=psf, beam=beam, dirty=dirty, sky=sky)
    bright = found.sources
    cleaner = Cleaner(psf, beam, options, mask, strict=strict_mask, artifact_jy=0.0 if options.selfcal_rounds else found.artifact_jy)
    result = cleaner.clean(found.image, gridder.residual)
    restored = convolve_with_beam(result.model, beam, options.cell_arcsec, options.n_threads)
    restored += result.residual
    add_to_image(restored, bright, beam, options.cell_arcsec)
    model = result.model
    add_to_model(model, bright)
    return EngineImages(
        dirty=dirty,
        psf=psf,
        model=model,
        residual=result.residual,
        restored=restored,
        beam=beam,
        bright_sources=len(bright),
        major_cycles=found.rounds + result.major_cycles,
        minor_iterations=result.minor_iterations,
        converged=result.converged,
        bright=bright,
        antennas=found.antennas,
        artifacts=found.artifacts,
        flux_error=found.flux_error,
    )
