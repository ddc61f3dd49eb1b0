"""Which images and mosaics cover a position, newest first.

The telescope stays at one declination for days, and each sidereal day it sees the same right ascensions. So images are
found by cells of one square degree around the position, with one index (`ix_images_sky_cell`): in each cell the newest
of them. The work follows the size of a page, and not the number of images or nights. A mosaic covers what its tiles
cover.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from dsa110_assets.registry.queries.pages import IMAGE, Page

_NAMES = ", ".join(f"i.{column.key}" for column in IMAGE)
_NEWEST_OF_CELLS = text(
    f"SELECT {_NAMES}, cells.d AS cell_dec, cells.r AS cell_ra "  # noqa: S608 - names of columns
    "FROM unnest(CAST(:dec AS float8[]), CAST(:ra AS float8[])) AS cells (d, r) CROSS JOIN LATERAL ("
    "SELECT * FROM images WHERE floor(dec_deg) = cells.d AND floor(ra_deg) = cells.r AND group_id < :before "
    "ORDER BY group_id DESC LIMIT :limit) AS i ORDER BY i.group_id DESC"
)
_AFTER_ALL = "9999"
_MOST_CELLS = 2000


@dataclass(frozen=True)
class Extent:
    """How far images reach from their center: ``half_deg`` of the square, ``radius_deg`` of the beam."""

    half_deg: float
    radius_deg: float

    @property
    def reach_deg(self) -> float:
        """Largest distance of a covered position from the center."""
        return min(self.half_deg * math.sqrt(2.0), self.radius_deg)

    def covers(self, center_ra: float, center_dec: float, ra_deg: float, dec_deg: float) -> bool:
        """Whether an image with this center covers a position (orthographic projection)."""
        east = math.radians((ra_deg - center_ra + 180.0) % 360.0 - 180.0)
        dec, dec0 = math.radians(dec_deg), math.radians(center_dec)
        cosine = math.sin(dec) * math.sin(dec0) + math.cos(dec) * math.cos(dec0) * math.cos(east)
        x = math.cos(dec) * math.sin(east)
        y = math.sin(dec) * math.cos(dec0) - math.cos(dec) * math.sin(dec0) * math.cos(east)
        half = math.sin(math.radians(self.half_deg))
        return cosine >= math.cos(math.radians(self.radius_deg)) and abs(x) <= half and abs(y) <= half


def covering_images(session: Session, ra_deg: float, dec_deg: float, extent: Extent, *, before: str | None, limit: int) -> Page:
    """Images whose extent has a position, newest first: at most ``limit`` of a page, perhaps fewer.

    ``before``: identifier after which the page begins; None for the newest.
    """
    decs, ras = _cells(ra_deg, dec_deg, extent.reach_deg)
    found = session.execute(_NEWEST_OF_CELLS, {"dec": decs, "ra": ras, "before": before or _AFTER_ALL, "limit": limit})
    rows = [dict(row) for row in found.mappings()]
    in_cell: dict[tuple[float, float], list[str]] = {}
    for row in rows:
        in_cell.setdefault((row.pop("cell_dec"), row.pop("cell_ra")), []).append(row["group_id"])
    # a full cell may have older ones that were not read: up to its oldest, the list is complete
    complete = max((names[-1] for names in in_cell.values() if len(names) == limit), default=None)
    covering = [
        row
        for row in rows
        if (complete is None or row["group_id"] >= complete) and extent.covers(row["ra_deg"], row["dec_deg"], ra_deg, dec_deg)
    ]
    if len(covering) > limit:
        return Page(covering[:limit], (covering[limit - 1]["group_id"],))
    return Page(covering, None if complete is None else (complete,))


def _cells(ra_deg: float, dec_deg: float, reach_deg: float) -> tuple[list[float], list[float]]:
    """Cells of one square degree within reach of a position: their southern and western sides."""
    decs: list[float] = []
    ras: list[float] = []
    for south in range(max(-90, math.floor(dec_deg - reach_deg)), min(90, math.floor(dec_deg + reach_deg)) + 1):
        highest = max(abs(south), abs(south + 1))
        half = 180.0
        if highest < 90 - reach_deg:
            half = math.degrees(math.asin(min(1.0, math.sin(math.radians(reach_deg)) / math.cos(math.radians(highest)))))
        first, last = math.floor(ra_deg - half), math.floor(ra_deg + half)
        for west in range(first, min(last, first + 359) + 1):
            decs.append(float(south))
            ras.append(float(west % 360))
    return decs[:_MOST_CELLS], ras[:_MOST_CELLS]
