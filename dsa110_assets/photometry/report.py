"""Report on the forced photometry of a mosaic."""

# pandas' stubs do not know the type of a selection:
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dsa110_assets.common.figures import Details, Figures, Row, median

_SOURCES_SHOWN = 50


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

    def details(self) -> Details:
        """Tables of the brightest sources by S/N, and of the positions that were left out, with the reasons."""
        measured = self.measured
        brightest = measured.sort_values("snr", ascending=False).head(_SOURCES_SHOWN)
        sources: list[Row] = [
            {
                "source": str(row["name"]),
                "flux_mjy": 1e3 * float(row["flux_jy"]),
                "error_mjy": 1e3 * float(row["flux_err_jy"]),
                "snr": float(row["snr"]),
                "limit": bool(row["is_limit"]),
                "catalog_mjy": 1e3 * float(row["reference_flux_jy"]),
            }
            for row in brightest.to_dict("records")
        ]
        reasons = {
            "outside the mosaic: no good tile of this hour covers them": self.n_positions - len(self.fluxes),
            "at the mosaic's edge, or on pixels without a value": len(self.fluxes) - len(measured),
        }
        left_out: list[Row] = [{"positions": number, "reason": reason} for reason, number in reasons.items() if number]
        return {f"the {len(sources)} highest S/N": sources, "positions left out": left_out}
