"""Observations keep which tables were considered when theirs were chosen.

Revision 0024.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Earlier releases took the nearest tables without comparing any."""
    op.add_column("calibration_applied", sa.Column("considered", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("calibration_applied", "considered")
