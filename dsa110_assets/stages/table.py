"""The table of products: one row for each product, with all its properties.

Assets, jobs, pools, recipes, backfills, the list of stale products, and the documentation follow from it. To add a
product, write one row here, one stage function, and one description (`descriptions/NAME.md`).

It imports only the standard library, because everything that Dagster loads imports it.
"""

from __future__ import annotations

from dsa110_assets.folders import Folder
from dsa110_assets.stages import retention
from dsa110_assets.stages.product import EachDay, Level, Product, Recipe, Table, Within

TABLE = Table()
_STAGES = "dsa110_assets.stages.products"
_ROWS = "dsa110_assets.registry.queries.contents"
_SELECTION = ("cal_borrow_days", "cal_declination_tolerance_deg")
_MODEL = ("cal_model_min_jy", "cal_model_radius_deg", "correct_smearing")
_STRIP = ("mosaic_declination_tolerance_deg",)
_IMAGING = (
    "gridder", "image_size", "cell_arcsec", "briggs_robust", "clean_niter", "auto_mask_sigma", "auto_threshold_sigma", "multiscale",
    "use_nvss_mask", "mask_radius_arcsec", "sefd_jy", "correct_smearing", "image_channels", "image_spectral_terms", "selfcal_rounds", "local_rms",
)  # fmt: skip

# --- reference ------------------------------------------------------------------------------------------------------
CALIBRATOR_CATALOG = TABLE.add(
    Product(
        "calibrator_catalog",
        Level.WHOLE,
        "reference",
        f"{_STAGES}.references:refresh_calibrators",
        recipe=Recipe(("catalogs.calibrators",)),
        job="references",
        folder=Folder.CATALOGS,
        kinds=frozenset({"sqlite"}),
        source_setting="vla_calibrators_file",
    )
)
NVSS_CATALOG = TABLE.add(
    Product(
        "nvss_catalog",
        Level.WHOLE,
        "reference",
        f"{_STAGES}.references:refresh_nvss",
        recipe=Recipe(("catalogs.sky", "catalogs.surveys")),
        job="references",
        folder=Folder.CATALOGS,
        kinds=frozenset({"parquet"}),
        source_setting="nvss_file",
    )
)
MONITORED_SOURCES = TABLE.add(
    Product(
        "monitored_sources",
        Level.WHOLE,
        "reference",
        f"{_STAGES}.references:refresh_monitored",
        inputs=(NVSS_CATALOG,),
        recipe=Recipe(("catalogs.observers", "catalogs.sky", "common.position_lists"), ("photometry_min_catalog_jy",)),
        job="references",
        kinds=frozenset({"postgres"}),
        source_setting="monitored_sources_file",
        rows=f"{_ROWS}:monitored_sources",
    )
)

# --- a tile ---------------------------------------------------------------------------------------------------------
RAW_SUBBANDS = TABLE.add(
    Product(
        "raw_subbands",
        Level.TILE,
        "tile",
        None,  # reported by the sensor `raw_files`
        kinds=frozenset({"hdf5"}),
        freshness=Within(2, 24),  # the telescope observes all day; a pause of hours is a warning
        retried=False,
    )
)
MEASUREMENT_SET = TABLE.add(
    Product(
        "measurement_set",
        Level.TILE,
        "tile",
        f"{_STAGES}.tile:make_measurement_set",
        inputs=(RAW_SUBBANDS, CALIBRATOR_CATALOG),
        recipe=Recipe(("conversion", "flagging.picture", "catalogs.calibrators"), ("flag_rfi", "telescope_name")),
        job="tile",
        pool="disk",
        folder=Folder.MEASUREMENT_SETS,
        parts=(retention.MEASUREMENT_SETS,),
        kinds=frozenset({"casacore", "numba"}),
        freshness=Within(4, 26),
        runtime_s=40,
        retried=False,
    )
)
CALIBRATION_TABLES = TABLE.add(
    Product(
        "calibration_tables",
        Level.NIGHT,
        "calibration",
        f"{_STAGES}.calibrator:solve_night",
        inputs=(MEASUREMENT_SET, NVSS_CATALOG, CALIBRATOR_CATALOG),
        recipe=Recipe(
            ("calibration.solve", "calibration.resolved", "calibration.antennas", "catalogs.calibrators", "catalogs.sky"),
            ("cal_bp_minsnr", "cal_gain_solint", "default_refant", *_MODEL, *_SELECTION),
        ),
        job="calibration",
        pool="casa",
        folder=Folder.CALIBRATION,
        kinds=frozenset({"casa"}),
        freshness=Within(30, 54),  # one transit a day; one may be missing
        runtime_s=140,
    )
)
CALIBRATED_MS = TABLE.add(
    Product(
        "calibrated_ms",
        Level.TILE,
        "tile",
        f"{_STAGES}.tile:calibrate",
        inputs=(MEASUREMENT_SET, CALIBRATION_TABLES),
        recipe=Recipe(
            (
                "calibration.apply",
                "calibration.comparison",
                "calibration.select",
                "calibration.tile_phase",
                "calibration.verification",
                "catalogs.sky",
            ),
            ("sefd_jy", "max_smearing", "tile_phase_solution", *_MODEL, *_SELECTION),
        ),
        job="tile",
        pool="disk",
        folder=Folder.MEASUREMENT_SETS,
        parts=(retention.CALIBRATED_SETS,),
        kinds=frozenset({"casacore", "numba"}),
        freshness=Within(4, 26),
        runtime_s=20,
        retried=False,
    )
)
TILE_IMAGE = TABLE.add(
    Product(
        "tile_image",
        Level.TILE,
        "tile",
        f"{_STAGES}.tile:make_image",
        inputs=(CALIBRATED_MS, NVSS_CATALOG, CALIBRATOR_CATALOG),
        recipe=Recipe(("imaging", "quality.image", "catalogs.sky", "catalogs.calibrators"), _IMAGING),
        job="tile",
        pool="cpu",
        folder=Folder.IMAGES,
        parts=(retention.WORKING_PLANES, retention.MOSAIC_PLANES, retention.TILE_MAPS),
        kinds=frozenset({"ducc0", "radler"}),
        freshness=Within(4, 26),
        runtime_s=90,
        retried=False,
        page="astronomers/imaging",
    )
)

