"""Combining the images of tiles into mosaics, and finding sources in them.

`tiles` says what a tile is and which tiles go together, `convolution` brings images to a common beam, `grid` chooses the
mosaic's projection, `mosaic.make_mosaic` combines, `channels` does so for parts of the band, `finding` searches a finished mosaic. What does not belong here:
measuring fluxes at known positions (`photometry`), and making tile images (`imaging`).
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
