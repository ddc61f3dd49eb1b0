"""Writing a tile as a Measurement Set: the main table and its storage tiles. `subtables` writes the subtables.

Rows run by integration, then baseline. Every integration holds all baselines, so a reader may take any block of whole
integrations as an array (Ntimes, Nbls, Nchan, Npols). A storage tile holds 48 channels (a subband) of about 200
baselines of one integration: 146 kB, so reading blocks of rows, blocks of channels or single baselines touches little
else. Measured by ``benchmarks/tile_shapes.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_assets.common.directions import apparent_scale
from dsa110_assets.common.measurement_sets import SCALE_KEYWORD
from dsa110_assets.conversion import subtables
from dsa110_assets.conversion.tile import Tile
from dsa110_assets.errors import DiskFullError, StorageError
from dsa110_assets.files import NEVER_PASSES, tells_of_full_disk, typed_error
from dsa110_assets.publication import free_bytes
from dsa110_assets.times import JD_MINUS_MJD

SECONDS_PER_DAY = 86400.0
_CHANNELS_PER_TILE = 48
_ROWS_PER_TILE = 194
_SPARE_BYTES = 64 << 20
_INCREMENTAL = (
    "ARRAY_ID", "DATA_DESC_ID", "EXPOSURE", "FEED1", "FEED2", "FIELD_ID", "FLAG_ROW", "INTERVAL", "OBSERVATION_ID", "PROCESSOR_ID",
    "SCAN_NUMBER", "STATE_ID", "TIME", "TIME_CENTROID",
)  # fmt: skip
"""Columns that stay the same over many rows."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn casacore's and the system's errors about a full, read-only or failing disk into a `StorageError`.

    What stays until a person changes the path or its permissions becomes a `ConfigurationError`.

    casacore reports everything as RuntimeError; its text names the file and the cause.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno in NEVER_PASSES:
            raise typed_error(error) from error
        free = free_bytes(path)
        told = f"({error}; {free / 1e9:.2f} GB free)"
        if tells_of_full_disk(error) or free < _SPARE_BYTES:
            raise DiskFullError(path, f"the disk is full {told}", "free space; the work then goes on by itself") from error
        raise StorageError(path, f"writing failed {told}", "repair the disk, then retry") from error


def write_measurement_set(
    tile: Tile, out: Path, *, field_name: str | None, telescope_name: str, history: Sequence[str], dish_diameter_m: float
) -> int:
    """Write a tile and return the bytes on disk.

    Raises:
        StorageError: the disk is full, read-only or failing; the message names the path.
    """
    needed = tile.vis.nbytes + tile.vis.nbytes // 2 + tile.vis.nbytes // 64 + _SPARE_BYTES
    free = free_bytes(out)
    if free < needed:
        raise DiskFullError(out, f"the disk is full: {needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free", "free space, then retry")
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _write_main(tile, out)
        subtables.write_subtables(
            tile, out, field_name=field_name or "meridian", telescope_name=telescope_name, history=history, dish_diameter_m=dish_diameter_m
        )
        return sum(entry.stat().st_size for entry in out.rglob("*") if entry.is_file())


def rows_per_tile(n_bls: int) -> int:
    """Rows of a storage tile: a divisor of the baselines of an integration, near 194."""
    parts = max(1, round(n_bls / _ROWS_PER_TILE))
    while n_bls % parts:
        parts += 1
    return n_bls // parts


def _tiled(name: str, shape: Sequence[int], tile_shape: Sequence[int]) -> dict[str, Any]:
    """Describe the data manager of one tiled column; tile shape in casacore's (Fortran) order, rows last."""
    return {"TYPE": "TiledColumnStMan", "NAME": f"Tiled{name}", "COLUMNS": [name], "SPEC": {"DEFAULTTILESHAPE": list(tile_shape)}}


