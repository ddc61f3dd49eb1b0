"""Versions of the schema, as alembic keeps them; `database.migrate` runs them.

What belongs here: how the tables of one release become those of the next. What does not: the tables themselves (`schema`).
"""

HEAD_REVISION = "0005"
"""Newest revision; known without importing alembic, because every run checks it."""
