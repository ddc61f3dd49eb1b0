"""The platform's own sky model: bright sources that images found and no catalog has.

Revision 0025.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; it fills with the next images."""
    op.create_table(
        "sky_model",
        sa.Column("source_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("ra_deg", sa.Double(), nullable=False),
        sa.Column("dec_deg", sa.Double(), nullable=False),
        sa.Column("flux_jy", sa.Double(), nullable=False),
        sa.Column("flux_err_jy", sa.Double(), nullable=False),
        sa.Column("primary_beam", sa.Double(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("first_mjd", sa.Double(), nullable=False),
        sa.Column("last_mjd", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", name="pk_sky_model"),
    )
    op.create_index("ix_sky_model_dec_deg", "sky_model", ["dec_deg"])


def downgrade() -> None:
    """Drop the table; images find the sources again."""
    op.drop_table("sky_model")
