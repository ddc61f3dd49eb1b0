"""Tables of the first release.

Revision 0001. `photometry` is partitioned by month. Its partitions are made on demand (`photometry_partitions`) and
dropped with it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "ingest_queue",
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), server_default="raw_subbands", nullable=False),
        sa.Column("start_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("mid_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("end_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("dec_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("n_subbands", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("missing_subbands", postgresql.ARRAY(sa.SmallInteger()), server_default="{}", nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("failures", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("reopen", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="10", nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("calibrator", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_file_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("pending_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(state = 'in_progress') = (lease_owner is not null)", name=op.f("ck_ingest_queue_lease")),
        sa.CheckConstraint("state in ('collecting', 'pending', 'in_progress', 'completed', 'failed')", name=op.f("ck_ingest_queue_state")),
        sa.PrimaryKeyConstraint("group_id", name=op.f("pk_ingest_queue")),
    )
    op.create_index("ix_ingest_queue_night_slot", "ingest_queue", ["night", "slot"], unique=False)
    op.create_index("ix_ingest_queue_start_mjd", "ingest_queue", ["start_mjd"], unique=False)
    op.create_index("ix_ingest_queue_state_priority", "ingest_queue", ["state", "priority", "start_mjd"], unique=False)
    op.create_table(
        "light_curves",
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("time_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("flux_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("flux_err_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("normalisation", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("normalisation_err", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("is_limit", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "mosaic_name", name=op.f("pk_light_curves")),
    )
    op.create_table(
        "mosaics",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("start_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("mid_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("end_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("ra_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("dec_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("n_tiles", sa.Integer(), nullable=False),
        sa.Column("noise_jy_per_beam", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind in ('hourly', 'nightly', 'custom')", name=op.f("ck_mosaics_kind")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_mosaics")),
    )
    op.create_index(op.f("ix_mosaics_mid_mjd"), "mosaics", ["mid_mjd"], unique=False)
    op.create_table(
        "photometry",
        sa.Column("time_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("flux_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("flux_err_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("noise_jy_per_beam", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("background_jy_per_beam", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("snr", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("upper_limit_jy", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("is_limit", sa.Boolean(), nullable=False),
        sa.Column("flags", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("time_mjd", "source_id", "mosaic_name", name=op.f("pk_photometry")),
        postgresql_partition_by="RANGE (time_mjd)",
    )
    op.create_index("ix_photometry_mosaic_name", "photometry", ["mosaic_name"], unique=False)
    op.create_index("ix_photometry_source_id_time_mjd", "photometry", ["source_id", "time_mjd"], unique=False)
    op.create_table(
        "product_versions",
        sa.Column("version_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("inputs", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("duration_s", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("peak_memory_mb", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_product_versions")),
    )
    op.create_index("ix_product_versions_product_key", "product_versions", ["product", "key", "version_id"], unique=False)
    op.create_table(
        "qa_metrics",
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("limit_low", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("limit_high", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("passed", sa.Boolean(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("product", "key", "metric", name=op.f("pk_qa_metrics")),
    )
    op.create_table(
        "reference_catalogs",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_reference_catalogs")),
        sa.UniqueConstraint("path", name=op.f("uq_reference_catalogs_path")),
    )
    op.create_table(
        "sources",
        sa.Column("source_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ra_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("dec_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("reference_flux_jy", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_sources")),
        sa.UniqueConstraint("name", name=op.f("uq_sources_name")),
    )
    op.create_index("ix_sources_dec_ra", "sources", ["dec_deg", "ra_deg"], unique=False)
    op.create_table(
        "caltables",
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("calibrator", sa.Text(), nullable=False),
        sa.Column("refant", sa.Text(), nullable=False),
        sa.Column("mid_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("valid_from_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("valid_to_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("pointing_dec_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("reasons", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("quality", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["ingest_queue.group_id"], name=op.f("fk_caltables_group_id")),
        sa.PrimaryKeyConstraint("directory", name=op.f("pk_caltables")),
    )
    op.create_index(op.f("ix_caltables_group_id"), "caltables", ["group_id"], unique=False)
    op.create_index(op.f("ix_caltables_night"), "caltables", ["night"], unique=False)
    op.create_table(
        "detections",
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("ra_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("dec_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("ra_err_arcsec", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("dec_err_arcsec", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("peak_jy_per_beam", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("flux_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("flux_err_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("snr", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("matched_name", sa.Text(), nullable=True),
        sa.Column("separation_arcsec", sa.DOUBLE_PRECISION(), nullable=True),
        sa.ForeignKeyConstraint(["mosaic_name"], ["mosaics.name"], name=op.f("fk_detections_mosaic_name"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("mosaic_name", "number", name=op.f("pk_detections")),
    )
    op.create_table(
        "ese_candidates",
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("score", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("epoch_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("depth", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("false_alarm_probability", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["source_id"], ["sources.source_id"], name=op.f("fk_ese_candidates_source_id")),
        sa.PrimaryKeyConstraint("source_id", "night", name=op.f("pk_ese_candidates")),
    )
    op.create_table(
        "images",
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("mid_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("ra_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("dec_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("pointing_dec_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("noise_jy_per_beam", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("thermal_jy_per_beam", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("peak_jy_per_beam", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("bmaj_arcsec", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("bmin_arcsec", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("bpa_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["ingest_queue.group_id"], name=op.f("fk_images_group_id")),
        sa.PrimaryKeyConstraint("directory", name=op.f("pk_images")),
        sa.UniqueConstraint("group_id", name=op.f("uq_images_group_id")),
    )
    op.create_index(op.f("ix_images_mid_mjd"), "images", ["mid_mjd"], unique=False)
    op.create_table(
        "mosaic_tiles",
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["ingest_queue.group_id"], name=op.f("fk_mosaic_tiles_group_id")),
        sa.ForeignKeyConstraint(["mosaic_name"], ["mosaics.name"], name=op.f("fk_mosaic_tiles_mosaic_name"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("mosaic_name", "group_id", name=op.f("pk_mosaic_tiles")),
    )
    op.create_index(op.f("ix_mosaic_tiles_group_id"), "mosaic_tiles", ["group_id"], unique=False)
    op.create_table(
        "ms_index",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("start_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("mid_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("end_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("ra_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("dec_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("pointing_dec_deg", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("calibrator", sa.Text(), nullable=True),
        sa.Column("n_channels", sa.Integer(), nullable=False),
        sa.Column("flagged_fraction", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind in ('raw', 'calibrated')", name=op.f("ck_ms_index_kind")),
        sa.ForeignKeyConstraint(["group_id"], ["ingest_queue.group_id"], name=op.f("fk_ms_index_group_id")),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_ms_index")),
    )
    op.create_index(op.f("ix_ms_index_group_id"), "ms_index", ["group_id"], unique=False)
    op.create_index(op.f("ix_ms_index_mid_mjd"), "ms_index", ["mid_mjd"], unique=False)
    op.create_table(
        "subband_files",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=True),
        sa.Column("subband", sa.SmallInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("start_mjd", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("n_times", sa.SmallInteger(), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state in ('accepted', 'rejected', 'superseded', 'gone')", name=op.f("ck_subband_files_state")),
        sa.ForeignKeyConstraint(["group_id"], ["ingest_queue.group_id"], name=op.f("fk_subband_files_group_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_subband_files")),
    )
    op.create_index(op.f("ix_subband_files_group_id"), "subband_files", ["group_id"], unique=False)
    op.create_index(
        "uq_subband_files_accepted", "subband_files", ["group_id", "subband"], unique=True, postgresql_where="state = 'accepted'"
    )
    op.create_table(
        "variability",
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("n_epochs", sa.Integer(), nullable=False),
        sa.Column("mean_flux_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("eta", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("v", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("vs", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("m", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("chi2", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("chi2_probability", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("ese_score", sa.DOUBLE_PRECISION(), nullable=True),
        sa.ForeignKeyConstraint(["source_id"], ["sources.source_id"], name=op.f("fk_variability_source_id")),
        sa.PrimaryKeyConstraint("source_id", "night", name=op.f("pk_variability")),
    )
    op.create_table(
        "calibration_applied",
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("caltable_directory", sa.Text(), nullable=False),
        sa.Column("rung", sa.Text(), nullable=False),
        sa.Column("hours_away", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["caltable_directory"], ["caltables.directory"], name=op.f("fk_calibration_applied_caltable_directory")),
        sa.ForeignKeyConstraint(["group_id"], ["ingest_queue.group_id"], name=op.f("fk_calibration_applied_group_id")),
        sa.PrimaryKeyConstraint("group_id", name=op.f("pk_calibration_applied")),
    )


def downgrade() -> None:
    """Drop them, with all they hold."""
    op.drop_table("calibration_applied")
    op.drop_table("variability")
    op.drop_table("subband_files")
    op.drop_table("ms_index")
    op.drop_table("mosaic_tiles")
    op.drop_table("images")
    op.drop_table("ese_candidates")
    op.drop_table("detections")
    op.drop_table("caltables")
    op.drop_table("sources")
    op.drop_table("reference_catalogs")
    op.drop_table("qa_metrics")
    op.drop_table("product_versions")
    op.drop_table("photometry")
    op.drop_table("mosaics")
    op.drop_table("light_curves")
    op.drop_table("ingest_queue")
