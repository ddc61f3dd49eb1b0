"""Checksums of raw files: SHA-256 of all bytes, in the text format of ``sha256sum``.

UVH5 has no checksums, so that a flipped bit in a visibility passes as another visibility. The correlator can write
``NAME.hdf5.sha256`` beside each file, or the scan computes the checksum when it first sees the file and the registry
keeps it (``PIPELINE_RAW_CHECKSUMS``). The conversion compares them with the bytes that it reads.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from dsa110_assets.errors import ChecksumError, MissingChecksumError, StorageError
from dsa110_assets.files import printable, typed_error, why_not_openable

SUFFIX = ".sha256"
"""A checksum file has the name of its raw file and this."""
_LONGEST_BYTES = 65_536
_LINES = (
    re.compile(r"\\?(?P<digest>[0-9a-fA-F]{64}) [ *](?P<name>.+)"),
    re.compile(r"SHA256 \((?P<name>.+)\) = (?P<digest>[0-9a-fA-F]{64})"),
    re.compile(r"(?P<digest>[0-9a-fA-F]{64})"),
)
"""Lines of ``sha256sum``, of ``sha256sum --tag``, and a bare checksum."""


def sidecar_of(path: Path) -> Path:
    """Checksum file of a raw file."""
    return path.with_name(path.name + SUFFIX)


def read_sidecar(path: Path) -> str:
    """Return the checksum of a raw file that stands in the file beside it.

    Raises:
        MissingChecksumError: there is no checksum file (yet).
        ChecksumError: the checksum file cannot be read, or has no line for the raw file.
    """
    sidecar = sidecar_of(path)
    mend = f"write it with `sha256sum {path.name} > {sidecar.name}`"
    why = why_not_openable(sidecar)
    if why == "does not exist":
        raise MissingChecksumError(
            path, f"its checksum file {sidecar.name} does not exist (yet)", f"{mend}, then retry; PIPELINE_RAW_CHECKSUMS=off does without"
        )
    if why is not None:
        raise _refused((path,), sidecar, why, f"{mend}, then `touch {path.name}`", f"its checksum file {why}")
    try:
        with sidecar.open("rb") as file:
            text = file.read(_LONGEST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise typed_error(error) from error
    for line in text.splitlines():
        found = next((match for pattern in _LINES if (match := pattern.fullmatch(line.strip()))), None)
        if found is not None and Path(found.groupdict().get("name", path.name)).name == path.name:
            return found["digest"].lower()
    why = f"has no SHA-256 line for {path.name}"
    raise _refused((path,), sidecar, why, f"{mend}, then `touch {path.name}`", f"its checksum file {why}")


def from_sidecars(files: Mapping[int, Path]) -> dict[int, str]:
    """Checksum of the file of each subband, from the checksum files beside them.

    Raises:
        MissingChecksumError: there is no checksum file (yet).
        ChecksumError: checksum files cannot be read, or have no line for their raw file.
    """
    found: dict[int, str] = {}
    refused: list[ChecksumError] = []
    for subband, path in files.items():
        try:
            found[subband] = read_sidecar(path)
        except ChecksumError as error:
            refused.append(error)
    if refused:
        refused[0].reasons = {path: reason for error in refused for path, reason in error.reasons.items()}
        raise refused[0]
    return found


def sha256_of(path: Path) -> str:
    """Return the checksum of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_damaged(expected: Mapping[Path, str]) -> None:
    """Read files in full and name those that do not have the bytes of their checksums.

    Args:
        expected: checksum of each file.

    Raises:
        ChecksumError: some do not.
        StorageError: a file cannot be read.
    """
    damaged: list[Path] = []
    for path, digest in expected.items():
        try:
            if sha256_of(path) != digest:
                damaged.append(path)
        except OSError as error:
            raise StorageError(path, f"cannot be read now ({error.strerror})", "look at the disk of the raw files") from error
    if not damaged:
        return
    others = f"; nor do {', '.join(printable(path.name) for path in damaged[1:])}" if damaged[1:] else ""
    reason = "it does not have the bytes of its checksum, so it was damaged after it was written"
    next_step = "copy it again from the correlator; check the disk with `dmesg`"
    raise _refused(damaged, damaged[0], f"{reason}{others}", next_step, reason)


def _refused(raw_files: Iterable[Path], subject: Path, cause: str, next_step: str, reason: str) -> ChecksumError:
    error = ChecksumError(subject, cause, next_step)
    error.reasons = {str(path): reason for path in raw_files}
    return error
