"""A newer release for tests of upgrades: this one with a migration more."""

from __future__ import annotations

from pathlib import Path

from dsa110_assets.registry.migrations import HEAD_REVISION

NEXT = "9999"
"""Its schema: a column that may not be null, and a table that refers to the queue."""
_MIGRATION = f'''
from alembic import op
import sqlalchemy as sa

revision, down_revision, branch_labels, depends_on = "{NEXT}", "{HEAD_REVISION}", None, None


def upgrade() -> None:
    op.add_column("ingest_queue", sa.Column("newer", sa.Integer(), nullable=False, server_default="7"))
    op.create_table(
        "of_the_newer_release", sa.Column("group_id", sa.String(), sa.ForeignKey("ingest_queue.group_id"), primary_key=True)
    )
    op.execute("INSERT INTO of_the_newer_release SELECT group_id FROM ingest_queue")


def downgrade() -> None:
    raise NotImplementedError
'''


def make_newer(checkout: Path) -> None:
    """Make the newer release of the package in ``checkout``."""
    migrations = checkout / "dsa110_assets/registry/migrations"
    (migrations / f"versions/{NEXT}_newer.py").write_text(_MIGRATION)
    head = migrations / "__init__.py"
    before = head.read_text()
    after = before.replace(f'HEAD_REVISION = "{HEAD_REVISION}"', f'HEAD_REVISION = "{NEXT}"')
    assert after != before
    head.write_text(after)
