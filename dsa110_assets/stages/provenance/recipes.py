"""What decides how each product comes out, apart from its inputs: the code, the engines, and the settings that its stage reads.

A product whose recipe is not today's is stale (`registry.provenance.stale`). One place for each truth: what is listed here goes
into the registry, the headers and Dagster's code versions. ``revision`` is raised by hand when a change in `stages` itself
makes a product come out differently. What does not belong here: making anything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.provenance import source_digest

if TYPE_CHECKING:
    from dsa110_assets.registry.provenance import Recipe


@dataclass(frozen=True)
class Ingredients:
    """Declared for a product: domain modules that its stage calls, installed engines that compute, settings that it reads."""

    modules: tuple[str, ...]
    settings: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    revision: int = 1


_SELECTION = ("cal_borrow_days", "cal_declination_tolerance_deg")
_MODEL = ("cal_model_min_jy", "cal_model_radius_deg", "correct_smearing")
_STRIP = ("mosaic_declination_tolerance_deg",)
INGREDIENTS = {
    "measurement_set": Ingredients(("conversion", "flagging.picture", "catalogs.calibrators"), ("flag_rfi", "telescope_name"), ("aoflagger",)),
    "calibration_tables": Ingredients(
        ("calibration.solve", "calibration.resolved", "catalogs.calibrators", "catalogs.sky"),
        ("cal_bp_minsnr", "cal_gain_solint", "default_refant", *_MODEL, *_SELECTION),
        ("casatasks", "casatools"),
    ),
    "calibrated_ms": Ingredients(
        ("calibration.apply", "calibration.select", "calibration.tile_phase", "catalogs.sky"),
        ("sefd_jy", "max_smearing", "tile_phase_solution", *_MODEL, *_SELECTION),
    ),
    "tile_image": Ingredients(
        ("imaging", "quality.image", "catalogs.sky"),
        (
            "gridder", "image_size", "cell_arcsec", "briggs_robust", "clean_niter", "auto_mask_sigma", "auto_threshold_sigma", "multiscale",
            "use_nvss_mask", "mask_radius_arcsec", "sefd_jy", "correct_smearing", "image_channels", "image_spectral_terms", "selfcal_rounds", "local_rms",
        ),
        ("ducc0", "radler"),
    ),
    "hourly_mosaic": Ingredients(("mosaicking.mosaic", "mosaicking.tiles", "mosaicking.channels"), ("mosaic_overlap_minutes", *_STRIP), ("reproject",)),
    "nightly_mosaic": Ingredients(("mosaicking.mosaic", "mosaicking.tiles"), _STRIP, ("reproject",)),
    "custom_mosaic": Ingredients(("mosaicking.mosaic", "mosaicking.tiles", "mosaicking.channels"), _STRIP, ("reproject",)),
    "source_catalog": Ingredients(("mosaicking.finding", "catalogs.sky"), ("source_find_sigma",), ("AegeanTools",)),
    "forced_photometry": Ingredients(("photometry.images",), ("mosaic_overlap_minutes", *_STRIP)),
    "light_curves": Ingredients(("variability.lightcurves", "variability.normalisation")),
    "variability_metrics": Ingredients(("variability.indices", "variability.ese", "variability.lightcurves", "variability.plots")),
    "ese_candidates": Ingredients(
        ("variability.ese", "variability.lightcurves", "variability.plots", "catalogs.sky", "photometry.images", "photometry.tables"),
        ("ese_threshold_sigma",),
    ),
    "injection_recovery": Ingredients(
        (
            "imaging.injection", "imaging.tile", "mosaicking.mosaic", "mosaicking.tiles", "mosaicking.finding", "photometry.images", "photometry.tables",
            "quality.recovery", "catalogs.sky",
        ),
        (
            "injection_tiles", "injection_sources", "source_find_sigma", "gridder", "image_size", "cell_arcsec", "briggs_robust", "clean_niter",
            "auto_mask_sigma", "auto_threshold_sigma", "multiscale", "use_nvss_mask", "mask_radius_arcsec", "sefd_jy", "correct_smearing",
            "image_channels", "image_spectral_terms", "selfcal_rounds", "local_rms",
        ),
        ("ducc0", "radler", "AegeanTools"),
    ),
    "calibrator_catalog": Ingredients(("catalogs.calibrators",)),
    "nvss_catalog": Ingredients(("catalogs.sky", "catalogs.surveys")),
    "monitored_sources": Ingredients(("catalogs.sky",), ("photometry_min_catalog_jy",)),
}  # fmt: skip


@cache
def code_of(product: str) -> str:
    """Version of the code that makes a product: a digest of its domain modules, its engines' versions and its revision.

    The same for everybody who has the same code, whatever commit it is in.
    """
    parts = INGREDIENTS[product]
    engines = ",".join(f"{name}={version(name)}" for name in parts.engines)
    return hashlib.sha256(f"{source_digest.digest(parts.modules)} {engines} {parts.revision}".encode()).hexdigest()[:12]


def configuration_of(product: str, config: PipelineConfig) -> str:
    """Hash over the values of the settings that decide how a product comes out."""
    values = config.model_dump(mode="json", include=set(INGREDIENTS[product].settings))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def recipe_of(product: str, config: PipelineConfig) -> Recipe:
    """Today's recipe of a product."""
    from dsa110_assets.registry.provenance import Recipe

    return Recipe(code_of(product), configuration_of(product, config))


def recipes(config: PipelineConfig) -> dict[str, Recipe]:
    """Today's recipes of all products."""
    return {product: recipe_of(product, config) for product in INGREDIENTS}
