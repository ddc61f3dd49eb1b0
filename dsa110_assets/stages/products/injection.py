"""Check a night with artificial sources, injected into calibrated visibilities and recovered by the pipeline.

A few tiles of the night are imaged again with sources added to their visibilities. Each image becomes a mosaic of one
tile, which is searched and measured like an hour's mosaic. The night's own products are not touched.
"""

# pandas' stubs do not know the type of a selection:
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import products, publication
from dsa110_assets.catalogs import sky
from dsa110_assets.registry.queries.images import tiles_in_window
from dsa110_assets.registry.schema import ImageRow, QaMetric
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.gates import refused_tiles
from dsa110_assets.stages.products.references import imaging_sky, reference_path
from dsa110_assets.stages.provenance.recording import StageResult, measured
from dsa110_assets.stages.provenance.versions import register, versions_of
from dsa110_assets.stages.table import CALIBRATED_MS, INJECTION_RECOVERY
from dsa110_assets.times import datetime_to_mjd, slot_window

PRODUCT = INJECTION_RECOVERY.name
_TREND_NIGHTS = 60


def recover_injections(platform: Platform, night: str, run_id: str) -> StageResult | None:
    """Inject sources, recover and judge them; None if no good tile of the night has calibrated visibilities."""
    from dsa110_assets.photometry import save_table
    from dsa110_assets.quality.recovery import bin_by_snr, bins_table, night_recovery, recovery_png

    config = platform.config
    low = datetime_to_mjd(slot_window(night, "00:00")[0])
    with platform.database.session() as session:
        tiles = [tile for tile in tiles_in_window(session, low, low + 1) if platform.paths.calibrated_ms(tile.group_id).is_dir()]
        refused = refused_tiles(session, [tile.group_id for tile in tiles])
        chosen = _spread([tile for tile in tiles if tile.group_id not in refused], config.injection_tiles)
        inputs = versions_of(session, CALIBRATED_MS.name, [tile.group_id for tile in chosen])
    if not chosen:
        return None
    destination = platform.paths.injection_dir(night)
    with measured() as cost, publication.publish(destination) as staged:
        staged.mkdir()
        table = pd.concat([_recover_tile(platform, tile, staged, night) for tile in chosen], ignore_index=True)
        bins, found = bin_by_snr(table), night_recovery(table, config.source_find_sigma)
        with platform.database.session() as session:
            trend = _trend(session, night, found.bright.flux_bias, found.bright.flux_bias_err)
        save_table(table, staged / "recovery.parquet")
        save_table(bins_table(bins), staged / "completeness.csv")
        title = f"{night}: {len(table)} sources injected into the visibilities of {len(chosen)} tile(s)"
        (staged / "recovery.png").write_bytes(recovery_png(bins, trend, title))
    result = StageResult(
        PRODUCT,
        night,
        figures={"tiles": len(chosen), "injected": len(table), "found": int(table["found"].sum()), **found.figures()},
        verdicts=found.verdicts(beam_arcsec=max(float(tile.bmaj_arcsec) for tile in chosen)),
        preview=destination / "recovery.png",
        tables={"against S/N": [asdict(one) for one in bins], "nights": trend.tail(_TREND_NIGHTS).to_dict("records")},
    )
    with platform.database.session() as session:
        return register(session, platform, result, path=destination, inputs=inputs, cost=cost, run_id=run_id)


def _spread(tiles: Sequence[ImageRow], number: int) -> list[ImageRow]:
    """A few tiles at even distances in time, without the first and the last if there are more."""
    if not tiles:
        return []
    return [tiles[i] for i in np.unique(np.linspace(0, len(tiles) - 1, number + 2)[1:-1].astype(int))]


def _recover_tile(platform: Platform, tile: ImageRow, work: Path, night: str) -> pd.DataFrame:
    """Injected and recovered sources of a tile (`quality.recovery.recovery`); ``work`` is for intermediate files."""
    import shutil

    from dsa110_assets.imaging import ImagingOptions, image_tile
    from dsa110_assets.imaging.injection import inject_sources
    from dsa110_assets.mosaicking import TileImage, crossmatch, find_sources, make_mosaic
    from dsa110_assets.mosaicking.finding import match_radius_arcsec
    from dsa110_assets.photometry import measure_mosaic
    from dsa110_assets.quality.recovery import draw_injections, recovery_table

    config, group_id = platform.config, tile.group_id
    options = ImagingOptions.from_config(config)
    original = TileImage.of(Path(tile.directory), group_id)
    reference = sky.cone(sky.load_reference(reference_path(platform)), tile.ra_deg, tile.dec_deg, options.field_radius_deg)
    injected = draw_injections(
        np.random.default_rng(zlib.crc32(f"{night} {group_id}".encode())),
        original.plane("weight"),
        original.plane("pb"),
        original.wcs(),
        reference,
        config.injection_sources,
        original.beam.major_arcsec / original.cell_arcsec,
    )
    scratch = work / ".tile"
    scratch.mkdir()
    inject_sources(platform.paths.calibrated_ms(group_id), scratch / "injected.ms", injected, options)
    image_tile(
        scratch / "injected.ms",
        scratch,
        group_id,
        options,
        mask_sky=imaging_sky(platform, tile.ra_deg, tile.dec_deg) if options.use_mask else None,
        provenance={"DSAGROUP": group_id, "DSAINJ": str(len(injected))},
    )
    make_mosaic([TileImage.of(scratch, group_id)], scratch / "mosaic", "injected", provenance={}, threads=platform.threads)
    found = find_sources(
        *(products.image_path(scratch / "mosaic", "injected", kind) for kind in ("image", "noise")), sigma=config.source_find_sigma
    )
    pairs = crossmatch(found[found["reliable"]], injected, match_radius_arcsec(original.beam.major_deg))
    # injected sources have no errors of gains
    fluxes = measure_mosaic(scratch / "mosaic", "injected", injected[["name", "ra_deg", "dec_deg"]], calibration_errors=False)
    shutil.rmtree(scratch)
    return recovery_table(injected, fluxes, pairs).assign(observation=group_id)


def _trend(session: Session, night: str, bias: float, error: float) -> pd.DataFrame:
    """Flux bias of all nights up to this one: ``night, flux_bias, flux_bias_err``."""
    rows = session.execute(
        select(QaMetric.key, QaMetric.metric, QaMetric.value)
        .where(QaMetric.product == PRODUCT, QaMetric.metric.in_(["flux_bias", "flux_bias_err"]), QaMetric.key < night)
        .order_by(QaMetric.key)
    )
    known: dict[str, dict[str, float]] = {}
    for key, metric, value in rows:
        known.setdefault(key, {})[metric] = np.nan if value is None else value
    known[night] = {"flux_bias": bias, "flux_bias_err": error}
    return pd.DataFrame([{"night": key, **values} for key, values in known.items()], columns=["night", "flux_bias", "flux_bias_err"])
