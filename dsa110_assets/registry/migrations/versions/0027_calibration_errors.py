"""Fluxes say which part of their errors is not noise. Revision 0027."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_TABLES = ("photometry", "detections")


def upgrade() -> None:
    """Add the columns; no table is rewritten, and partitions follow. Earlier fluxes have none: it was not measured."""
    for table in _TABLES:
        op.add_column(table, sa.Column("calibration_err_jy", sa.Float(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    for table in _TABLES:
        op.drop_column(table, "calibration_err_jy")
