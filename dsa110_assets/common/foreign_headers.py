"""What other programs write differently into the headers of images: read as if it stood where the standard has it.

Only facts that are there are moved; nothing is guessed. The rest of a header stays as it is.
"""

from __future__ import annotations

import re
from typing import Any

from astropy import units
from astropy.io import fits

_DEGREES = re.compile(r"deg(?:ree)?s?", re.IGNORECASE)
_AIPS_BEAM = re.compile(r"CLEAN\s+BMAJ=\s*([-+.\dE]+)\s+BMIN=\s*([-+.\dE]+)\s+BPA=\s*([-+.\dE]+)")
_BEAM = ("BMAJ", "BMIN", "BPA")


def as_standard(header: fits.Header, hdus: Any) -> fits.Header:
    """The header of an image with its beam in BMAJ, BMIN and BPA, and with angles in ``deg``.

    Args:
        header: of the image.
        hdus: all parts of its file; CASA keeps the beam of a plane in a table ``BEAMS``.
    """
    found = header.copy()
    for key in [key for key in found if key.startswith("CUNIT")]:
        if _DEGREES.fullmatch(str(found[key]).strip()):
            found[key] = "deg"
    if not any(key in found for key in _BEAM):
        for key, value in zip(_BEAM, _beam_of_table(hdus) or _beam_of_history(found) or (), strict=False):
            found[key] = value
    return found


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
