"""Indexes for what people and alerts ask: the newest of a state, recent failures, rejected files.

Revision 0014.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("ix_ingest_queue_state_start_mjd", "ingest_queue", ["state", "start_mjd"])
    op.create_index("ix_ingest_queue_failed", "ingest_queue", ["updated_at"], postgresql_where="state = 'failed'")
    op.create_index("ix_subband_files_rejected", "subband_files", ["judged_at"], postgresql_where="state = 'rejected'")


def downgrade() -> None:
    """Drop them; a status then reads all of history."""
    op.drop_index("ix_subband_files_rejected", "subband_files")
    op.drop_index("ix_ingest_queue_failed", "ingest_queue")
    op.drop_index("ix_ingest_queue_state_start_mjd", "ingest_queue")
