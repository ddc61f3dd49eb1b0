"""The platform that every stage needs: configuration, paths and registry."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from dsa110_assets import staging
from dsa110_assets.config import PipelineConfig
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.database import Database


@dataclass(frozen=True)
class Platform:
    """An open platform; one for each process."""

    config: PipelineConfig
    paths: ProductPaths
    database: Database

    @classmethod
    def open(cls, config: PipelineConfig | None = None) -> Self:
        """Open the registry of the configuration; start the embedded server if none is configured.

        From now on this process registers its staging places in the platform's journal.
        """
        config = PipelineConfig.from_env(raw_files=False) if config is None else config
        paths = ProductPaths.of(config)
        staging.keep_journal_in(paths.staging_journal)
        return cls(config, paths, Database.connect(config))

    @property
    def threads(self) -> int:
        """Number of threads that one stage may use."""
        return self.config.threads_per_worker or len(os.sched_getaffinity(0))
