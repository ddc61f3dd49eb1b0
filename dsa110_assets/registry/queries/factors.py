"""Factors of epochs, and the sums that settled epochs leave for each reference.

`stages.products.light_curves` says how they are used. No statement here reads more than the epochs that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select, text
from sqlalchemy.orm import Session

from dsa110_assets.registry.bulk import copy_rows, read_frame, table_of
from dsa110_assets.registry.schema import EpochFactor, ExcludedEpoch, MosaicKind, ReferenceLevel

if TYPE_CHECKING:
    import pandas as pd


def lock_light_curves(session: Session) -> None:
    """Lock light curves and the products made from them until this transaction ends.

    Take this lock before reading excluded epochs, photometry or light curves to write a product made from them.
    Otherwise a night's run that began before an epoch was excluded would write that epoch back.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('light_curves', 0))"))


def register_epoch(session: Session, mosaic_name: str) -> None:
    """Tell the light curves that the fluxes of an hourly mosaic are new. Other kinds of mosaic make no epoch.

    An epoch that is measured again keeps its factor until the next update of the light curves.
    """
    session.execute(
        text(
            "INSERT INTO epoch_factors (mosaic_name, time_mjd, n_measured) SELECT m.name, coalesce(p.time_mjd, m.mid_mjd), p.n FROM mosaics m, "
            "(SELECT min(time_mjd) AS time_mjd, count(*) AS n FROM photometry WHERE mosaic_name = :name) p "
            "WHERE m.name = :name AND m.kind = :kind "
            "ON CONFLICT (mosaic_name) DO UPDATE SET time_mjd = excluded.time_mjd, n_measured = excluded.n_measured, due = true"
        ),
        {"name": mosaic_name, "kind": MosaicKind.HOURLY.value},
    )


def epoch_rows(session: Session, *, newest: int | None = None) -> list[dict[str, Any]]:
    """Epochs in order of time: the columns of `EpochFactor`; reason, excluded_by (None unless it is excluded).

    ``newest``: only so many, the last ones; None takes all.
    """
    query = select(*table_of(EpochFactor).columns, ExcludedEpoch.reason, ExcludedEpoch.excluded_by)
    joined = query.outerjoin(ExcludedEpoch, ExcludedEpoch.mosaic_name == EpochFactor.mosaic_name)
    last_first = joined.where(EpochFactor.n_measured > 0).order_by(EpochFactor.time_mjd.desc()).limit(newest)
    return [dict(row) for row in session.execute(last_first).mappings()][::-1]


def listed_epochs(session: Session, *, newest: int | None = None) -> list[dict[str, Any]]:
    """Epochs in order of time, as they are listed, or the newest so many of them.

    Each has ``mosaic_name, time_mjd, sources`` (measured), ``normalisation, normalisation_err`` (None if there is
    none), ``reason, excluded_by`` (None for an epoch that is used).
    """
    return [
        {
            "mosaic_name": row["mosaic_name"],
            "time_mjd": row["time_mjd"],
            "sources": row["n_measured"],
            "normalisation": row["factor"] if row["reason"] is None else None,
            "normalisation_err": row["factor_err"] if row["reason"] is None else None,
            "reason": row["reason"],
            "excluded_by": row["excluded_by"],
        }
        for row in epoch_rows(session, newest=newest)
    ]


def claim_epochs(session: Session, end_mjd: float) -> set[str]:
    """Epochs before a time whose fluxes are new since their factor was found. They are not new any more.

    Settled ones of them and settled ones that are excluded now are taken out of the sums.
    """
    excluded = "mosaic_name IN (SELECT mosaic_name FROM excluded_epochs)"
    due = session.execute(
        text("UPDATE epoch_factors SET due = false WHERE due AND time_mjd < :end RETURNING mosaic_name, settled"), {"end": end_mjd}
    ).all()
    left_out = session.execute(text(f"SELECT mosaic_name, settled FROM epoch_factors WHERE {excluded} AND factor IS NOT NULL")).all()  # noqa: S608
    _unsettle(session, [row.mosaic_name for row in (*due, *left_out) if row.settled])
    names = [row.mosaic_name for row in left_out]
    session.execute(text("DELETE FROM reference_factors WHERE mosaic_name = ANY(:names)"), {"names": names})
    session.execute(
        text(
            "UPDATE epoch_factors SET factor = NULL, factor_err = NULL, usable = false, n_reference = 0, settled = false, updated_at = now() "
            "WHERE mosaic_name = ANY(:names)"
        ),
        {"names": names},
    )
    return {row.mosaic_name for row in due}


def unsettled_epochs(session: Session, end_mjd: float) -> pd.DataFrame:
    """Epochs whose factors may change, in order of time: the columns of `EpochFactor`.

    They are before ``end_mjd`` or have a factor; excluded ones and those without fluxes are left out.
    """
    query = select(*table_of(EpochFactor).columns).where(
        ~EpochFactor.settled,
        EpochFactor.n_measured > 0,
        or_(EpochFactor.time_mjd < end_mjd, EpochFactor.factor.is_not(None)),
        EpochFactor.mosaic_name.not_in(select(ExcludedEpoch.mosaic_name)),
    )
    return read_frame(session, query.order_by(EpochFactor.time_mjd))


def reference_levels(session: Session) -> pd.DataFrame:
    """Sums of the settled epochs: the columns of `ReferenceLevel`, one row for each source that was a reference."""
    return read_frame(session, select(*table_of(ReferenceLevel).columns))


