"""The VLA calibrator manual: parsed once into SQLite, searched for sources that transit in a tile.

A calibrator without a flux at 20 cm stays in the catalog without one: no flux is ever assumed (pitfall 10). Known
variable sources never set the flux scale. The absolute scale itself is in `perley_butler_2017`.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsa110_assets.catalogs import perley_butler_2017
from dsa110_assets.common.directions import (
    Site,
    TilePointing,
    angular_separation_rad,
    apparent_to_icrs,
    icrs_to_apparent,
    local_apparent_sidereal_time_rad,
)
from dsa110_assets.common.instrument import airy_power_beam, drift_averaged_power_beam
from dsa110_assets.common.interferometry import SIDEREAL_DAY_DAYS
from dsa110_assets.errors import FluxScaleError, NoCalibratorError, NonRetriableError
from dsa110_assets.files import is_openable, printable, why_not_openable
from dsa110_assets.publication import publish

REFERENCE_FREQUENCY_HZ = 1.4e9
"""Assumed frequency of the manual's 20 cm fluxes (the manual states only the band)."""
C_BAND_HZ = 4.86e9
"""The manual's 6 cm band; with the 20 cm band it gives a spectral index."""

_WIDEST_DEG = 4.0
_TRACKING_RAD = 1e-6
"""No source farther than this from the pointing, precession included, is in the main lobe."""

VARIABLE = frozenset(
    (
        "0238+166", "0319+415", "0423-013", "0433+053", "0530+135", "0721+713", "0854+201", "0927+390", "1229+020", "1256-057",
        "1310+323", "1512-090", "1635+381", "1642+398", "1733-130", "1751+096", "2136+006", "2148+069", "2202+422", "2225-049",
        "2232+117", "2253+161",
    )
)  # fmt: skip
"""J2000 names of blazars and similar sources whose 20 cm flux changes by tens of percent.

Source: monitoring by the University of Michigan and the VLA.
"""

_J2000 = re.compile(
    r"^(?P<name>\d{4}[+-]\d{3})\s+J2000\s+(?P<position>[A-Z])\s+(?P<h>\d+)h(?P<m>\d+)m(?P<s>[\d.]+)s\s+"
    r"(?P<sign>-?)(?P<d>\d+)d(?P<arcmin>\d+)'(?P<arcsec>[\d.]+)\"(?P<rest>.*)$"
)
_BAND = re.compile(r"^\s*(?P<band>[\d.]+)cm\s+[A-Z]\b(?P<rest>.*)$")
_LARGEST_FLUX_JY = 1e5
"""Nothing in the sky but the Sun is brighter at these frequencies."""
_FLUX_ENDS_BY = 32
"""Column at which the FLUX field ends at the latest. Numbers farther right are UVMIN and UVMAX (pitfall 10)."""


@dataclass(frozen=True)
class Calibrator:
    """One entry of the manual.

    ``name``: J2000 name. ``alt_name``: 3C or other name, may be empty. ``ra_deg``, ``dec_deg``: J2000 (ICRS to the
    catalog's accuracy). ``position_code``: A (< 2 mas), B (< 0.01 arcsec), C (< 0.15 arcsec), T (worse). ``flux_jy``:
    at 1.4 GHz; None where the manual gives none. ``spectral_index``: of S ~ nu**alpha from 20 and 6 cm, None where
    unknown. ``quality``: codes of the VLA configurations A, B, C, D at 20 cm (P < 3 %, S 3-10 %, W 10-? % amplitude
    closure errors, C confused, X do not use, ? unknown). ``is_variable``: its flux today may differ from the manual's.
    """

    name: str
    alt_name: str
    ra_deg: float
    dec_deg: float
    position_code: str
    flux_jy: float | None
    spectral_index: float | None
    quality: str
    is_variable: bool

    @property
    def standard(self) -> str | None:
        """Name in the scale of Perley & Butler (2017), or None."""
        found = perley_butler_2017.standard(self.name)
        return None if found is None else found.name

    @property
    def sets_flux_scale(self) -> bool:
        """Whether a reliable flux density for today exists."""
        return self.standard is not None or (self.flux_jy is not None and not self.is_variable)

    @property
    def is_compact(self) -> bool:
        """Whether it is usable on baselines up to 2.6 km, as in the VLA's C array: neither X nor confused in C or D."""
        return any(code in "PSW" for code in self.quality[2:4])

    @property
    def scale(self) -> str:
        """Source of its flux density, or the reason why there is none, in words."""
        if self.standard is not None:
            return "Perley-Butler 2017"
        if self.flux_jy is None:
            return "none: no flux at 20 cm"
        return "none: variable" if self.is_variable else "VLA manual"

    def flux_at_jy(self, frequency_hz: float = REFERENCE_FREQUENCY_HZ) -> float:
        """Flux density in Jy: Perley-Butler 2017 for its standards, else the manual's, scaled by the spectral index.

        Raises:
            FluxScaleError: the manual gives no flux at 20 cm, or the source is variable (pitfall 10).
        """
        if self.standard is not None:
            return float(perley_butler_2017.flux_jy(self.standard, frequency_hz))
        if self.flux_jy is None:
            raise FluxScaleError(self.name, "the manual gives no flux density at 20 cm", "use a tile with another calibrator")
        if self.is_variable:
            raise FluxScaleError(self.name, "its flux density varies, so the manual's value may be out of date", "use another calibrator")
        return self.flux_jy * (frequency_hz / REFERENCE_FREQUENCY_HZ) ** self.index

    @property
    def index(self) -> float:
        """Spectral index at 1.4 GHz; -0.7 if unknown."""
        if self.standard is not None:
            return perley_butler_2017.spectral_index(self.standard, REFERENCE_FREQUENCY_HZ)
        return -0.7 if self.spectral_index is None else self.spectral_index


