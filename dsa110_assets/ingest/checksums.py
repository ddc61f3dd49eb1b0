"""Checksums that the raw files of an observation must have, and what happens to files that do not have them.

A damaged file is rejected by itself. Its observation collects again and goes on without the subband, or with the file
when it was replaced: a late subband reopens its observation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import raw_checksums
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ChecksumError
from dsa110_assets.files import printable
from dsa110_assets.ingest import arrivals
from dsa110_assets.ingest.arrivals import Rejection
from dsa110_assets.ingest.grouping import Reason
from dsa110_assets.products import parse_raw_name
from dsa110_assets.registry.schema import FileState, SubbandFile


def expected(session: Session, files: Mapping[int, Path], config: PipelineConfig) -> dict[int, str]:
    """Checksum of each subband's file, from where the setting says. Files that were first seen without it have none.

    Raises:
        MissingChecksumError: the correlator's checksum file does not exist (yet).
        ChecksumError: a checksum file is none.
    """
    if config.raw_checksums == "correlator":
        return raw_checksums.from_sidecars(files)
    if config.raw_checksums == "off":
        return {}
    subbands = {str(path): subband for subband, path in files.items()}
    query = select(SubbandFile.path, SubbandFile.sha256).where(
        SubbandFile.path.in_(subbands), SubbandFile.state == FileState.ACCEPTED, SubbandFile.sha256.is_not(None)
    )
    return {subbands[path]: sha256 for path, sha256 in session.execute(query).tuples() if sha256 is not None}


def reject_damaged(session: Session, error: ChecksumError, now: datetime) -> None:
    """Record the files of an error as rejected. They are checked again when they change."""
    rejections: list[Rejection] = []
    for path, why in error.reasons.items():
        name = parse_raw_name(Path(path).name)
        try:
            facts = os.stat(path)  # noqa: PTH116 - the paths are text
        except FileNotFoundError:
            continue  # the scan will mark it as gone
        rejections.append(
            Rejection(path, printable(f"{Reason.CHECKSUM}: {why}"), facts.st_size, facts.st_mtime_ns, name.subband if name else None)
        )
    arrivals.reject_files(session, rejections, now)