# --- an hour --------------------------------------------------------------------------------------------------------
HOURLY_MOSAIC = TABLE.add(
    Product(
        "hourly_mosaic",
        Level.HOUR,
        "hour",
        f"{_STAGES}.hour:make_mosaic",
        inputs=(TILE_IMAGE,),
        recipe=Recipe(
            ("mosaicking.mosaic", "mosaicking.tiles", "mosaicking.channels", "strips", "times"), ("mosaic_overlap_minutes", *_STRIP)
        ),
        job="hour",
        pool="cpu",
        folder=Folder.MOSAICS,
        parts=(retention.MOSAIC_MAPS, retention.HOURLY_IMAGES),
        kinds=frozenset({"numba"}),
        freshness=Within(6, 28),
        runtime_s=60,
        page="astronomers/mosaics",
    )
)
SOURCE_CATALOG = TABLE.add(
    Product(
        "source_catalog",
        Level.HOUR,
        "hour",
        f"{_STAGES}.hour:find_sources",
        inputs=(HOURLY_MOSAIC, NVSS_CATALOG),
        recipe=Recipe(("mosaicking.detections", "mosaicking.finding", "catalogs.sky"), ("source_find_sigma",)),
        job="hour",
        pool="cpu",
        kinds=frozenset({"aegean"}),
        freshness=Within(6, 28),
        runtime_s=30,
        rows=f"{_ROWS}:source_catalog",
        page="astronomers/mosaics",
    )
)
FORCED_PHOTOMETRY = TABLE.add(
    Product(
        "forced_photometry",
        Level.HOUR,
        "hour",
        f"{_STAGES}.hour:measure",
        inputs=(HOURLY_MOSAIC, NVSS_CATALOG, MONITORED_SOURCES),
        recipe=Recipe(
            ("photometry.images", "photometry.positions", "photometry.report", "strips", "times"), ("mosaic_overlap_minutes", *_STRIP)
        ),
        job="hour",
        pool="cpu",
        kinds=frozenset({"numba"}),
        freshness=Within(6, 28),
        runtime_s=5,
        rows=f"{_ROWS}:forced_photometry",
        grows_with=(MONITORED_SOURCES,),
        page="astronomers/variability",
    )
)
HOUR_EVENTS = TABLE.add(
    Product(
        "hour_events",
        Level.HOUR,
        "hour",
        f"{_STAGES}.events:look_at_hour",
        inputs=(FORCED_PHOTOMETRY,),
        recipe=Recipe(
            ("variability.ese", "variability.identity", "variability.lightcurves", "variability.recent"), ("ese_threshold_sigma",)
        ),
        job="hour",
        pool="cpu",
        kinds=frozenset({"postgres"}),
        freshness=Within(6, 28),
        runtime_s=3,
        page="astronomers/variability",
    )
)

ADDED_PHOTOMETRY = TABLE.add(
    Product(
        "added_photometry",
        Level.WHOLE,
        "hour",
        f"{_STAGES}.additions:measure_added",  # it has the recipe of `forced_photometry`, and is never stale itself
        inputs=(MONITORED_SOURCES,),
        job="new_positions",
        pool="cpu",
        kinds=frozenset({"numba"}),
        runtime_s=120,
        page="astronomers/variability",
    )
)