@dataclass(frozen=True)
class Manual:
    """The manual, read. ``entries``: in its order. ``unread``: lines that should be entries or bands, and why not.

    ``n_repeated``: exact repetitions of entries, which were left out.
    """

    entries: tuple[Calibrator, ...]
    unread: tuple[str, ...] = ()
    n_repeated: int = 0


def parse_manual(text: str) -> list[Calibrator]:
    """Entries of the manual; see `read_manual`."""
    return list(read_manual(text).entries)


def read_manual(text: str) -> Manual:
    """Read the text of the manual; keep both entries of a name that occurs twice with different positions.

    Columns are known by their place. A line that cannot be read is named in the result, and takes no other's place.

    Raises:
        NonRetriableError: the text has no entry, so it is not the manual.
    """
    entries: dict[Calibrator, None] = {}
    unread: list[str] = []
    n_repeated = 0
    header: re.Match[str] | None = None
    bands: dict[str, tuple[str, float | None]] = {}
    for number, line in enumerate([*text.expandtabs().splitlines(), ""], start=1):
        is_entry = " J2000 " in line
        if not line.strip() or is_entry:  # a few entries have no blank line between them
            if header is not None:
                one = _calibrator(header, bands)
                n_repeated += one in entries
                entries[one] = None
            header, bands = None, {}
        if is_entry:
            header = _J2000.match(line)
            why = "its position is not in the manual's format" if header is None else _impossible(header)
            if why is not None:
                header = None
                unread.append(f"line {number}, {why}: {printable(line.strip())[:80]}")
        elif (match := _BAND.match(line)) is not None:
            read = _band(match)
            if read is None:
                unread.append(f"line {number}, its flux is no number: {printable(line.strip())[:80]}")
            elif header is not None:
                bands[match["band"]] = read
    if not entries:
        raise NonRetriableError("VLA calibrator manual", "no entry could be read", "give the manual as text (its J2000 and BAND lines)")
    return Manual(tuple(entries), tuple(unread), n_repeated)


def _impossible(header: re.Match[str]) -> str | None:
    try:
        hours, degrees = float(header["h"]), float(header["d"])
        small = [float(header[name]) for name in ("m", "s", "arcmin", "arcsec")]
    except ValueError:
        return "its position is no number"
    return None if hours < 24 and degrees < 90 and max(small) < 60 else "its position is impossible"


def _band(match: re.Match[str]) -> tuple[str, float | None] | None:
    """Quality codes and flux density of a band; None if the flux is no number. A blank field gives no flux."""
    tokens = [(token[0], match.start("rest") + token.end()) for token in re.finditer(r"\S+", match["rest"])]
    codes = [word.upper() for word, _ in tokens if re.fullmatch(r"[A-Za-z?]", word)][:4]
    others = [(word, end) for word, end in tokens if not re.fullmatch(r"[A-Za-z?]", word)]
    flux = None
    if others and others[0][1] <= _FLUX_ENDS_BY:
        try:
            flux = float(others[0][0])
        except ValueError:
            return None
        if "_" in others[0][0] or not 0 <= flux <= _LARGEST_FLUX_JY:
            return None
    return "".join(codes).ljust(4, "?"), flux


