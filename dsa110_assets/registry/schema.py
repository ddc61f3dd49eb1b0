"""Tables of the registry (SQLAlchemy 2, PostgreSQL only).

People already query `ingest_queue` and `ms_index` by these names. Times of observation are UTC MJD (``*_mjd``), times
of bookkeeping ``timestamptz`` (``*_at``). Flux densities are in Jy, angles in degrees (ICRS). A change here needs a
migration (`dsa110_assets/registry/migrations`); a test compares the two.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class GroupState(StrEnum):
    """States of an observation in `ingest_queue`."""

    COLLECTING = "collecting"
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


class FileState(StrEnum):
    """States of a raw file in `subband_files`. `SUPERSEDED`: a second file of a subband. `GONE`: deleted."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    GONE = "gone"


class MeasurementSetKind(StrEnum):
    """Kinds of Measurement Set in `ms_index`."""

    RAW = "raw"
    CALIBRATED = "calibrated"


class MeasurementSetStatus(StrEnum):
    """The last step that changed a Measurement Set."""

    FLAGGED = "flagged"
    CALIBRATED = "calibrated"


class MosaicKind(StrEnum):
    """Kinds of mosaic: of an hour, of a night, on demand."""

    HOURLY = "hourly"
    NIGHTLY = "nightly"
    CUSTOM = "custom"


class TileStage(StrEnum):
    """Progress of an observation's newest attempt. `AWAITING_CALIBRATION`: a Measurement Set without valid tables."""

    RAW = "raw_subbands"
    MEASUREMENT_SET = "measurement_set"
    AWAITING_CALIBRATION = "awaiting_calibration"
    CALIBRATED = "calibrated_ms"
    IMAGED = "tile_image"


class MarkKind(StrEnum):
    """What a person can decide about: a tile's image, or the calibration tables solved on an observation."""

    TILE = "tile"
    SOLUTION = "solution"


class MarkDecision(StrEnum):
    """A person's decision. `GOOD`: used although refused. `BAD`: not used."""

    BAD = "bad"
    GOOD = "good"


def _one_of(column: str, states: type[StrEnum]) -> str:
    return f"{column} in ({', '.join(repr(state.value) for state in states)})"


