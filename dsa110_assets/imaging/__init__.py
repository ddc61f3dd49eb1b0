"""Imaging of tiles: calibrated visibilities in, FITS images out.

`image_tile` is the only thing that a stage calls. What does not belong here: calibration, mosaics, photometry.
"""

from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.tile import ImageReport, image_tile

__all__ = ["ImageReport", "ImagingOptions", "image_tile"]
