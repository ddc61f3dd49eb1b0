"""An index of the raw files on disk, without deleted ones.

Revision 0005.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_subband_files_present", "subband_files", ["path"], postgresql_where="state <> 'gone'")


def downgrade() -> None:
    """Drop the index. Sweeps of the input directory become slower."""
    op.drop_index("ix_subband_files_present", "subband_files")
