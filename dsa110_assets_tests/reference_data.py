"""Reference data outside the repository: real headers, catalogs, a listing of real files; cases from reports of users.

They are in ``shared/data`` and ``shared/cases`` beside the checkout, or in ``DSA110_REFERENCE_DATA`` and in ``cases``
beside it. Without them, a test that needs them
fails where ``CI=true`` and is skipped elsewhere, and names the missing path.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest


def reference_data(name: str) -> Path:
    """Path of a reference file or directory. If it is missing, skip the test, or fail it in continuous integration."""
    return _present(_directory() / name)


def shared_case(name: str) -> Path:
    """Directory of a case: small inputs that somebody had trouble with. Missing: as `reference_data`."""
    return _present(_directory().parent / "cases" / name)


def _directory() -> Path:
    return Path(os.environ.get("DSA110_REFERENCE_DATA") or Path(__file__).parents[2] / "shared" / "data")


def _present(path: Path) -> Path:
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
