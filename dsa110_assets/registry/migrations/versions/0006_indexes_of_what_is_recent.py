"""Indexes for what the sensors ask in every tick: recent versions, arrivals, completions and calibrators.

Revision 0006.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("ix_product_versions_recent", "product_versions", ["product", "created_at"], postgresql_include=["key", "version_id"])
    op.create_index("ix_ingest_queue_last_file_at", "ingest_queue", ["last_file_at"])
    op.create_index("ix_ingest_queue_completed_at", "ingest_queue", ["completed_at"])
    op.create_index("ix_ms_index_of_calibrators", "ms_index", ["created_at"], postgresql_where="kind = 'raw' AND calibrator IS NOT NULL")


def downgrade() -> None:
    """Drop them; sensors read all of history in every tick."""
    op.drop_index("ix_ms_index_of_calibrators", "ms_index")
    op.drop_index("ix_ingest_queue_completed_at", "ingest_queue")
    op.drop_index("ix_ingest_queue_last_file_at", "ingest_queue")
    op.drop_index("ix_product_versions_recent", "product_versions")
