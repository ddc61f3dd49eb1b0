"""Make, publish and register a mosaic of given tiles: of an hour, of a night, or on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsa110_assets import publication
from dsa110_assets.errors import MosaicError
from dsa110_assets.quality.verdict import Verdict
from dsa110_assets.registry.queries.images import upsert_mosaic
from dsa110_assets.registry.schema import ImageRow, MosaicKind
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Product
from dsa110_assets.stages.products.gates import refused_tiles
from dsa110_assets.stages.provenance.recording import StageResult, measured
from dsa110_assets.stages.provenance.versions import provenance, register, versions_of
from dsa110_assets.stages.table import NIGHTLY_MOSAIC, TILE_IMAGE
from dsa110_assets.strips import in_strip

if TYPE_CHECKING:
    from dsa110_assets.mosaicking import ChannelMosaic, MosaicReport, TileImage


@dataclass(frozen=True)
class MosaicRequest:
    """A mosaic to make.

    ``product``, ``key``: under which it is registered. ``name``: of its files. ``tiles``: tiles of its time range.
    ``declination_deg``: its strip. ``destination``: directory; None for the usual place.
    """

    product: Product
    key: str
    name: str
    tiles: Sequence[ImageRow]
    declination_deg: float
    destination: Path | None = None


@dataclass(frozen=True)
class _Selection:
    """Tiles of the strip, why some of them are refused, and the good ones."""

    of_strip: list[ImageRow]
    refused: Mapping[str, str]
    good: list[ImageRow]


def combine(platform: Platform, request: MosaicRequest, run_id: str) -> StageResult:
    """Combine the good tiles of a strip, publish the mosaic and register it.

    If the tiles were imaged in the same channels, the product also holds mosaics of these, except for a night. Tiles of
    other strips, and tiles that are not good, are left out; the result names them (pitfall 15).

    Raises:
        MosaicError: no good tile in the strip, or the tiles cannot be combined.
    """
    from dsa110_assets.mosaicking.tiles import readable_tiles

    selection = _select(platform, request)
    name = request.name
    destination = request.destination or platform.paths.mosaic_dir(name)
    tiles, unreadable = readable_tiles([(Path(tile.directory), tile.group_id) for tile in selection.good])
    with platform.database.session() as session:
        inputs = versions_of(session, TILE_IMAGE.name, [tile.group_id for tile in tiles])
    with measured() as cost, publication.publish(destination) as staged:
        report, channels, without_channels = _make(platform, request, tiles, staged, inputs)
    left_out = {**report.rejected, **unreadable}
    result = StageResult(
        request.product.name,
        request.key,
        figures={
            "name": name,
            "tiles": len(report.tiles),
            "tiles_of_other_declinations": len(request.tiles) - len(selection.of_strip),
            "tiles_judged_bad": len(selection.refused),
            "tiles_rejected": len(report.rejected),
            **({"tiles_unreadable": len(unreadable)} if unreadable else {}),
            **report.figures(),
            "channel_mosaics": len(channels),
            **({"without_channels": without_channels} if without_channels else {}),
        },
        verdicts=[*report.verdicts(), *_verdict_on_files(unreadable)],
        preview=destination / report.small_preview.name,
        tables={
            "tiles": [
                {"observation": tile.group_id, "rejected": selection.refused.get(tile.group_id) or left_out.get(tile.group_id, "")}
                for tile in selection.of_strip
            ],
            "channels": [channel.row() for channel in channels],
        },
    )
    with platform.database.session() as session:
        upsert_mosaic(
            session,
            name=name,
            kind=MosaicKind(request.product.name.removesuffix("_mosaic")),
            directory=str(destination),
            start_mjd=report.start_mjd,
            mid_mjd=report.mid_mjd,
            end_mjd=report.end_mjd,
            ra_deg=report.ra_deg,
            dec_deg=report.dec_deg,
            noise_jy_per_beam=report.noise_min_jy_per_beam,
            group_ids=list(report.tiles),
        )
        return register(session, platform, result, path=destination, inputs=inputs, cost=cost, run_id=run_id)


def _verdict_on_files(unreadable: Mapping[str, str]) -> list[Verdict]:
    """A bad verdict that names the tiles whose files are missing or damaged; none if there are none."""
    if not unreadable:
        return []
    named = "; ".join(f"{name}: {reason}" for name, reason in unreadable.items())
    return [Verdict.judge("tiles_unreadable", float(len(unreadable)), None, 0.0, f"left out, make their `tile_image` again: {named}")]


def _select(platform: Platform, request: MosaicRequest) -> _Selection:
    tolerance = platform.config.mosaic_declination_tolerance_deg
    of_strip = [tile for tile in request.tiles if in_strip(tile.pointing_dec_deg, request.declination_deg, tolerance)]
    if not of_strip:
        cause = f"no tile within {tolerance} deg of declination {request.declination_deg:.2f}"
        raise MosaicError(request.name, cause, "choose another time range")
    with platform.database.session() as session:
        refused = refused_tiles(session, [tile.group_id for tile in of_strip])
    good = [tile for tile in of_strip if tile.group_id not in refused]
    if not good:
        cause = f"none of its {len(of_strip)} tiles is good; the first: {next(iter(refused.values()))}"
        raise MosaicError(request.name, cause, "`dsa110 ingest status --refused` shows what to do")
    return _Selection(of_strip, refused, good)


def _make(
    platform: Platform, request: MosaicRequest, images: Sequence[TileImage], staged: Path, inputs: Mapping[str, int]
) -> tuple[MosaicReport, tuple[ChannelMosaic, ...], str]:
    """Write the mosaic and those of its channels; return their reports, and why channels are missing."""
    from dsa110_assets.mosaicking import make_channel_mosaics, make_mosaic

    tolerance = platform.config.mosaic_declination_tolerance_deg
    headers = provenance(platform, request.product.name, inputs)
    report = make_mosaic(images, staged, request.name, provenance=headers, declination_tolerance_deg=tolerance, threads=platform.threads)
    if request.product is NIGHTLY_MOSAIC:
        return report, (), ""
    used = [image for image in images if image.group_id in report.tiles]
    channels, missing = make_channel_mosaics(
        used, staged, request.name, provenance=headers, declination_tolerance_deg=tolerance, threads=platform.threads
    )
    return report, channels, missing
