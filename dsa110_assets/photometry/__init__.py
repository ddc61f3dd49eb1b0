"""Forced photometry: flux densities at known positions in images and mosaics.

Belongs here: the matched filter with the restoring beam, its errors and limits, blends, combining adjacent channels, and
the flux tables. Does not belong here: finding sources (`mosaicking`), comparing epochs (`variability`), the registry.
"""

from dsa110_assets.photometry.adaptive import ChannelImage, adaptive
from dsa110_assets.photometry.beams import Beam
from dsa110_assets.photometry.forced import PhotometryOptions, measure, measured_error_factor
from dsa110_assets.photometry.images import measure_mosaic, measure_tile
from dsa110_assets.photometry.tables import write_table

__all__ = [
    "Beam",
    "ChannelImage",
    "PhotometryOptions",
    "adaptive",
    "measure",
    "measure_mosaic",
    "measure_tile",
    "measured_error_factor",
    "write_table",
]
