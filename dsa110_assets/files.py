"""Files that people and other programs give: what may be opened, one spelling of a path, printable names.

Every reader asks `why_not_openable` before it opens a file, so that a pipe never hangs a command. Every command that
writes asks `refuse_overwriting`, and `refuse_replacing` where it replaces what is there.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from dsa110_assets.errors import ConfigurationError, DiskFullError, OutputIsInputError, PipelineError, RetriableError, StorageError

NEVER_PASSES = frozenset(
    {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EXDEV, errno.EINVAL}
)
"""Answers of the file system about a path that stay the same until a person changes the path or its permissions."""
_OF_THE_DISK = frozenset({errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBUSY, errno.ETXTBSY})
_FULL = re.compile(
    r"no space left on device|disk quota exceeded|not enough space on disk|(?:database or )?disk (?:is )?full|^\d+ requested and \d+ written$"
    r"|FiledesIO::write - write error in .*: No such file or directory",
    re.IGNORECASE,
)
"""What the system (quoted by HDF5, PostgreSQL, programs), astropy, SQLite and numpy's `tofile` say of a full disk.

casacore loses the cause: writing to an open file never fails because there is no such file.
"""
LONGEST_NAME_BYTES = 255
"""Longest name of a file on Linux."""
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
    """Why the entries of a directory cannot be listed and opened; None if they can."""
    try:
        with os.scandir(directory) as entries:
            next(entries, None)
        (directory / ".").stat()  # needs the right to search the directory, as opening its files does
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


def ascii_text(text: object) -> str:
    r"""Text that a FITS header can hold: other characters than printable ASCII are escaped, and none is lost.

    >>> ascii_text("tüle ★")
    't\\xfcle \\u2605'
    """
    return printable(text).encode("ascii", "backslashreplace").decode("ascii")


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


def says_disk_is_full(text: str) -> bool:
    """Whether a line of a program or a library says that a disk is full."""
    return _FULL.search(text) is not None


def tells_of_full_disk(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that a disk is full, by its number or in the words of a library."""
    told: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in told:
        told.add(id(one))
        code = one.errno if isinstance(one, OSError) else None
        if code in (errno.ENOSPC, errno.EDQUOT) or (code is None and says_disk_is_full(str(one))):
            return True
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return False


def typed_error(error: OSError) -> PipelineError:
    """The typed error of what the system answered: for good, or until the disk or the network works again."""
    subject, cause = printable(error.filename or "the system"), error.strerror or str(error)
    if tells_of_full_disk(error):
        return DiskFullError(subject, cause, "free space on the disk, then try again")
    if error.errno in NEVER_PASSES | {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY}:
        return ConfigurationError(subject, cause, "give another path, or change its permissions")
    if error.errno in _OF_THE_DISK:
        return StorageError(subject, cause, "look at the disk and the limits of the system, then try again")
    return RetriableError(subject, cause, "try again; if it repeats, add --debug and report what it shows")


def refuse_overwriting(output: Path | None, inputs: Iterable[Path | None], *, replaces_directory: bool = False) -> None:
    """Refuse an output that is one of the inputs of the same command, or lies in one, under whatever name.

    With ``replaces_directory`` the output takes the place of a whole directory, so it must not contain an input either.

    Raises:
        OutputIsInputError: it is, lies in or contains one.
    """
    if output is None:
        return
    real = real_path(output)
    for one in inputs:
        if one is None:
            continue
        theirs = real_path(one)
        if is_same_file(output, one):
            raise OutputIsInputError(output, f"is also an input ({one}), which would be overwritten", "give another file to write")
        if theirs in real.parents and (theirs / "table.dat").is_file():
            raise OutputIsInputError(output, f"lies inside an input ({one})", "give another place to write")
        if replaces_directory and real in theirs.parents:
            raise OutputIsInputError(output, f"contains an input ({one}), which would be removed", "give another directory to write")


def refuse_replacing(output: Path, what: str, is_one: Callable[[Path], bool]) -> None:
    """Refuse to replace what is there, unless it is of the same nature or an empty directory.

    Args:
        output: file or directory that the command would replace.
        what: what it may be, such as ``a backup``.
        is_one: whether a path is that.

    Raises:
        ConfigurationError: something else is there.
    """
    if not os.path.lexists(output) or is_one(output):
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    raise ConfigurationError(output, f"exists and is not {what}; it is not replaced", "give another place to write")


def refuse_directory(output: Path) -> None:
    """Refuse a directory, a pipe or a device as the file to write.

    Raises:
        ConfigurationError: it is one.
    """
    if is_special(output):
        raise ConfigurationError(output, why_not_openable(output) or "is no file", "give the name of a file to write")
