"""Forced photometry: flux densities at known positions in images and mosaics.

`forced` measures fluxes in one image with a matched filter. `adaptive` combines adjacent channels. `images` reads the
files of tiles and mosaics. `report` sums up a mosaic's fluxes. `tables` writes tables. `positions` assigns
positions to mosaics. What does not belong here: finding sources (`mosaicking`), comparing epochs (`variability`), and
the registry.
"""

from dsa110_assets.photometry.adaptive import ChannelImage, adaptive
from dsa110_assets.photometry.forced import PhotometryOptions, measure, measured_error_factor
from dsa110_assets.photometry.images import (
    channel_images,
    measure_channels,
    measure_file,
    measure_mosaic,
    measure_tile,
    read_channel,
)
from dsa110_assets.photometry.report import PhotometryReport
from dsa110_assets.photometry.tables import save_table, write_table

__all__ = [
    "ChannelImage",
    "PhotometryOptions",
    "PhotometryReport",
    "adaptive",
    "channel_images",
    "measure",
    "measure_channels",
    "measure_file",
    "measure_mosaic",
    "measure_tile",
    "measured_error_factor",
    "read_channel",
    "save_table",
    "write_table",
]