def _calibrator(header: re.Match[str], bands: dict[str, tuple[str, float | None]]) -> Calibrator:
    quality, flux = bands.get("20", ("????", None))
    flux = None if flux is None or flux <= 0 else flux  # the manual prints 0.00 for 13 sources, 3C279 among them
    flux_6cm = bands.get("6", ("????", None))[1]
    variable = header["name"] in VARIABLE
    index = None
    if flux and flux_6cm and not variable:
        index = float(np.log(flux / flux_6cm) / np.log(REFERENCE_FREQUENCY_HZ / C_BAND_HZ))
    dec = int(header["d"]) + int(header["arcmin"]) / 60 + float(header["arcsec"]) / 3600
    words = header["rest"].split()
    return Calibrator(
        name=header["name"],
        alt_name=words[-1] if len(words) > 1 else "" if words and re.fullmatch(r"[A-Z][a-z]{2}\d\d", words[0]) else " ".join(words),
        ra_deg=15.0 * (int(header["h"]) + int(header["m"]) / 60 + float(header["s"]) / 3600),
        dec_deg=-dec if header["sign"] else dec,
        position_code=header["position"],
        flux_jy=flux,
        spectral_index=index,
        quality=quality,
        is_variable=variable,
    )


_COLUMNS = "name, alt_name, ra_deg, dec_deg, position_code, flux_jy, spectral_index, quality, is_variable"


def build_calibrator_db(text_file: Path, sqlite_path: Path) -> int:
    """Parse the manual and write ``vla_calibrators.sqlite3`` (table ``calibrators``).

    The old file is kept until the new one is complete.

    Returns:
        Number of entries.

    Raises:
        NonRetriableError: the file is missing or is not the manual.
    """
    return write_calibrator_db(read_manual_file(text_file), sqlite_path)


def read_manual_file(text_file: Path) -> Manual:
    """Read the manual's file; see `read_manual`.

    Raises:
        NonRetriableError: the file is missing or is not the manual.
    """
    if (why := why_not_openable(text_file)) is not None:
        raise NonRetriableError(text_file, why, "set PIPELINE_VLA_CALIBRATORS_FILE")
    try:
        return read_manual(text_file.read_text(encoding="ascii", errors="replace").lstrip("\ufffd"))  # the mark of a text of Windows
    except OSError as error:
        raise NonRetriableError(text_file, f"cannot be read ({error.strerror})", "set PIPELINE_VLA_CALIBRATORS_FILE") from error


def write_calibrator_db(manual: Manual, sqlite_path: Path) -> int:
    """Write ``vla_calibrators.sqlite3``; return the number of entries."""
    entries = manual.entries
    with publish(sqlite_path) as staged, closing(sqlite3.connect(staged)) as connection, connection:
        connection.execute(
            "CREATE TABLE calibrators (name TEXT NOT NULL, alt_name TEXT NOT NULL, ra_deg REAL NOT NULL, dec_deg REAL NOT NULL, "
            "position_code TEXT NOT NULL, flux_jy REAL, spectral_index REAL, quality TEXT NOT NULL, is_variable INTEGER NOT NULL)"
        )
        connection.executemany(
            f"INSERT INTO calibrators ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            [
                (c.name, c.alt_name, c.ra_deg, c.dec_deg, c.position_code, c.flux_jy, c.spectral_index, c.quality, c.is_variable)
                for c in entries
            ],
        )
        connection.execute("CREATE INDEX calibrators_dec ON calibrators (dec_deg)")
    return len(entries)


def load(sqlite_path: Path) -> list[Calibrator]:
    """Load all calibrators of a catalog that `build_calibrator_db` wrote.

    Raises:
        NonRetriableError: the file is missing or is not such a catalog.
    """
    if not is_openable(sqlite_path):
        raise NonRetriableError(sqlite_path, "there is no calibrator catalog", "make it with `dsa110 catalogs refresh calibrators`")
    try:
        with closing(sqlite3.connect(f"file:{sqlite_path}?mode=ro&immutable=1", uri=True)) as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM calibrators ORDER BY rowid").fetchall()  # noqa: S608
    except sqlite3.DatabaseError as error:
        raise NonRetriableError(
            sqlite_path, f"not a calibrator catalog ({error})", "make it with `dsa110 catalogs refresh calibrators`"
        ) from error
    return [Calibrator(*row[:8], is_variable=bool(row[8])) for row in rows]


