"""Radio surveys as local tables: NVSS, FIRST, RACS-mid and VLASS, fetched from VizieR strip by strip.

A table has the columns of the reference sky (`sky.COLUMNS`, so that the searches in `sky` work on each survey) and
`MORE_COLUMNS`. Its ``attrs`` record its origin and the part of the sky that it covers. ``flux_jy`` is at the survey's
own frequency.
"""

# astropy's tables and units ship no types:
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.catalogs import sky
from dsa110_assets.catalogs.survey_list import Survey
from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.errors import CatalogServiceError, ConfigurationError, NonRetriableError

MORE_COLUMNS = ("flux_error_jy", "peak_jy_per_beam", "major_arcsec", "minor_arcsec", "position_angle_deg", "frequency_hz")
TALLEST_BAND_DEG = 12.0
NEAR_POLE_DEG = 84.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Strip:
    """A strip of declination, over all right ascensions."""

    dec_deg: float
    half_height_deg: float

    @property
    def limits_deg(self) -> tuple[float, float]:
        """Lowest and highest declination."""
        return max(self.dec_deg - self.half_height_deg, -90.0), min(self.dec_deg + self.half_height_deg, 90.0)


def cones_of(strip: Strip) -> list[tuple[float, float, float]]:
    """Cones (ra, dec, radius; degrees) that together cover a strip; near a pole, one cone around the pole."""
    lowest, highest = strip.limits_deg
    edges = np.linspace(lowest, highest, 1 + max(1, math.ceil((highest - lowest) / TALLEST_BAND_DEG)))
    cones: list[tuple[float, float, float]] = []
    for low, high in pairwise(edges.tolist()):
        middle, height = 0.5 * (low + high), max(high - low, 0.02)
        nearest, furthest = sorted((abs(low), abs(high)))
        if furthest > NEAR_POLE_DEG:
            cones.append((0.0, math.copysign(90.0, middle), 1.01 * (90.0 - nearest)))
            continue
        count = max(3, math.ceil(360.0 * math.cos(math.radians(0.0 if low < 0 < high else nearest)) / height))
        corners = angular_separation_rad(0.0, np.radians(middle), np.radians(180.0 / count), np.radians([low, middle, high]))
        radius = 1.01 * float(np.degrees(corners.max()))
        cones += [(360.0 * (n + 0.5) / count, middle, radius) for n in range(count)]
    return cones


