"""Alerts that the platform reported, what people answered, the log of the shifts, and an index for old actions.

Revision 0015.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0017"
branch_labels = None
depends_on = None


def _now() -> dict[str, Any]:
    return {"server_default": sa.func.now(), "nullable": False}


def upgrade() -> None:
    """Make the tables and the index."""
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("next_step", sa.Text(), nullable=False),
        sa.Column("page", sa.Text(), server_default="", nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), **_now()),
        sa.Column("seen_at", sa.DateTime(timezone=True), **_now()),
        sa.Column("passed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("alert_id", name="pk_alerts"),
    )
    op.create_index("uq_alerts_open", "alerts", ["key"], unique=True, postgresql_where="passed_at IS NULL")
    op.create_index("ix_alerts_opened_at", "alerts", ["opened_at"])
    op.create_index("ix_alerts_passed_at", "alerts", ["passed_at"], postgresql_where="passed_at IS NOT NULL")
    op.create_table(
        "alert_acknowledgements",
        sa.Column("acknowledgement_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("made_at", sa.DateTime(timezone=True), **_now()),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("acknowledgement_id", name="pk_alert_acknowledgements"),
    )
    open_only: dict[str, Any] = {"postgresql_where": "ended_at IS NULL"}
    ended_only: dict[str, Any] = {"postgresql_where": "ended_at IS NOT NULL"}
    op.create_index("uq_alert_acknowledgements_open", "alert_acknowledgements", ["key"], unique=True, **open_only)
    op.create_index("ix_alert_acknowledgements_ended_at", "alert_acknowledgements", ["ended_at"], **ended_only)
    op.create_table(
        "shift_entries",
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=True),
        sa.Column("source_id", sa.BigInteger(), nullable=True),
        sa.Column("night", sa.Date(), nullable=True),
        sa.Column("written_at", sa.DateTime(timezone=True), **_now()),
        sa.PrimaryKeyConstraint("entry_id", name="pk_shift_entries"),
    )
    op.create_index("ix_shift_entries_written_at", "shift_entries", ["written_at"])
    for column in ("group_id", "source_id", "night"):
        op.create_index(f"ix_shift_entries_{column}", "shift_entries", [column, "entry_id"], postgresql_where=f"{column} IS NOT NULL")
    op.create_index("ix_api_actions_done_at", "api_actions", ["done_at"])


def downgrade() -> None:
    """Drop them; what people said about alerts, and the log of the shifts, are lost."""
    op.drop_index("ix_api_actions_done_at", "api_actions")
    op.drop_table("shift_entries")
    op.drop_table("alert_acknowledgements")
    op.drop_table("alerts")
