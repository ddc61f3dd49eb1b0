"""State of the server and its tables. Reading it starts and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import text

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.migrations import HEAD_REVISION
from dsa110_assets.registry.server import DATABASE, embedded_server, ensure_server, without_password

_TABLES = text("""
SELECT c.relname, s.rows, s.bytes FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
LATERAL (SELECT sum(coalesce(st.n_live_tup, 0))::bigint AS rows, sum(pg_total_relation_size(t.oid))::bigint AS bytes
    FROM (SELECT c.oid UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid) t
    LEFT JOIN pg_stat_user_tables st ON st.relid = t.oid) s
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'alembic_version'
ORDER BY c.relname
""")


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
