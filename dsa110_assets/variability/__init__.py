"""Variability: normalised light curves, variability indices, extreme scattering events.

Belongs here: comparing the fluxes of one source between epochs. Does not belong here: measuring fluxes (`photometry`),
keeping them (`registry`). Fluxes are in Jy everywhere; every function but `normalise` refuses light curves that are not normalised.
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
