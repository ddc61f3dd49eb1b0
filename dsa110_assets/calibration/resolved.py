"""Structure of the primary calibrators, from CASA's models: a standard's row of the sky becomes its components.

On 2.6 km at 1.5 GHz a standard loses 0.5 % (3C48) to 2 % (3C147) of its amplitude, and its phase shifts by up to 3 deg.
CASA has L-band models (VLA, clean components) of 3C48, 3C138, 3C147 and 3C286; flux densities stay those of the
catalog. The other standards are larger than this array's beam and have no such model: we refuse them instead of
treating them as points.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.calibration.model import PART_OF
from dsa110_assets.catalogs import perley_butler_2017
from dsa110_assets.errors import FluxScaleError

LARGEST_POINT_ARCSEC = 3.1
"""Standards up to this size have a model; larger ones have none."""
_CELL_ARCSEC = 0.5
"""Components closer than this are merged at their centroid: errors up to 0.1 % (3C138) on 2.6 km."""
_FAINTEST = 2e-5
"""Fraction of the brightest pixel; fainter pixels are rounding errors of the models."""
_RADIUS_ARCSEC = 5.0
"""Clean components farther out belong to other sources or are noise (3C147: 0.8 % of its flux, of both signs)."""


def with_structure(sky: pd.DataFrame) -> pd.DataFrame:
    """Replace every standard of the flux scale in a sky by its components; other sources stay.

    Args:
        sky: columns of `catalogs.sky.COLUMNS`; standards are found by name (``1331+305`` or ``3C286``).

    Returns:
        The sky with the column ``part_of``; ``sky`` itself if it has no standard.

    Raises:
        FluxScaleError: this array resolves a standard that has no model.
    """
    rows: list[pd.DataFrame] = []
    keep = np.ones(len(sky), dtype=bool)
    for i, name in enumerate(sky["name"]):
        source = perley_butler_2017.standard(str(name))
        if source is None:
            continue
        if source.extent_arcsec > LARGEST_POINT_ARCSEC:
            raise FluxScaleError(
                name,
                f"{source.name} extends over {source.extent_arcsec:g} arcsec, which this array resolves, and has no L-band model",
                "calibrate on a tile with 3C48, 3C138, 3C147, 3C286 or a compact calibrator",
            )
        share, east, north = components(source.name)
        row = sky.iloc[i]
        dec_deg = float(row["dec_deg"]) + north / 3600
        ra_deg = float(row["ra_deg"]) + east / 3600 / np.cos(np.radians(float(row["dec_deg"])))
        keep[i] = False
        rows.append(
            pd.DataFrame(
                {
                    "name": [str(name)] + [f"{name}.{k}" for k in range(1, share.size)],
                    "ra_deg": np.mod(ra_deg, 360.0),
                    "dec_deg": dec_deg,
                    "flux_jy": float(row["flux_jy"]) * share,
                    "spectral_index": np.full(share.size, float(row["spectral_index"])),
                    PART_OF: str(name),
                }
            )
        )
    return pd.concat([*rows, sky.loc[keep].assign(**{PART_OF: sky.loc[keep, "name"]})], ignore_index=True) if rows else sky


@cache
def components(standard: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Components of a standard, brightest first: (fraction of the flux, offset east, offset north in arcsec).

    The fractions sum to 1.

    Raises:
        FluxScaleError: CASA's data have no L-band model of it.
    """
    import casadata
    from casacore.images import image

    path = Path(casadata.datapath) / "nrao" / "VLA" / "CalModels" / f"{standard}_L.im"
    if not path.is_dir():
        raise FluxScaleError(standard, f"CASA's data have no {path.name}", "install the package casadata again")
    model = image(str(path))
    pixels = np.asarray(model.getdata(), dtype=np.float64).squeeze()
    direction = model.coordinates().get_coordinate("direction")
    step_dec, step_ra = np.degrees(direction.get_increment()) * 3600
    middle_dec, middle_ra = direction.get_referencepixel()
    north_index, east_index = np.nonzero(np.abs(pixels) > _FAINTEST * pixels.max())
    east, north = (east_index - middle_ra) * step_ra, (north_index - middle_dec) * step_dec
    near = np.hypot(east, north) <= _RADIUS_ARCSEC
    flux, east, north = pixels[north_index, east_index][near], east[near], north[near]
    cell = np.stack([np.rint(east / _CELL_ARCSEC), np.rint(north / _CELL_ARCSEC)], axis=1).astype(np.int64)
    cells, where = np.unique(cell, axis=0, return_inverse=True)
    total = np.bincount(where.ravel(), flux, len(cells))
    size = np.bincount(where.ravel(), np.abs(flux), len(cells))
    center = [np.bincount(where.ravel(), np.abs(flux) * offset, len(cells)) / size for offset in (east, north)]
    order = np.argsort(-total)
    return total[order] / total.sum(), center[0][order], center[1][order]