def noise_scale_before(session: Session, mjd: float) -> float:
    """``noise_scale`` of the last usable epoch before a time; 1 if there is none."""
    query = select(EpochFactor.noise_scale).where(EpochFactor.usable, EpochFactor.time_mjd < mjd)
    return session.scalar(query.order_by(EpochFactor.time_mjd.desc()).limit(1)) or 1.0


def replace_factors(session: Session, epochs: pd.DataFrame, references: pd.DataFrame) -> None:
    """Replace the factors of epochs, and the own factors of the references in these epochs.

    Args:
        session: open transaction.
        epochs: mosaic_name, factor, factor_err (NaN: none), n_reference, usable, noise_scale, gauge, as in
            `EpochFactor`.
        references: source_id, mosaic_name, ratio, weight, weighted_flux, as in `ReferenceFactor`.
    """
    columns = ("mosaic_name", "factor", "factor_err", "n_reference", "usable", "noise_scale", "gauge")
    values = {name: _nullable(epochs[name].tolist()) for name in columns}
    session.execute(text("DELETE FROM reference_factors WHERE mosaic_name = ANY(:names)"), {"names": values["mosaic_name"]})
    session.execute(
        text(
            "UPDATE epoch_factors e SET factor = n.factor, factor_err = n.factor_err, n_reference = n.n_reference, usable = n.usable, "
            "noise_scale = n.noise_scale, gauge = n.gauge, updated_at = now() FROM unnest(CAST(:mosaic_name AS text[]), "
            "CAST(:factor AS float8[]), CAST(:factor_err AS float8[]), CAST(:n_reference AS int[]), CAST(:usable AS bool[]), "
            "CAST(:noise_scale AS float8[]), CAST(:gauge AS int[])) "
            "AS n(mosaic_name, factor, factor_err, n_reference, usable, noise_scale, gauge) WHERE e.mosaic_name = n.mosaic_name"
        ),
        values,
    )
    copy_rows(session, "reference_factors", references, ("source_id", "mosaic_name", "ratio", "weight", "weighted_flux"))


def settle(session: Session, names: Sequence[str]) -> None:
    """Add epochs to the sums of their references. Later updates do not change their factors."""
    session.execute(
        text(
            "INSERT INTO reference_levels AS l (source_id, n, weight, weighted_flux, gauge) "
            "SELECT r.source_id, count(*), sum(r.weight), sum(r.weighted_flux), max(e.gauge) FROM reference_factors r "
            "JOIN epoch_factors e USING (mosaic_name) WHERE r.mosaic_name = ANY(:names) AND e.usable GROUP BY r.source_id "
            "ON CONFLICT (source_id) DO UPDATE SET n = l.n + excluded.n, weight = l.weight + excluded.weight, "
            "weighted_flux = l.weighted_flux + excluded.weighted_flux, gauge = excluded.gauge"
        ),
        {"names": list(names)},
    )
    session.execute(text("UPDATE epoch_factors SET settled = true WHERE mosaic_name = ANY(:names)"), {"names": list(names)})


def merge_gauge(session: Session, gauge: int, into: int, factor: float) -> None:
    """Multiply the factors of all settled epochs of a gauge, which become part of another one."""
    values = {"gauge": gauge, "into": into, "by": factor}
    session.execute(
        text(
            "UPDATE reference_factors r SET weight = r.weight * CAST(:by AS float8) ^ 2, weighted_flux = r.weighted_flux * :by "
            "FROM epoch_factors e WHERE e.mosaic_name = r.mosaic_name AND e.settled AND e.gauge = :gauge"
        ),
        values,
    )
    session.execute(
        text(
            "UPDATE epoch_factors SET factor = factor * :by, factor_err = factor_err * :by, gauge = :into, updated_at = now() "
            "WHERE settled AND gauge = :gauge"
        ),
        values,
    )
    session.execute(
        text(
            "UPDATE reference_levels SET weight = weight * CAST(:by AS float8) ^ 2, weighted_flux = weighted_flux * :by, gauge = :into "
            "WHERE gauge = :gauge"
        ),
        values,
    )


def forget_factors(session: Session) -> None:
    """Take all epochs out of the sums, so that the next update fits every epoch again from the first on."""
    lock_light_curves(session)
    session.execute(text("DELETE FROM reference_levels"))
    session.execute(text("UPDATE epoch_factors SET settled = false, due = true"))


def _unsettle(session: Session, names: Sequence[str]) -> None:
    """Take settled epochs out of the sums of their references: exactly what they added."""
    session.execute(
        text(
            "UPDATE reference_levels l SET n = l.n - c.n, weight = l.weight - c.weight, weighted_flux = l.weighted_flux - c.weighted_flux "
            "FROM (SELECT r.source_id, count(*) AS n, sum(r.weight) AS weight, sum(r.weighted_flux) AS weighted_flux FROM reference_factors r "
            "JOIN epoch_factors e USING (mosaic_name) WHERE r.mosaic_name = ANY(:names) AND e.usable GROUP BY r.source_id) c "
            "WHERE l.source_id = c.source_id"
        ),
        {"names": list(names)},
    )
    session.execute(text("DELETE FROM reference_levels WHERE n <= 0"))
    session.execute(text("UPDATE epoch_factors SET settled = false WHERE mosaic_name = ANY(:names)"), {"names": list(names)})


def _nullable(values: list[Any]) -> list[Any]:
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]
