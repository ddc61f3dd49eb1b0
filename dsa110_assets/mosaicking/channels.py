"""Mosaics of the channels of tiles that were imaged in parts of the band.

Each is a mosaic like that of the whole band, made after the one before it, so that memory is that of one. What does not belong here: how a mosaic is made (`mosaic`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsa110_assets.errors import MosaicError
from dsa110_assets.mosaicking.mosaic import MosaicReport, make_mosaic
from dsa110_assets.mosaicking.tiles import TileImage
from dsa110_assets.products import channel_name, channels_of
from dsa110_assets.strips import TOLERANCE_DEG


@dataclass(frozen=True)
class ChannelMosaic:
    """``number``: of the channel. ``frequency_hz``: at which its fluxes are quoted. ``report``: of its mosaic."""

    number: int
    frequency_hz: float
    report: MosaicReport


def shared_channels(tiles: Sequence[TileImage]) -> tuple[dict[int, list[TileImage]], str]:
    """Images of the channels that all tiles have, at the same frequency; and why there are none, or why some are missing.

    Tiles that were imaged in other channels, or not in channels at all, leave none: a mean over different frequencies would have no frequency.
    """
    having = [channels_of(tile.directory, tile.name) for tile in tiles]
    without = [tile.group_id for tile, channels in zip(tiles, having, strict=True) if not channels]
    if len(without) == len(tiles):
        return {}, ""
    if without:
        return {}, f"not imaged in channels: {', '.join(without)}"
    common = sorted(set.intersection(*(set(channels) for channels in having)))
    images = {number: [TileImage.of(tile.directory, channel_name(tile.name, number)) for tile in tiles] for number in common}
    for number, some in images.items():
        frequencies = [tile.frequency_hz for tile in some]
        if not np.ptp(frequencies) < 1e-6 * frequencies[0]:
            return {}, f"channel {number} is at {min(frequencies) / 1e6:.3f} to {max(frequencies) / 1e6:.3f} MHz"
    lost = sorted(set.union(*(set(channels) for channels in having)) - set(common))
    return images, f"some tile has no data in channel {', '.join(map(str, lost))}" if lost else ""


def make_channel_mosaics(
    tiles: Sequence[TileImage],
    out_dir: Path,
    name: str,
    *,
    provenance: Mapping[str, str],
    declination_tolerance_deg: float = TOLERANCE_DEG,
    threads: int = 0,
) -> tuple[tuple[ChannelMosaic, ...], str]:
    """Write ``out_dir/name-chNN-{image,noise,weight,coverage}.fits`` and previews for each channel that the tiles share.

    Args:
        tiles: of the mosaic of the whole band.
        out_dir, name, provenance, declination_tolerance_deg, threads: as for `make_mosaic`.

    Returns:
        The mosaics, lowest frequency first, none where the tiles were not imaged in channels; and in words what is missing.
    """
    images, missing = shared_channels(tiles)
    made: list[ChannelMosaic] = []
    reasons = [missing] if missing else []
    for number, some in images.items():
        try:
            report = make_mosaic(
                some,
                out_dir,
                channel_name(name, number),
                provenance={**provenance, "DSACHAN": str(number)},
                declination_tolerance_deg=declination_tolerance_deg,
                threads=threads,
            )
        except MosaicError as error:  # the whole band is there: a channel that cannot be combined does not take it away
            reasons.append(f"channel {number}: {error}")
        else:
            made.append(ChannelMosaic(number, some[0].frequency_hz, report))
    return tuple(made), "; ".join(reasons)
