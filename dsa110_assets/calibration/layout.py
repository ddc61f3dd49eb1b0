"""New Measurement Sets in the layout of an existing one: same subtables, other rows and channels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.measurement_sets import open_table

_TILE_BYTES = 1 << 20
_SUBTABLES = (
    "ANTENNA", "DATA_DESCRIPTION", "FEED", "FIELD", "FLAG_CMD", "HISTORY", "OBSERVATION", "POINTING", "POLARIZATION", "PROCESSOR",
    "SOURCE", "SPECTRAL_WINDOW", "STATE",
)  # fmt: skip


def create_like(main: Any, out: Path, *, n_rows: int, n_channels: int, columns: Sequence[str] = ("DATA",)) -> None:
    """Create ``out`` with ``n_rows`` empty rows of ``n_channels`` channels and two polarizations; subtables are copied.

    Args:
        main: open main table of the existing Measurement Set.
        out: path that does not exist yet.
        n_rows: rows to make.
        n_channels: channels of each visibility.
        columns: complex columns; FLAG and WEIGHT_SPECTRUM are added to them.
    """
    from casacore.tables import makearrcoldesc, maketabdesc, required_ms_desc, table

    shape = [n_channels, 2]
    description = required_ms_desc()
    description.update(
        maketabdesc(
            [
                *(makearrcoldesc(name, 0j, ndim=2, shape=shape, valuetype="complex", options=5) for name in columns),
                makearrcoldesc("WEIGHT_SPECTRUM", 0.0, ndim=2, shape=shape, valuetype="float", options=5),
            ]
        )
    )
    description["FLAG_CATEGORY"]["keywords"] = {"CATEGORY": np.array(["baddata"])}  # CASA's tasks need it
    cell_bytes = {**dict.fromkeys(columns, 8), "FLAG": 1, "WEIGHT_SPECTRUM": 4, "WEIGHT": 4, "SIGMA": 4, "UVW": 8}
    cell_shape = {**dict.fromkeys(cell_bytes, shape), "WEIGHT": [2], "SIGMA": [2], "UVW": [3]}
    managers: dict[str, Any] = {}
    for name, size in cell_bytes.items():
        cell = cell_shape[name]
        description[name].update(ndim=len(cell), shape=np.array(cell, dtype=np.int32), option=5)
        rows = max(1, min(n_rows or 1, _TILE_BYTES // (size * int(np.prod(cell)))))
        managers[f"*{len(managers) + 1}"] = _tiled(name, [*reversed(cell), rows])
    with table(str(out), description, nrow=n_rows, dminfo=managers, ack=False) as new:
        new.putinfo({"type": "Measurement Set", "subType": "", "readme": ""})
        for name in ("UVW", "TIME", "TIME_CENTROID", "INTERVAL", "EXPOSURE"):
            for key, value in main.getcolkeywords(name).items():
                new.putcolkeyword(name, key, value)
        for name in _SUBTABLES:
            if name in main.getkeywords():
                with table(f"{main.name()}::{name}", ack=False) as original:
                    original.copy(str(out / name), deep=True, valuecopy=True).close()
                new.putkeyword(name, f"Table: {out / name}", makesubrecord=False)
    _fill_feed(out)


def _fill_feed(out: Path) -> None:
    """Write two linear receptors per antenna if FEED is empty: without them CASA's solvers abort the process."""
    with open_table(out, "ANTENNA") as antenna:
        n = antenna.nrows()
    with open_table(out, "FEED", writable=True) as feed:
        if feed.nrows() > 0:
            return
        feed.addrows(n)
        feed.putcol("ANTENNA_ID", np.arange(n, dtype=np.int32))
        feed.putcol("BEAM_ID", np.full(n, -1, dtype=np.int32))
        feed.putcol("SPECTRAL_WINDOW_ID", np.full(n, -1, dtype=np.int32))
        feed.putcol("NUM_RECEPTORS", np.full(n, 2, dtype=np.int32))
        feed.putcol("POLARIZATION_TYPE", {"shape": [n, 2], "array": ["X", "Y"] * n})
        feed.putcol("POL_RESPONSE", np.tile(np.eye(2, dtype=np.complex64), (n, 1, 1)))
        feed.putcol("RECEPTOR_ANGLE", np.zeros((n, 2)))
        feed.putcol("BEAM_OFFSET", np.zeros((n, 2, 2)))
        feed.putcol("POSITION", np.zeros((n, 3)))
        feed.putcol("INTERVAL", np.full(n, 1e30))


def _tiled(name: str, shape: Sequence[int]) -> dict[str, Any]:
    return {
        "TYPE": "TiledColumnStMan",
        "NAME": f"Tiled{name}",
        "COLUMNS": np.array([name]),
        "SPEC": {"DEFAULTTILESHAPE": np.array(shape, dtype=np.int32)},
    }


def set_channels(ms: Path, frequency_hz: NDArray[np.float64], width_hz: NDArray[np.float64]) -> None:
    """Rewrite the channels of the one spectral window."""
    with open_table(ms, "SPECTRAL_WINDOW", writable=True) as window:
        window.putcell("NUM_CHAN", 0, int(frequency_hz.size))
        window.putcell("CHAN_FREQ", 0, frequency_hz)
        for name in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
            window.putcell(name, 0, width_hz)
        window.putcell("REF_FREQUENCY", 0, float(frequency_hz[0]))
        window.putcell("TOTAL_BANDWIDTH", 0, float(np.abs(width_hz).sum()))
