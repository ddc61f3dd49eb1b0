"""Files about a simulated sky: the catalogs that the pipeline may read, and the truth that it never reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dsa110_assets.simulation.sky import CALIBRATOR_NAME, REFERENCE_HZ, Constant, Sky

_MANUAL_HEAD = (
    "IAU NAME EQUINOX  PC RA(hh,mm,ss)    DEC(ddd,mm,ss)   POS.REF ALT.NAME",
    "===================================================================",
    " ",
)
_MANUAL_BANDS = (
    "-----------------------------------------------------",
    "BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)",
    "=====================================================",
)


@dataclass(frozen=True)
class ReferenceFiles:
    """The files of `write_reference_catalogs`, for the settings of the catalog refresh."""

    vla_calibrators: Path
    nvss: Path
    monitored: Path


def write_reference_catalogs(
    sky: Sky, directory: Path, *, calibrators: Sequence[str] = (CALIBRATOR_NAME,), monitored: Sequence[str] | None = None
) -> ReferenceFiles:
    """Write what an observer would know of the sky: cataloged fluxes and positions, no variability.

    Args:
        sky: its ``flux_jy`` are the cataloged fluxes at 1.4 GHz.
        directory: created if missing.
        calibrators: names of the sources for the calibrator manual.
        monitored: names of the sources to monitor; by default those that vary.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = ReferenceFiles(directory / "vla_calibrators.txt", directory / "nvss.parquet", directory / "monitored.csv")
    lines = list(_MANUAL_HEAD)
    for name in calibrators:
        i = sky.names.index(name)
        lines += _manual_entry(name, float(sky.ra_deg[i]), float(sky.dec_deg[i]), float(sky.flux_jy[i]))
    files.vla_calibrators.write_text("\n".join(lines) + "\n")
    pd.DataFrame({"ra_deg": sky.ra_deg, "dec_deg": sky.dec_deg, "peak_jy_per_beam": sky.flux_jy}).to_parquet(files.nvss, index=False)
    if monitored is None:
        monitored = [name for name, curve in zip(sky.names, sky.light_curves, strict=False) if not isinstance(curve, Constant)]
    chosen = [sky.names.index(name) for name in monitored]
    pd.DataFrame({"name": list(monitored), "ra_deg": sky.ra_deg[chosen], "dec_deg": sky.dec_deg[chosen]}).to_csv(
        files.monitored, index=False
    )
    return files


def _manual_entry(name: str, ra_deg: float, dec_deg: float, flux_jy: float) -> list[str]:
    """Format one source as text of the VLA calibrator manual."""
    ra_us = round(ra_deg % 360 / 15 * 3600e6)
    dec_us = round(abs(dec_deg) * 3600e6)
    sign = "-" if dec_deg < 0 else ""
    ra = f"{ra_us // 3_600_000_000:02d}h{ra_us // 60_000_000 % 60:02d}m{ra_us % 60_000_000 / 1e6:09.6f}s"
    dec = f"{sign}{dec_us // 3_600_000_000:02d}d{dec_us // 60_000_000 % 60:02d}'{dec_us % 60_000_000 / 1e6:09.6f}\""
    return [
        f"{name}   J2000  A {ra}  {dec}  Aug01         ",
        *_MANUAL_BANDS,
        f" 20cm    L  S P P P  {flux_jy:9.2f}                      100   visplot",
        " ",
    ]


def flux_table(sky: Sky, epochs_mjd: Mapping[str, float]) -> pd.DataFrame:
    """Table of true fluxes, one row for each source.

    Columns: name, ra_deg, dec_deg, spectral_index, flux_jy (cataloged), light_curve, ``flux_jy_<epoch>`` at 1.4 GHz.
    """
    columns: dict[str, object] = {
        "name": list(sky.names),
        "ra_deg": sky.ra_deg,
        "dec_deg": sky.dec_deg,
        "spectral_index": sky.spectral_index,
        "flux_jy": sky.flux_jy,
        "light_curve": [type(curve).__name__ for curve in sky.light_curves] or ["Constant"] * len(sky),
    }
    columns |= {f"flux_jy_{epoch}": sky.flux_at(mjd, REFERENCE_HZ) for epoch, mjd in epochs_mjd.items()}
    return pd.DataFrame(columns)


def write_truth(sky: Sky, directory: Path, epochs_mjd: Mapping[str, float], facts: Mapping[str, object]) -> tuple[Path, Path]:
    """Write ``truth.parquet`` (`flux_table`) and ``truth.json`` (the same and ``facts``); return both paths."""
    directory.mkdir(parents=True, exist_ok=True)
    table = flux_table(sky, epochs_mjd)
    parquet, as_json = directory / "truth.parquet", directory / "truth.json"
    table.to_parquet(parquet, index=False)
    content = {**facts, "reference_hz": REFERENCE_HZ, "epochs_mjd": dict(epochs_mjd), "sources": table.to_dict(orient="records")}
    as_json.write_text(json.dumps(content, indent=1, default=_jsonable) + "\n")
    return parquet, as_json


def _jsonable(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return value.name
    msg = f"truth.json cannot hold a {type(value).__name__}"
    raise TypeError(msg)
