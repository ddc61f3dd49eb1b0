"""An index of the fluxes that people asked for by their age, so that old ones are removed without reading all.

Revision 0020.
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_position_fluxes_measured_at", "position_fluxes", ["measured_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_position_fluxes_measured_at", "position_fluxes")
