"""Tokens and actions of people who use the API, and an index for each order of its lists.

Revision 0011.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and the indexes."""
    now = sa.text("now()")
    op.create_table(
        "api_tokens",
        sa.Column("token_hash", sa.Text(), primary_key=True),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )
    op.create_index("uq_api_tokens_valid", "api_tokens", ["person"], unique=True, postgresql_where="revoked_at IS NULL")
    op.create_table(
        "api_actions",
        sa.Column("action_id", sa.BigInteger(), primary_key=True, autoincrement=True),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", JSONB(), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
    )
    op.create_index("ix_ingest_queue_state_group_id", "ingest_queue", ["state", "group_id"])
    op.create_index(
        "ix_ingest_queue_calibrator_group_id", "ingest_queue", ["calibrator", "group_id"], postgresql_where="calibrator IS NOT NULL"
    )
    op.create_index("ix_images_ra_deg", "images", ["ra_deg"])
    op.create_index("ix_images_noise_jy_per_beam_group_id", "images", ["noise_jy_per_beam", "group_id"])
    op.create_index("ix_mosaics_kind_mid_mjd_name", "mosaics", ["kind", "mid_mjd", "name"])
    op.create_index("ix_calibration_applied_caltable_directory", "calibration_applied", ["caltable_directory", "group_id"])
    op.create_index("ix_sources_name_beginning", "sources", ["name"], postgresql_ops={"name": "text_pattern_ops"})
    op.create_index("ix_ese_candidates_night_rank", "ese_candidates", ["night", "rank", "source_id"])
    for column in ("eta", "v", "ese_score", "mean_flux_jy"):
        op.create_index(f"ix_variability_night_{column}", "variability", ["night", column, "source_id"])


def downgrade() -> None:
    """Drop them; tokens are lost."""
    for column in ("mean_flux_jy", "ese_score", "v", "eta"):
        op.drop_index(f"ix_variability_night_{column}", "variability")
    op.drop_index("ix_ese_candidates_night_rank", "ese_candidates")
    op.drop_index("ix_sources_name_beginning", "sources")
    op.drop_index("ix_calibration_applied_caltable_directory", "calibration_applied")
    op.drop_index("ix_mosaics_kind_mid_mjd_name", "mosaics")
    op.drop_index("ix_images_noise_jy_per_beam_group_id", "images")
    op.drop_index("ix_images_ra_deg", "images")
    op.drop_index("ix_ingest_queue_calibrator_group_id", "ingest_queue")
    op.drop_index("ix_ingest_queue_state_group_id", "ingest_queue")
    op.drop_table("api_actions")
    op.drop_table("api_tokens")
