"""When a position was listed, and how far past mosaics have been measured for new positions.

Positions of earlier releases count as measured everywhere. Revision 0013.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("sources", sa.Column("listed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False))
    op.execute("UPDATE sources SET listed_at = created_at")
    op.create_index("ix_sources_listed_at", "sources", ["listed_at"])
    op.create_table(
        "position_additions",
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("positions", sa.Integer(), nullable=False),
        sa.Column("before_mjd", sa.Double(), nullable=False),
        sa.Column("mosaics", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unexamined", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("listed_at", name="pk_position_additions"),
    )
    op.create_index("ix_position_additions_open", "position_additions", ["listed_at"], postgresql_where="finished_at IS NULL")


def downgrade() -> None:
    """Drop them; new positions are measured in new mosaics only."""
    op.drop_table("position_additions")
    op.drop_index("ix_sources_listed_at", "sources")
    op.drop_column("sources", "listed_at")
