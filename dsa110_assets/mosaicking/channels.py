"""Mosaics of the channels of tiles that were imaged in parts of the band.

Each is a mosaic like that of the whole band. They are made one after another, so memory is that of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsa110_assets.common.figures import Row
from dsa110_assets.errors import MosaicError
from dsa110_assets.mosaicking.mosaic import MosaicReport, make_mosaic
from dsa110_assets.mosaicking.tiles import TileImage
from dsa110_assets.products import channel_name, channels_of
from dsa110_assets.strips import TOLERANCE_DEG


@dataclass(frozen=True)
class ChannelMosaic:
    """A channel's mosaic. ``frequency_hz``: frequency at which its fluxes are quoted."""

    number: int
    frequency_hz: float
    report: MosaicReport

    def row(self) -> Row:
        """The mosaic as a row of a table."""
        return {
            "channel": self.number,
            "frequency_mhz": self.frequency_hz / 1e6,
            "noise_median_mjy_per_beam": self.report.noise_median_jy_per_beam * 1e3,
            "snr_scatter": self.report.snr_scatter,
            "tiles": len(self.report.tiles),
        }


def shared_channels(tiles: Sequence[TileImage]) -> tuple[dict[int, list[TileImage]], str]:
    """Images of the channels that all tiles have at the same frequency, and the reason if some or all are missing.

    One tile imaged in other channels, or in none, leaves no shared channel: a mean over different frequencies would not
    belong to any frequency.
    """
    channels_by_tile = [channels_of(tile.directory, tile.name) for tile in tiles]
    without = [tile.group_id for tile, channels in zip(tiles, channels_by_tile, strict=True) if not channels]
    if len(without) == len(tiles):
        return {}, ""
    if without:
        return {}, f"not imaged in channels: {', '.join(without)}"
    common = sorted(set.intersection(*(set(channels) for channels in channels_by_tile)))
    images = {number: [TileImage.of(tile.directory, channel_name(tile.name, number)) for tile in tiles] for number in common}
    for number, some in images.items():
        frequencies = [tile.frequency_hz for tile in some]
        if not np.ptp(frequencies) < 1e-6 * frequencies[0]:
            return {}, f"channel {number} is at {min(frequencies) / 1e6:.3f} to {max(frequencies) / 1e6:.3f} MHz"
    lost = sorted(set.union(*(set(channels) for channels in channels_by_tile)) - set(common))
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
    """Write ``out_dir/name-chNN-{image,noise,weight,coverage}.fits`` and previews for each channel that all tiles have.

    Args:
        tiles: the tiles of the whole band's mosaic.
        out_dir, name, provenance, declination_tolerance_deg, threads: as for `make_mosaic`.

    Returns:
        The mosaics, lowest frequency first (none if the tiles were not imaged in channels), and what is missing, in
        words.
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
        except MosaicError as error:  # a channel that cannot be combined must not cost the whole band's mosaic
            reasons.append(f"channel {number}: {error}")
        else:
            made.append(ChannelMosaic(number, some[0].frequency_hz, report))
    return tuple(made), "; ".join(reasons)
