"""The HTTP API (FastAPI) and its Python client.

It reads the registry, and reaches Dagster through GraphQL only (`dagster`). Whatever changes something goes through
the same stages and queries as the commands. Lists never open a FITS file; cut-outs and downloads may, in a thread. SQL
does not belong here but in `registry.queries`; decisions about the platform belong in `stages`.
"""
