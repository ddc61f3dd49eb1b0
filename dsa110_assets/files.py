"""Files that people and other programs give: what may be opened, one spelling of a path, printable names.

Every reader asks `why_not_openable` before it opens a file, so that a pipe never hangs a command. Every command that
writes a file asks `refuse_overwriting`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from dsa110_assets.errors import OutputIsInputError

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def why_not_openable(path: Path | str) -> str | None:
    """Why a path must not be opened as a file; None for a readable regular file, also through symbolic links.

    Opening a named pipe or a device can wait for ever, so nothing but regular files is opened.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - scans call this for a hundred thousand files
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
    if kind is not None or not stat.S_ISREG(mode):
        return f"is {kind or 'no file'}, not a regular file"
    return None if os.access(path, os.R_OK) else "cannot be read (permission denied)"


def why_not_listable(directory: Path) -> str | None:
    """Why the entries of a directory cannot be listed; None if they can."""
    try:
        with os.scandir(directory) as entries:
            next(entries, None)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def regular_facts(path: Path | str) -> os.stat_result | None:
    """Facts of a regular file, also through symbolic links; None for anything else and for nothing.

    Raises:
        OSError: the file system failed or refused.
    """
    try:
        facts = os.stat(path)  # noqa: PTH116 - scans call this for a hundred thousand files
    except FileNotFoundError:
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def is_special(path: Path | str) -> bool:
    """Whether a path is there and is not a regular file: a pipe, a device, a directory."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except (OSError, ValueError):
        return False


def is_openable(path: Path | str) -> bool:
    """Whether a path is a regular file that may be opened."""
    return why_not_openable(path) is None


def printable(text: object) -> str:
    r"""Text that the registry and any terminal can hold: bytes that are not UTF-8, and control characters, are escaped.

    >>> printable("r\udce9sum\udce9.hdf5")
    'r\\xe9sum\\xe9.hdf5'
    """
    raw = os.fsencode(text) if isinstance(text, Path) else str(text).encode("utf-8", "surrogateescape")
    decoded = raw.decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in decoded)


def is_storable(path: Path | str) -> bool:
    """Whether a path is its own printable form, so that the registry can hold it and the file is found again."""
    return printable(path) == str(path)


def real_path(path: Path) -> Path:
    """The one spelling of a path: absolute, without symbolic links and ``..``. It need not exist."""
    return Path(os.path.realpath(path))


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths name the same file, also through links."""
    try:
        return one.samefile(other)
    except OSError:
        return real_path(one) == real_path(other)


def refuse_overwriting(output: Path | None, inputs: Iterable[Path | None]) -> None:
    """Refuse an output that is one of the inputs of the same command, under whatever name.

    Raises:
        OutputIsInputError: it is one.
    """
    if output is None:
        return
    for one in inputs:
        if one is not None and is_same_file(output, one):
            raise OutputIsInputError(output, f"is also an input ({one}), which would be overwritten", "give another file to write")
