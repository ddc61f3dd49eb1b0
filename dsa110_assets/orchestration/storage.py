"""Storage of Dagster's history on the platform's database server, for every command that reads ``dagster.yaml``.

The settings are the platform's (`PipelineConfig`), so `dsa110 up` and a plain `dagster dev` in the checkout show the
same runs. If such a command started the embedded server, the last process that uses the server stops it.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from dagster import Field
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.auth import PgTokenProvider

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import RegistryError
from dsa110_assets.orchestration.private import ConfigurableClassData, LocalComputeLogManager
from dsa110_assets.registry.server import dagster_url, ensure_alive, stop_unused_server

_log = logging.getLogger(__name__)
_stopped_at_exit: set[Path] = set()
"""State directories whose server this process stops when it exits, if no other process uses the server."""


class PlatformStorage(DagsterPostgresStorage):
    """Runs, events and schedules in the database ``dagster`` beside the registry; both are created if missing."""

    @classmethod
    def config_type(cls) -> dict[str, Field]:
        """No settings of its own."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Create the storage from ``dagster.yaml``; called by Dagster.

        Raises:
            ConfigurationError: the server cannot be set up here, or a setting is wrong.
            RegistryError: the server does not start or cannot be reached.
        """
        config = PipelineConfig.from_env(validate_paths=False)
        if config.database_url is not None:
            return cls(dagster_url(config), inst_data=inst_data)
        if config.state_dir.absolute() not in _stopped_at_exit:
            _stopped_at_exit.add(config.state_dir.absolute())
            atexit.register(stop_unused_server, config)
        return cls(dagster_url(config, until_unused=True), inst_data=inst_data, token_provider=_LiveServer(config))


class PlatformLogManager(LocalComputeLogManager):
    """Captured output of runs in the state directory, wherever Dagster's home is; `dsa110 clean` removes old output."""

    @classmethod
    def config_type(cls) -> dict[str, Field]:
        """No settings of its own."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Create the manager from ``dagster.yaml``; called by Dagster."""
        return cls(str(PipelineConfig.from_env(validate_paths=False).run_output_dir), inst_data=inst_data)


class _LiveServer(PgTokenProvider):
    """Restart the embedded server if it has died: dagster-postgres requests a password before each new connection."""

    def __init__(self, config: PipelineConfig) -> None:
        super().__init__()
        self._config = config

    def _fetch_token(self) -> tuple[str, float]:
        try:
            ensure_alive(self._config)
        except RegistryError as error:  # the connection then fails, and Dagster tries again
            _log.warning("%s", error)
        return "", 0.0  # no password on the socket; expired, so that Dagster requests it each time