def find(catalog: Sequence[Calibrator], name: str) -> Calibrator:
    """Find a calibrator by its J2000 name, with or without J, or by an alternative name such as 3C286.

    If the manual has a name twice, return the entry with a flux at 20 cm.

    Raises:
        NoCalibratorError: unknown name.
    """
    key = name.strip().upper().replace(" ", "")
    matches = [c for c in catalog if key in (c.name, f"J{c.name}", *_long_names(c)) or (c.alt_name and key == c.alt_name.upper())]
    if not matches:
        raise NoCalibratorError(name, "not in the calibrator catalog", "give a J2000 name of the VLA manual such as 0834+555, or 3C286")
    return max(matches, key=lambda c: c.flux_jy is not None)


def _long_names(one: Calibrator) -> tuple[str, str]:
    """The names with minutes of declination, ``1331+3030`` and ``J1331+3030``, which the manual's names cut short."""
    minutes = int(abs(one.dec_deg) * 60.0 + 1e-9)
    name = f"{one.name[:4]}{'-' if one.dec_deg < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}"
    return name, f"J{name}"


def transit_mjd(ra_deg: float, dec_deg: float, near_mjd: float, site: Site) -> float:
    """UTC MJD of the transit of an ICRS direction that is nearest to ``near_mjd``.

    At transit the apparent right ascension equals the apparent local sidereal time. We iterate on the inverse
    transformation (`directions.apparent_to_icrs`), to well below a millisecond.
    """
    time_mjd, app_dec = near_mjd, np.radians(dec_deg)
    for _ in range(6):
        time_jd = time_mjd + 2_400_000.5
        lst = local_apparent_sidereal_time_rad(time_jd, site)
        ra, dec = apparent_to_icrs(lst, app_dec, time_jd, site)
        offset = (np.radians(ra_deg) - float(ra) + np.pi) % (2 * np.pi) - np.pi
        app_dec += np.radians(dec_deg) - float(dec)
        time_mjd += offset / (2 * np.pi) * SIDEREAL_DAY_DAYS
    return time_mjd


@dataclass(frozen=True)
class Transit:
    """A calibrator's transit.

    ``mjd``: UTC. ``elevation_deg``: without refraction. ``beam``: power beam at 1.4 GHz for the pointing; None without
    one.
    """

    calibrator: Calibrator
    mjd: float
    elevation_deg: float
    beam: float | None


def transits(
    catalog: Sequence[Calibrator],
    site: Site,
    start_mjd: float,
    end_mjd: float,
    *,
    pointing_dec_deg: float | None = None,
    min_flux_jy: float = 0.0,
    min_beam: float = 0.0,
    usable_only: bool = False,
) -> list[Transit]:
    """Find the transits in ``[start_mjd, end_mjd)``, in order of time.

    Args:
        catalog: calibrators to search.
        site: from a raw header (pitfall 3).
        start_mjd, end_mjd: UTC.
        pointing_dec_deg: apparent declination of the dishes.
        min_flux_jy: faintest flux at 20 cm; 0 includes calibrators without a flux.
        min_beam: lowest power beam at the transit.
        usable_only: leave out sources that must not set the flux scale or are resolved or confused on these baselines.
    """
    found: list[Transit] = []
    for c in catalog:
        flux = c.flux_at_jy() if c.sets_flux_scale else c.flux_jy or 0.0
        if flux < min_flux_jy or (usable_only and not (c.sets_flux_scale and c.is_compact)):
            continue
        if pointing_dec_deg is not None and min_beam > 0 and abs(c.dec_deg - pointing_dec_deg) > _WIDEST_DEG:
            continue
        near = start_mjd
        while near < end_mjd + SIDEREAL_DAY_DAYS:
            mjd = transit_mjd(c.ra_deg, c.dec_deg, near, site)
            near += SIDEREAL_DAY_DAYS
            if not start_mjd <= mjd < end_mjd:
                continue
            _, app_dec = icrs_to_apparent(np.radians(c.ra_deg), np.radians(c.dec_deg), mjd + 2_400_000.5, site)
            beam = None
            if pointing_dec_deg is not None:
                beam = float(airy_power_beam(abs(float(app_dec) - np.radians(pointing_dec_deg)), REFERENCE_FREQUENCY_HZ))
                if beam < min_beam:
                    continue
            found.append(Transit(c, mjd, 90.0 - abs(float(np.degrees(app_dec - site.latitude_rad))), beam))
    return sorted(found, key=lambda one: one.mjd)


