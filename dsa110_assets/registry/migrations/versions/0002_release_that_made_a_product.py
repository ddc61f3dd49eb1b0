"""Each version of a product names the release that made it; its code version is that of its own stage from now on.

Revision 0002. Rows from before keep the release in ``code_version``, so that they count as made by other code.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("product_versions", sa.Column("release", sa.Text(), nullable=True))
    op.execute("UPDATE product_versions SET release = code_version")


def downgrade() -> None:
    """Take it away."""
    op.drop_column("product_versions", "release")
