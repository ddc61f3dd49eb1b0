"""Light curves of many sources in flat arrays, with their unit and whether they are normalized.

All variability functions take fluxes in this form. It has ``unit`` and ``normalised`` because fluxes that differed by
1000 or by the night's gain have been compared before (pitfall 20).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.errors import LightCurveError

POINTS_AT_ONCE = 4_000_000
"""Largest number of measurements in memory at a time: about 1 GB."""


def parts_of(source_ids: NDArray[np.integer], n_epochs: int) -> list[tuple[int, int]]:
    """First and last identifier of each run of sources with at most `POINTS_AT_ONCE` measurements."""
    step = max(1, POINTS_AT_ONCE // max(n_epochs, 1))
    ordered = np.sort(source_ids)
    return [(int(ordered[i]), int(ordered[min(i + step, ordered.size) - 1])) for i in range(0, ordered.size, step)]


@dataclass(frozen=True)
class LightCurves:
    """Measurements of ``Nsources`` sources at up to ``Nepochs`` epochs, ordered by source, then time.

    ``source_id`` (Nsources,): identifiers. ``epoch_name`` (Nepochs,), ``epoch_mjd`` (Nepochs,): name and UTC MJD of
    each epoch, ascending. ``offsets`` (Nsources + 1,): source s has the measurements ``offsets[s]:offsets[s + 1]``.
    ``epoch`` (Nmeas,): index of the epoch. ``flux_jy``, ``flux_err_jy`` (Nmeas,): Jy, 1 sigma, finite. ``is_limit``
    (Nmeas,): below the detection threshold; the flux is still the measured one and is used. ``normalised``: the epochs'
    gains are removed.
    """

    source_id: NDArray[np.generic]
    epoch_name: NDArray[np.generic]
    epoch_mjd: NDArray[np.float64]
    offsets: NDArray[np.int64]
    epoch: NDArray[np.int32]
    flux_jy: NDArray[np.float64]
    flux_err_jy: NDArray[np.float64]
    is_limit: NDArray[np.bool_]
    normalised: bool = False
    unit: str = "Jy"

    def __post_init__(self) -> None:
        if self.unit != "Jy":
            raise LightCurveError("light curves", f"fluxes are in {self.unit}, expected Jy", "convert them to Jy when they are read")
        n = self.flux_jy.size
        if (
            not (self.flux_err_jy.size == self.epoch.size == self.is_limit.size == n == self.offsets[-1])
            or self.offsets.size != self.source_id.size + 1
        ):
            raise LightCurveError("light curves", "arrays of different lengths", "build them with LightCurves.from_table")
        if n and not (np.isfinite(self.flux_jy).all() and np.isfinite(self.flux_err_jy).all() and self.flux_err_jy.min() > 0.0):
            raise LightCurveError("light curves", "fluxes must be finite and errors positive", "drop positions without a measurement")

    @property
    def n_sources(self) -> int:
        """Number of sources."""
        return self.source_id.size

    @property
    def n_epochs(self) -> int:
        """Number of epochs."""
        return self.epoch_mjd.size

    @property
    def counts(self) -> NDArray[np.int64]:
        """Measurements of each source, shape (Nsources,)."""
        return np.diff(self.offsets)

    @property
    def source(self) -> NDArray[np.int64]:
        """Index of the source of each measurement, shape (Nmeas,)."""
        return np.repeat(np.arange(self.n_sources), self.counts)

    @property
    def time_mjd(self) -> NDArray[np.float64]:
        """UTC MJD of each measurement, shape (Nmeas,)."""
        return self.epoch_mjd[self.epoch]

    @classmethod
    def from_table(cls, table: pd.DataFrame, *, unit: str = "Jy", normalised: bool = False, source: str = "source_id") -> LightCurves:
        """Collect a table of forced fluxes, one row for each source and epoch.

        Args:
            table: ``flux_jy, flux_err_jy, time_mjd, mosaic_name`` (the epoch), the column named by ``source`` and
                optionally ``is_limit``. Rows without a finite flux and a positive error are left out.
            unit: unit of the fluxes; all but Jy are refused.
            normalised: True only for fluxes that `normalise` returned.
            source: column that identifies the source.

        Raises:
            LightCurveError: a column is missing, a source occurs twice in an epoch, or the unit is not Jy.
        """
        missing = [name for name in ("flux_jy", "flux_err_jy", "time_mjd", "mosaic_name", source) if name not in table.columns]
        if missing:
            raise LightCurveError("table of fluxes", f"columns {', '.join(missing)} are missing", "give a table of forced photometry")
        good = np.isfinite(table["flux_jy"].to_numpy(dtype=np.float64)) & (table["flux_err_jy"].to_numpy(dtype=np.float64) > 0.0)
        used = table.loc[good & np.isfinite(table["flux_err_jy"].to_numpy(dtype=np.float64))]
        code, names = pd.factorize(used["mosaic_name"])
        mjd = np.full(len(names), np.nan)
        mjd[code] = used["time_mjd"].to_numpy(dtype=np.float64)
        order = np.argsort(mjd, kind="stable")
        rank = np.empty(order.size, dtype=np.int32)
        rank[order] = np.arange(order.size, dtype=np.int32)
        epoch = rank[code] if len(names) else np.zeros(0, dtype=np.int32)
        source_code, source_id = pd.factorize(used[source], sort=True)
        sorting = np.lexsort((epoch, source_code))
        source_sorted, epoch_sorted = source_code[sorting], epoch[sorting]
        twice = np.flatnonzero((np.diff(source_sorted) == 0) & (np.diff(epoch_sorted) == 0))
        if twice.size:
            repeated = np.asarray(source_id)[source_sorted[twice[0]]]
            raise LightCurveError(f"source {repeated}", "occurs twice in one epoch", "keep one measurement of a source in a mosaic")
        limit = used["is_limit"].to_numpy(dtype=bool) if "is_limit" in used.columns else np.zeros(len(used), dtype=bool)
        return cls(
            source_id=np.asarray(source_id),
            epoch_name=np.asarray(names)[order],
            epoch_mjd=mjd[order],
            offsets=np.concatenate([[0], np.cumsum(np.bincount(source_sorted, minlength=len(source_id)))]).astype(np.int64),
            epoch=epoch_sorted.astype(np.int32),
            flux_jy=used["flux_jy"].to_numpy(dtype=np.float64)[sorting],
            flux_err_jy=used["flux_err_jy"].to_numpy(dtype=np.float64)[sorting],
            is_limit=limit[sorting],
            normalised=normalised,
            unit=unit,
        )

    def to_table(self) -> pd.DataFrame:
        """One row for each measurement: ``source_id, mosaic_name, time_mjd, flux_jy, flux_err_jy, is_limit``."""
        return pd.DataFrame(
            {
                "source_id": self.source_id[self.source],
                "mosaic_name": self.epoch_name[self.epoch],
                "time_mjd": self.time_mjd,
                "flux_jy": self.flux_jy,
                "flux_err_jy": self.flux_err_jy,
                "is_limit": self.is_limit,
            }
        )

    def select(self, sources: NDArray[np.intp]) -> LightCurves:
        """Light curves of the sources with these indices, in this order."""
        length = self.counts[sources]
        offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][sources] - offsets[:-1], length)
        return replace(
            self,
            source_id=self.source_id[sources],
            offsets=offsets,
            epoch=self.epoch[rows],
            flux_jy=self.flux_jy[rows],
            flux_err_jy=self.flux_err_jy[rows],
            is_limit=self.is_limit[rows],
        )

    def during(self, epochs: NDArray[np.bool_]) -> LightCurves:
        """All sources, with their measurements in these epochs alone. ``epochs``: shape (Nepochs,)."""
        chosen = epochs[self.epoch]
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(chosen)])[self.offsets].astype(np.int64),
            epoch=self.epoch[chosen],
            flux_jy=self.flux_jy[chosen],
            flux_err_jy=self.flux_err_jy[chosen],
            is_limit=self.is_limit[chosen],
        )

    def index_of(self, source_id: object) -> int:
        """Index of a source.

        Raises:
            LightCurveError: there is no such source.
        """
        found = np.flatnonzero(self.source_id == source_id)
        if not found.size:
            raise LightCurveError(f"source {source_id}", "has no light curve", "list the sources of the night")
        return int(found[0])

    def require_normalised(self, purpose: str) -> None:
        """Refuse fluxes that still contain their epochs' gains.

        Raises:
            LightCurveError: the light curves are not normalized.
        """
        if not self.normalised:
            raise LightCurveError("light curves", f"are not normalized; {purpose} would measure the gain drifts", "call normalise first")
