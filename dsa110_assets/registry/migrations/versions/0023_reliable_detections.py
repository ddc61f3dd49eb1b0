"""Detections say whether they are reliable.

Revision 0023.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Detections of earlier releases count as reliable: they did not say."""
    op.add_column("detections", sa.Column("reliable", sa.Boolean(), server_default=sa.true(), nullable=False))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("detections", "reliable")
