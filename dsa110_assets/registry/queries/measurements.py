"""Forced fluxes (`photometry`, `photometry_channels`) and normalized light curves (`light_curves`, a view of them)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, and_, delete, func, select, text
from sqlalchemy.orm import Session

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry import photometry_partitions
from dsa110_assets.registry.bulk import copy_rows, read_frame, read_frame_bulk, upsert
from dsa110_assets.registry.queries.factors import register_epoch
from dsa110_assets.registry.schema import ChannelPhotometry, ExcludedEpoch, LightCurvePoint, MosaicRow, Photometry, Source

if TYPE_CHECKING:
    import pandas as pd

_PHOTOMETRY_COLUMNS = (
    "time_mjd", "source_id", "mosaic_name", "flux_jy", "flux_err_jy", "calibration_err_jy", "noise_jy_per_beam", "background_jy_per_beam",
    "snr", "upper_limit_jy", "is_limit", "flags",
)  # fmt: skip
_CHANNEL_COLUMNS = ("source_id", "mosaic_name", "channel", "time_mjd", "frequency_hz", "flux_jy", "flux_err_jy")
_MEASURED = ("time_mjd", "flux_jy", "flux_err_jy", "noise_jy_per_beam", "background_jy_per_beam", "snr")


def replace_photometry(session: Session, mosaic_name: str, rows: pd.DataFrame, *, time_mjd: float | None = None) -> int:
    """Replace all fluxes of one mosaic. Make partitions as needed. Return the number of rows written.

    Args:
        session: open transaction; until it commits, readers see the old fluxes.
        mosaic_name: the mosaic that was measured.
        rows: columns source_id, flux_jy, flux_err_jy, noise_jy_per_beam, background_jy_per_beam, snr, upper_limit_jy
            (NaN: none), is_limit, and optionally flags, time_mjd and calibration_err_jy. A row with another number
            that is not finite is left out: the mosaic does not cover that position.
        time_mjd: time (UTC MJD) of all rows when ``rows`` has no time_mjd.
    """
    import numpy as np

    frame = rows.copy()
    frame["mosaic_name"] = mosaic_name
    if "time_mjd" not in frame.columns:
        frame["time_mjd"] = np.nan if time_mjd is None else float(time_mjd)
    frame["flags"] = frame["flags"].fillna("") if "flags" in frame.columns else ""
    frame["calibration_err_jy"] = frame["calibration_err_jy"] if "calibration_err_jy" in frame.columns else np.nan
    frame = frame.loc[np.isfinite(frame[list(_MEASURED)].to_numpy(float)).all(axis=1)]
    # two runs of the same mosaic take turns
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"photometry {mosaic_name}"})
    session.execute(delete(Photometry).where(Photometry.mosaic_name == mosaic_name))
    if not frame.empty:
        times = frame["time_mjd"].to_numpy(float)
        photometry_partitions.ensure(session, times.min(), times.max())
        copy_rows(session, "photometry", frame, _PHOTOMETRY_COLUMNS)
    register_epoch(session, mosaic_name)
    return len(frame)


def add_photometry(session: Session, mosaic_name: str, source_ids: Sequence[int], rows: pd.DataFrame, channels: pd.DataFrame) -> int:
    """Replace the fluxes of some sources in one mosaic; all others, and the epoch's factor, stay. Return their number.

    Args:
        session: open transaction.
        mosaic_name: the mosaic that was measured.
        source_ids: the sources. Fluxes that they had in this mosaic, at another position, go.
        rows, channels: as in `replace_photometry` and `replace_channel_photometry`.
    """
    import numpy as np

    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"photometry {mosaic_name}"})
    for table in (Photometry, ChannelPhotometry):
        session.execute(delete(table).where(table.mosaic_name == mosaic_name, table.source_id.in_(list(source_ids))))
    frame = rows.assign(mosaic_name=mosaic_name, flags=rows["flags"].fillna("") if "flags" in rows.columns else "")
    frame["calibration_err_jy"] = frame["calibration_err_jy"] if "calibration_err_jy" in frame.columns else np.nan
    frame = frame.loc[np.isfinite(frame[list(_MEASURED)].to_numpy(float)).all(axis=1)]
    if not frame.empty:
        times = frame["time_mjd"].to_numpy(float)
        photometry_partitions.ensure(session, times.min(), times.max())
        copy_rows(session, "photometry", frame, _PHOTOMETRY_COLUMNS)
    if not channels.empty:
        copy_rows(session, "photometry_channels", _finite_channels(channels, mosaic_name), _CHANNEL_COLUMNS)
    known = session.execute(
        text(
            "UPDATE epoch_factors SET n_measured = (SELECT count(*) FROM photometry WHERE mosaic_name = :name) WHERE mosaic_name = :name "
            "RETURNING mosaic_name"
        ),
        {"name": mosaic_name},
    ).first()
    if known is None:
        register_epoch(session, mosaic_name)
    return len(frame)


def measured_sources(session: Session, mosaic_name: str) -> list[int]:
    """Sources with a flux in a mosaic."""
    return list(session.scalars(select(Photometry.source_id).where(Photometry.mosaic_name == mosaic_name)))


def photometry(
    session: Session,
    *,
    start_mjd: float | None = None,
    end_mjd: float | None = None,
    source_ids: Sequence[int] | None = None,
    source_range: tuple[int, int] | None = None,
    mosaic_kind: str | None = None,
    mosaic_names: Sequence[str] | None = None,
    without_excluded: bool = False,
    columns: Sequence[str] = _PHOTOMETRY_COLUMNS,
) -> pd.DataFrame:
    """Fluxes of sources, one row for each source and mosaic, by source and time. ``mosaic_name`` is categorical.

    Args:
        session: open transaction.
        start_mjd: first time, inclusive (UTC MJD). With ``end_mjd`` too, only the months in question are read.
        end_mjd: last time, exclusive.
        source_ids: only these sources.
        source_range: only sources from the first to the last identifier, both inclusive.
        mosaic_kind: only mosaics of this kind (``hourly``), so that an hour does not count twice.
        mosaic_names: only these mosaics.
        without_excluded: leave out excluded epochs (`exclude_epoch`).
        columns: columns to read; fewer are faster.
    """
    statement: Select[Any] = select(*[getattr(Photometry, name) for name in columns])
    if start_mjd is not None:
        statement = statement.where(Photometry.time_mjd >= float(start_mjd))
    if end_mjd is not None:
        statement = statement.where(Photometry.time_mjd < float(end_mjd))
    if source_ids is not None:
        statement = statement.where(Photometry.source_id.in_([int(i) for i in source_ids]))
    if source_range is not None:
        statement = statement.where(Photometry.source_id.between(*source_range))
    if mosaic_kind is not None:
        statement = statement.where(Photometry.mosaic_name.in_(select(MosaicRow.name).where(MosaicRow.kind == mosaic_kind)))
    if mosaic_names is not None:
        statement = statement.where(Photometry.mosaic_name.in_(list(mosaic_names)))
    if without_excluded:
        statement = statement.where(Photometry.mosaic_name.not_in(select(ExcludedEpoch.mosaic_name)))
    categories = [name for name in ("mosaic_name", "flags") if name in columns]
    return read_frame_bulk(session, statement.order_by(Photometry.source_id, Photometry.time_mjd), categories=categories)


def sources_since(session: Session, mjd: float) -> int:
    """Number of sources with a flux since a time: one look into the index for each source."""
    measured = select(Photometry.source_id).where(Photometry.source_id == Source.source_id, Photometry.time_mjd >= mjd)
    return session.scalar(select(func.count()).select_from(Source).where(measured.exists())) or 0


def replace_channel_photometry(session: Session, mosaic_name: str, rows: pd.DataFrame) -> int:
    """Replace all channel fluxes of one mosaic. Return the number of rows written.

    Args:
        session: open transaction; until it commits, readers see the old fluxes.
        mosaic_name: the mosaic whose channel images were measured.
        rows: columns source_id, channel, time_mjd, frequency_hz, flux_jy, flux_err_jy; empty when the mosaic has no
            channels. A row with a number that is not finite is left out.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"photometry {mosaic_name}"})
    session.execute(delete(ChannelPhotometry).where(ChannelPhotometry.mosaic_name == mosaic_name))
    if rows.empty:
        return 0
    return copy_rows(session, "photometry_channels", _finite_channels(rows, mosaic_name), _CHANNEL_COLUMNS)