def in_tile(
    catalog: Sequence[Calibrator],
    pointing: TilePointing,
    *,
    min_flux_jy: float = 0.5,
    min_beam: float = 0.5,
    include_variable: bool = False,
    compact_only: bool = True,
) -> list[Calibrator]:
    """Find calibrators that can calibrate a tile, best first.

    They transit during the tile (their right ascension lies between the first and the last meridian point, half an
    integration to either side), the power beam at their transit is at least ``min_beam`` at 1.4 GHz, and they have a
    reliable flux (pitfall 10). Sources without a flux at 20 cm are never returned. Of another telescope, which tracks
    its field, a calibrator needs only to be within the beam.

    Args:
        catalog: from `load`.
        pointing: of the tile.
        min_flux_jy: lowest flux density.
        min_beam: lowest power beam at the transit.
        include_variable: also return variable sources; `Calibrator.flux_at_jy` still refuses them.
        compact_only: return only sources that the manual lists as usable in the VLA's C or D array.

    Returns:
        Highest apparent flux (flux times the tile's drift-averaged beam) first; may be empty.
    """
    half_step = np.diff(np.unwrap(np.radians(pointing.ra_deg))).mean() / 2 if pointing.ra_deg.size > 1 else 0.0
    ra = np.unwrap(np.radians(pointing.ra_deg))
    tracks = bool(np.ptp(ra) < _TRACKING_RAD and ra.size > 1)
    middle = (ra[0] + ra[-1]) / 2
    half_width = (ra[-1] - ra[0]) / 2 + half_step
    found: list[tuple[float, Calibrator]] = []
    for c in catalog:
        if c.flux_jy is None or (c.is_variable and not include_variable) or (compact_only and not c.is_compact):
            continue
        if (not c.is_variable and c.flux_at_jy() < min_flux_jy) or c.flux_jy < min_flux_jy:
            continue
        c_ra, c_dec = np.radians(c.ra_deg), np.radians(c.dec_deg)
        offset = (c_ra - middle + np.pi) % (2 * np.pi) - np.pi
        if abs(offset) > half_width and not tracks:
            continue
        nearest = int(np.argmin(angular_separation_rad(c_ra, c_dec, ra, np.radians(pointing.dec_deg))))
        at_ra = float(ra[nearest]) if tracks else c_ra
        miss = angular_separation_rad(c_ra, c_dec, at_ra, np.radians(pointing.dec_deg[nearest]))
        if miss > np.pi / 2 or airy_power_beam(miss, REFERENCE_FREQUENCY_HZ, pointing.dish_diameter_m) < min_beam:
            continue
        beam = drift_averaged_power_beam(
            c_ra, c_dec, ra, np.radians(pointing.dec_deg), REFERENCE_FREQUENCY_HZ, None, pointing.dish_diameter_m
        )
        flux = c.flux_jy if c.is_variable else c.flux_at_jy()
        found.append((flux * float(beam), c))
    return [c for _, c in sorted(found, key=lambda pair: -pair[0])]


def require_in_tile(catalog: Sequence[Calibrator], pointing: TilePointing, *, subject: object, min_flux_jy: float = 0.5) -> Calibrator:
    """Return the best calibrator of a tile.

    Raises:
        FluxScaleError: sources of the manual transit, but none has a reliable flux (pitfall 10).
        NoCalibratorError: none transits.
    """
    usable = in_tile(catalog, pointing, min_flux_jy=min_flux_jy)
    if usable:
        return usable[0]
    variable = in_tile(catalog, pointing, min_flux_jy=min_flux_jy, include_variable=True)
    if variable:
        raise FluxScaleError(subject, f"only the variable {variable[0].name} transits", "use another tile of the night")
    raise NoCalibratorError(
        subject, f"no calibrator above {min_flux_jy} Jy at 20 cm transits in this tile", "use another tile of the night"
    )
