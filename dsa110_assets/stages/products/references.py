"""Reference catalogs from their configured sources: calibrators, NVSS, monitored positions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.catalogs import calibrators, observers, sky, surveys
from dsa110_assets.catalogs.survey_list import SURVEYS
from dsa110_assets.common.figures import Figures
from dsa110_assets.common.instrument import SKY_RADIUS_DEG
from dsa110_assets.common.position_lists import read_positions
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError, PositionsError
from dsa110_assets.products import CALIBRATORS_FILE, REFERENCE_FILE
from dsa110_assets.rawfile import pointing_of, read_raw_header
from dsa110_assets.registry.queries import sky_model
from dsa110_assets.registry.queries.positions import target_positions
from dsa110_assets.registry.queries.quality import upsert_reference_catalog
from dsa110_assets.registry.queries.sources import record_addition, retire_sources, upsert_sources
from dsa110_assets.registry.schema import MeasurementSetRow, Source
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Product
from dsa110_assets.stages.provenance.recording import Measured, StageResult, measured
from dsa110_assets.stages.provenance.versions import register, versions_of
from dsa110_assets.stages.table import CALIBRATOR_CATALOG, MONITORED_SOURCES, NVSS_CATALOG


def calibrators_path(platform: Platform) -> Path:
    """Path of the calibrator catalog."""
    return platform.paths.catalogs_dir / CALIBRATORS_FILE


def reference_path(platform: Platform) -> Path:
    """Path of the reference sky."""
    return platform.paths.catalogs_dir / REFERENCE_FILE


def cataloged_sky(platform: Platform, ra_deg: float, dec_deg: float) -> pd.DataFrame:
    """What catalogs have around a tile, as far as its beam reaches: reference sky and calibrators."""
    near = sky.cone(sky.load_reference(reference_path(platform)), ra_deg, dec_deg, SKY_RADIUS_DEG)
    known = sky.of_calibrators(calibrators.load(calibrators_path(platform)))
    return sky.completed(near, sky.cone(known, ra_deg, dec_deg, SKY_RADIUS_DEG))


def imaging_sky(platform: Platform, ra_deg: float, dec_deg: float) -> pd.DataFrame:
    """`cataloged_sky`, and what earlier images found beside it (`sky_model`)."""
    with platform.database.session() as session:
        own = sky_model.around(session, dec_deg, SKY_RADIUS_DEG)
    return sky.completed(cataloged_sky(platform, ra_deg, dec_deg), sky.cone(own, ra_deg, dec_deg, SKY_RADIUS_DEG))


def record_found(platform: Platform, session: Session, row: MeasurementSetRow, found: Sequence[sky_model.Found]) -> int:
    """Put what an image found outside its frame and no catalog has into the own sky model; return how many are new."""
    if not found:
        return 0
    table = pd.DataFrame(
        {"name": [str(k) for k in range(len(found))], "ra_deg": [one.ra_deg for one in found], "dec_deg": [one.dec_deg for one in found],
         "flux_jy": [one.flux_jy for one in found], "spectral_index": float("nan")}
    )  # fmt: skip
    cataloged = cataloged_sky(platform, row.ra_deg, row.dec_deg)
    complete = sky.completed(cataloged, table)
    lacking = set(complete["name"]) & set(table["name"])
    return sky_model.record(session, row.group_id, row.mid_mjd, [one for k, one in enumerate(found) if str(k) in lacking])


def transiting_calibrator(catalog: Sequence[calibrators.Calibrator], raw_file: Path) -> str | None:
    """Name of the best calibrator that transits in an observation, from one of its raw headers; None without one.

    Raises:
        InvalidRawFileError: the file cannot be read.
    """
    transiting = calibrators.in_tile(catalog, pointing_of(read_raw_header(raw_file)))
    return transiting[0].name if transiting else None


def refresh_calibrators(platform: Platform, run_id: str) -> StageResult:
    """Make the calibrator catalog from the VLA calibrator manual."""
    source = _source(platform, CALIBRATOR_CATALOG)
    path = calibrators_path(platform)
    with measured() as cost:
        manual = calibrators.read_manual_file(source)
        number = calibrators.write_calibrator_db(manual, path)
        usable = sum(one.flux_jy is not None for one in calibrators.load(path))
    result = StageResult(
        CALIBRATOR_CATALOG.name,
        "all",
        figures={
            "entries": number,
            "with_20cm_flux": usable,
            "lines_not_read": len(manual.unread),
            "repeated_entries": manual.n_repeated,
            **({"first_line_not_read": manual.unread[0]} if manual.unread else {}),
            "source": str(source),
        },
        tables={"lines_not_read": [{"line": line} for line in manual.unread]},
    )
    with platform.database.session() as session:
        _record(session, result.product, path, source, number)
        return register(session, platform, result, path=path, inputs={}, cost=cost, run_id=run_id)


def refresh_nvss(platform: Platform, run_id: str) -> StageResult:
    """Make the reference sky from NVSS."""
    source = _source(platform, NVSS_CATALOG)
    path = reference_path(platform)
    with measured() as cost:
        number = sky.build_reference(source, path)
    result = StageResult(NVSS_CATALOG.name, "all", figures={"sources": number, "source": str(source)})
    with platform.database.session() as session:
        _record(session, result.product, path, source, number)
        return register(session, platform, result, path=path, inputs={}, cost=cost, run_id=run_id)


def refresh_nvss_online(
    platform: Platform, run_id: str, strips: Sequence[surveys.Strip], *, min_mjy: float, progress: surveys.Progress | None = None
) -> StageResult:
    """Make the reference sky of some declination strips from NVSS in VizieR.

    Raises:
        CatalogServiceError: VizieR cannot be reached.
        ConfigurationError: PIPELINE_NVSS_FILE is set; the sensor would restore that file's sky.
    """
    if platform.config.nvss_file is not None:
        raise ConfigurationError(
            "PIPELINE_NVSS_FILE",
            "is set: the reference sky is made from that file",
            "unset it to take NVSS from VizieR, or leave --dec out",
        )
    survey, path = SURVEYS["nvss"], reference_path(platform)
    with measured() as cost:
        table = surveys.fetch(survey, strips, min_mjy=min_mjy, server=platform.config.vizier_server, progress=progress)
        surveys.save(table, path)
    result = StageResult(NVSS_CATALOG.name, "all", figures={"sources": len(table), "source": survey.vizier})
    with platform.database.session() as session:
        upsert_reference_catalog(session, name=result.product, path=str(path), origin=survey.vizier, n_rows=len(table))
        return register(session, platform, result, path=path, inputs={}, cost=cost, run_id=run_id)


def refresh_monitored(platform: Platform, run_id: str) -> StageResult | None:
    """Update the positions to measure: cataloged sources above the flux limit, the observer's list, targets of people.

    A position that is no longer listed keeps its past measurements and gets no new ones. A new one is measured in past
    mosaics by `added_photometry`; nothing that was measured becomes stale.

    Raises:
        PositionsError: the list cannot be read, has rows that are not positions, or drops too many of the present ones.
    """
    with measured() as cost:
        return _refresh_monitored(platform, run_id, cost, accept_large_change=False)


def refresh_monitored_anyway(platform: Platform, run_id: str) -> StageResult | None:
    """`refresh_monitored` with a list that ends most of the present positions: a person has confirmed it."""
    with measured() as cost:
        return _refresh_monitored(platform, run_id, cost, accept_large_change=True)


def _refresh_monitored(platform: Platform, run_id: str, cost: Measured, *, accept_large_change: bool) -> StageResult:
    reference = sky.load_reference(reference_path(platform))
    bright = pd.DataFrame(reference.loc[reference["flux_jy"] >= platform.config.photometry_min_catalog_jy])
    bright = bright.rename(columns={"flux_jy": "reference_flux_jy"})
    source = platform.config.monitored_sources_file
    own = read_positions(source) if source is not None else bright.iloc[:0]
    with platform.database.session() as session:
        added = target_positions(session)
    own = pd.concat([own, added.loc[~added["name"].isin(own["name"])]]) if len(added) else own  # the file goes before
    bright, own = observers.named_by_observer(bright, own)
    with platform.database.session() as session:
        if not accept_large_change and source is not None:
            _refuse_large_change(session, source, set(own["name"]))
        for origin, positions in (("nvss", bright), ("monitored", own)):
            upsert_sources(session, positions, origin=origin)
            retire_sources(session, origin=origin, keep=list(positions["name"]))
        new = record_addition(session)
        figures: Figures = {
            "positions": len(bright) + len(own), "own_positions": len(own), "targets": len(added), "to_measure_in_past_mosaics": new,
        }  # fmt: skip
        result = StageResult(MONITORED_SOURCES.name, "all", figures=figures)
        _record(
            session, result.product, platform.paths.catalogs_dir / "monitored", source or reference_path(platform), len(bright) + len(own)
        )
    with platform.database.session() as session:
        inputs = versions_of(session, NVSS_CATALOG.name, ["all"])
        return register(session, platform, result, path=None, inputs=inputs, cost=cost, run_id=run_id)


def _refuse_large_change(session: Session, source: Path, listed: set[str]) -> None:
    active = set(session.scalars(select(Source.name).where(Source.origin == "monitored", Source.active)))
    dropped = active - listed
    if dropped and (not listed or observers.is_large_change(len(active), len(dropped))):
        raise PositionsError(
            source,
            f"{len(dropped)} of the {len(active)} positions that are measured now are no longer in it; the first: {min(dropped)}",
            "correct the list; if they shall end: `dsa110 catalogs refresh monitored --yes`",
        )


def source_of(product: Product, config: PipelineConfig) -> Path | None:
    """The configured file from which a product is made; None if it is not set, or has no setting."""
    return None if product.source_setting is None else getattr(config, product.source_setting)


def _source(platform: Platform, product: Product) -> Path:
    source = source_of(product, platform.config)
    if source is None:
        raise ConfigurationError(
            f"PIPELINE_{(product.source_setting or '').upper()}",
            f"not set, so {product.name} cannot be made",
            "set it to the catalog's source file",
        )
    return source


def _record(session: Session, name: str, path: Path, source: Path, number: int) -> None:
    upsert_reference_catalog(session, name=name, path=str(path), origin=str(source), n_rows=number)
