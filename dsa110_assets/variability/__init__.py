"""Variability: normalized light curves, variability indices, extreme scattering events.

This package compares the fluxes of one source between epochs. Fluxes are in Jy everywhere. Every function but
`normalise` refuses light curves that are not normalized. What does not belong here: measuring fluxes (`photometry`) and
storing them (`registry`).
"""

from dsa110_assets.variability.chromatic import normalised_channels
from dsa110_assets.variability.ese import EseOptions, EventSearch, ese_candidates, ese_scores
from dsa110_assets.variability.indices import metrics
from dsa110_assets.variability.lightcurves import LightCurves
from dsa110_assets.variability.normalisation import Normalisation, NormalisationOptions, apply_normalisation, fit_normalisation, normalise
from dsa110_assets.variability.plots import cutouts_png, eta_v_png, light_curve_png

__all__ = [
    "EseOptions",
    "EventSearch",
    "LightCurves",
    "Normalisation",
    "NormalisationOptions",
    "apply_normalisation",
    "cutouts_png",
    "ese_candidates",
    "ese_scores",
    "eta_v_png",
    "fit_normalisation",
    "light_curve_png",
    "metrics",
    "normalise",
    "normalised_channels",
]
