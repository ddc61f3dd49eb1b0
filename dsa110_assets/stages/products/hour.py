"""The stages of an hour: mosaic, blind source catalogue, forced photometry."""

# pandas' stubs do not know what a selection gives:
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from dsa110_assets import products, publication
from dsa110_assets.catalogs import sky
from dsa110_assets.errors import MosaicError
from dsa110_assets.registry.queries.images import mosaic_tiles, tiles_in_window, upsert_mosaic
from dsa110_assets.registry.queries.measurements import replace_channel_photometry, replace_photometry
from dsa110_assets.registry.queries.sources import replace_detections, source_table
from dsa110_assets.registry.schema import ImageRow, MosaicKind, MosaicRow
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Product
from dsa110_assets.stages.products.gates import good_tiles, refused_tiles
from dsa110_assets.stages.products.references import reference_path
from dsa110_assets.stages.provenance.recording import StageResult, measured, median
from dsa110_assets.stages.provenance.versions import provenance, register, versions_of
from dsa110_assets.stages.table import (
    FORCED_PHOTOMETRY,
    HOURLY_MOSAIC,
    MONITORED_SOURCES,
    NIGHTLY_MOSAIC,
    NVSS_CATALOG,
    SOURCE_CATALOG,
    TILE_IMAGE,
)
from dsa110_assets.strips import in_strip, main_strip
from dsa110_assets.times import datetime_to_mjd, group_time, hour_window


def make_mosaic(platform: Platform, night: str, hour: str, run_id: str) -> StageResult | None:
    """Mosaic of the tiles that overlap an hour; None when no tile of the hour itself has a good image."""
    start, end = hour_window(night, hour)
    overlap = timedelta(minutes=platform.config.mosaic_overlap_minutes)
    with platform.database.session() as session:
        own = _tiles_starting(session_tiles := tiles_in_window(session, _mjd(start - overlap), _mjd(end + overlap)), start, end)
        good = set(good_tiles(session, [tile.group_id for tile in own]))
    own = [tile for tile in own if tile.group_id in good]
    if not own:
        return None
    strip = main_strip([tile.pointing_dec_deg for tile in own], platform.config.mosaic_declination_tolerance_deg)
    return combine(platform, products.hourly_mosaic_name(night, hour), HOURLY_MOSAIC, f"{night}T{hour}", session_tiles, strip, run_id)