def fetch(
    survey: Survey,
    strips: Sequence[Strip],
    *,
    min_mjy: float = 0.0,
    server: str,
    timeout_s: float = 300.0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Fetch strips of a survey from VizieR through astroquery.

    Args:
        survey: from `SURVEYS`.
        strips: strips to fetch; they may overlap.
        min_mjy: faintest flux density.
        server: host of VizieR or of a mirror.
        timeout_s: for each request.
        progress: called with the number of finished requests and the total.

    Returns:
        Sorted by declination, without duplicates; ``attrs["survey"]`` describes the contents.

    Raises:
        CatalogServiceError: the service cannot be reached, or its response is not valid.
        ConfigurationError: the survey does not cover a strip.
    """
    for strip in strips:
        low, high = strip.limits_deg
        if high < survey.dec_deg[0] or low > survey.dec_deg[1]:
            raise ConfigurationError(
                survey.name,
                f"covers declinations {survey.dec_deg[0]:.0f} to {survey.dec_deg[1]:.0f}, not {low:.1f} to {high:.1f}",
                "give another --dec",
            )
    cones = [cone for strip in strips for cone in cones_of(strip)]
    parts: list[pd.DataFrame] = []
    for done, cone in enumerate(cones):
        if progress is not None:
            progress(done, len(cones))
        response = _query(survey, cone, min_mjy=min_mjy, server=server, timeout_s=timeout_s)
        if response is not None:
            parts.append(table_of(survey, response))
    whole = pd.concat(parts, ignore_index=True) if parts else _empty()
    dec = whole["dec_deg"].to_numpy()
    wanted = np.zeros(len(whole), dtype=bool)
    for strip in strips:
        wanted |= (dec >= strip.limits_deg[0]) & (dec <= strip.limits_deg[1])
    whole = whole.loc[wanted & (whole["flux_jy"].to_numpy() * 1e3 >= min_mjy)]
    whole = whole.drop_duplicates(["ra_deg", "dec_deg", "flux_jy"]).sort_values("dec_deg", kind="stable", ignore_index=True)
    whole.attrs["survey"] = {
        "name": survey.name,
        "vizier": survey.vizier,
        "reference": survey.reference,
        "server": server,
        "fetched": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "min_mjy": min_mjy,
        "strips_deg": [list(strip.limits_deg) for strip in strips],
    }
    return whole


def _query(survey: Survey, cone: tuple[float, float, float], *, min_mjy: float, server: str, timeout_s: float) -> Any:
    """Send one request; None when the cone has no source."""
    import astropy.units as u
    import requests
    from astropy.coordinates import SkyCoord
    from astroquery.exceptions import RemoteServiceError, TableParseError
    from astroquery.vizier import VizierClass

    columns = ["_RAJ2000", "_DEJ2000", survey.flux, survey.error, survey.peak, *survey.shape, *(name for name, _ in survey.keep)]
    ra, dec, radius = cone
    try:
        vizier = VizierClass(
            columns=[name for name in columns if name],
            column_filters={survey.flux: f">={min_mjy:g}"} if min_mjy > 0 else {},
            vizier_server=server,
            timeout=timeout_s,
            row_limit=-1,
        )
        tables = vizier.query_region(SkyCoord(ra * u.deg, dec * u.deg), radius=radius * u.deg, catalog=survey.vizier, cache=False)
    except (requests.RequestException, RemoteServiceError, TableParseError, TimeoutError, OSError) as error:
        raise CatalogServiceError(
            f"VizieR ({server})", f"{survey.vizier}: {error}", "try again later, or set PIPELINE_VIZIER_SERVER to a mirror"
        ) from error
    if tables is None:
        raise CatalogServiceError(
            f"VizieR ({server})",
            f"{survey.vizier}: the response is not a VOTable",
            "try again later, or set PIPELINE_VIZIER_SERVER to a mirror",
        )
    if len(tables) == 0:
        return None
    return tables[0]


def table_of(survey: Survey, response: Any) -> pd.DataFrame:
    """Convert VizieR's columns (an astropy table) to ours.

    Raises:
        NonRetriableError: positions or fluxes are missing because the table has changed.
    """
    missing = [name for name in ("_RAJ2000", "_DEJ2000", survey.flux, *(name for name, _ in survey.keep)) if name not in response.colnames]
    if missing:
        raise NonRetriableError(
            survey.vizier, f"VizieR's table has no column {', '.join(missing)}", "report this; until then, use a file of the survey"
        )
    good = np.ones(len(response), dtype=bool)
    for name, values in survey.keep:
        good &= np.isin(np.ma.filled(response[name], -1), values)
    ra, dec = _numbers(response, "_RAJ2000", "deg"), _numbers(response, "_DEJ2000", "deg")
    major, minor, angle = survey.shape
    table = pd.DataFrame(
        {
            "name": names_of(survey, ra, dec),
            "ra_deg": np.mod(ra, 360.0),
            "dec_deg": dec,
            "flux_jy": _numbers(response, survey.flux, "Jy"),
            "spectral_index": np.nan,
            "flux_error_jy": _numbers(response, survey.error, "Jy"),
            "peak_jy_per_beam": _numbers(response, survey.peak, "Jy"),
            "major_arcsec": _numbers(response, major, "arcsec"),
            "minor_arcsec": _numbers(response, minor, "arcsec"),
            "position_angle_deg": _numbers(response, angle, "deg"),
            "frequency_hz": survey.frequency_hz,
        }
    )
    table = table.loc[good & np.isfinite(table["flux_jy"].to_numpy()) & np.isfinite(ra) & np.isfinite(dec)].reset_index(drop=True)
    return table.assign(name=sky.one_name_each(table["name"].tolist()))


def names_of(survey: Survey, ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> list[str]:
    """Designations from positions, truncated as the IAU recommends; NVSS's own rule for NVSS.

    >>> names_of(SURVEYS["vlass"], np.array([128.728796]), np.array([55.572475]))
    ['VLASS1QL J083454.91+553420.9']
    """
    if survey.digits == 0:
        return sky.nvss_names(ra_deg, dec_deg)
    fine, coarse = 10**survey.digits, 10 ** (survey.digits - 1)
    seconds = np.floor(np.mod(ra_deg, 360.0) * 240.0 * fine + 1e-6).astype(np.int64)
    arcsec = np.floor(np.abs(dec_deg) * 3600.0 * coarse + 1e-6).astype(np.int64)
    names: list[str] = []
    for s, a, negative in zip(seconds.tolist(), arcsec.tolist(), (dec_deg < 0).tolist(), strict=True):
        (s, s_part), (a, a_part) = divmod(s, fine), divmod(a, coarse)  # noqa: PLW2901
        tail = f".{a_part:0{survey.digits - 1}d}" if survey.digits > 1 else ""
        names.append(
            f"{survey.prefix} J{s // 3600:02d}{s // 60 % 60:02d}{s % 60:02d}.{s_part:0{survey.digits}d}"
            f"{'-' if negative else '+'}{a // 3600:02d}{a // 60 % 60:02d}{a % 60:02d}{tail}"
        )
    return names


def _numbers(response: Any, name: str | None, unit: str) -> NDArray[np.float64]:
    """Read a column in our unit; NaN where it is masked or absent.

    VizieR's mJy/beam counts as mJy. A column without a unit is in mJy, or in our unit if it is not a flux.
    """
    import astropy.units as u

    if name is None or name not in response.colnames:
        return np.full(len(response), np.nan)
    column = response[name]
    values = np.asarray(np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan))
    given = u.Unit(str(column.unit).split("/", maxsplit=1)[0]) if column.unit is not None else u.Unit("mJy" if unit == "Jy" else unit)
    return values * np.asarray(given.to(u.Unit(unit)), dtype=np.float64)


def _empty() -> pd.DataFrame:
    return pd.DataFrame({name: np.array([], dtype=object if name == "name" else float) for name in (*sky.COLUMNS, *MORE_COLUMNS)})


def save(table: pd.DataFrame, parquet: Path) -> None:
    """Write a survey's table; the old file is kept until the new one is complete.

    Raises:
        NonRetriableError: the table is empty.
    """
    if table.empty:
        raise NonRetriableError(
            parquet, "the survey has no source there", "choose another --dec or a lower --min-mjy; the old table is kept"
        )
    sky.write_table(table, parquet)


def load(parquet: Path) -> pd.DataFrame:
    """Load a survey's table or the reference sky; ``attrs`` describe the contents.

    Raises:
        NonRetriableError: the file is missing or is not such a table.
    """
    if not parquet.is_file():
        raise NonRetriableError(parquet, "there is no such table", f"make it with `dsa110 catalogs refresh {parquet.stem} --dec DEC`")
    try:
        table = pd.read_parquet(parquet)
    except (OSError, ValueError) as error:
        raise NonRetriableError(parquet, f"not a catalog ({error})", f"make it with `dsa110 catalogs refresh {parquet.stem}`") from error
    if not set(sky.COLUMNS) <= set(table.columns):
        raise NonRetriableError(parquet, f"columns are {list(table.columns)}", f"make it with `dsa110 catalogs refresh {parquet.stem}`")
    return table
