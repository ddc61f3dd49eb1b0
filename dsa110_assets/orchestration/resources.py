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

    def unconfigured(self) -> str | None:
        """What to set before there is anything to watch, in a checkout where nobody has named the telescope's files; else None."""
        config = PipelineConfig.from_env(validate_paths=False) if self.source == ENVIRONMENT else _bound[self.source]
        if "input_dir" in config.model_fields_set or config.input_dir.is_dir():
            return None
        return "PIPELINE_INPUT_DIR is not set: set it to the directory of the raw files, in the environment or in .env"

    def open(self, *, validate_paths: bool = True) -> Platform:
        """The process's platform. Without ``validate_paths`` the directories of raw data and products need not exist.

        Raises:
            ConfigurationError: names the setting and what to set.
            RegistryError: the registry cannot be reached.
        """
        from dsa110_assets.stages.platform import Platform

        config = PipelineConfig.from_env(validate_paths=validate_paths) if self.source == ENVIRONMENT else _bound[self.source]
        if config not in _open_platforms:
            _open_platforms[config] = Platform.open(config)
        return _open_platforms[config]
