"""The stages of an hour: mosaic, blind source catalog, forced photometry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sqlalchemy.orm import Session

from dsa110_assets import products
from dsa110_assets.catalogs import sky
from dsa110_assets.registry.queries.images import mosaic_tiles, tiles_in_window
from dsa110_assets.registry.queries.measurements import measured_sources, replace_channel_photometry, replace_photometry
from dsa110_assets.registry.queries.sources import replace_detections, source_table
from dsa110_assets.registry.schema import MosaicRow
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.combining import MosaicRequest, combine
from dsa110_assets.stages.products.gates import good_tiles
from dsa110_assets.stages.products.references import reference_path
from dsa110_assets.stages.provenance.recording import StageResult, measured
from dsa110_assets.stages.provenance.versions import register, versions_of
from dsa110_assets.stages.table import FORCED_PHOTOMETRY, HOURLY_MOSAIC, MONITORED_SOURCES, NVSS_CATALOG, SOURCE_CATALOG
from dsa110_assets.strips import main_strip
from dsa110_assets.times import datetime_to_mjd, group_time, hour_window

if TYPE_CHECKING:
    from dsa110_assets.photometry import PhotometryReport


def make_mosaic(platform: Platform, night: str, hour: str, run_id: str) -> StageResult | None:
    """Mosaic of the tiles that overlap an hour; None if the hour itself has no good tile."""
    start, end = hour_window(night, hour)
    overlap = timedelta(minutes=platform.config.mosaic_overlap_minutes)
    with platform.database.session() as session:
        tiles = tiles_in_window(session, datetime_to_mjd(start - overlap), datetime_to_mjd(end + overlap))
        own = [tile for tile in tiles if start <= group_time(tile.group_id) < end]
        good = set(good_tiles(session, [tile.group_id for tile in own]))
    declinations = [tile.pointing_dec_deg for tile in own if tile.group_id in good]
    if not declinations:
        return None
    strip = main_strip(declinations, platform.config.mosaic_declination_tolerance_deg)
    request = MosaicRequest(HOURLY_MOSAIC, f"{night}T{hour}", products.hourly_mosaic_name(night, hour), tiles, strip)
    return combine(platform, request, run_id)


def find_sources(platform: Platform, night: str, hour: str, run_id: str) -> StageResult | None:
    """Search the hour's mosaic blindly, match detections with the reference sky, judge them; None without a mosaic."""
    from dsa110_assets.mosaicking.detections import Detections
    from dsa110_assets.mosaicking.finding import count_negative, find_sources

    name, key = products.hourly_mosaic_name(night, hour), f"{night}T{hour}"
    with platform.database.session() as session:
        mosaic = session.get(MosaicRow, name)
        inputs = versions_of(session, HOURLY_MOSAIC.name, [key]) | versions_of(session, NVSS_CATALOG.name, ["all"])
    if mosaic is None:
        return None
    image, noise = (products.image_path(Path(mosaic.directory), name, suffix) for suffix in ("image", "noise"))
    reference, sigma = sky.load_reference(reference_path(platform)), platform.config.source_find_sigma
    with measured() as cost:
        rows = find_sources(image, noise, sigma=sigma)
        found = Detections.matched(rows, reference, count_negative(image, noise, rows, sigma=sigma))
    result = StageResult(SOURCE_CATALOG.name, key, figures=found.figures(), tables=found.details(), verdicts=found.verdicts())
    with platform.database.session() as session:
        replace_detections(session, name, found.table)
        return register(session, platform, result, path=None, inputs=inputs, cost=cost, run_id=run_id)


def measure(platform: Platform, night: str, hour: str, run_id: str) -> StageResult | None:
    """Measure the positions of an hour in its mosaic and in the mosaic's channels; None without a mosaic.

    A position that was measured in this hour before is measured again, also if it is no longer listed.
    """
    name, key = products.hourly_mosaic_name(night, hour), f"{night}T{hour}"
    with platform.database.session() as session:
        mosaic = session.get(MosaicRow, name)
        if mosaic is None:
            return None
        inputs = versions_of(session, HOURLY_MOSAIC.name, [key]) | versions_of(session, MONITORED_SOURCES.name, ["all"])
        positions = own_positions(session, platform, mosaic, also=measured_sources(session, name))
    with measured() as cost:
        report = measure_positions(mosaic, positions)
    result = StageResult(FORCED_PHOTOMETRY.name, key, figures=report.figures(), tables=report.details())
    with platform.database.session() as session:
        replace_photometry(session, name, report.measured)
        replace_channel_photometry(session, name, report.channel_fluxes)
        return register(session, platform, result, path=None, inputs=inputs, cost=cost, run_id=run_id)


def own_positions(session: Session, platform: Platform, mosaic: MosaicRow, *, also: Sequence[int] = ()) -> pd.DataFrame:
    """Positions that belong to the hour of a mosaic; ``also``: these sources too, if they are no longer listed.

    A position belongs to the hour of the good tile that observed it nearest to the meridian. So one transit is measured
    once, although the mosaics of adjacent hours share tiles.
    """
    from dsa110_assets.photometry.positions import HALF_HEIGHT_DEG, REACH_IN_OVERLAPS, nearest_tile

    night, hour = products.hour_of_mosaic(mosaic.name)
    start, end = hour_window(night, hour)
    reach = timedelta(minutes=platform.config.mosaic_overlap_minutes) * REACH_IN_OVERLAPS
    tolerance = platform.config.mosaic_declination_tolerance_deg
    combined = mosaic_tiles(session, mosaic.name)
    strip = main_strip([tile.pointing_dec_deg for tile in combined], tolerance)
    observed = tiles_in_window(
        session, datetime_to_mjd(start - reach), datetime_to_mjd(end + reach), pointing_dec_deg=strip, tolerance_deg=tolerance
    )
    # a refused tile measures nothing: its positions belong to the next good tile that covers them
    usable = set(good_tiles(session, [tile.group_id for tile in observed])) | {tile.group_id for tile in combined}
    around = [tile for tile in observed if tile.group_id in usable]
    positions = source_table(session, dec_min_deg=strip - HALF_HEIGHT_DEG, dec_max_deg=strip + HALF_HEIGHT_DEG, also=also)
    nearest = nearest_tile(positions, [tile.ra_deg for tile in around], [tile.dec_deg for tile in around])
    return positions.loc[np.array([start <= group_time(tile.group_id) < end for tile in around])[nearest]]


def measure_positions(mosaic: MosaicRow, positions: pd.DataFrame) -> PhotometryReport:
    """Measure positions in a mosaic and in its channels."""
    from dsa110_assets.photometry import PhotometryReport, measure_channels, measure_mosaic

    directory = Path(mosaic.directory)
    return PhotometryReport(
        len(positions), measure_mosaic(directory, mosaic.name, positions), measure_channels(directory, mosaic.name, positions)
    )
