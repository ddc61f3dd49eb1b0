"""A table of what people have decided about tiles and calibration solutions: bad, or good although refused.

Revision 0016.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "marks",
        sa.Column("mark_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("marked_by", sa.Text(), nullable=False),
        sa.Column("marked_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("removed_by", sa.Text(), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind in ('tile', 'solution')", name="kind"),
        sa.CheckConstraint("decision in ('bad', 'good')", name="decision"),
        sa.ForeignKeyConstraint(["group_id"], ["ingest_queue.group_id"], name="fk_marks_group_id"),
        sa.PrimaryKeyConstraint("mark_id", name="pk_marks"),
    )
    op.create_index("uq_marks_valid", "marks", ["kind", "group_id"], unique=True, postgresql_where="removed_at IS NULL")
    op.create_index("ix_marks_group_id", "marks", ["group_id"])


def downgrade() -> None:
    """Drop it; the verdicts of the checks count again."""
    op.drop_table("marks")
