"""Sums of settled epochs for each reference, so that a night's update does not read the history.

Revision 0012.

All epochs count as new: the next update of the light curves fits them from the first on, in parts.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and make the table."""
    op.add_column("epoch_factors", sa.Column("due", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("epoch_factors", sa.Column("gauge", sa.Integer(), server_default="0", nullable=False))
    op.create_index("ix_epoch_factors_due", "epoch_factors", ["time_mjd"], postgresql_where="due")
    op.add_column("reference_factors", sa.Column("weight", sa.DOUBLE_PRECISION(), server_default="0", nullable=False))
    op.add_column("reference_factors", sa.Column("weighted_flux", sa.DOUBLE_PRECISION(), server_default="0", nullable=False))
    op.create_table(
        "reference_levels",
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("weight", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("weighted_flux", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("gauge", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_reference_levels")),
    )
    op.execute("UPDATE epoch_factors SET settled = false")


def downgrade() -> None:
    """Drop them. Factors and light curves stay."""
    op.drop_table("reference_levels")
    op.drop_column("reference_factors", "weighted_flux")
    op.drop_column("reference_factors", "weight")
    op.drop_index("ix_epoch_factors_due", "epoch_factors")
    op.drop_column("epoch_factors", "gauge")
    op.drop_column("epoch_factors", "due")
