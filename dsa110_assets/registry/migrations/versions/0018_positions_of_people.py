"""Images by cells of the sky; targets that people add through pages and commands; fluxes that they asked for.

Revision 0018.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index and the tables."""
    op.create_index("ix_images_sky_cell", "images", [sa.text("floor(dec_deg)"), sa.text("floor(ra_deg)"), "group_id"])
    op.create_table(
        "targets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ra_deg", sa.Double(), nullable=False),
        sa.Column("dec_deg", sa.Double(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_targets"),
    )
    op.create_table(
        "position_fluxes",
        sa.Column("dec_deg", sa.Double(), nullable=False),
        sa.Column("ra_deg", sa.Double(), nullable=False),
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("time_mjd", sa.Double(), nullable=False),
        sa.Column("flux_jy", sa.Double(), nullable=False),
        sa.Column("flux_err_jy", sa.Double(), nullable=False),
        sa.Column("snr", sa.Double(), nullable=False),
        sa.Column("upper_limit_jy", sa.Double(), nullable=True),
        sa.Column("is_limit", sa.Boolean(), nullable=False),
        sa.Column("flags", sa.Text(), server_default="", nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("dec_deg", "ra_deg", "mosaic_name", name="pk_position_fluxes"),
    )


def downgrade() -> None:
    """Drop them; targets that were added stay among the sources until the list is read again."""
    op.drop_table("position_fluxes")
    op.drop_table("targets")
    op.drop_index("ix_images_sky_cell", "images")
