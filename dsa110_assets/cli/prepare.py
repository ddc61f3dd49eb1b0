"""`dsa110 prepare`: everything that must be in place before a service starts. It may run any number of times."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig


def prepare() -> None:
    """Bring the registry, Dagster's home and pool limits up to date.

    `dsa110 up` does this itself. Where a service manager starts the services, it runs before each of them: it migrates
    the registry, removes what crashed stages left, writes `dagster.yaml` and `workspace.yaml` into Dagster's home, and
    sets the limits of the pools. It may run while the platform works, and several at the same time.

    Example: `dsa110 prepare`
    """
    from dsa110_assets.cli.service import database_url
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.stages.operations import systemd

    config = PipelineConfig.from_env(raw_files=False)
    if systemd.started_this_process():
        database_url(config)  # waits for it; a server that this process started would end with it
    make_ready(config, typer.echo)
    typer.echo("ready")


def make_ready(config: PipelineConfig, tell: Callable[[str], None]) -> None:
    """Migrate the registry, remove leftovers, write Dagster's home, set the limits of the pools.

    Args:
        config: with directories that exist.
        tell: shows a line to a person.

    Raises:
        ConfigurationError: the registry is from a newer release, or a file of the project is missing.
        RegistryError: the database cannot be reached.
        ChildFailedError: Dagster's command failed.
    """
    from dsa110_assets.cli import services
    from dsa110_assets.products import ProductPaths
    from dsa110_assets.registry.database import Database
    from dsa110_assets.staging import keep_journal_in, sweep

    Database.connect(config).dispose()
    journal = ProductPaths.of(config).staging_journal
    keep_journal_in(journal)
    for leftover in sweep(journal):
        tell(f"removed the leftovers of a crashed stage: {leftover}")
    with services.alone_in_home(config):
        services.dagster_home(config)
        services.workspace(config)
        services.set_pool_limits(config)
