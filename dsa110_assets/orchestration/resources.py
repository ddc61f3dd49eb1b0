"""The one resource: an open platform. Paths and secrets come from `PipelineConfig`, never from run configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import PrivateAttr

from dsa110_assets.config import PipelineConfig

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

_open_platforms: dict[PipelineConfig, Platform] = {}
"""One for each configuration and process: the registry's connection pool is shared by all assets of a run."""


class PlatformResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens the platform at first use and keeps it for the life of the process.

    Without `with_config` the configuration comes from the environment, which is how every deployed process runs.
    """

    _config: PipelineConfig | None = PrivateAttr(default=None)

    @classmethod
    def with_config(cls, config: PipelineConfig) -> PlatformResource:
        """A resource bound to one configuration, for tests and for a second code location."""
        resource = cls()
        resource._config = config
        return resource

    def open(self) -> Platform:
        """The process's platform."""
        from dsa110_assets.stages.platform import Platform

        config = PipelineConfig.from_env() if self._config is None else self._config
        if config not in _open_platforms:
            _open_platforms[config] = Platform.open(config)
        return _open_platforms[config]
