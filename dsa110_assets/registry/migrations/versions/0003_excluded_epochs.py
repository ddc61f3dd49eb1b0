"""A table of the epochs that people exclude from light curves.

Revision 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "excluded_epochs",
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("excluded_by", sa.Text(), nullable=False),
        sa.Column("excluded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("mosaic_name", name=op.f("pk_excluded_epochs")),
    )


def downgrade() -> None:
    """Drop the table. The exclusions are lost."""
    op.drop_table("excluded_epochs")
