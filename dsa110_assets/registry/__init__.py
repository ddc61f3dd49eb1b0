"""The registry: schema, migrations, the embedded server, queries and provenance.

All SQL is here. Deciding what to make next is not (`ingest`, `stages`), nor is Dagster's own storage, which only shares
the server.
"""
