"""A table of forced fluxes in the channel images of mosaics.

Revision 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "photometry_channels",
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("channel", sa.SmallInteger(), nullable=False),
        sa.Column("time_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("frequency_hz", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("flux_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("flux_err_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "mosaic_name", "channel", name=op.f("pk_photometry_channels")),
    )
    op.create_index("ix_photometry_channels_source_id_time_mjd", "photometry_channels", ["source_id", "time_mjd"])
    op.create_index("ix_photometry_channels_mosaic_name", "photometry_channels", ["mosaic_name"])


def downgrade() -> None:
    """Drop the table. The fluxes are lost until the photometry is made again."""
    op.drop_table("photometry_channels")