def _finite_channels(rows: pd.DataFrame, mosaic_name: str) -> pd.DataFrame:
    import numpy as np

    frame = rows.assign(mosaic_name=mosaic_name)
    return frame.loc[np.isfinite(frame[["time_mjd", "frequency_hz", "flux_jy", "flux_err_jy"]].to_numpy(float)).all(axis=1)]


def channel_photometry(
    session: Session,
    *,
    source_ids: Sequence[int] | None = None,
    source_range: tuple[int, int] | None = None,
    start_mjd: float | None = None,
    end_mjd: float | None = None,
    mosaic_kind: str | None = None,
    without_excluded: bool = False,
) -> pd.DataFrame:
    """Fluxes in channel images, by source, time and channel. Arguments as for `photometry`.

    Columns: source_id, mosaic_name (categorical), channel, time_mjd, frequency_hz, flux_jy, flux_err_jy; as measured,
    not normalized.
    """
    statement: Select[Any] = select(*[getattr(ChannelPhotometry, name) for name in _CHANNEL_COLUMNS])
    if source_ids is not None:
        statement = statement.where(ChannelPhotometry.source_id.in_([int(i) for i in source_ids]))
    if source_range is not None:
        statement = statement.where(ChannelPhotometry.source_id.between(*source_range))
    if start_mjd is not None:
        statement = statement.where(ChannelPhotometry.time_mjd >= float(start_mjd))
    if end_mjd is not None:
        statement = statement.where(ChannelPhotometry.time_mjd < float(end_mjd))
    if mosaic_kind is not None:
        statement = statement.where(ChannelPhotometry.mosaic_name.in_(select(MosaicRow.name).where(MosaicRow.kind == mosaic_kind)))
    if without_excluded:
        statement = statement.where(ChannelPhotometry.mosaic_name.not_in(select(ExcludedEpoch.mosaic_name)))
    order = ChannelPhotometry.source_id, ChannelPhotometry.time_mjd, ChannelPhotometry.channel
    return read_frame_bulk(session, statement.order_by(*order), categories=["mosaic_name"])


