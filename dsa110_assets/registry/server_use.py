"""Which processes use an embedded server, and whether the last of them stops it.

Each user has a shared lock on a file until it ends, however it ends. The file's content says whether the last user
stops the server.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_UNTIL_UNUSED = b"the last process that uses the server stops it\n"
_open_locks: dict[tuple[int, Path], int] = {}
"""Open lock files by process and data directory. A forked child has another process id and opens its own."""


def join(data_dir: Path) -> None:
    """Make this process a user of the server in ``data_dir`` until it ends. Wait while another process stops it.

    Raises:
        OSError: the parent directory of ``data_dir`` is not writable.
    """
    key = (os.getpid(), data_dir)
    if key in _open_locks:
        return
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(_file(data_dir), os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(lock, True)  # `dsa110 db shell` becomes psql, which still uses the server; `subprocess` closes it
    fcntl.flock(lock, fcntl.LOCK_SH)
    _open_locks[key] = lock


def leave(data_dir: Path) -> None:
    """End this process's use of the server."""
    lock = _open_locks.pop((os.getpid(), data_dir), None)
    if lock is not None:
        os.close(lock)


def block_new_users(data_dir: Path) -> bool:
    """Make new users wait until this process calls `leave`.

    Return False when other processes use the server, or this one does not.
    """
    lock = _open_locks.get((os.getpid(), data_dir))
    if lock is None:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def set_until_unused(data_dir: Path, until_unused: bool) -> None:
    """Record for a server that has just started whether its last user stops it."""
    _file(data_dir).write_bytes(_UNTIL_UNUSED if until_unused else b"")


def is_until_unused(data_dir: Path) -> bool:
    """Whether the last user stops the server."""
    try:
        return _file(data_dir).read_bytes() == _UNTIL_UNUSED
    except FileNotFoundError:
        return False


def _file(data_dir: Path) -> Path:
    return data_dir.parent / f"{data_dir.name}.users"
