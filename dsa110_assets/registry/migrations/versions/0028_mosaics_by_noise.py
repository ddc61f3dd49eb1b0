"""Mosaics in the order of their noise.

Revision 0028.
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index that gives the order."""
    op.create_index("ix_mosaics_noise_jy_per_beam_name", "mosaics", ["noise_jy_per_beam", "name"])


def downgrade() -> None:
    """Remove the index."""
    op.drop_index("ix_mosaics_noise_jy_per_beam_name", "mosaics")