def sources_measured_in(session: Session, mosaic_name: str) -> pd.DataFrame:
    """Sources with a flux or limit in a mosaic, by number.

    Columns: source_id, name, ra_deg, dec_deg, flux_jy, flux_err_jy, calibration_err_jy, snr, upper_limit_jy, is_limit,
    flags, time_mjd.
    """
    times = session.execute(select(MosaicRow.start_mjd, MosaicRow.end_mjd).where(MosaicRow.name == mosaic_name)).one_or_none()
    first, last = (0.0, 1e6) if times is None else (times[0] - 1.0, times[1] + 1.0)  # only these months are opened
    statement = (
        select(
            Photometry.source_id, Source.name, Source.ra_deg, Source.dec_deg, Photometry.flux_jy, Photometry.flux_err_jy,
            Photometry.calibration_err_jy, Photometry.snr, Photometry.upper_limit_jy, Photometry.is_limit, Photometry.flags,
            Photometry.time_mjd,
        )
        .join(Source, Source.source_id == Photometry.source_id)
        .where(Photometry.mosaic_name == mosaic_name, Photometry.time_mjd.between(first, last))
        .order_by(Photometry.source_id)
    )  # fmt: skip
    return read_frame_bulk(session, statement)


def light_curve(session: Session, source_id: int) -> pd.DataFrame:
    """One source's fluxes in order of time, with normalized fluxes where they exist.

    Columns: time_mjd, mosaic_name, mosaic_kind, flux_jy, flux_err_jy, calibration_err_jy, snr, upper_limit_jy,
    is_limit, flags (as measured); normalised_flux_jy, normalised_flux_err_jy, normalisation (NaN until the night's
    light curves are made).
    """
    return read_frame(session, _light_curve(source_id))


