"""The folders of products, by name. Imports nothing but the standard library: the table of products reads it."""

from __future__ import annotations

from enum import StrEnum


class Folder(StrEnum):
    """Folders that hold products. `ProductPaths.folder` says where each is; all of them may hold staging that a crash left."""

    MEASUREMENT_SETS = "measurement sets"
    """The output directory itself."""
    CATALOGS = "catalogs"
    """In the state directory; all others are in the scratch directory."""
    CALIBRATION = "caltables"
    IMAGES = "images"
    MOSAICS = "mosaics"
    INJECTIONS = "injections"
    VARIABILITY = "variability"
    CANDIDATES = "candidates"