class Base(DeclarativeBase):
    """Declarative base. Constraint names are fixed so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy's own declarative attribute
        str: Text,
        float: DOUBLE_PRECISION,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[int]: ARRAY(SmallInteger),
        list[str]: ARRAY(Text),
    }


class SubbandFile(Base):
    """A raw file that was seen in the input directory. It is never moved, renamed or written.

    ``state``: see `FileState`. ``reason``: of a rejection. ``size_bytes``, ``mtime_ns``: as of the last check, to
    notice changes. ``sha256``: of all bytes at first sight, if ``PIPELINE_RAW_CHECKSUMS`` asked for it.
    """

    __tablename__ = "subband_files"
    path: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str | None] = mapped_column(ForeignKey("ingest_queue.group_id", ondelete="SET NULL"), index=True)
    subband: Mapped[int | None] = mapped_column(SmallInteger)
    state: Mapped[str]
    reason: Mapped[str | None]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    start_mjd: Mapped[float | None]
    n_times: Mapped[int | None] = mapped_column(SmallInteger)
    sha256: Mapped[str | None]
    first_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    judged_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint(_one_of("state", FileState), name="state"),
        Index("uq_subband_files_accepted", "group_id", "subband", unique=True, postgresql_where=f"state = '{FileState.ACCEPTED}'"),
        # without it a sweep reads years of deleted files
        Index("ix_subband_files_present", "path", postgresql_where=f"state <> '{FileState.GONE}'"),
        Index("ix_subband_files_gone", "judged_at", postgresql_where=f"state = '{FileState.GONE}'"),
        Index("ix_subband_files_rejected", "judged_at", postgresql_where=f"state = '{FileState.REJECTED}'"),
    )


class IngestGroup(Base):
    """An observation: the sixteen subbands of one start time, and the state of its processing.

    ``attempt`` counts the requested runs; with ``group_id`` it makes the run key. ``failures`` counts failed attempts
    since the last success, late subband or retry by hand. ``reopen``: a subband arrived during the attempt, so another
    attempt follows. ``lease_owner`` and ``lease_expires_at`` are set in `in_progress` only. ``pending_at``: time from
    which a pending observation may be leased. ``priority``: live 10, backfill 0. ``stage``: see `TileStage`.
    """

    __tablename__ = "ingest_queue"
    group_id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    stage: Mapped[str] = mapped_column(server_default=TileStage.RAW.value)
    start_mjd: Mapped[float]
    mid_mjd: Mapped[float]
    end_mjd: Mapped[float]
    dec_deg: Mapped[float]
    night: Mapped[date]
    slot: Mapped[str]
    n_subbands: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    missing_subbands: Mapped[list[int]] = mapped_column(server_default="{}")
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    failures: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    reopen: Mapped[bool] = mapped_column(server_default=false())
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="10")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    run_id: Mapped[str | None]
    calibrator: Mapped[str | None]
    error: Mapped[str | None]
    error_type: Mapped[str | None]
    first_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_file_at: Mapped[datetime] = mapped_column(server_default=func.now())
    pending_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    __table_args__ = (
        CheckConstraint(_one_of("state", GroupState), name="state"),
        CheckConstraint(f"(state = '{GroupState.IN_PROGRESS}') = (lease_owner is not null)", name="lease"),
        Index("ix_ingest_queue_state_priority", "state", "priority", "start_mjd"),
        Index("ix_ingest_queue_night_slot", "night", "slot"),
        Index("ix_ingest_queue_start_mjd", "start_mjd"),
        Index("ix_ingest_queue_last_file_at", "last_file_at"),
        Index("ix_ingest_queue_completed_at", "completed_at"),
        Index("ix_ingest_queue_state_group_id", "state", "group_id"),
        Index("ix_ingest_queue_calibrator_group_id", "calibrator", "group_id", postgresql_where="calibrator IS NOT NULL"),
        Index("ix_ingest_queue_failed", "updated_at", postgresql_where=f"state = '{GroupState.FAILED}'"),
        Index("ix_ingest_queue_state_start_mjd", "state", "start_mjd"),  # the newest of a state
    )


class MeasurementSetRow(Base):
    """A Measurement Set on disk. ``kind``: ``raw`` (flagged, uncalibrated) or ``calibrated``.

    ``bad_antennas``: of a raw one, names that people had marked as bad for its time when it was made; sorted.
    """

    __tablename__ = "ms_index"
    path: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("ingest_queue.group_id"), index=True)
    kind: Mapped[str]
    status: Mapped[str]
    start_mjd: Mapped[float]
    mid_mjd: Mapped[float] = mapped_column(index=True)
    end_mjd: Mapped[float]
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    pointing_dec_deg: Mapped[float]
    calibrator: Mapped[str | None]
    n_channels: Mapped[int]
    flagged_fraction: Mapped[float]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    bad_antennas: Mapped[list[str]] = mapped_column(server_default="{}")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint(_one_of("kind", MeasurementSetKind), name="kind"),
        Index("ix_ms_index_with_bad_antennas", "group_id", postgresql_where="bad_antennas <> '{}'"),
        Index(
            "ix_ms_index_of_calibrators",
            "created_at",
            postgresql_where=f"kind = '{MeasurementSetKind.RAW}' AND calibrator IS NOT NULL",
        ),  # one row a day
    )


class CaltableRow(Base):
    """Calibration tables: bandpass and gains of one calibrator transit, valid before and after it."""

    __tablename__ = "caltables"
    directory: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("ingest_queue.group_id"), index=True)
    night: Mapped[date] = mapped_column(index=True)
    calibrator: Mapped[str]
    refant: Mapped[str]
    mid_mjd: Mapped[float]
    valid_from_mjd: Mapped[float]
    valid_to_mjd: Mapped[float]
    pointing_dec_deg: Mapped[float]
    accepted: Mapped[bool]
    reasons: Mapped[list[str]] = mapped_column(server_default="{}")
    quality: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CalibrationApplied(Base):
    """The calibration tables applied to an observation, and how far away they were borrowed from (``rung``).

    ``considered``: other tables, by their calibrator's observation, that were nearer or compared, and were not taken.
    """

    __tablename__ = "calibration_applied"
    group_id: Mapped[str] = mapped_column(ForeignKey("ingest_queue.group_id"), primary_key=True)
    caltable_directory: Mapped[str] = mapped_column(ForeignKey("caltables.directory"))
    rung: Mapped[str]
    hours_away: Mapped[float]
    considered: Mapped[list[str]] = mapped_column(server_default="{}")
    applied_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index("ix_calibration_applied_caltable_directory", "caltable_directory", "group_id"),)


class ImageRow(Base):
    """Images of one tile. The files share a directory and a prefix (`products.image_path`)."""

    __tablename__ = "images"
    directory: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("ingest_queue.group_id"), unique=True)
    mid_mjd: Mapped[float] = mapped_column(index=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    pointing_dec_deg: Mapped[float]
    noise_jy_per_beam: Mapped[float]
    thermal_jy_per_beam: Mapped[float | None]
    peak_jy_per_beam: Mapped[float]
    bmaj_arcsec: Mapped[float]
    bmin_arcsec: Mapped[float]
    bpa_deg: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        Index("ix_images_ra_deg", "ra_deg"),
        Index("ix_images_noise_jy_per_beam_group_id", "noise_jy_per_beam", "group_id"),
        Index("ix_images_sky_cell", text("floor(dec_deg)"), text("floor(ra_deg)"), "group_id"),
    )


class MosaicRow(Base):
    """A mosaic. ``kind``: ``hourly``, ``nightly`` or ``custom``."""

    __tablename__ = "mosaics"
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    directory: Mapped[str]
    start_mjd: Mapped[float]
    mid_mjd: Mapped[float] = mapped_column(index=True)
    end_mjd: Mapped[float]
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    n_tiles: Mapped[int]
    noise_jy_per_beam: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint(_one_of("kind", MosaicKind), name="kind"),
        Index("ix_mosaics_kind_mid_mjd_name", "kind", "mid_mjd", "name"),
        Index("ix_mosaics_noise_jy_per_beam_name", "noise_jy_per_beam", "name"),
    )


class MosaicTile(Base):
    """A tile of a mosaic."""

    __tablename__ = "mosaic_tiles"
    mosaic_name: Mapped[str] = mapped_column(ForeignKey("mosaics.name", ondelete="CASCADE"), primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("ingest_queue.group_id"), primary_key=True, index=True)


class Source(Base):
    """A position that is measured in every mosaic while ``active``.

    ``origin``: ``nvss``, ``calibrator``, ``monitored`` or ``blind``. ``listed_at``: when it got this position, or
    became active again; mosaics measured before lack it (`position_additions`).
    """

    __tablename__ = "sources"
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(unique=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    reference_flux_jy: Mapped[float | None]
    origin: Mapped[str]
    active: Mapped[bool] = mapped_column(server_default="true")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    listed_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    __table_args__ = (
        Index("ix_sources_dec_ra", "dec_deg", "ra_deg"),
        Index("ix_sources_name_beginning", "name", postgresql_ops={"name": "text_pattern_ops"}),
    )


class PositionAddition(Base):
    """Positions that were added to the list together, and how far back past mosaics have been measured for them.

    ``listed_at``: as in `sources`. ``before_mjd``: hourly mosaics from this time on are done, newest first.
    ``finished_at``: null while older ones are left. ``mosaics``: measured so far. ``unexamined``: fluxes were added
    that the variability indices do not include yet.
    """

    __tablename__ = "position_additions"
    listed_at: Mapped[datetime] = mapped_column(primary_key=True)
    positions: Mapped[int]
    before_mjd: Mapped[float]
    mosaics: Mapped[int] = mapped_column(server_default="0")
    unexamined: Mapped[bool] = mapped_column(server_default=false())
    finished_at: Mapped[datetime | None]
    __table_args__ = (Index("ix_position_additions_open", "listed_at", postgresql_where="finished_at IS NULL"),)


class Detection(Base):
    """A detection of the blind source finder in a mosaic, with the nearest catalog entry if there is one.

    ``reliable``: False if the fit disagreed with the pixels, or beside a source a thousand times brighter. No figure
    counts such rows. ``calibration_err_jy``: as of `Photometry`.
    """

    __tablename__ = "detections"
    mosaic_name: Mapped[str] = mapped_column(ForeignKey("mosaics.name", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    ra_err_arcsec: Mapped[float]
    dec_err_arcsec: Mapped[float]
    peak_jy_per_beam: Mapped[float]
    flux_jy: Mapped[float]
    flux_err_jy: Mapped[float]
    calibration_err_jy: Mapped[float | None]
    snr: Mapped[float]
    reliable: Mapped[bool] = mapped_column(server_default=true())
    matched_name: Mapped[str | None]
    separation_arcsec: Mapped[float | None]


class Photometry(Base):
    """Forced flux of one source in one mosaic. Partitioned by month of observation (`photometry_partitions`).

    ``calibration_err_jy``: the part of ``flux_err_jy`` that is not noise; null in rows of earlier releases.
    """

    __tablename__ = "photometry"
    time_mjd: Mapped[float] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    mosaic_name: Mapped[str] = mapped_column(primary_key=True)
    flux_jy: Mapped[float]
    flux_err_jy: Mapped[float]
    calibration_err_jy: Mapped[float | None]
    noise_jy_per_beam: Mapped[float]
    background_jy_per_beam: Mapped[float]
    snr: Mapped[float]
    upper_limit_jy: Mapped[float | None]
    is_limit: Mapped[bool]
    flags: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        Index("ix_photometry_source_id_time_mjd", "source_id", "time_mjd"),
        Index("ix_photometry_mosaic_name", "mosaic_name"),
        {"postgresql_partition_by": "RANGE (time_mjd)"},
    )


class ChannelPhotometry(Base):
    """Forced flux in one channel image of a mosaic. Channels count from 0 at the lowest frequency.

    Rows exist only for hours whose tiles were imaged in channels (`PIPELINE_IMAGE_CHANNELS`). ``frequency_hz``:
    frequency of the flux, the weighted mean of the channel's data. Errors are statistical, as in `photometry`.
    """

    __tablename__ = "photometry_channels"
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    mosaic_name: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    time_mjd: Mapped[float]
    frequency_hz: Mapped[float]
    flux_jy: Mapped[float]
    flux_err_jy: Mapped[float]
    __table_args__ = (
        Index("ix_photometry_channels_source_id_time_mjd", "source_id", "time_mjd"),
        Index("ix_photometry_channels_mosaic_name", "mosaic_name"),
    )


class EpochFactor(Base):
    """The flux scale of one epoch, an hourly mosaic: measured flux = ``factor`` x normalized flux.

    The row exists as soon as sources were measured in the mosaic (``n_measured``); ``factor``, ``factor_err`` are null
    until a night's light curves include the epoch, and if it has too few references. ``n_reference``: number of
    references. ``usable``: the factor is known and credible. ``noise_scale``: factor on the errors of the fluxes.
    ``settled``: later nights do not change the factor, and the epoch is in `ReferenceLevel`. ``due``: the fluxes are
    newer than the factor. ``gauge``: number of the set of epochs that hang together through their sources.
    ``updated_at``: when the factor was last written.
    """

    __tablename__ = "epoch_factors"
    mosaic_name: Mapped[str] = mapped_column(primary_key=True)
    time_mjd: Mapped[float] = mapped_column(index=True)
    n_measured: Mapped[int]
    factor: Mapped[float | None]
    factor_err: Mapped[float | None]
    n_reference: Mapped[int] = mapped_column(server_default="0")
    usable: Mapped[bool] = mapped_column(server_default=false())
    noise_scale: Mapped[float] = mapped_column(server_default="1")
    settled: Mapped[bool] = mapped_column(server_default=false())
    due: Mapped[bool] = mapped_column(server_default=true())
    gauge: Mapped[int] = mapped_column(server_default="0")
    updated_at: Mapped[datetime | None]
    __table_args__ = (
        Index("ix_epoch_factors_unsettled", "time_mjd", postgresql_where="NOT settled"),
        Index("ix_epoch_factors_due", "time_mjd", postgresql_where="due"),
    )


class ReferenceFactor(Base):
    """A reference's own factor in one epoch: the one that the *other* references give, over the epoch's (``ratio``).

    ``weight`` (1 / Jy^2), ``weighted_flux`` (1 / Jy): what the epoch adds to the reference's sums when it settles.
    """

    __tablename__ = "reference_factors"
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    mosaic_name: Mapped[str] = mapped_column(primary_key=True, index=True)
    ratio: Mapped[float | None]
    weight: Mapped[float] = mapped_column(server_default="0")
    weighted_flux: Mapped[float] = mapped_column(server_default="0")


class ReferenceLevel(Base):
    """Sums over the settled epochs of a reference: ``weighted_flux / weight`` is its mean normalized flux.

    ``n``: number of epochs. ``weight`` (1 / Jy^2), ``weighted_flux`` (1 / Jy): of normalized fluxes. ``gauge``: as in
    `EpochFactor`.
    """

    __tablename__ = "reference_levels"
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    n: Mapped[int]
    weight: Mapped[float]
    weighted_flux: Mapped[float]
    gauge: Mapped[int]


class ExcludedEpoch(Base):
    """An epoch that a person excluded from light curves. Its fluxes stay in `photometry`."""

    __tablename__ = "excluded_epochs"
    mosaic_name: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    excluded_by: Mapped[str]
    excluded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Variability(Base):
    """Variability metrics of one source over all epochs up to and including a night."""

    __tablename__ = "variability"
    source_id: Mapped[int] = mapped_column(ForeignKey("sources.source_id"), primary_key=True)
    night: Mapped[date] = mapped_column(primary_key=True, index=True)
    n_epochs: Mapped[int]
    mean_flux_jy: Mapped[float]
    eta: Mapped[float | None]
    v: Mapped[float | None]
    vs: Mapped[float | None]
    m: Mapped[float | None]
    chi2: Mapped[float | None]
    chi2_probability: Mapped[float | None]
    ese_score: Mapped[float | None]
    __table_args__ = (
        Index("ix_variability_night_eta", "night", "eta", "source_id"),
        Index("ix_variability_night_v", "night", "v", "source_id"),
        Index("ix_variability_night_ese_score", "night", "ese_score", "source_id"),
        Index("ix_variability_night_mean_flux_jy", "night", "mean_flux_jy", "source_id"),
    )


class SourceTotals(Base):
    """Totals of one source over its epochs with settled factors, from which the indices follow (`variability.totals`).

    ``square``: sum of squared deviations from the mean flux. ``variance``: sum of squared errors. ``weight``: sum of
    inverse variances. The extremes are arrays in order of time.
    """

    __tablename__ = "source_totals"
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    n_epochs: Mapped[int]
    mean_flux_jy: Mapped[float]
    square: Mapped[float]
    variance: Mapped[float]
    weight: Mapped[float]
    weighted_mean_flux_jy: Mapped[float]
    chi2: Mapped[float]
    extreme_jy: Mapped[list[float]] = mapped_column(ARRAY(DOUBLE_PRECISION))
    extreme_err_jy: Mapped[list[float]] = mapped_column(ARRAY(DOUBLE_PRECISION))
    extreme_mjd: Mapped[list[float]] = mapped_column(ARRAY(DOUBLE_PRECISION))


class EventSearchRow(Base):
    """Result of the last search of one source's whole light curve (`variability.recent`).

    ``significance``: of its strongest event, abs(z); null with one epoch. ``trials``: number of tests. The others
    describe the baseline: ``level_jy`` (median), ``intrinsic`` (variance of the ordinary variability, Jy^2), and the
    sums of the epochs near the level.
    """

    __tablename__ = "event_searches"
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    n_epochs: Mapped[int]
    last_mjd: Mapped[float]
    significance: Mapped[float | None]
    trials: Mapped[float]
    level_jy: Mapped[float | None]
    intrinsic: Mapped[float | None]
    base_weight: Mapped[float | None]
    base_weighted_flux: Mapped[float | None]
    base_epochs: Mapped[float | None]


class ExaminedEpoch(Base):
    """An epoch that indices and searches include.

    ``in_totals``: its fluxes are in `SourceTotals`, divided by the factor of the time ``factor_at``; ``source_ids``:
    those of which sources. ``tested``, ``deviating``: sources that were compared with their baselines, and those of
    them beyond 3 sigma.
    """

    __tablename__ = "examined_epochs"
    mosaic_name: Mapped[str] = mapped_column(primary_key=True)
    time_mjd: Mapped[float] = mapped_column(index=True)
    in_totals: Mapped[bool]
    factor_at: Mapped[datetime | None]
    photometry_version: Mapped[int] = mapped_column(BigInteger)
    tested: Mapped[int]
    deviating: Mapped[int]
    source_ids: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))


class CandidateEvent(Base):
    """An event of one source that was a candidate, the same in all rankings that find it (`variability.identity`).

    ``peak_mjd``, ``first_mjd``, ``last_mjd``: middle, first and last epoch when it was last found. ``depth``, ``kind``,
    ``score``: then. ``first_seen_at``, ``last_seen_at``: first and last ranking. ``first_night``: of the first one.
    Labels are in `EventLabel`.
    """

    __tablename__ = "candidate_events"
    event_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("sources.source_id"), index=True)
    kind: Mapped[str]
    peak_mjd: Mapped[float]
    first_mjd: Mapped[float]
    last_mjd: Mapped[float]
    depth: Mapped[float]
    score: Mapped[float]
    first_night: Mapped[date]
    first_seen_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EventLabel(Base):
    """What a person said about an event. A person's current label has no ``superseded_at``; rows are never deleted.

    ``undone``: the person took it back. A row without label and comment is a removal.
    """

    __tablename__ = "event_labels"
    label_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("candidate_events.event_id"))
    person: Mapped[str]
    label: Mapped[str | None]
    comment: Mapped[str | None]
    labeled_at: Mapped[datetime] = mapped_column(server_default=func.now())
    superseded_at: Mapped[datetime | None]
    undone: Mapped[bool] = mapped_column(server_default=false())
    __table_args__ = (
        Index("ix_event_labels_event_id_label_id", "event_id", "label_id"),
        Index("uq_event_labels_current", "event_id", "person", unique=True, postgresql_where="superseded_at IS NULL"),
    )


class EseCandidate(Base):
    """Candidate for an extreme scattering event, as of a night; ``event_id`` identifies the event in all nights."""

    __tablename__ = "ese_candidates"
    source_id: Mapped[int] = mapped_column(ForeignKey("sources.source_id"), primary_key=True)
    night: Mapped[date] = mapped_column(primary_key=True, index=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("candidate_events.event_id"), index=True)
    rank: Mapped[int]
    score: Mapped[float]
    epoch_mjd: Mapped[float]
    depth: Mapped[float]
    false_alarm_probability: Mapped[float]
    reasons: Mapped[str]
    __table_args__ = (Index("ix_ese_candidates_night_rank", "night", "rank", "source_id"),)


class ProductVersion(Base):
    """One version of a product: its inputs, code, configuration, and result.

    ``product``: asset's name. ``key``: observation, hour or night. ``inputs``: ``version_id`` of each input by path.
    The newest row of a (product, key) is current; the others have ``superseded_at``. ``code_version``: of the code that
    makes this product (`stages.provenance.recipes`). ``release``: of the whole package; null in rows older than the
    column.
    """

    __tablename__ = "product_versions"
    version_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    product: Mapped[str]
    key: Mapped[str]
    path: Mapped[str | None]
    inputs: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    code_version: Mapped[str]
    config_hash: Mapped[str]
    release: Mapped[str | None]
    checksum: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    duration_s: Mapped[float | None]
    peak_memory_mb: Mapped[float | None]
    run_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    superseded_at: Mapped[datetime | None]
    __table_args__ = (
        Index("ix_product_versions_product_key", "product", "key", "version_id"),
        Index("ix_product_versions_recent", "product", "created_at", postgresql_include=["key", "version_id"]),
        Index("ix_product_versions_superseded_at", "superseded_at", postgresql_where="superseded_at IS NOT NULL"),
        Index("ix_product_versions_inputs", "inputs", postgresql_using="gin", postgresql_ops={"inputs": "jsonb_path_ops"}),
    )


class RecipeRecord(Base):
    """What a recipe consists of, so that a change of it can be named.

    ``product``, ``code_version``, ``config_hash``: the recipe, as in `product_versions`. ``modules``: digest of each
    domain module. ``engines``: versions. ``settings``: values. Recipes of releases before this table have no row.
    """

    __tablename__ = "recipes"
    product: Mapped[str] = mapped_column(primary_key=True)
    code_version: Mapped[str] = mapped_column(primary_key=True)
    config_hash: Mapped[str] = mapped_column(primary_key=True)
    modules: Mapped[dict[str, Any]]
    engines: Mapped[dict[str, Any]]
    settings: Mapped[dict[str, Any]]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AcceptedRecipe(Base):
    """A person's request to accept products of an earlier recipe as made by a newer one, and what its sample gave.

    ``from_*``, ``to_*``: earlier and newer recipe. ``sample``: names of the parts that differ, by key; empty lists: all
    equal. ``products``: how many had the earlier recipe. Only with ``accepted`` are they not stale.
    """

    __tablename__ = "accepted_recipes"
    acceptance_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    product: Mapped[str]
    from_code: Mapped[str]
    from_config: Mapped[str]
    to_code: Mapped[str]
    to_config: Mapped[str]
    accepted: Mapped[bool]
    accepted_by: Mapped[str]
    reason: Mapped[str]
    sample: Mapped[dict[str, Any]]
    products: Mapped[int] = mapped_column(BigInteger)
    decided_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index("ix_accepted_recipes_to", "product", "to_code", "to_config"),)


class QaMetric(Base):
    """A quality metric and its verdict. ``passed`` is null if it could not be measured (pitfall 22)."""

    __tablename__ = "qa_metrics"
    product: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    limit_low: Mapped[float | None]
    limit_high: Mapped[float | None]
    passed: Mapped[bool | None]
    reason: Mapped[str] = mapped_column(server_default="")
    measured_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class StoredPart(Base):
    """A part of a product's current version on disk, and whether retention has removed it.

    ``rule``: name of the part (`stages.retention`). ``path``: of the product. ``retired_at``: when housekeeping removed
    the part; making the product again clears it. ``problem``: why it could not be removed; it is not tried again
    without `dsa110 clean --thorough`.
    """

    __tablename__ = "stored_parts"
    product: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    rule: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    retired_at: Mapped[datetime | None]
    problem: Mapped[str | None]
    __table_args__ = (
        Index(
            "ix_stored_parts_on_disk",
            "rule",
            "made_at",
            postgresql_include=["size_bytes"],
            postgresql_where="retired_at IS NULL AND problem IS NULL",
        ),
        Index("ix_stored_parts_problems", "rule", "made_at", postgresql_where="problem IS NOT NULL"),
    )


class Mark(Base):
    """A person's decision about the tile or the solution of an observation. It is valid until ``removed_at``.

    It holds for later versions of the product, too. A new decision removes the earlier one.
    """

    __tablename__ = "marks"
    mark_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    kind: Mapped[str]
    group_id: Mapped[str] = mapped_column(ForeignKey("ingest_queue.group_id"), index=True)
    decision: Mapped[str]
    reason: Mapped[str]
    marked_by: Mapped[str]
    marked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    removed_by: Mapped[str | None]
    removed_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint(_one_of("kind", MarkKind), name="kind"),
        CheckConstraint(_one_of("decision", MarkDecision), name="decision"),
        Index("uq_marks_valid", "kind", "group_id", unique=True, postgresql_where="removed_at IS NULL"),
    )


class AntennaMark(Base):
    """A person's word that an antenna is bad from a time on, or between two times. It is valid until ``removed_at``.

    Without ``to_mjd`` it holds for all later observations. A new mark of the antenna from the same time removes the
    earlier one.
    """

    __tablename__ = "antenna_marks"
    mark_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    antenna: Mapped[str]
    from_mjd: Mapped[float]
    to_mjd: Mapped[float | None]
    reason: Mapped[str]
    marked_by: Mapped[str]
    marked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    removed_by: Mapped[str | None]
    removed_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint("to_mjd > from_mjd", name="span"),
        Index("uq_antenna_marks_valid", "antenna", "from_mjd", unique=True, postgresql_where="removed_at IS NULL"),
    )


class SkyModelSource(Base):
    """A bright source that images found outside their frames and that no catalog has.

    ``flux_jy`` (1.4 GHz), its thermal error and the position are from the observation ``group_id``, which saw it best;
    ``primary_beam`` is the beam there. ``origin``: how it was found.
    """

    __tablename__ = "sky_model"
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    flux_jy: Mapped[float]
    flux_err_jy: Mapped[float]
    primary_beam: Mapped[float]
    origin: Mapped[str]
    group_id: Mapped[str]
    first_mjd: Mapped[float]
    last_mjd: Mapped[float]
    __table_args__ = (Index("ix_sky_model_dec_deg", "dec_deg"),)


class RefreshableCatalog(Base):
    """A reference catalog on disk: its origin and time."""

    __tablename__ = "reference_catalogs"
    name: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str]
    origin: Mapped[str]
    n_rows: Mapped[int]
    refreshed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (UniqueConstraint("path"),)


class ApiToken(Base):
    """A person's token for the API. Only its SHA-256 is kept. A person has at most one that is not revoked."""

    __tablename__ = "api_tokens"
    token_hash: Mapped[str] = mapped_column(primary_key=True)
    person: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    __table_args__ = (Index("uq_api_tokens_valid", "person", unique=True, postgresql_where="revoked_at IS NULL"),)