def light_curve_rows(session: Session, source_id: int) -> list[dict[str, Any]]:
    """Points of `light_curve`, with None for what is missing."""
    return [dict(row) for row in session.execute(_light_curve(source_id)).mappings()]


def _light_curve(source_id: int) -> Select[Any]:
    return (
        select(
            Photometry.time_mjd,
            Photometry.mosaic_name,
            MosaicRow.kind.label("mosaic_kind"),
            Photometry.flux_jy,
            Photometry.flux_err_jy,
            Photometry.calibration_err_jy,
            Photometry.snr,
            Photometry.upper_limit_jy,
            Photometry.is_limit,
            Photometry.flags,
            LightCurvePoint.flux_jy.label("normalised_flux_jy"),
            LightCurvePoint.flux_err_jy.label("normalised_flux_err_jy"),
            LightCurvePoint.normalisation,
        )
        .outerjoin(MosaicRow, MosaicRow.name == Photometry.mosaic_name)
        .outerjoin(
            LightCurvePoint,
            and_(LightCurvePoint.source_id == Photometry.source_id, LightCurvePoint.mosaic_name == Photometry.mosaic_name),
        )
        .where(Photometry.source_id == int(source_id))
        .order_by(Photometry.time_mjd)
    )


def exclude_epoch(session: Session, mosaic_name: str, *, reason: str, person: str) -> None:
    """Exclude an epoch from light curves from now on. A second exclusion replaces reason and name.

    Raises:
        NonRetriableError: no reason, no name, or no measurement in a mosaic of that name.
    """
    if not reason.strip() or not person.strip():
        raise NonRetriableError(f"epoch {mosaic_name}", "an exclusion needs a reason and a name", "give the reason and your name")
    if session.scalar(select(Photometry.mosaic_name).where(Photometry.mosaic_name == mosaic_name).limit(1)) is None:
        raise NonRetriableError(
            f"epoch {mosaic_name}", "nothing was measured in a mosaic of this name", "list them: `dsa110 lightcurve epochs`"
        )
    upsert(
        session,
        ExcludedEpoch,
        {"mosaic_name": mosaic_name, "reason": reason.strip(), "excluded_by": person.strip()},
        refresh=["excluded_at"],
    )


def include_epoch(session: Session, mosaic_name: str) -> None:
    """Include an excluded epoch again.

    Raises:
        NonRetriableError: the epoch is not excluded.
    """
    removed = session.execute(
        delete(ExcludedEpoch).where(ExcludedEpoch.mosaic_name == mosaic_name).returning(ExcludedEpoch.mosaic_name)
    ).all()
    if not removed:
        raise NonRetriableError(f"epoch {mosaic_name}", "it is not excluded", "list them: `dsa110 lightcurve epochs`")


def excluded_epochs(session: Session) -> pd.DataFrame:
    """Epochs excluded from light curves: mosaic_name, reason, excluded_by, excluded_at."""
    columns = (ExcludedEpoch.mosaic_name, ExcludedEpoch.reason, ExcludedEpoch.excluded_by, ExcludedEpoch.excluded_at)
    return read_frame(session, select(*columns).order_by(ExcludedEpoch.mosaic_name))
