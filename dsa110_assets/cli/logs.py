"""Rotation of the services' log files, so that they do not fill the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

KEPT = 5


def rotate(log: Path, limit_bytes: float, kept: int = KEPT) -> bool:
    """Move a log's content to ``<log>.1``, and older copies up by one, if the log exceeds the limit; True if it did.

    The file itself stays, because the service has it open for appending. Lines written between copy and truncation are
    lost.
    """
    if not log.is_file() or log.stat().st_size <= limit_bytes:
        return False
    for number in range(kept - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    with log.open("r+b") as stream:
        stream.truncate(0)
    return True
