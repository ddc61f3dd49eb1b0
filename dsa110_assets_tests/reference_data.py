"""The reference data, which are not in the repository: real headers, catalogues, calibration tables, a listing of real files.

They lie in ``shared/data`` beside the checkout, or where ``DSA110_REFERENCE_DATA`` says. A test that needs them fails without
them where ``CI=true``, and is skipped elsewhere; both say what is missing.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest


def reference_data(name: str) -> Path:
    """Path of one of the reference data; without it the test that asks is skipped, or fails in continuous integration."""
    directory = Path(os.environ.get("DSA110_REFERENCE_DATA") or Path(__file__).parents[2] / "shared" / "data")
    path = directory / name
    if not path.exists():
        missing = f"reference data: {path} is not here; put it there, or set DSA110_REFERENCE_DATA to its directory"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def unpack(archive: Path, destination: Path) -> Path:
    """Unpack a tar file that holds one directory; returns the directory."""
    with tarfile.open(archive) as opened:
        names = {Path(name).parts[0] for name in opened.getnames()}
        assert len(names) == 1, names
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and later
            opened.extractall(destination, filter="data")
        else:
            opened.extractall(destination)
    return destination / names.pop()
