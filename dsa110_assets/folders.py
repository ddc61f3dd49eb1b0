"""The folders of products, by name. Imports only the standard library, because the table of products reads it."""

from __future__ import annotations

from enum import StrEnum


class Folder(StrEnum):
    """Folders that hold products. `ProductPaths.folder` gives the path. A crash may leave staging in any of them."""

    MEASUREMENT_SETS = "measurement sets"
    """The output directory itself."""
    CATALOGS = "catalogs"
    """In the state directory. Those below are in the scratch directory."""
    CALIBRATION = "caltables"
    IMAGES = "images"
    MOSAICS = "mosaics"
    INJECTIONS = "injections"
    VARIABILITY = "variability"
    CANDIDATES = "candidates"
