"""Directories and settings of a demonstration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoPlaces:
    """Directories of a demonstration, all under one."""

    root: Path

    @property
    def environment_file(self) -> Path:
        """Settings as shell commands. A directory with this file is a demonstration, and may be removed."""
        return self.root / "demo.env"

    @staticmethod
    def is_one(directory: Path) -> bool:
        """Whether a directory is a demonstration."""
        return DemoPlaces(directory).environment_file.is_file()

    @property
    def incoming(self) -> Path:
        """Directory that the platform watches for raw files."""
        return self.root / "incoming"

    @property
    def truth(self) -> Path:
        """True sky of the simulator, which the platform never reads."""
        return self.root / "truth"

    @property
    def reference(self) -> Path:
        """Source files of the reference catalogs."""
        return self.root / "reference"

    def settings(self, port: int) -> dict[str, str]:
        """Settings of the demonstration's platform. Production differs only in directories and sizes.

        ``port``: of the Dagster UI. The API has its own default beside the UI's default, else the port below.
        """
        return {
            "PIPELINE_INPUT_DIR": str(self.incoming),
            "PIPELINE_OUTPUT_DIR": str(self.root / "ms"),
            "PIPELINE_SCRATCH_DIR": str(self.root / "products"),
            "PIPELINE_STATE_DIR": str(self.root / "state"),
            "PIPELINE_VLA_CALIBRATORS_FILE": str(self.reference / "vla_calibrators.txt"),
            "PIPELINE_NVSS_FILE": str(self.reference / "nvss.parquet"),
            "PIPELINE_MONITORED_SOURCES_FILE": str(self.reference / "monitored.csv"),
            "PIPELINE_PARTITION_START": "2026-03-01",
            "PIPELINE_DAGSTER_PORT": str(port),
            "PIPELINE_API_PORT": str(8000 if port == 3000 else port - 1),
            "PIPELINE_THREADS_PER_WORKER": "1",
            "PIPELINE_CORRECT_SMEARING": "false",  # the simulator evaluates the middle of each channel and integration
            "PIPELINE_IMAGE_SIZE": "2160",
            "PIPELINE_CELL_ARCSEC": "7",
            "PIPELINE_AUTO_THRESHOLD_SIGMA": "3",  # a shallow clean: a third less time, and no flux is lost
            "PIPELINE_HOUR_SETTLE_S": "30",
            "PIPELINE_SCAN_INTERVAL_S": "15",
            "PIPELINE_GROUP_DEADLINE_S": "120",
        }
