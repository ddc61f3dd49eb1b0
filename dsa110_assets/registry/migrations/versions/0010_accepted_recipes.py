"""Parts of recipes, and recipes that a person has accepted after a sample came out the same.

Checksums of content need no column: they begin with ``content1:``, those of bytes have no prefix. Revision 0010.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "recipes",
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("modules", JSONB(), nullable=False),
        sa.Column("engines", JSONB(), nullable=False),
        sa.Column("settings", JSONB(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("product", "code_version", "config_hash", name="pk_recipes"),
    )
    op.create_table(
        "accepted_recipes",
        sa.Column("acceptance_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("from_code", sa.Text(), nullable=False),
        sa.Column("from_config", sa.Text(), nullable=False),
        sa.Column("to_code", sa.Text(), nullable=False),
        sa.Column("to_config", sa.Text(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("accepted_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("sample", JSONB(), nullable=False),
        sa.Column("products", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("acceptance_id", name="pk_accepted_recipes"),
    )
    op.create_index("ix_accepted_recipes_to", "accepted_recipes", ["product", "to_code", "to_config"])


def downgrade() -> None:
    """Drop them; what was accepted is stale again."""
    op.drop_table("accepted_recipes")
    op.drop_table("recipes")
