"""Variables of PostgreSQL's own library and programs that must not reach a connection to the registry."""

from __future__ import annotations

from collections.abc import Mapping

OF_A_SESSION = (
    "PGOPTIONS", "PGCLIENTENCODING", "PGTZ", "PGDATESTYLE", "PGGEQO", "PGTARGETSESSIONATTRS", "PGAPPNAME", "PGSERVICE", "PGHOSTADDR",
    "PGLOADBALANCEHOSTS",
)  # fmt: skip
"""They change what a session reads and writes, or lead an address elsewhere. An address may hold what they say."""


def hostile(environment: Mapping[str, str]) -> list[str]:
    """Variables that must not reach a connection.

    All, if the server is the embedded one. Your own server (PIPELINE_DATABASE_URL) may need secrets or encryption.
    """
    found = sorted(name for name in environment if name.startswith("PG") and name.isupper())
    return [name for name in found if name in OF_A_SESSION] if "PIPELINE_DATABASE_URL" in environment else found