def combine(
    platform: Platform,
    name: str,
    product: Product,
    key: str,
    tiles: Sequence[ImageRow],
    declination_deg: float,
    run_id: str,
    *,
    destination: Path | None = None,
) -> StageResult:
    """Combine the tiles of one declination strip, publish (in ``destination``, or at its usual place) and register the mosaic.

    Where the tiles were imaged in the same channels the product holds mosaics of these too, except that of a night.

    Tiles of other strips, and those whose image was judged bad or never judged, are left out and named in the result (pitfall 15).
    """
    from dsa110_assets.mosaicking import ChannelMosaic, TileImage, make_channel_mosaics, make_mosaic

    tolerance = platform.config.mosaic_declination_tolerance_deg
    of_strip = [tile for tile in tiles if in_strip(tile.pointing_dec_deg, declination_deg, tolerance)]
    if not of_strip:
        raise MosaicError(name, f"no tile within {tolerance} deg of declination {declination_deg:.2f}", "choose another time range")
    with platform.database.session() as session:
        refused = refused_tiles(session, [tile.group_id for tile in of_strip])
    chosen = [tile for tile in of_strip if tile.group_id not in refused]
    if not chosen:
        raise MosaicError(
            name,
            f"none of its {len(of_strip)} tiles is good; the first: {next(iter(refused.values()))}",
            "`dsa110 ingest status --refused` shows what to do",
        )
    destination = platform.paths.mosaic_dir(name) if destination is None else destination
    groups = [tile.group_id for tile in chosen]
    with platform.database.session() as session:
        inputs = versions_of(session, TILE_IMAGE.name, groups)
    with measured() as cost, publication.publish(destination) as staged:
        images = [TileImage.of(Path(tile.directory), tile.group_id) for tile in chosen]
        history = provenance(platform, product.name, inputs)
        report = make_mosaic(images, staged, name, provenance=history, declination_tolerance_deg=tolerance, threads=platform.threads)
        channels: tuple[ChannelMosaic, ...] = ()
        without_channels = ""
        if product is not NIGHTLY_MOSAIC:
            channels, without_channels = make_channel_mosaics(
                [image for image in images if image.group_id in report.tiles],
                staged,
                name,
                provenance=history,
                declination_tolerance_deg=tolerance,
                threads=platform.threads,
            )
    result = StageResult(
        product.name,
        key,
        figures={
            "name": name,
            "tiles": len(report.tiles),
            "tiles_of_other_declinations": len(tiles) - len(of_strip),
            "tiles_judged_bad": len(refused),
            "tiles_rejected": len(report.rejected),
            **report.figures(),
            "channel_mosaics": len(channels),
            **({"without_channels": without_channels} if without_channels else {}),
        },
        verdicts=report.verdicts(),
        preview=destination / report.small_preview.name,
        tables={
            "tiles": [
                {"observation": t.group_id, "rejected": refused.get(t.group_id) or report.rejected.get(t.group_id, "")} for t in of_strip
            ],
            "channels": [
                {
                    "channel": one.number,
                    "frequency_mhz": one.frequency_hz / 1e6,
                    "noise_median_mjy_per_beam": one.report.noise_median_jy_per_beam * 1e3,
                    "snr_scatter": one.report.snr_scatter,
                    "tiles": len(one.report.tiles),
                }
                for one in channels
            ],
        },
    )
    with platform.database.session() as session:
        upsert_mosaic(
            session,
            name=name,
            kind=MosaicKind(product.name.removesuffix("_mosaic")),
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


def find_sources(platform: Platform, night: str, hour: str, run_id: str) -> StageResult | None:
    """Search the hour's mosaic blindly and match what is found with the reference sky; None without a mosaic."""
    from dsa110_assets.mosaicking.finding import crossmatch, find_sources, match_radius_arcsec

    name, key = products.hourly_mosaic_name(night, hour), f"{night}T{hour}"
    with platform.database.session() as session:
        mosaic = session.get(MosaicRow, name)
        inputs = versions_of(session, HOURLY_MOSAIC.name, [key]) | versions_of(session, NVSS_CATALOG.name, ["all"])
    if mosaic is None:
        return None
    directory = Path(mosaic.directory)
    reference = sky.load_reference(reference_path(platform))
    with measured() as cost:
        found = find_sources(
            products.image_path(directory, name, "image"),
            products.image_path(directory, name, "noise"),
            sigma=platform.config.source_find_sigma,
        )
        pairs = crossmatch(found, reference, match_radius_arcsec())
    table = found.reset_index(drop=True)
    table["number"] = np.arange(1, len(table) + 1)
    table["ra_err_arcsec"], table["dec_err_arcsec"] = table["ra_err_deg"] * 3600, table["dec_err_deg"] * 3600
    matched = pairs.set_index("found_index")
    table["matched_name"] = pd.Series(table.index.map(matched["catalog_name"].to_dict()), dtype=object)
    table["separation_arcsec"] = table.index.map(matched["separation_arcsec"].to_dict()).astype(float)
    result = StageResult(
        SOURCE_CATALOG.name,
        key,
        figures={
            "found": len(table),
            "matched": len(pairs),
            "median_flux_ratio": median(pairs["flux_ratio"]),
            "median_offset_arcsec": median(pairs["separation_arcsec"]),
        },
        tables={
            "brightest": [
                {
                    "name": str(row.name_),
                    "ra_deg": float(row.ra_deg),
                    "dec_deg": float(row.dec_deg),
                    "flux_jy": float(row.flux_jy),
                    "snr": float(row.snr),
                    "catalogue": str(row.matched_name or ""),
                }
                for row in table.head(20).rename(columns={"name": "name_"}).itertuples()
            ]
        },
    )
    with platform.database.session() as session:
        replace_detections(session, name, table)
        return register(session, platform, result, path=None, inputs=inputs, cost=cost, run_id=run_id)


def measure(platform: Platform, night: str, hour: str, run_id: str) -> StageResult | None:
    """Measure all active positions that belong to an hour in its mosaic, and in its channels where there are any; None without a mosaic.

    A position belongs to the hour of the tile that saw it nearest to the meridian, so that one transit is measured once
    although neighbouring hours' mosaics share tiles.
    """
    from dsa110_assets.photometry import measure_channels, measure_mosaic
    from dsa110_assets.photometry.positions import HALF_HEIGHT_DEG, REACH_IN_OVERLAPS, nearest_tile

    name, key = products.hourly_mosaic_name(night, hour), f"{night}T{hour}"
    start, end = hour_window(night, hour)
    reach = timedelta(minutes=platform.config.mosaic_overlap_minutes) * REACH_IN_OVERLAPS
    with platform.database.session() as session:
        mosaic = session.get(MosaicRow, name)
        if mosaic is None:
            return None
        inputs = versions_of(session, HOURLY_MOSAIC.name, [key]) | versions_of(session, MONITORED_SOURCES.name, ["all"])
        used = mosaic_tiles(session, name)
        tolerance = platform.config.mosaic_declination_tolerance_deg
        declination = main_strip([tile.pointing_dec_deg for tile in used], tolerance)
        around = tiles_in_window(
            session,
            _mjd(start - reach),
            _mjd(end + reach),
            pointing_dec_deg=declination,
            tolerance_deg=tolerance,
        )
        positions = source_table(session, dec_min_deg=declination - HALF_HEIGHT_DEG, dec_max_deg=declination + HALF_HEIGHT_DEG)
    with measured() as cost:
        nearest = nearest_tile(positions, [tile.ra_deg for tile in around], [tile.dec_deg for tile in around])
        own = positions[np.array([start <= group_time(tile.group_id) < end for tile in around])[nearest]]
        fluxes = measure_mosaic(Path(mosaic.directory), name, own)
        measured_rows = fluxes[np.isfinite(fluxes["flux_jy"])]
        in_channels = measure_channels(Path(mosaic.directory), name, own)
    detected = measured_rows[~measured_rows["is_limit"].astype(bool)]
    result = StageResult(
        FORCED_PHOTOMETRY.name,
        key,
        figures={
            "positions": len(own),
            "measured": len(measured_rows),
            "detected": len(detected),
            "limits": len(measured_rows) - len(detected),
            "median_flux_ratio_to_catalog": median(detected["flux_jy"] / detected["reference_flux_jy"]),
            "median_noise_mjy_per_beam": median(measured_rows["noise_jy_per_beam"] * 1e3),
            "error_scale": median(measured_rows["error_scale"]),
            "channels": in_channels["channel"].nunique(),
            "measured_in_channels": int(np.isfinite(in_channels["flux_jy"]).sum()),
        },
    )
    with platform.database.session() as session:
        replace_photometry(session, name, measured_rows)
        replace_channel_photometry(session, name, in_channels)
        return register(session, platform, result, path=None, inputs=inputs, cost=cost, run_id=run_id)


def _tiles_starting(tiles: Sequence[ImageRow], start: datetime, end: datetime) -> list[ImageRow]:
    return [tile for tile in tiles if start <= group_time(tile.group_id) < end]


def _mjd(when: datetime) -> float:
    return datetime_to_mjd(when)
