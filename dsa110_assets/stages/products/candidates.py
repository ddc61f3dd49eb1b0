"""The files from which a person judges an ESE candidate: light curve, cutouts over time, cataloged sources near it.

Each candidate of a night has a folder of its own (`ProductPaths.candidate_dir`).
"""

# pandas' stubs do not know the type of a selection:
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import products
from dsa110_assets.catalogs import sky
from dsa110_assets.registry.queries.variability import events_of, save_events
from dsa110_assets.registry.schema import MosaicRow
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.references import reference_path
from dsa110_assets.times import mjd_to_datetime

if TYPE_CHECKING:
    from dsa110_assets.variability import LightCurves


def identify(session: Session, night: str, found: pd.DataFrame) -> pd.DataFrame:
    """Find the known events among the candidates of a night, record the new ones, and add the column ``event_id``."""
    from dsa110_assets.variability.identity import same_events

    numbered = found.assign(event_id=same_events(found, events_of(session, found["source_id"].tolist())))
    return numbered.assign(event_id=save_events(session, night, numbered))


def describe_candidates(platform: Platform, directory: Path, found: pd.DataFrame, curves: LightCurves, sources: pd.DataFrame) -> list[int]:
    """Make the folders of a night's best candidates, each named by its source's number; return these numbers.

    Args:
        platform: the platform.
        directory: for the folders.
        found: see `ese_candidates`.
        curves: normalized light curves.
        sources: ``source_id`` (index), ``name, ra_deg, dec_deg``.
    """
    from dsa110_assets.photometry import save_table
    from dsa110_assets.variability.plots import MOST_CANDIDATES

    described: list[int] = []
    with platform.database.session() as session:
        query = select(MosaicRow.name, MosaicRow.directory).where(MosaicRow.name.in_([str(name) for name in curves.epoch_name]))
        mosaics = {name: Path(directory) for name, directory in session.execute(query)}
    reference = sky.load_reference(reference_path(platform)) if reference_path(platform).is_file() else None
    for row in found.head(MOST_CANDIDATES).to_dict("records"):
        number = int(row["source_id"])
        folder = directory / str(number)
        folder.mkdir()
        source = sources.loc[number]
        _plot(folder, row, source, curves, mosaics)
        save_table(neighbors(source, sources, reference), folder / "neighbours.csv")
        described.append(number)
    return described


def _plot(folder: Path, row: Mapping[Hashable, Any], source: pd.Series, curves: LightCurves, mosaics: Mapping[str, Path]) -> None:
    from dsa110_assets.variability import cutouts_png, light_curve_png
    from dsa110_assets.variability.plots import MOST_STAMPS

    title = f"{source['name']}: {row['kind']}, score {row['score']:.1f}"
    png = light_curve_png(curves, row["source_id"], title=title, baseline_jy=float(row["baseline_jy"]), event_mjd=float(row["epoch_mjd"]))
    (folder / "light_curve.png").write_bytes(png)
    s = curves.index_of(row["source_id"])
    epochs = curves.epoch[curves.offsets[s] : curves.offsets[s + 1]]
    event = abs(curves.epoch_mjd[epochs] - row["epoch_mjd"])
    nearest = np.sort(np.argsort(event, kind="stable")[:MOST_STAMPS])  # around the event, in order of time
    stamps: list[tuple[str, NDArray[np.float32]]] = []
    during: list[str] = []
    for epoch in epochs[nearest]:
        name = str(curves.epoch_name[epoch])
        label = f"{mjd_to_datetime(float(curves.epoch_mjd[epoch])):%m-%d %H:%M}"
        stamp = stamp_of(mosaics.get(name), name, int(row["source_id"]), float(source["ra_deg"]), float(source["dec_deg"]))
        if stamp is not None:
            stamps.append((label, stamp))
            if abs(curves.epoch_mjd[epoch] - row["epoch_mjd"]) <= 0.5 * max(float(row["duration_d"]), 1e-3):
                during.append(label)
    noise = float(np.median(curves.flux_err_jy[curves.offsets[s] : curves.offsets[s + 1]]))
    if stamps:
        (folder / "cutouts.png").write_bytes(
            cutouts_png(stamps, peak_jy=float(row["baseline_jy"]), noise_jy=noise, title=title, highlight=during)
        )


def stamp_of(
    directory: Path | None, name: str, source_id: int, ra_deg: float, dec_deg: float, *, beams: float | None = None
) -> NDArray[np.float32] | None:
    """Cut-out of a source in a mosaic, Jy/beam, y upward; the stored one if the image was removed; None without either.

    ``beams``: width in major axes of the beam, `CUTOUT_BEAMS` unless it is given; a stored one has its own.
    """
    from dsa110_assets.common.fits_planes import cutout, read_header
    from dsa110_assets.common.restoring_beam import RestoringBeam
    from dsa110_assets.photometry.cutouts import read_cutout
    from dsa110_assets.variability.plots import CUTOUT_BEAMS

    if directory is None:
        return None
    path = products.image_path(directory, name, "image")
    if not path.is_file():  # retention has removed it, and has left cut-outs
        stored = products.cutouts_path(directory, name)
        return read_cutout(stored, source_id) if stored.is_file() else None
    size_arcsec = (beams or CUTOUT_BEAMS) * RestoringBeam.from_header(read_header(path)).major_arcsec
    return cutout(path, ra_deg, dec_deg, size_arcsec)


def stored_neighbors(paths: products.ProductPaths, night: str, source_id: int) -> list[dict[str, Any]]:
    """What was near a candidate when it was ranked, as of `neighbors`; empty if its folder is gone."""
    path = paths.candidate_dir(night, source_id) / "neighbours.csv"
    if not path.is_file():
        return []
    table = pd.read_csv(path)
    table = table.astype(object).where(table.notna(), None)
    return [row | {"separation_arcmin": row["separation_arcsec"] / 60.0} for row in table.to_dict("records")]


def neighbors(source: pd.Series, sources: pd.DataFrame, reference: pd.DataFrame | None) -> pd.DataFrame:
    """Nearest entries of the reference sky and of the measured positions.

    Returns:
        ``catalogue, name, ra_deg, dec_deg, flux_jy, separation_arcsec``, nearest first.
    """
    from dsa110_assets.variability.plots import NEIGHBOUR_RADIUS_DEG

    ra, dec = float(source["ra_deg"]), float(source["dec_deg"])
    tables: list[pd.DataFrame] = []
    measured = sources.rename(columns={"reference_flux_jy": "flux_jy"})
    for label, table in (("reference sky", reference), ("measured positions", measured)):
        if table is None:
            continue
        near = sky.cone(table, ra, dec, NEIGHBOUR_RADIUS_DEG)
        separation = 3600.0 * sky.separation_deg(near, ra, dec)
        tables.append(
            near.assign(catalogue=label, separation_arcsec=separation)[
                ["catalogue", "name", "ra_deg", "dec_deg", "flux_jy", "separation_arcsec"]
            ]
        )
    return pd.concat(tables, ignore_index=True).sort_values("separation_arcsec", ignore_index=True).head(20)
