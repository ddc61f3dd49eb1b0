"""The only resource: an open platform. Paths and secrets come from `PipelineConfig`, never from run configuration."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from dsa110_assets.config import RUN_MARK, PipelineConfig

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

ENVIRONMENT = "environment"
_bound: dict[str, PipelineConfig] = {}
_until_the_end = ExitStack()
_open_platforms: dict[PipelineConfig, Platform] = {}
"""One for each configuration and process, so that all assets of a run share the registry's connection pool."""


class PlatformResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The platform: its settings come from the environment (`dsa110 config show`). Leave it as it is."""

    # Dagster copies resources and keeps only their fields, so a configuration of a test is kept in `_bound` by name
    source: str = Field(default=ENVIRONMENT, description="Where the settings come from. Leave it as it is.")

    @classmethod
    def with_config(cls, config: PipelineConfig) -> PlatformResource:
        """Return a resource of this process that is bound to a configuration; for tests and a second code location."""
        source = f"bound-{len(_bound)}"
        _bound[source] = config
        return cls(source=source)

    def unconfigured(self) -> str | None:
        """Return what to set if the directory of raw files is neither set nor at its default place; else None."""
        config = PipelineConfig.from_env(validate_paths=False) if self.source == ENVIRONMENT else _bound[self.source]
        if "input_dir" in config.model_fields_set or config.input_dir.is_dir():
            return None
        return "PIPELINE_INPUT_DIR is not set: set it to the directory of the raw files, in the environment or in .env"

    def open(self, *, validate_paths: bool = True, raw_files: bool = False) -> Platform:
        """Return the platform of the process. Without ``validate_paths``, its directories need not exist.

        Only with ``raw_files`` the input directory must be there.

        Raises:
            ConfigurationError: a setting is wrong.
            RegistryError: the registry cannot be reached.
        """
        from dsa110_assets.stages.platform import Platform
        from dsa110_assets.stages.queue import fence

        config = _bound.get(self.source) or PipelineConfig.from_env(validate_paths=validate_paths, raw_files=raw_files)
        if config not in _open_platforms:
            _open_platforms[config] = Platform.open(config)
            if (run_id := os.environ.get(RUN_MARK)) is not None:  # on a worker, where a run may be given up while it works
                _until_the_end.enter_context(fence.run_counts(_open_platforms[config], run_id))
        return _open_platforms[config]
