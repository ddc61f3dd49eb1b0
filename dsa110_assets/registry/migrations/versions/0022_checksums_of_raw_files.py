"""SHA-256 of raw files at first sight; older files have none. Revision 0022."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no table is rewritten."""
    op.add_column("subband_files", sa.Column("sha256", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("subband_files", "sha256")
