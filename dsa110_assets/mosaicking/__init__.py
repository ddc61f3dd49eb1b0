"""Mosaics of tile images, and source finding in them.

`tiles` describes tiles and checks which go together. `convolution` brings images to a common beam. `grid` chooses the
projection. `mosaic` combines the tiles; `channels` does the same for parts of the band. `finding` searches a finished
mosaic. What does not belong here: fluxes at known positions (`photometry`), and making tile images (`imaging`).
"""

from dsa110_assets.mosaicking.channels import ChannelMosaic, make_channel_mosaics
from dsa110_assets.mosaicking.finding import crossmatch, find_sources
from dsa110_assets.mosaicking.mosaic import MosaicReport, make_mosaic
from dsa110_assets.mosaicking.tiles import TileImage

__all__ = [
    "ChannelMosaic",
    "MosaicReport",
    "TileImage",
    "crossmatch",
    "find_sources",
    "make_channel_mosaics",
    "make_mosaic",
]
