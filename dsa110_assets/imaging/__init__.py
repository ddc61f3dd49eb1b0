"""Imaging of tiles: calibrated visibilities in, FITS images out.

Stages call only `image_tile`. Calibration, mosaics and photometry do not belong here.
"""

from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.tile import ImageReport, image_tile

__all__ = ["ImageReport", "ImagingOptions", "image_tile"]
