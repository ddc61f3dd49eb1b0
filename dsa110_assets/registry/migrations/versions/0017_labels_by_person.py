"""Labels of events by person, with their history, instead of one label on the event.

Labels that were set through the API get the name from the record of actions; others get the name `unknown`. A label
that somebody removed stays in the history. Revision 0017.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0014"
branch_labels = None
depends_on = None

_MOVE = (
    # what people set through the API
    "INSERT INTO event_labels (event_id, person, label, comment, labeled_at) "
    "SELECT e.event_id, a.person, a.details->>'label', a.details->>'comment', a.done_at FROM api_actions a "
    "JOIN candidate_events e ON e.event_id::text = a.subject WHERE a.action = 'label_event' ORDER BY a.action_id",
    # what was set otherwise
    "INSERT INTO event_labels (event_id, person, label, comment, labeled_at) "
    "SELECT e.event_id, 'unknown', e.label, e.comment, e.last_seen_at FROM candidate_events e "
    "WHERE (e.label IS NOT NULL OR e.comment IS NOT NULL) AND NOT EXISTS (SELECT FROM event_labels l WHERE l.event_id = e.event_id "
    "AND l.label IS NOT DISTINCT FROM e.label AND l.comment IS NOT DISTINCT FROM e.comment)",
    # the next one of the same person replaces a label; a removal removed everybody's
    "UPDATE event_labels l SET superseded_at = n.following FROM (SELECT label_id, lead(labeled_at) OVER "
    "(PARTITION BY event_id, person ORDER BY label_id) AS following FROM event_labels) n "
    "WHERE n.label_id = l.label_id AND n.following IS NOT NULL",
    "UPDATE event_labels l SET superseded_at = r.labeled_at FROM event_labels r WHERE r.event_id = l.event_id AND r.label IS NULL "
    "AND r.comment IS NULL AND r.label_id > l.label_id AND l.superseded_at IS NULL",
)
_BACK = (
    "UPDATE candidate_events e SET label = n.label, comment = n.comment FROM (SELECT DISTINCT ON (event_id) event_id, label, comment "
    "FROM event_labels WHERE superseded_at IS NULL AND (label IS NOT NULL OR comment IS NOT NULL) ORDER BY event_id, label_id DESC) n "
    "WHERE n.event_id = e.event_id"
)


def upgrade() -> None:
    """Make the table and move the labels into it."""
    op.create_table(
        "event_labels",
        sa.Column("label_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("labeled_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["candidate_events.event_id"], name="fk_event_labels_event_id"),
        sa.PrimaryKeyConstraint("label_id", name="pk_event_labels"),
    )
    for statement in _MOVE:
        op.execute(statement)
    op.create_index("ix_event_labels_event_id_label_id", "event_labels", ["event_id", "label_id"])
    op.create_index(
        "uq_event_labels_current", "event_labels", ["event_id", "person"], unique=True, postgresql_where="superseded_at IS NULL"
    )
    op.drop_column("candidate_events", "label")
    op.drop_column("candidate_events", "comment")


def downgrade() -> None:
    """Keep the newest label of anybody on the event; the others and the history are lost."""
    op.add_column("candidate_events", sa.Column("label", sa.Text(), nullable=True))
    op.add_column("candidate_events", sa.Column("comment", sa.Text(), nullable=True))
    op.execute(_BACK)
    op.drop_table("event_labels")
