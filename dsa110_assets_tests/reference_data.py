"""Reference data outside the repository: real headers, catalogs, calibration tables, a listing of real files.

They are in ``shared/data`` beside the checkout, or in ``DSA110_REFERENCE_DATA``. Without them, a test that needs them
fails where ``CI=true`` and is skipped elsewhere, and names the missing path.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest


def reference_data(name: str) -> Path:
    """Path of a reference file or directory. If it is missing, skip the test, or fail it in continuous integration."""
    directory = Path(os.environ.get("DSA110_REFERENCE_DATA") or Path(__file__).parents[2] / "shared" / "data")
    path = directory / name
    if not path.exists():
        missing = f"reference data: {path} is missing; put it there, or set DSA110_REFERENCE_DATA to its directory"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def unpack(archive: Path, destination: Path) -> Path:
    """Unpack a tar file of one directory. Return the directory."""
    with tarfile.open(archive) as opened:
        names = {Path(name).parts[0] for name in opened.getnames()}
        assert len(names) == 1, names
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and later
            opened.extractall(destination, filter="data")
        else:
            opened.extractall(destination)
    return destination / names.pop()
