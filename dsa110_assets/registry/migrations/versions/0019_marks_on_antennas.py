"""A table of antennas that people have marked as bad; which of them a Measurement Set was flagged for.

Revision 0019.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and the column; earlier Measurement Sets were flagged for none."""
    op.create_table(
        "antenna_marks",
        sa.Column("mark_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("antenna", sa.Text(), nullable=False),
        sa.Column("from_mjd", sa.Double(), nullable=False),
        sa.Column("to_mjd", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("marked_by", sa.Text(), nullable=False),
        sa.Column("marked_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("removed_by", sa.Text(), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("to_mjd > from_mjd", name="span"),
        sa.PrimaryKeyConstraint("mark_id", name="pk_antenna_marks"),
    )
    op.create_index("uq_antenna_marks_valid", "antenna_marks", ["antenna", "from_mjd"], unique=True, postgresql_where="removed_at IS NULL")
    op.add_column("ms_index", sa.Column("bad_antennas", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False))
    op.create_index("ix_ms_index_with_bad_antennas", "ms_index", ["group_id"], postgresql_where="bad_antennas <> '{}'")


def downgrade() -> None:
    """Drop both; Measurement Sets keep their flags until they are made again."""
    op.drop_index("ix_ms_index_with_bad_antennas", "ms_index")
    op.drop_column("ms_index", "bad_antennas")
    op.drop_table("antenna_marks")
