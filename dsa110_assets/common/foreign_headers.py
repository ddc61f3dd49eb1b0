"""What other programs write differently into the headers of images: read as if it stood where the standard has it.

Only facts that are there are moved; nothing is guessed. What contradicts itself, or is no number where one belongs, is
an error: wcslib takes 0 for it without a word. The rest of a header stays as it is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from astropy import units
from astropy.io import fits

_DEGREES = re.compile(r"deg(?:ree)?s?", re.IGNORECASE)
_AIPS_BEAM = re.compile(r"CLEAN\s+BMAJ=\s*([-+.\dE]+)\s+BMIN=\s*([-+.\dE]+)\s+BPA=\s*([-+.\dE]+)")
_BEAM = ("BMAJ", "BMIN", "BPA")
_OBIT_BEAM = ("CLEANBMJ", "CLEANBMN", "CLEANBPA")
_NEEDED_NUMBER = re.compile(r"(?:CRVAL|CRPIX|CDELT|CROTA)\d|(?:CD|PC|PV)\d_\d+|EQUINOX|EPOCH|LONPOLE|LATPOLE|BMAJ|BMIN|BPA")
_NUMBER = re.compile(r"MJD(?:-OBS|-AVG|-BEG|-END)?|JD(?:-OBS)?|RESTFRE?Q")
_MEANING = re.compile(
    rf"{_NEEDED_NUMBER.pattern}|{_NUMBER.pattern}|(?:CTYPE|CUNIT)\d|RADE(?:SYS|CSYS)|BUNIT|BSCALE|BZERO|BLANK|DATE-OBS|TIMESYS"
)
"""Keywords that decide where, when and how much. Of two of a name, astropy takes the first and wcslib the last."""
_CELESTIAL = re.compile(r"(?:ra|dec|[ge]lon|[ge]lat)-.*", re.IGNORECASE)
_SYSTEMS = {"J2000": ("FK5", 2000.0), "FK5 (J2000)": ("FK5", 2000.0), "B1950": ("FK4", 1950.0)}
_TABLES = re.compile(r"(?:D2IMDIS|CPDIS|CQDIS)\d")


def as_standard(header: fits.Header, hdus: Any) -> fits.Header:
    """The header of an image with its beam in BMAJ, BMIN and BPA, and with angles in ``deg``.

    Args:
        header: of the image.
        hdus: all parts of its file; CASA keeps the beam of a plane in a table ``BEAMS``.

    Raises:
        ValueError: a keyword stands there twice with different values, or is no number where one is needed.
    """
    found = header.copy()
    _refuse_contradictions(found)
    for key in [key for key in found if key.startswith("CUNIT")]:
        if _DEGREES.fullmatch(str(found[key]).strip()):
            found[key] = "deg"
    for key in [key for key in found if key.startswith("CTYPE")]:
        if _CELESTIAL.fullmatch(str(found[key]).strip()):
            found[key] = str(found[key]).strip().upper()
    _name_system(found)
    _convert_numbers(found)
    if not any(key in found for key in _BEAM):
        for key, value in zip(_BEAM, _beam_of_table(hdus) or _beam_of_history(found) or _beam_of_obit(found) or (), strict=False):
            found[key] = value
    return found


def _refuse_contradictions(header: fits.Header) -> None:
    values: dict[str, set[str]] = defaultdict(set)
    for card in header.cards:
        key = str(card.keyword)
        if _MEANING.fullmatch(key):
            values[key].add(str(card.value).strip())
        elif _TABLES.fullmatch(key):
            message = f"{key}: distortion tables are not supported"
            raise ValueError(message)
    for key, found in values.items():
        if len(found) > 1:
            message = f"{key} stands there {len(found)} times, with the values {', '.join(sorted(found))}"
            raise ValueError(message)


def _name_system(header: fits.Header) -> None:
    """RADESYS in capitals, and FK5 or FK4 for the names of their equinoxes."""
    for key in ("RADESYS", "RADECSYS"):
        if isinstance(header.get(key), str):
            name = " ".join(str(header[key]).upper().split())
            system, equinox = _SYSTEMS.get(name, (name, None))
            header[key] = system
            if equinox is not None:
                header.setdefault("EQUINOX", equinox)


def _convert_numbers(header: fits.Header) -> None:
    """Numbers that stand in a header as text become numbers."""
    for key in list(header):
        is_needed = _NEEDED_NUMBER.fullmatch(key) is not None
        value: Any = header[key] if is_needed or _NUMBER.fullmatch(key) else 0
        if isinstance(value, int | float) and not isinstance(value, bool):
            continue
        text = str(value).strip().upper()
        try:
            header[key] = float((text.lstrip("JB") if key in ("EQUINOX", "EPOCH") else text).replace("D", "E"))
        except ValueError as error:
            if is_needed:
                message = f"{key} is {value if isinstance(value, str | bool) else 'empty'!r}, a number was expected"
                raise ValueError(message) from error


def _beam_of_table(hdus: Any) -> tuple[float, ...] | None:
    """Beam in degrees of CASA's table of one row; a table of several beams belongs to a cube."""
    table: Any = next((hdu for hdu in hdus if hdu.name == "BEAMS" and isinstance(hdu, fits.BinTableHDU)), None)
    if table is None or len(table.data) != 1 or not set(_BEAM) <= set(table.columns.names):
        return None
    degrees: list[Any] = [units.Unit(table.columns[key].unit or "deg").to(units.deg, table.data[key][0]) for key in _BEAM]
    return tuple(map(float, degrees))


def _beam_of_history(header: fits.Header) -> tuple[float, ...] | None:
    """Beam in degrees of AIPS' last CLEAN in the history."""
    history: Any = header.get("HISTORY", ())
    lines = [match for line in history if (match := _AIPS_BEAM.search(str(line))) is not None]
    return tuple(map(float, lines[-1].groups())) if lines else None


def _beam_of_obit(header: fits.Header) -> tuple[float, ...] | None:
    """Beam in degrees that Obit writes beside its history."""
    values: list[Any] = [header.get(key) for key in _OBIT_BEAM]
    return tuple(map(float, values)) if all(isinstance(value, int | float) for value in values) else None
