"""State of the server and its tables. Reading it starts and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import text

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.migrations import HEAD_REVISION
from dsa110_assets.registry.server import DATABASE, embedded_server, ensure_server, without_password

_TABLES = text("""
SELECT c.relname, sum(pg_stat_get_live_tuples(t.oid))::bigint,
    CASE c.relkind WHEN 'r' THEN pg_total_relation_size(c.oid) ELSE sum(t.pages) * current_setting('block_size')::bigint END::bigint
FROM pg_class c LEFT JOIN (
    SELECT coalesce(h.inhparent, p.oid) AS parent, p.oid, p.relpages + coalesce(sum(i.relpages), 0) AS pages
    FROM pg_class p LEFT JOIN pg_inherits h ON h.inhrelid = p.oid
    LEFT JOIN pg_index x ON x.indrelid = p.oid LEFT JOIN pg_class i ON i.oid = x.indexrelid
    WHERE p.relkind = 'r' AND p.relnamespace = 'public'::regnamespace GROUP BY h.inhparent, p.oid
) t ON t.parent = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'alembic_version'
GROUP BY c.oid ORDER BY c.relname
""")
"""Sizes of partitions are those of their last vacuum. The exact size would open each partition of each month."""


@dataclass(frozen=True)
class RegistryStatus:
    """State of the registry's server and tables.

    server: data directory, or URL without password. running: it has an address. version: of PostgreSQL. schema:
    revision, None if empty. schema_is_current: the revision is this release's. size_bytes: of the database.
    connections: sessions of the whole server. tables: (name, estimated rows, bytes with indexes), partitions summed.
    """

    server: str
    running: bool
    version: str = ""
    schema: str | None = None
    schema_is_current: bool = False
    size_bytes: int = 0
    connections: int = 0
    tables: list[tuple[str, int, int]] = field(default_factory=list)


def registry_status(config: PipelineConfig) -> RegistryStatus:
    """State of the registry of a configuration.

    Raises:
        RegistryError: an external server cannot be reached.
    """
    if config.database_url is None:
        server = embedded_server(config)
        name = str(server.data_dir)
        address = server.address()
        if address is None:
            return RegistryStatus(name, running=False)
        url = address.url(DATABASE)
    else:
        url = ensure_server(config)
        name = without_password(url)
    database = Database(url)
    schema = database.revision()
    with database.session() as session:
        version = str(session.scalar(text("SHOW server_version")))
        size = int(session.scalar(text("SELECT pg_database_size(current_database())")) or 0)
        connections = int(session.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")) or 0)
        tables = [(row[0], int(row[1] or 0), int(row[2] or 0)) for row in session.execute(_TABLES)]
    database.dispose()
    return RegistryStatus(
        name,
        running=True,
        version=version,
        schema=schema,
        schema_is_current=schema == HEAD_REVISION,
        size_bytes=size,
        connections=connections,
        tables=tables,
    )
