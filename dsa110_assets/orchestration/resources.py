"""The one resource: an open platform. Paths and secrets come from `PipelineConfig`, never from run configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from dsa110_assets.config import PipelineConfig

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

ENVIRONMENT = "environment"
_bound: dict[str, PipelineConfig] = {}
_open_platforms: dict[PipelineConfig, Platform] = {}
"""One for each configuration and process: the registry's connection pool is shared by all assets of a run."""


class PlatformResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens the platform at first use and keeps it for the life of the process.

    ``source``: where the configuration comes from. Every deployed process reads its environment; `with_config` gives another
    one a name, because Dagster copies resources and keeps their fields only.
    """

    source: str = ENVIRONMENT

    @classmethod
    def with_config(cls, config: PipelineConfig) -> PlatformResource:
        """A resource of this process that is bound to one configuration: for tests, and for a second code location."""
        source = f"bound-{len(_bound)}"
        _bound[source] = config
        return cls(source=source)

    def open(self) -> Platform:
        """The process's platform."""
        from dsa110_assets.stages.platform import Platform

        config = PipelineConfig.from_env() if self.source == ENVIRONMENT else _bound[self.source]
        if config not in _open_platforms:
            _open_platforms[config] = Platform.open(config)
        return _open_platforms[config]
