"""The catalog sky: one table of reference sources for sky models, imaging masks and photometry.

Columns: ``name``, ``ra_deg``, ``dec_deg`` (ICRS), ``flux_jy`` (1.4 GHz), ``spectral_index`` (S ~ nu**alpha; NaN if
unknown, in which case callers use -0.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.catalogs.calibrators import Calibrator
from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.errors import NonRetriableError
from dsa110_assets.files import is_openable, why_not_openable
from dsa110_assets.publication import publish

COLUMNS = ("name", "ra_deg", "dec_deg", "flux_jy", "spectral_index")
DEFAULT_SPECTRAL_INDEX = -0.7
NVSS_BEAM_ARCSEC = 45.0


def nvss_names(ra_deg: ArrayLike, dec_deg: ArrayLike) -> list[str]:
    """NVSS designations, ``NVSS JHHMMSS+DDMMSS``.

    The catalog prints positions to 0.01 s and 0.1 arcsec; names truncate the printed position to whole seconds.

    >>> nvss_names([128.728796], [55.572475])
    ['NVSS J083454+553420']
    """
    centiseconds = np.mod(np.rint(np.asarray(ra_deg, dtype=np.float64) * 24000.0).astype(np.int64), 8_640_000)
    declination = np.asarray(dec_deg, dtype=np.float64)
    tenths = np.rint(np.abs(declination) * 36000.0).astype(np.int64)
    seconds, arcsec = centiseconds // 100, tenths // 10
    return [
        f"NVSS J{s // 3600:02d}{s // 60 % 60:02d}{s % 60:02d}{'-' if negative else '+'}{a // 3600:02d}{a // 60 % 60:02d}{a % 60:02d}"
        for s, a, negative in zip(seconds.tolist(), arcsec.tolist(), (declination < 0).tolist(), strict=True)
    ]


def build_reference(nvss_file: Path, parquet: Path) -> int:
    """Build the reference catalog from NVSS (Parquet: ``ra_deg, dec_deg, peak_jy_per_beam``), sorted by declination.

    We use the peak as the total flux density, which is right for sources that NVSS's 45 arcsec beam does not resolve.
    The old file is kept until the new one is complete.

    Returns:
        Number of sources.

    Raises:
        NonRetriableError: the file cannot be read or lacks a column.
    """
    wanted = ["ra_deg", "dec_deg", "peak_jy_per_beam"]
    if (why := why_not_openable(nvss_file)) is not None:
        raise NonRetriableError(nvss_file, why, "set PIPELINE_NVSS_FILE")
    try:
        nvss = pd.read_parquet(nvss_file, columns=wanted)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise NonRetriableError(nvss_file, f"not NVSS as Parquet with {', '.join(wanted)} ({error})", "set PIPELINE_NVSS_FILE") from error
    nvss = _checked(nvss, nvss_file).drop_duplicates(["ra_deg", "dec_deg"])
    nvss = nvss.sort_values("dec_deg", kind="stable", ignore_index=True)
    table = pd.DataFrame(
        {
            "name": one_name_each(nvss_names(nvss["ra_deg"], nvss["dec_deg"])),
            "ra_deg": np.mod(nvss["ra_deg"].to_numpy(np.float64), 360.0),
            "dec_deg": nvss["dec_deg"].to_numpy(np.float64),
            "flux_jy": nvss["peak_jy_per_beam"].to_numpy(np.float64),
            "spectral_index": np.full(len(nvss), np.nan),
        }
    )
    write_table(table, parquet)
    return len(table)


def one_name_each(names: Sequence[str]) -> list[str]:
    """Names with a letter after each further use: two sources within a second of their name have one designation.

    >>> one_name_each(["NVSS J083454+553420", "NVSS J083454+553420"])
    ['NVSS J083454+553420', 'NVSS J083454+553420b']
    """
    seen: dict[str, int] = {}
    unique: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}{_letters(seen[name])}")
    return unique


def _letters(number: int) -> str:
    return chr(ord("a") + number - 1) if number <= 26 else f"-{number}"


def _checked(nvss: pd.DataFrame, nvss_file: Path) -> pd.DataFrame:
    """Positions and fluxes as numbers; refused if a row has none, so that no source vanishes silently."""
    columns = ["ra_deg", "dec_deg", "peak_jy_per_beam"]
    try:
        numbers = pd.DataFrame(nvss[columns].astype("float64"))
    except (ValueError, TypeError) as error:
        raise NonRetriableError(nvss_file, f"columns are not numbers ({error})", "set PIPELINE_NVSS_FILE") from error
    ra, dec, flux = (numbers[column].to_numpy() for column in columns)
    good = (ra >= -360.0) & (ra <= 360.0) & (np.abs(dec) <= 90.0) & np.isfinite(flux)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        found = ", ".join(f"{column} {numbers[column].iloc[row]}" for column in columns)
        raise NonRetriableError(
            nvss_file,
            f"{int((~good).sum())} of {len(good)} rows have no position or flux; the first is row {row + 1}: {found}",
            "give degrees and Jy/beam in each row",
        )
    return numbers


def write_table(table: pd.DataFrame, parquet: Path) -> None:
    """Write a catalog as Parquet; the old file is kept until the new one is on disk."""
    with publish(parquet) as staged:
        table.to_parquet(staged, index=False)


def load_reference(parquet: Path) -> pd.DataFrame:
    """Read a reference catalog (columns `COLUMNS`).

    Raises:
        NonRetriableError: the file is missing or is not such a catalog.
    """
    if not is_openable(parquet):
        raise NonRetriableError(parquet, "there is no reference catalog", "make it with `dsa110 catalogs refresh nvss`")
    try:
        return pd.read_parquet(parquet, columns=list(COLUMNS))
    except (OSError, ValueError) as error:
        raise NonRetriableError(parquet, f"not a reference catalog ({error})", "make it with `dsa110 catalogs refresh nvss`") from error


def separation_deg(sky: pd.DataFrame, ra_deg: float, dec_deg: float) -> NDArray[np.float64]:
    """Angular distance of every source from a direction, shape (Nsources,)."""
    return np.degrees(
        angular_separation_rad(np.radians(sky["ra_deg"]), np.radians(sky["dec_deg"]), np.radians(ra_deg), np.radians(dec_deg))
    )


def cone(sky: pd.DataFrame, ra_deg: float, dec_deg: float, radius_deg: float) -> pd.DataFrame:
    """Sources within ``radius_deg`` of a direction, brightest first; correct across 0h and the poles."""
    near = sky.loc[np.abs(sky["dec_deg"].to_numpy() - dec_deg) <= radius_deg]
    near = near.loc[separation_deg(near, ra_deg, dec_deg) <= radius_deg]
    return near.sort_values("flux_jy", ascending=False, kind="stable", ignore_index=True)


def strip(sky: pd.DataFrame, ra_from_deg: float, ra_to_deg: float, dec_deg: float, half_height_deg: float) -> pd.DataFrame:
    """Sources of a declination strip, from ``ra_from_deg`` eastward to ``ra_to_deg`` (across 0h if the end is smaller).

    Args:
        sky: reference catalog.
        ra_from_deg, ra_to_deg: limits; equal limits mean the whole circle.
        dec_deg: middle of the strip.
        half_height_deg: half of its height.

    Returns:
        In order of right ascension from the start.
    """
    width = (ra_to_deg - ra_from_deg) % 360.0 or 360.0
    offset = np.mod(sky["ra_deg"].to_numpy() - ra_from_deg, 360.0)
    inside = (offset <= width) & (np.abs(sky["dec_deg"].to_numpy() - dec_deg) <= half_height_deg)
    order = np.argsort(offset[inside], kind="stable")
    return sky.loc[inside].iloc[order].reset_index(drop=True)


def with_calibrators(sky: pd.DataFrame, calibrators: Sequence[Calibrator], *, radius_arcsec: float = NVSS_BEAM_ARCSEC) -> pd.DataFrame:
    """Put calibrators into the sky: each replaces all catalog sources within ``radius_arcsec`` of it.

    Position, flux at 1.4 GHz and spectral index are the calibrator's own (Perley-Butler 2017 for its standards). Its
    catalog counterparts, which may be components of a resolved source, are removed, so that no flux counts twice.

    Raises:
        FluxScaleError: a calibrator has no reliable flux (pitfall 10).
    """
    keep = np.ones(len(sky), dtype=bool)
    rows: list[dict[str, object]] = []
    for c in calibrators:
        rows.append({"name": c.name, "ra_deg": c.ra_deg, "dec_deg": c.dec_deg, "flux_jy": c.flux_at_jy(), "spectral_index": c.index})
        keep &= separation_deg(sky, c.ra_deg, c.dec_deg) > radius_arcsec / 3600.0
    if not rows:
        return sky.reset_index(drop=True)
    return pd.concat([pd.DataFrame(rows, columns=list(COLUMNS)), sky.loc[keep]], ignore_index=True)


def of_calibrators(calibrators: Sequence[Calibrator]) -> pd.DataFrame:
    """The calibrators as rows of a sky, without those that have no flux at 20 cm.

    For a variable the flux is the manual's: a first guess that an image's fit corrects. It never sets a flux scale.
    """
    rows = [
        (c.name, c.ra_deg, c.dec_deg, c.flux_at_jy() if c.sets_flux_scale else c.flux_jy, c.index)
        for c in calibrators
        if c.flux_jy is not None
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(COLUMNS[1:], "float64"))


def completed(sky: pd.DataFrame, more: pd.DataFrame, *, radius_arcsec: float = NVSS_BEAM_ARCSEC) -> pd.DataFrame:
    """The sky with the rows of ``more`` that it lacks, so that no source counts twice.

    A row is there already if the sky's sources within ``radius_arcsec`` have half of its flux together. Otherwise it
    takes their place.
    """
    keep, lacking = np.ones(len(sky), dtype=bool), np.zeros(len(more), dtype=bool)
    flux = sky["flux_jy"].to_numpy(dtype=float)
    columns = (more[name].to_numpy(dtype=float).tolist() for name in ("ra_deg", "dec_deg", "flux_jy"))
    for number, (ra_deg, dec_deg, flux_jy) in enumerate(zip(*columns, strict=True)):
        close = separation_deg(sky, ra_deg, dec_deg) <= radius_arcsec / 3600.0
        if flux[close].sum() < 0.5 * flux_jy:
            lacking[number] = True
            keep &= ~close
    if not lacking.any():
        return sky
    return pd.concat([more.loc[lacking, list(COLUMNS)], sky.loc[keep]], ignore_index=True)
