"""Migrations of the schema, one for each revision. `Database.migrate` runs them with alembic."""

HEAD_REVISION = "0028"
"""Newest revision, written here because every run checks it and need not import alembic."""
