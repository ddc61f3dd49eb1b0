"""Reports on a night's light curves, variability indices and ESE candidates."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dsa110_assets.common.figures import Details, Figures, Row, median

if TYPE_CHECKING:
    from dsa110_assets.variability.lightcurves import LightCurves
    from dsa110_assets.variability.normalisation import Normalisation

_EPOCHS_SHOWN = 48
_CANDIDATES_SHOWN = 20
_SOURCES_SHOWN = 50
_CURVE_EPOCHS = 24
_LEVELS = "▁▂▃▄▅▆▇█"
_CURVE_ERRORS = 5.0
"""The lowest and the highest level of a small curve, in errors from the mean."""
_FIVE_SIGMA = 5.7e-7
"""Probability of a deviation of more than 5 sigma in Gaussian noise, both sides."""


@dataclass(frozen=True)
class LightCurveReport:
    """Normalized light curves.

    ``fitted``: the light curves from which ``scale`` was fitted: all, or a sample. ``n_sources``, ``n_points``:
    sources and measurements in the epochs whose factors may still change. ``n_excluded``: epochs that a person has
    excluded. ``names``: of all sources, by ``source_id``.
    """

    fitted: LightCurves
    scale: Normalisation
    n_sources: int
    n_points: int
    n_excluded: int
    names: Mapping[Any, str]

    def figures(self) -> Figures:
        """Named figures of the light curves."""
        usable = self.scale.factor[self.scale.usable]
        return {
            "sources": self.n_sources,
            "fitted_sources": self.fitted.n_sources,
            "epochs": self.fitted.n_epochs,
            "excluded_epochs": self.n_excluded,
            "unusable_epochs": int((~self.scale.usable).sum()),
            "reference_sources": int(self.scale.reference.sum()),
            "measurements": self.n_points,
            "normalisation_scatter": float(np.std(usable)) if usable.size else None,
            "noise_scale": self.scale.noise_scale,
        }

    def details(self) -> Details:
        """Tables of the newest epochs and of the brightest sources."""
        curves, scale = self.fitted, self.scale
        epochs: list[Row] = [
            {
                "mosaic": str(curves.epoch_name[i]),
                "mid_mjd": float(curves.epoch_mjd[i]),
                "factor": float(scale.factor[i]),
                "factor_err": float(scale.factor_err[i]),
                "references": int(scale.n_reference[i]),
                "usable": bool(scale.usable[i]),
            }
            for i in range(max(0, curves.n_epochs - _EPOCHS_SHOWN), curves.n_epochs)
        ]
        return {"epochs": epochs, "brightest sources": self._brightest()}

    def _brightest(self) -> list[Row]:
        """Normalized light curves of the brightest sources: mean, scatter, newest flux, and a small curve."""
        curves = self.fitted
        usable = self.scale.usable[curves.epoch] & np.isfinite(self.scale.factor[curves.epoch])
        flux = np.where(usable, curves.flux_jy / np.where(usable, self.scale.factor[curves.epoch], 1.0), np.nan)
        source = np.repeat(np.arange(curves.n_sources), curves.counts)
        table = pd.DataFrame({"source": source, "flux": flux, "error": curves.flux_err_jy}).dropna()
        figures = table.groupby("source").agg(
            epochs=("flux", "size"), mean=("flux", "mean"), scatter=("flux", "std"), newest=("flux", "last"), error=("error", "median")
        )
        shown = figures.nlargest(_SOURCES_SHOWN, "mean").reset_index()
        fluxes = dict(iter(table.loc[table["source"].isin(shown["source"])].groupby("source")["flux"]))
        rows: list[Row] = []
        for row in shown.to_dict("records"):
            source_id = curves.source_id[int(row["source"])]
            newest = fluxes[row["source"]].to_numpy(float)[-_CURVE_EPOCHS:]
            rows.append(
                {
                    "source": str(self.names.get(source_id, "")),
                    "source_id": str(source_id),
                    "epochs": int(row["epochs"]),
                    "mean_flux_mjy": 1e3 * float(row["mean"]),
                    "scatter_mjy": None if row["epochs"] < 2 else 1e3 * float(row["scatter"]),
                    "typical_error_mjy": 1e3 * float(row["error"]),
                    "newest_flux_mjy": 1e3 * float(row["newest"]),
                    "curve": small_curve(newest, float(row["mean"]), float(row["error"])),
                }
            )
        return rows


def small_curve(flux_jy: np.ndarray, mean_jy: float, error_jy: float) -> str:
    """A light curve as one character for each epoch, from 5 errors below the mean (lowest) to 5 above it (highest)."""
    deviation = (np.asarray(flux_jy, float) - mean_jy) / error_jy if error_jy > 0 else np.zeros(len(flux_jy))
    level = np.rint((np.clip(deviation / _CURVE_ERRORS, -1.0, 1.0) + 1.0) / 2.0 * (len(_LEVELS) - 1)).astype(int)
    return "".join(_LEVELS[one] for one in level)


@dataclass(frozen=True)
class VariabilityReport:
    """Variability of all sources. ``indices``: see `indices.metrics`. ``events``: see `ese.ese_scores`."""

    indices: pd.DataFrame
    events: pd.DataFrame

    def figures(self) -> Figures:
        """Named figures of the sources with more than one epoch."""
        judged = self.indices[self.indices["n_epochs"] > 1]
        return {
            "sources": len(judged),
            "median_eta": median(judged["eta"]),
            "variable_above_5_sigma": int((judged["chi2_probability"].to_numpy() < _FIVE_SIGMA).sum()),
            "largest_eta": float(np.nanmax(judged["eta"].to_numpy())) if len(judged) else None,
            "events_tested_between_channels": int((self.events["n_channels"].to_numpy() > 0).sum()),
        }


@dataclass(frozen=True)
class CandidateReport:
    """Candidates of a night.

    ``found``: see `ese.ese_candidates`. ``names``: of all sources, by ``source_id``. ``threshold_sigma``: lowest score.
    ``described``: numbers of the sources that have a folder. ``directory``: holds these folders.
    """

    found: pd.DataFrame
    names: Mapping[Any, str]
    threshold_sigma: float
    described: Collection[int]
    directory: Path

    def figures(self) -> Figures:
        """Named figures of the candidates."""
        found = self.found
        return {
            "candidates": len(found),
            "top_score": float(found["score"].iloc[0]) if len(found) else None,
            "top_source": str(self.names.get(found["source_id"].iloc[0], "")) if len(found) else None,
            "threshold": self.threshold_sigma,
        }

    def details(self) -> Details:
        """Table of the best candidates."""
        return {
            "candidates": [
                {
                    "rank": int(row["rank"]),
                    "source": str(self.names.get(row["source_id"], row["source_id"])),
                    "score": float(row["score"]),
                    "depth": float(row["depth"]),
                    "kind": str(row["kind"]),
                    "chromaticity": str(row["chromaticity"]),
                    "false_alarm_probability": float(row["false_alarm_probability"]),
                    "reasons": str(row["reasons"]),
                    "folder": str(self.directory / str(row["source_id"])) if row["source_id"] in self.described else "",
                }
                for row in self.found.head(_CANDIDATES_SHOWN).to_dict("records")
            ]
        }
