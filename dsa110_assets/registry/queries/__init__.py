"""Queries and changes of the registry's tables, by subject: plain functions that take a `Session`.

A change becomes visible when the caller's transaction commits. Elsewhere: the ingest queue (`ingest`), provenance
(`registry.provenance`).
"""

from dsa110_assets.registry.queries.calibration import record_calibration_applied, upsert_caltables
from dsa110_assets.registry.queries.factors import epoch_rows, register_epoch, replace_factors
from dsa110_assets.registry.queries.images import (
    image_of,
    mosaic_tiles,
    tiles_in_window,
    upsert_image,
    upsert_mosaic,
)
from dsa110_assets.registry.queries.labels import label_event
from dsa110_assets.registry.queries.measurements import (
    channel_photometry,
    exclude_epoch,
    excluded_epochs,
    include_epoch,
    light_curve,
    photometry,
    replace_channel_photometry,
    replace_photometry,
)
from dsa110_assets.registry.queries.observations import (
    observation,
    upsert_measurement_set,
)
from dsa110_assets.registry.queries.quality import qa_metrics, upsert_qa_metric, upsert_reference_catalog
from dsa110_assets.registry.queries.sources import detections, replace_detections, retire_sources, source_table, upsert_sources
from dsa110_assets.registry.queries.variability import (
    add_candidates,
    candidates,
    events_of,
    replace_candidates,
    replace_variability,
    save_events,
    variability,
)

__all__ = [
    "add_candidates",
    "candidates",
    "channel_photometry",
    "detections",
    "epoch_rows",
    "events_of",
    "exclude_epoch",
    "excluded_epochs",
    "image_of",
    "include_epoch",
    "label_event",
    "light_curve",
    "mosaic_tiles",
    "observation",
    "photometry",
    "qa_metrics",
    "record_calibration_applied",
    "register_epoch",
    "replace_candidates",
    "replace_channel_photometry",
    "replace_detections",
    "replace_factors",
    "replace_photometry",
    "replace_variability",
    "retire_sources",
    "save_events",
    "source_table",
    "tiles_in_window",
    "upsert_caltables",
    "upsert_image",
    "upsert_measurement_set",
    "upsert_mosaic",
    "upsert_qa_metric",
    "upsert_reference_catalog",
    "upsert_sources",
    "variability",
]