def _description(n_chan: int, n_pol: int, n_bls: int) -> tuple[dict[str, Any], dict[str, Any]]:
    from casacore import tables

    rows = rows_per_tile(n_bls)
    channels = min(n_chan, _CHANNELS_PER_TILE)
    desc = tables.required_ms_desc("MAIN")
    for name, zero, kind in (("DATA", 0j, "complex"), ("WEIGHT_SPECTRUM", 0.0, "float")):
        desc.update(tables.maketabdesc(tables.makearrcoldesc(name, zero, valuetype=kind, shape=[n_chan, n_pol], options=4)))
    fixed = {"FLAG": [n_chan, n_pol], "WEIGHT": [n_pol], "SIGMA": [n_pol], "UVW": [3]}
    for name, shape in fixed.items():
        desc[name].update(shape=np.array(shape, dtype=np.int32), option=4, ndim=len(shape))
    desc["FLAG_CATEGORY"]["keywords"] = {"CATEGORY": np.array(["baddata"])}
    managers = [
        _tiled("DATA", [n_chan, n_pol], [n_pol, channels, rows]),
        _tiled("WEIGHT_SPECTRUM", [n_chan, n_pol], [n_pol, channels, rows]),
        _tiled("FLAG", [n_chan, n_pol], [n_pol, n_chan, rows]),
        _tiled("UVW", [3], [3, n_bls]),
        _tiled("WEIGHT", [n_pol], [n_pol, 4 * n_bls]),
        _tiled("SIGMA", [n_pol], [n_pol, 4 * n_bls]),
        {
            "TYPE": "TiledShapeStMan",
            "NAME": "TiledFlagCategory",
            "COLUMNS": ["FLAG_CATEGORY"],
            "SPEC": {"DEFAULTTILESHAPE": [2, 64, 64, 1]},
        },
        {"TYPE": "IncrementalStMan", "NAME": "Slow", "COLUMNS": list(_INCREMENTAL), "SPEC": {"BUCKETSIZE": 65536}},
        {"TYPE": "StandardStMan", "NAME": "Fast", "COLUMNS": ["ANTENNA1", "ANTENNA2"], "SPEC": {"BUCKETSIZE": 131072}},
    ]
    for manager in managers:
        for name in manager["COLUMNS"]:
            desc[name].update(dataManagerType=manager["TYPE"], dataManagerGroup=manager["NAME"])
    return desc, {f"*{n + 1}": manager for n, manager in enumerate(managers)}


def _write_main(tile: Tile, out: Path) -> None:
    from casacore import tables

    n_times, n_bls, n_chan, n_pol = tile.vis.shape
    desc, managers = _description(n_chan, n_pol, n_bls)
    n_rows = n_times * n_bls
    time_s = (tile.header.times_jd - JD_MINUS_MJD) * SECONDS_PER_DAY
    with tables.default_ms(os.fspath(out), desc, managers) as ms:
        ms.addrows(n_rows)
        for name in ("TIME", "TIME_CENTROID"):
            ms.putcol(name, np.repeat(time_s, n_bls))
        for name in ("INTERVAL", "EXPOSURE"):
            ms.putcol(name, np.full(n_rows, tile.header.integration_s))
        for name in ("ARRAY_ID", "DATA_DESC_ID", "FEED1", "FEED2", "FIELD_ID", "OBSERVATION_ID"):
            ms.putcol(name, np.zeros(n_rows, dtype=np.int32))
        for name in ("PROCESSOR_ID", "STATE_ID"):
            ms.putcol(name, np.full(n_rows, -1, dtype=np.int32))
        ms.putcol("SCAN_NUMBER", np.ones(n_rows, dtype=np.int32))
        ms.putcol("ANTENNA1", np.tile(tile.ant_1, n_times))
        ms.putcol("ANTENNA2", np.tile(tile.ant_2, n_times))
        ms.putcol("UVW", tile.uvw_m.reshape(n_rows, 3))
        mid_jd = 0.5 * (tile.header.times_jd[0] + tile.header.times_jd[-1])
        ms.putkeyword(SCALE_KEYWORD, apparent_scale(tile.geometry.phase_ra_rad, tile.geometry.phase_dec_rad, mid_jd))
        row_weight = np.ones((n_rows, n_pol), dtype=np.float32)
        flag_row = np.empty(n_rows, dtype=np.bool_)
        for t in range(n_times):
            flagged = tile.reasons[t] != 0
            flag_row[t * n_bls : (t + 1) * n_bls] = flagged.all(axis=(1, 2))
            weight = (~flagged).astype(np.float32)
            if tile.weights is not None:
                weight *= tile.weights[t]
                used = np.count_nonzero(weight, axis=1)
                row_weight[t * n_bls : (t + 1) * n_bls] = np.where(used > 0, weight.sum(axis=1) / np.maximum(used, 1), 1.0)
            ms.putcol("DATA", tile.vis[t], t * n_bls, n_bls)
            ms.putcol("FLAG", flagged, t * n_bls, n_bls)
            ms.putcol("WEIGHT_SPECTRUM", weight, t * n_bls, n_bls)
        ms.putcol("FLAG_ROW", flag_row)
        ms.putcol("WEIGHT", row_weight)
        ms.putcol("SIGMA", 1.0 / np.sqrt(row_weight))
