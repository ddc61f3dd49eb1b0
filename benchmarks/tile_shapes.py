"""Reading speed of a Measurement Set's DATA for several tile shapes of the storage manager, to choose the shape.

``python -m benchmarks.tile_shapes [DIRECTORY]``. Writes DATA of 8 integrations of a full-size tile (458 MB) in each
shape and reads it in the ways of later stages and of people. Prints one line of JSON per shape, with CPU seconds (user
and system) of this process, reading from the page cache.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from casacore import tables

import dsa110_assets  # noqa: F401 - names CASA's configuration

N_TIMES, N_BLS, N_CHAN = 8, 4656, 768
SHAPES = ((64, 776), (48, 194), (48, 97), (768, 97), (768, 776), (64, 4656))
"""(channels, rows) of a tile."""


def write(path: Path, channels: int, rows: int, data: np.ndarray) -> None:
    """Write a table with one tiled column, integration by integration."""
    column = tables.makearrcoldesc("DATA", 0j, valuetype="complex", shape=[N_CHAN, 2], options=4)
    column["desc"] |= {"dataManagerType": "TiledColumnStMan", "dataManagerGroup": "Tiled"}
    manager = {"*1": {"TYPE": "TiledColumnStMan", "NAME": "Tiled", "COLUMNS": ["DATA"], "SPEC": {"DEFAULTTILESHAPE": [2, channels, rows]}}}
    with tables.table(os.fspath(path), tables.maketabdesc(column), nrow=N_TIMES * N_BLS, dminfo=manager, ack=False) as table:
        for t in range(N_TIMES):
            table.putcol("DATA", data, t * N_BLS, N_BLS)


def by_integration(table: tables.table) -> None:
    """Read whole integrations, one after another, as apply and imaging do."""
    for t in range(N_TIMES):
        table.getcol("DATA", t * N_BLS, N_BLS)


def by_subband(table: tables.table) -> None:
    """Read 48 channels of all rows, as a solver does that goes through the band."""
    for first in range(0, N_CHAN, 192):
        table.getcolslice("DATA", [first, 0], [first + 47, 1])


def by_baseline(table: tables.table) -> None:
    """Read all integrations and channels of some baselines, as plots and spectra do."""
    for baseline in range(0, N_BLS, 466):
        table.selectrows(list(range(baseline, N_TIMES * N_BLS, N_BLS))).getcol("DATA")


def by_row(table: tables.table) -> None:
    """Read 2000 consecutive rows one at a time."""
    for row in range(20_000, 22_000):
        table.getcell("DATA", row)


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    work()
    return round(time.process_time() - started, 2)


def main() -> None:
    """Measure each shape."""
    rng = np.random.default_rng(1)
    data = rng.normal(size=(N_BLS, N_CHAN, 4)).astype(np.float32).view(np.complex64)
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        path = Path(directory) / "table"
        write(path, *SHAPES[0], data)  # the first write also allocates memory
        shutil.rmtree(path)
        for channels, rows in SHAPES:
            result: dict[str, object] = {"channels": channels, "rows": rows, "tile_kb": round(channels * rows * 16 / 1024)}
            result["write"] = cpu_s(lambda: write(path, channels, rows, data))  # noqa: B023
            for way in (by_integration, by_subband, by_baseline, by_row):
                with tables.table(os.fspath(path), ack=False) as table:
                    result[way.__name__] = cpu_s(lambda: way(table))  # noqa: B023
            print(json.dumps(result), flush=True)
            shutil.rmtree(path)


if __name__ == "__main__":
    main()
