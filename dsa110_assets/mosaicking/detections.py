"""The detections of a blind search, with their counterparts in a catalog."""

# pandas' stubs do not know the type of a selection:
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dsa110_assets.common.figures import Details, Figures, median
from dsa110_assets.mosaicking.finding import crossmatch, match_radius_arcsec
from dsa110_assets.quality.verdict import Verdict

_ROWS_SHOWN = 20
_FAINT_PERCENTILE = 5.0
_COMPLETE_ABOVE = 2.0
"""The catalog is taken to be complete above this many times the flux of its faint end."""
_FEWEST = 10
"""Detections that the catalog should have, below which the share that it has is not judged."""
MAX_FALSE_SHARE = 0.01
MIN_MATCHED_SHARE = 0.6


@dataclass(frozen=True)
class Detections:
    """Detections in one mosaic and their counterparts.

    ``table``: columns of `finding.find_sources`, and ``number`` (from 1, reliable rows first, the brightest
    first), ``ra_err_arcsec``, ``dec_err_arcsec``, ``matched_name`` and ``separation_arcsec`` (missing without a
    counterpart). ``pairs``: see `finding.crossmatch`; of reliable rows only, as all figures. ``negative``: of
    `finding.count_negative`. ``expected``: detections that are bright enough for the catalog to have them;
    ``confirmed``: how many of these it has.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    negative: int
    expected: int
    confirmed: int

    @classmethod
    def matched(cls, found: pd.DataFrame, catalog: pd.DataFrame, negative: int) -> Detections:
        """Match detections with a catalog; both have the columns that `finding.crossmatch` needs."""
        table = found.sort_values("reliable", ascending=False, kind="stable", ignore_index=True)
        good = table[table["reliable"].astype(bool)]
        pairs = crossmatch(good, catalog, match_radius_arcsec())
        table["number"] = np.arange(1, len(table) + 1)
        table["ra_err_arcsec"], table["dec_err_arcsec"] = table["ra_err_deg"] * 3600, table["dec_err_deg"] * 3600
        matched = pairs.set_index("found_index")
        table["matched_name"] = pd.Series(table.index.map(matched["catalog_name"].to_dict()), dtype=object)
        table["separation_arcsec"] = table.index.map(matched["separation_arcsec"].to_dict()).astype(float)
        limit = _COMPLETE_ABOVE * np.percentile(catalog["flux_jy"], _FAINT_PERCENTILE) if len(catalog) else np.inf
        expected = good.index[good["flux_jy"] > limit]
        return cls(table, pairs, negative, len(expected), int(expected.isin(pairs["found_index"]).sum()))

    @property
    def reliable(self) -> int:
        """Number of reliable detections."""
        return int(self.table["reliable"].sum())

    def figures(self) -> Figures:
        """Named figures of the search, units in the names."""
        return {
            "found": self.reliable,
            "doubtful": len(self.table) - self.reliable,
            "negative": self.negative,
            "matched": len(self.pairs),
            "median_flux_ratio": median(self.pairs["flux_ratio"]),
            "median_offset_arcsec": median(self.pairs["separation_arcsec"]),
        }

    def verdicts(self) -> list[Verdict]:
        """Reliability of the search: false detections by the negative image, and by what the catalog confirms."""
        good = self.reliable
        false = self.negative / good if good else float(self.negative > 0)
        share = self.confirmed / self.expected if self.expected >= _FEWEST else None
        return [
            Verdict.judge("false_share", false, None, MAX_FALSE_SHARE, f"{self.negative} negative places, {good} detections"),
            Verdict.judge(
                "matched_share",
                share,
                MIN_MATCHED_SHARE,
                None,
                f"the catalog has {self.confirmed} of {self.expected} detections that are bright enough for it",
            ),
        ]

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