# --- a night --------------------------------------------------------------------------------------------------------
NIGHTLY_MOSAIC = TABLE.add(
    Product(
        "nightly_mosaic",
        Level.NIGHT,
        "night",
        f"{_STAGES}.night:make_mosaic",
        inputs=(TILE_IMAGE,),
        recipe=Recipe(("mosaicking.mosaic", "mosaicking.tiles", "strips", "times"), _STRIP),
        job="mosaic_of_the_night",
        pool="cpu",
        folder=Folder.MOSAICS,
        parts=(retention.MOSAIC_MAPS, retention.NIGHTLY_IMAGES),
        kinds=frozenset({"numba"}),
        freshness=EachDay("0 6 * * *", 3),
        runtime_s=600,
        whole_nights_only=True,
        page="astronomers/mosaics",
    )
)
CUSTOM_MOSAIC = TABLE.add(
    Product(
        "custom_mosaic",
        Level.WHOLE,
        "mosaics on demand",
        f"{_STAGES}.mosaics:build_mosaic",
        inputs=(TILE_IMAGE,),
        recipe=Recipe(("mosaicking.mosaic", "mosaicking.tiles", "mosaicking.channels", "strips", "times"), _STRIP),
        folder=Folder.MOSAICS,
        parts=(retention.CUSTOM_MOSAICS,),
        is_asset=False,  # `dsa110 mosaic build`
        page="astronomers/mosaics",
    )
)
LIGHT_CURVES = TABLE.add(
    Product(
        "light_curves",
        Level.NIGHT,
        "night",
        f"{_STAGES}.light_curves:update_light_curves",
        inputs=(FORCED_PHOTOMETRY,),
        recipe=Recipe(
            ("variability.lightcurves", "variability.normalisation", "variability.reports", "times"),
        ),
        job="night",
        pool="cpu",
        kinds=frozenset({"postgres"}),
        freshness=Within(26, 50),
        runtime_s=20,
        is_cumulative=True,
        rows=f"{_ROWS}:light_curves",
        page="astronomers/variability",
    )
)
VARIABILITY_METRICS = TABLE.add(
    Product(
        "variability_metrics",
        Level.NIGHT,
        "night",
        f"{_STAGES}.night:update_metrics",
        inputs=(LIGHT_CURVES,),
        recipe=Recipe(
            (
                "variability.indices",
                "variability.ese",
                "variability.recent",
                "variability.lightcurves",
                "variability.plots",
                "variability.reports",
                "times",
            )
        ),
        job="night",
        pool="cpu",
        folder=Folder.VARIABILITY,
        parts=(retention.NIGHT_REPORTS,),
        kinds=frozenset({"numpy"}),
        freshness=Within(26, 50),
        runtime_s=20,
        is_cumulative=True,
        rows=f"{_ROWS}:variability_metrics",
        page="astronomers/variability",
    )
)
ESE_CANDIDATES = TABLE.add(
    Product(
        "ese_candidates",
        Level.NIGHT,
        "night",
        f"{_STAGES}.night:rank_candidates",
        inputs=(LIGHT_CURVES, VARIABILITY_METRICS),
        recipe=Recipe(
            (
                "variability.ese",
                "variability.identity",
                "variability.lightcurves",
                "variability.plots",
                "variability.reports",
                "catalogs.sky",
                "photometry.images",
                "photometry.tables",
                "times",
            ),
            ("ese_threshold_sigma",),
        ),
        job="night",
        pool="cpu",
        folder=Folder.CANDIDATES,
        parts=(retention.NIGHT_REPORTS,),
        kinds=frozenset({"numpy"}),
        freshness=Within(26, 50),
        runtime_s=10,
        is_cumulative=True,
        rows=f"{_ROWS}:ese_candidates",
        page="astronomers/variability",
    )
)
INJECTION_RECOVERY = TABLE.add(
    Product(
        "injection_recovery",
        Level.NIGHT,
        "night",
        f"{_STAGES}.injection:recover_injections",
        inputs=(CALIBRATED_MS, TILE_IMAGE, NVSS_CATALOG, CALIBRATOR_CATALOG),
        recipe=Recipe(
            (
                "imaging.injection", "imaging.tile", "mosaicking.mosaic", "mosaicking.tiles", "mosaicking.finding", "photometry.images",
                "photometry.tables", "quality.recovery", "catalogs.sky", "catalogs.calibrators",
            ),
            ("injection_tiles", "injection_sources", "source_find_sigma", *_IMAGING),
        ),
        job="injections",
        pool="cpu",
        folder=Folder.INJECTIONS,
        parts=(retention.NIGHT_REPORTS,),
        kinds=frozenset({"aegean"}),
        freshness=Within(30, 54),
        runtime_s=180,
        retried=False,
        page="astronomers/imaging",
    )
)  # fmt: skip

# --- operations -----------------------------------------------------------------------------------------------------
STALE_PRODUCTS = TABLE.add(
    Product(
        "stale_products",
        Level.WHOLE,
        "operations",
        None,  # made from the registry alone (`orchestration.stale_products`)
        job="look_for_stale",
        kinds=frozenset({"postgres"}),
        freshness=Within(2, 6),
        retried=False,
        page="operators/operations",
    )
)
TILE_QUALITY = TABLE.add(
    Product(
        "tile_quality",
        Level.WHOLE,
        "operations",
        None,  # made from the registry alone (`orchestration.tile_quality`)
        job="look_at_tiles",
        kinds=frozenset({"postgres"}),
        freshness=Within(2, 6),
        retried=False,
        page="astronomers/imaging",
    )
)
