"""What has changed in the registry: one cheap statement, for pages that stay open."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from dsa110_assets.registry.schema import FileState, GroupState

_MOST_REFUSED = 1000
_OPEN = f"('{GroupState.COLLECTING}', '{GroupState.PENDING}', '{GroupState.IN_PROGRESS}')"
_MARKS = text(f"""
SELECT
    concat_ws(' ', (SELECT max(last_file_at) FROM ingest_queue), (SELECT max(completed_at) FROM ingest_queue),
        (SELECT max(updated_at) FROM ingest_queue WHERE state = '{GroupState.FAILED}'),
        (SELECT string_agg(concat(state, n), ' ' ORDER BY state)
            FROM (SELECT state, count(*) AS n FROM ingest_queue WHERE state IN {_OPEN} GROUP BY state) q)) AS observations,
    concat_ws(' ', (SELECT max(judged_at) FROM subband_files WHERE state = '{FileState.REJECTED}'),
        (SELECT count(*) FROM (SELECT FROM subband_files WHERE state = '{FileState.REJECTED}' LIMIT {_MOST_REFUSED}) f)) AS files,
    (SELECT max(version_id) FROM product_versions)::text AS products,
    concat_ws(' ', (SELECT max(event_id) FROM candidate_events), (SELECT max(first_seen_at) FROM candidate_events),
        (SELECT max(label_id) FROM event_labels)) AS candidates,
    concat_ws(' ', (SELECT max(alert_id) FROM alerts), (SELECT max(passed_at) FROM alerts WHERE passed_at IS NOT NULL),
        (SELECT max(acknowledgement_id) FROM alert_acknowledgements),
        (SELECT max(ended_at) FROM alert_acknowledgements WHERE ended_at IS NOT NULL)) AS alerts,
    (SELECT max(entry_id) FROM shift_entries)::text AS shift,
    (SELECT max(action_id) FROM api_actions)::text AS actions
""")  # noqa: S608 - constants of the schema
SUBJECTS = ("observations", "files", "products", "candidates", "alerts", "shift", "actions")
"""What changes, by name."""


def marks(session: Session) -> dict[str, str]:
    """A text for each of `SUBJECTS` that is another one after a change. It reads ends of indexes and the open queue."""
    row = session.execute(_MARKS).mappings().one()
    return {name: row[name] or "" for name in SUBJECTS}
