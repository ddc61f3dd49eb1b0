"""Where something is: the position that a person typed, or that of a source or calibrator with this name."""

from __future__ import annotations

from contextlib import suppress

from fastapi import Request

from dsa110_assets.api.access import Access
from dsa110_assets.api.routes.science import list_sources
from dsa110_assets.common.position_lists import position_of
from dsa110_assets.errors import InvalidRequestError, NonRetriableError
from dsa110_assets.products import ProductPaths

_ROWS = 40
"""Sources whose names begin with a text, among which one may have exactly this name."""


def position(opened: Access, request: Request, text: str | None) -> tuple[float, float] | tuple[None, None]:
    """Right ascension and declination, degrees, of a field; two None for an empty one.

    Raises:
        InvalidRequestError: the text is no position, and nothing has this name.
    """
    words = (text or "").strip()
    if not words:
        return None, None
    if (found := position_of(words)) is not None:
        return found
    for one in list_sources(opened, request, name=words, limit=_ROWS)["items"]:
        if str(one["name"]).casefold() == words.casefold():
            return one["ra_deg"], one["dec_deg"]
    if (star := calibrator(opened, words)) is not None:
        return star[1], star[2]
    raise InvalidRequestError(
        "position",
        f"{words[:80]!r} is none, and no source or calibrator has this name",
        "write it as 08:34:54.9 +55:34:21 or 128.729 +55.572 (ICRS), or give the whole name",
    )


def calibrator(opened: Access, name: str) -> tuple[str, float, float] | None:
    """Name and position, degrees, of a calibrator; None if the list has none of this name."""
    from dsa110_assets.catalogs import calibrators
    from dsa110_assets.stages.products.references import CALIBRATORS_FILE

    path = ProductPaths.of(opened.config).catalogs_dir / CALIBRATORS_FILE
    with suppress(NonRetriableError):
        star = calibrators.find(calibrators.load(path), name)
        return star.name, star.ra_deg, star.dec_deg
    return None