class ApiAction(Base):
    """What a person changed through the API: ``action`` (such as ``exclude_epoch``), its subject and details."""

    __tablename__ = "api_actions"
    action_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    person: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, Any]]
    done_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class AlertRecord(Base):
    """An alert that the platform reported. ``seen_at``: when it last did. ``passed_at``: null as long as it is open.

    ``page``: address of our page about it; may be empty.
    """

    __tablename__ = "alerts"
    alert_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    key: Mapped[str]
    level: Mapped[str]
    title: Mapped[str]
    next_step: Mapped[str]
    page: Mapped[str] = mapped_column(server_default="")
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    passed_at: Mapped[datetime | None]
    __table_args__ = (
        Index("uq_alerts_open", "key", unique=True, postgresql_where="passed_at IS NULL"),
        Index("ix_alerts_passed_at", "passed_at", postgresql_where="passed_at IS NOT NULL"),
    )


class AlertAcknowledgement(Base):
    """A person's answer to an alert, which makes it quiet: ``until`` a time, or as long as it lasts (null).

    ``ended_at``: when the time was over, the alert passed, or a person took the answer back.
    """

    __tablename__ = "alert_acknowledgements"
    acknowledgement_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    key: Mapped[str]
    person: Mapped[str]
    reason: Mapped[str]
    until: Mapped[datetime | None]
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    __table_args__ = (
        Index("uq_alert_acknowledgements_open", "key", unique=True, postgresql_where="ended_at IS NULL"),
        Index("ix_alert_acknowledgements_ended_at", "ended_at", postgresql_where="ended_at IS NOT NULL"),
    )


