"""What every imaging engine gives back.

What does not belong here: any engine. They share the grid, the weights and the products, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.imaging.restoring_beam import RestoringBeam


@dataclass(frozen=True)
class EngineImages:
    """Images of one tile, each (N, N) float32, y north, x west, not corrected for the primary beam.

    ``dirty``, ``psf``, ``residual``, ``restored``: Jy/beam (PSF peak 1). ``model``: Jy/pixel. ``beam``: restoring beam.
    ``bright_sources``: sources that were fitted and subtracted one by one. ``major_cycles``: exact subtractions done. ``minor_iterations``: CLEAN components subtracted (0 if the engine does not tell). ``converged``: cleaning ended at its threshold and not
    at a limit.
    """

    dirty: NDArray[np.float32]
    psf: NDArray[np.float32]
    model: NDArray[np.float32]
    residual: NDArray[np.float32]
    restored: NDArray[np.float32]
    beam: RestoringBeam
    bright_sources: int
    major_cycles: int
    minor_iterations: int
    converged: bool
