"""Atomic publication: write a product in a staging folder beside its destination, verify, flush, rename it into place.

Readers that have the old product open keep it. All code of this package replaces files and directories through here.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from dsa110_assets.errors import ConfigurationError, DiskFullError, PipelineError, ProductVerificationError, PublishError, StorageError
from dsa110_assets.files import NEVER_PASSES, tells_of_full_disk
from dsa110_assets.staging import is_staging, new_place, registered, remove_staged

SPARE_BYTES = 1 << 20
"""A disk with less free space than this is full: no product fits on it."""
_MKDIR_ATTEMPTS = 100
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_guards: list[Callable[[], AbstractContextManager[object]]] = []


@contextmanager
def guarded(hold: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
    """Let this process move products into place only inside ``hold()``, which raises if it may not, during the block.

    So a process that was believed dead, and whose work another one does, replaces nothing (`stages.queue.fence`).
    """
    _guards.append(hold)
    try:
        yield
    finally:
        _guards.remove(hold)


@contextmanager
def publish(destination: Path) -> Iterator[Path]:
    """Yield a staging path to write to. On a clean exit, move it to ``destination`` in one rename.

    The caller writes a file or a directory at that path and verifies it before leaving the block. An exception removes
    the staged product and leaves the old one. A crash leaves the old or the new one, and a registered staging folder
    that `staging.sweep` removes.

    Raises:
        PublishError: the rename failed, and may succeed later.
        ConfigurationError: it cannot succeed: a directory is in the way, the name is too long, permissions.
        ProductVerificationError: nothing was written.
        StorageError: the block failed because the disk is full, read-only or failing, whatever error it raised.
    """
    staging = new_place(destination.parent)
    staged = staging / destination.name
    try:
        with registered(staging):
            try:
                _make_folder(staging)
                yield staged
                _move_finished(staged, destination)
            except BaseException as error:
                raise_storage_trouble(destination, error)  # before removing what filled the disk
                raise
            finally:
                remove_staged(staging)  # with the product that was replaced; readers that have it open keep their files
    except OSError as error:  # of the journal
        raise_storage_trouble(destination, error)
        raise


def _move_finished(staged: Path, destination: Path) -> None:
    if not staged.exists():
        raise ProductVerificationError(destination, "the stage ended without writing its product", "read the run's log; report this")
    flush_to_disk(staged)
    try:
        with ExitStack() as held:
            for hold in _guards:
                held.enter_context(hold())
            move_into_place(staged, destination)
    except OSError as error:
        kind = ConfigurationError if error.errno in NEVER_PASSES else PublishError
        raise kind(destination, f"cannot be moved into place ({error.strerror})", "check space and permissions of its directory") from error


def _make_folder(staging: Path) -> None:
    """Make a staging folder. Try again when `withdraw` removes the empty directory of its destination in between."""
    for attempts_left in reversed(range(_MKDIR_ATTEMPTS)):
        try:
            staging.mkdir(parents=True)
        except FileNotFoundError:
            if not attempts_left:
                raise
        else:
            return


def withdraw(path: Path) -> None:
    """Remove a product. It vanishes in one step, by a rename into staging, and is then removed from there.

    Raises:
        OSError: it cannot be moved or removed. What is left of it is registered staging.
    """
    if not path.exists():
        return
    staging = new_place(path.parent)
    with registered(staging):
        _make_folder(staging)
        try:
            withdrawn = path.rename(staging / path.name)
            shutil.rmtree(withdrawn) if withdrawn.is_dir() else withdrawn.unlink()
        finally:
            remove_staged(staging)
    with suppress(OSError):  # its folder, such as that of a date, unless other products are in it
        path.parent.rmdir()


def raise_storage_trouble(path: Path, error: BaseException) -> None:
    """Raise the trouble with the disk that explains an error, if there is one.

    Raises:
        StorageError: see `storage_trouble`.
    """
    if isinstance(error, PipelineError):  # a child may have met the full disk
        trouble = None if isinstance(error, StorageError) or not tells_of_full_disk(error) else storage_trouble(path, error)
    else:
        trouble = storage_trouble(path, error)
    if trouble is not None:
        raise trouble from error


def storage_trouble(path: Path, error: BaseException) -> StorageError | None:
    """Return the trouble with the disk of ``path`` that explains an error, or None.

    Engines report a full disk in many ways (`files.tells_of_full_disk`), or only fail: then the free space tells.
    """
    free = free_bytes(path)
    code = error.errno if isinstance(error, OSError) else None
    is_of_the_path = code == errno.ENOENT or code in NEVER_PASSES  # some file systems have no space at all, such as /proc
    if tells_of_full_disk(error) or (free < SPARE_BYTES and not is_of_the_path):
        return DiskFullError(path, f"the disk is full ({error}; {free / 1e9:.2f} GB free)", "free space; the work then goes on by itself")
    if code == errno.EROFS:
        cause = "the disk is read-only"
    elif code == errno.EIO:
        cause = "the disk is failing"
    else:
        return None
    return StorageError(path, f"{cause} ({error}; {free / 1e9:.2f} GB free)", "free space or repair the disk, then retry")


def free_bytes(path: Path) -> int:
    """Free bytes on the file system of a path, which need not exist."""
    for place in (path, *path.parents):
        if place.exists():
            return shutil.disk_usage(place).free
    return 0


def move_into_place(staged: Path, destination: Path) -> None:
    """Rename a flushed file or directory to its destination, and flush the directory's entry.

    A directory that it replaces stays in the folder of ``staged``.

    Raises:
        OSError: the rename failed.
    """
    if staged.is_dir() and destination.exists():
        if not exchanges(staged, destination):
            aside = staged.with_name(staged.name + ".old")  # this file system cannot exchange: two renames
            destination.rename(aside)
            staged.rename(destination)
    else:
        staged.replace(destination)
    _fsync(destination.parent)


def exchanges(one: Path, other: Path) -> bool:
    """Exchange two directories in one step; False, and nothing happens, if their file system cannot.

    Raises:
        OSError: it failed for another reason.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code))
    return False


def flush_to_disk(path: Path) -> None:
    """Fsync a file, or every file and directory of a tree."""
    if path.is_dir():
        for directory, _, names in os.walk(path):
            for name in names:
                _fsync(Path(directory) / name)
            _fsync(Path(directory))
    else:
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def staged_products(root: Path) -> Iterator[Path]:
    """Yield everything in the staging folders below ``root``: products being written, and leftovers of crashes.

    It walks the whole tree, for what `staging.sweep` cannot know.
    """
    for directory, names, _ in os.walk(root):  # passes over directories that vanish meanwhile
        staged = sorted(name for name in names if is_staging(name))
        names[:] = [name for name in names if name not in staged]
        yield from (Path(directory) / name for name in staged)


def newest_change(path: Path) -> float:
    """Newest time of modification (Unix seconds) in a file or a tree."""
    return max(one.stat().st_mtime for one in [path, *path.rglob("*")])


def size_bytes(path: Path) -> int:
    """Bytes of a file or of all files of a tree."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def checksum(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a tree in sorted order."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        digest.update(str(file.relative_to(path)).encode() if path.is_dir() else b"")
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
