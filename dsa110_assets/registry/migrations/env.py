"""Alembic's environment, executed for each command. `database` puts the connection into the configuration."""

from __future__ import annotations

import re
from typing import Any

from alembic import context

from dsa110_assets.registry.schema import Base

_PARTITION = re.compile(r"photometry_\d{4}_\d{2}")


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """Exclude the monthly partitions of `photometry` from comparisons, because they are made on demand."""
    return not (kind == "table" and name is not None and _PARTITION.fullmatch(name))


def run() -> None:
    """Run the migrations on the configured connection."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        include_name=include_name,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


if hasattr(context, "config"):  # executed by alembic, not imported
    run()
