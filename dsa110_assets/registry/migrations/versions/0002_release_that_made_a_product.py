"""A column for the release that made a product. The code version is that of the product's own stage from now on.

Revision 0002. Older rows keep the release in ``code_version``, so that they count as made by other code.
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
    """Drop the column."""
    op.drop_column("product_versions", "release")
