"""Events with an identity, and what the examination of all sources remembers from night to night.

Revision 0009.

Candidates of a source whose events lie within two days of each other in successive nights become one event. Labels and
comments move from the candidates of a night to the event; the newest stays.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ARRAY = postgresql.ARRAY(sa.DOUBLE_PRECISION())


def upgrade() -> None:
    """Make the tables, and an event for each candidate."""
    op.create_table(
        "source_totals",
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("n_epochs", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.DOUBLE_PRECISION(), nullable=False)
            for name in ("mean_flux_jy", "square", "variance", "weight", "weighted_mean_flux_jy", "chi2")
        ),
        *(sa.Column(name, _ARRAY, nullable=False) for name in ("extreme_jy", "extreme_err_jy", "extreme_mjd")),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_source_totals")),
    )
    op.create_table(
        "event_searches",
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("n_epochs", sa.Integer(), nullable=False),
        sa.Column("last_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("significance", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("trials", sa.DOUBLE_PRECISION(), nullable=False),
        *(
            sa.Column(name, sa.DOUBLE_PRECISION(), nullable=True)
            for name in ("level_jy", "intrinsic", "base_weight", "base_weighted_flux", "base_epochs")
        ),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_event_searches")),
    )
    op.create_table(
        "examined_epochs",
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("time_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("in_totals", sa.Boolean(), nullable=False),
        sa.Column("factor_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("photometry_version", sa.BigInteger(), nullable=False),
        sa.Column("tested", sa.Integer(), nullable=False),
        sa.Column("deviating", sa.Integer(), nullable=False),
        sa.Column("source_ids", postgresql.ARRAY(sa.BigInteger()), nullable=True),
        sa.PrimaryKeyConstraint("mosaic_name", name=op.f("pk_examined_epochs")),
    )
    op.create_index("ix_examined_epochs_time_mjd", "examined_epochs", ["time_mjd"])
    op.create_table(
        "candidate_events",
        sa.Column("event_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        *(sa.Column(name, sa.DOUBLE_PRECISION(), nullable=False) for name in ("peak_mjd", "first_mjd", "last_mjd", "depth", "score")),
        sa.Column("first_night", sa.Date(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["source_id"], ["sources.source_id"], name=op.f("fk_candidate_events_source_id")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_candidate_events")),
    )
    op.create_index("ix_candidate_events_source_id", "candidate_events", ["source_id"])
    op.create_index("ix_candidate_events_first_seen_at", "candidate_events", ["first_seen_at"])
    op.execute("ALTER TABLE ese_candidates ADD COLUMN event_id bigint")
    op.execute(
        "CREATE TEMPORARY TABLE island ON COMMIT DROP AS SELECT *, sum(begins) OVER (PARTITION BY source_id ORDER BY night) AS number FROM ("
        "SELECT *, CASE WHEN abs(epoch_mjd - lag(epoch_mjd) OVER (PARTITION BY source_id ORDER BY night)) <= 2 THEN 0 ELSE 1 END AS begins "
        "FROM ese_candidates) nights"
    )
    op.execute(
        "INSERT INTO candidate_events (source_id, kind, peak_mjd, first_mjd, last_mjd, depth, score, first_night, first_seen_at, last_seen_at, "
        "label, comment) SELECT source_id, CASE WHEN (array_agg(depth ORDER BY night DESC))[1] > 0 THEN 'dip' ELSE 'brightening' END, "
        "(array_agg(epoch_mjd ORDER BY night DESC))[1], min(epoch_mjd), max(epoch_mjd), (array_agg(depth ORDER BY night DESC))[1], "
        "(array_agg(score ORDER BY night DESC))[1], min(night), min(night)::timestamp AT TIME ZONE 'UTC' + interval '1 day', "
        "max(night)::timestamp AT TIME ZONE 'UTC' + interval '1 day', "
        "(array_agg(label ORDER BY night DESC) FILTER (WHERE label IS NOT NULL))[1], "
        "(array_agg(comment ORDER BY night DESC) FILTER (WHERE comment IS NOT NULL))[1] FROM island GROUP BY source_id, number"
    )
    op.execute(
        "UPDATE ese_candidates c SET event_id = e.event_id FROM island i, candidate_events e WHERE i.source_id = c.source_id AND i.night = c.night "
        "AND e.source_id = c.source_id AND e.first_night = (SELECT min(o.night) FROM island o WHERE o.source_id = i.source_id AND o.number = i.number)"
    )
    op.execute("ALTER TABLE ese_candidates ALTER COLUMN event_id SET NOT NULL, DROP COLUMN label, DROP COLUMN comment")
    op.execute(
        "ALTER TABLE ese_candidates ADD CONSTRAINT fk_ese_candidates_event_id FOREIGN KEY (event_id) REFERENCES candidate_events (event_id)"
    )
    op.execute("CREATE INDEX ix_ese_candidates_event_id ON ese_candidates (event_id)")
    op.execute("CREATE INDEX ix_ese_candidates_night ON ese_candidates (night)")
    op.create_index("ix_variability_night", "variability", ["night"])


def downgrade() -> None:
    """Give the labels back to the candidates of each night, and drop the tables."""
    op.execute("ALTER TABLE ese_candidates ADD COLUMN label text, ADD COLUMN comment text")
    op.execute("UPDATE ese_candidates c SET label = e.label, comment = e.comment FROM candidate_events e WHERE e.event_id = c.event_id")
    op.drop_index("ix_variability_night", "variability")
    op.execute("DROP INDEX ix_ese_candidates_night")
    op.execute("ALTER TABLE ese_candidates DROP COLUMN event_id")
    for name in ("candidate_events", "examined_epochs", "event_searches", "source_totals"):
        op.drop_table(name)
