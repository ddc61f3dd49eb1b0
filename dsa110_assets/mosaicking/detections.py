"""The detections of a blind search, with their counterparts in a catalog."""

# pandas' stubs do not know the type of a selection:
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dsa110_assets.common.figures import Details, Figures, median
from dsa110_assets.mosaicking.finding import crossmatch, match_radius_arcsec

_ROWS_SHOWN = 20


@dataclass(frozen=True)
class Detections:
    """Detections in one mosaic and their counterparts.

    ``table``: columns of `finding.find_sources`, and ``number`` (from 1, brightest first), ``ra_err_arcsec``,
    ``dec_err_arcsec``, ``matched_name`` and ``separation_arcsec`` (missing without a counterpart). ``pairs``: see
    `finding.crossmatch`.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame

    @classmethod
    def matched(cls, found: pd.DataFrame, catalog: pd.DataFrame) -> Detections:
        """Match detections with a catalog; both have the columns that `finding.crossmatch` needs."""
        pairs = crossmatch(found, catalog, match_radius_arcsec())
        table = found.reset_index(drop=True)
        table["number"] = np.arange(1, len(table) + 1)
        table["ra_err_arcsec"], table["dec_err_arcsec"] = table["ra_err_deg"] * 3600, table["dec_err_deg"] * 3600
        matched = pairs.set_index("found_index")
        table["matched_name"] = pd.Series(table.index.map(matched["catalog_name"].to_dict()), dtype=object)
        table["separation_arcsec"] = table.index.map(matched["separation_arcsec"].to_dict()).astype(float)
        return cls(table, pairs)

    def figures(self) -> Figures:
        """Named figures of the search, units in the names."""
        return {
            "found": len(self.table),
            "matched": len(self.pairs),
            "median_flux_ratio": median(self.pairs["flux_ratio"]),
            "median_offset_arcsec": median(self.pairs["separation_arcsec"]),
        }

    def details(self) -> Details:
        """Table of the brightest detections."""
        return {
            "brightest": [
                {
                    "name": str(row["name"]),
                    "ra_deg": float(row["ra_deg"]),
                    "dec_deg": float(row["dec_deg"]),
                    "flux_jy": float(row["flux_jy"]),
                    "snr": float(row["snr"]),
                    "catalogue": str(row["matched_name"] or ""),
                }
                for row in self.table.head(_ROWS_SHOWN).to_dict("records")
            ]
        }