class ShiftEntry(Base):
    """An entry of the shift's log; it is never changed. It may be about an observation, a source or a night."""

    __tablename__ = "shift_entries"
    entry_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    person: Mapped[str]
    text: Mapped[str]
    group_id: Mapped[str | None]
    source_id: Mapped[int | None] = mapped_column(BigInteger)
    night: Mapped[date | None]
    written_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    __table_args__ = (
        Index("ix_shift_entries_group_id", "group_id", "entry_id", postgresql_where="group_id IS NOT NULL"),
        Index("ix_shift_entries_source_id", "source_id", "entry_id", postgresql_where="source_id IS NOT NULL"),
        Index("ix_shift_entries_night", "night", "entry_id", postgresql_where="night IS NOT NULL"),
    )


class Target(Base):
    """A position that a person added to the list of monitored positions, beside the observer's file."""

    __tablename__ = "targets"
    name: Mapped[str] = mapped_column(primary_key=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    person: Mapped[str]
    reason: Mapped[str] = mapped_column(server_default="")
    added_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PositionFlux(Base):
    """Flux or limit at a position that a person asked for, in one hourly mosaic. It belongs to no source."""

    __tablename__ = "position_fluxes"
    dec_deg: Mapped[float] = mapped_column(primary_key=True)
    ra_deg: Mapped[float] = mapped_column(primary_key=True)
    mosaic_name: Mapped[str] = mapped_column(primary_key=True)
    time_mjd: Mapped[float]
    flux_jy: Mapped[float]
    flux_err_jy: Mapped[float]
    snr: Mapped[float]
    upper_limit_jy: Mapped[float | None]
    is_limit: Mapped[bool]
    flags: Mapped[str] = mapped_column(server_default="")
    run_id: Mapped[str]
    measured_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class WorkerRow(Base):
    """A worker (`dsa110 worker`) of the profile `distributed`. ``refusal``: why it takes no run, such as other code.

    ``version``: digests of its code and settings. ``beat_at``: its last sign of life. ``stopped_at``: its orderly end.
    """

    __tablename__ = "workers"
    worker: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    boot_id: Mapped[str]
    pid: Mapped[int]
    queue: Mapped[str]
    slots: Mapped[int]
    version: Mapped[str]
    refusal: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    beat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stopped_at: Mapped[datetime | None]


class RunWorker(Base):
    """A run of Dagster that a worker makes, or that waits for one (``claimed_at`` is empty).

    ``version``: code and settings that may make it. ``preferred_host``: host that made the Measurement Set.
    ``lost_at``: the run was given up, and publishes nothing any more. ``lost_why``: why; without ``lost_at``, that its
    worker is being stopped (`registry.queries.workers.STOPPED`). ``ended_at``: its process has ended.
    """

    __tablename__ = "run_workers"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str]
    version: Mapped[str]
    priority: Mapped[int]
    preferred_host: Mapped[str | None]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    worker: Mapped[str | None]
    host: Mapped[str | None]
    boot_id: Mapped[str | None]
    pid: Mapped[int | None]
    claimed_at: Mapped[datetime | None]
    beat_at: Mapped[datetime | None]
    cancel_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    exit_code: Mapped[int | None]
    lost_at: Mapped[datetime | None]
    lost_why: Mapped[str | None]
    __table_args__ = (
        Index("ix_run_workers_open", "queue", "requested_at", postgresql_where="ended_at IS NULL AND lost_at IS NULL"),
        Index("ix_run_workers_requested_at", "requested_at"),
    )


class View(DeclarativeBase):
    """Declarative base of views. Migrations hold their statements; alembic does not compare them."""

    metadata = MetaData()
    type_annotation_map = Base.type_annotation_map


class LightCurvePoint(View):
    """A normalized flux: that of `Photometry`, divided by its epoch's factor (`EpochFactor`, `ReferenceFactor`).

    Excluded epochs and epochs without a usable factor are left out. ``normalisation``, ``normalisation_err``: the
    epoch's factor and its error, which is part of ``flux_err_jy``.
    """

    __tablename__ = "light_curves"
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    mosaic_name: Mapped[str] = mapped_column(primary_key=True)
    time_mjd: Mapped[float]
    flux_jy: Mapped[float]
    flux_err_jy: Mapped[float]
    normalisation: Mapped[float]
    normalisation_err: Mapped[float]
    is_limit: Mapped[bool]
