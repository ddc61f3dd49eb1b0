"""Report on the forced photometry of a mosaic."""

# pandas' stubs do not know the type of a selection:
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dsa110_assets.common.figures import Figures, median


@dataclass(frozen=True)
class PhotometryReport:
    """Fluxes at the positions of one mosaic.

    ``n_positions``: positions that were requested. ``fluxes``: see `images.measure_mosaic`. ``channel_fluxes``: see
    `images.measure_channels`.
    """

    n_positions: int
    fluxes: pd.DataFrame
    channel_fluxes: pd.DataFrame

    @property
    def measured(self) -> pd.DataFrame:
        """Rows of ``fluxes`` with a finite flux."""
        return self.fluxes.loc[np.isfinite(self.fluxes["flux_jy"].to_numpy())]

    def figures(self) -> Figures:
        """Named figures of the measurements, units in the names."""
        measured = self.measured
        detected = measured[~measured["is_limit"].astype(bool)]
        return {
            "positions": self.n_positions,
            "measured": len(measured),
            "detected": len(detected),
            "limits": len(measured) - len(detected),
            "median_flux_ratio_to_catalog": median(detected["flux_jy"] / detected["reference_flux_jy"]),
            "median_noise_mjy_per_beam": median(measured["noise_jy_per_beam"] * 1e3),
            "error_scale": median(measured["error_scale"]),
            "channels": int(np.unique(self.channel_fluxes["channel"].to_numpy()).size),
            "measured_in_channels": int(np.isfinite(self.channel_fluxes["flux_jy"]).sum()),
        }
