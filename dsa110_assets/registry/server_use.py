"""Which processes use an embedded server, and whether the last of them stops it.

Each user holds a shared lock on a file until it ends, however it ends. The file's content says what happens then.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_UNTIL_UNUSED = b"the last process that uses the server stops it\n"
_held: dict[tuple[int, Path], int] = {}
"""Open lock files by process and data directory. A forked child has another process number, and takes a lock of its own."""


def join(data_dir: Path) -> None:
    """Make this process a user of the server in ``data_dir`` until it ends. Waits while another process stops the server.

    Raises:
        OSError: the directory around ``data_dir`` cannot be written.
    """
    key = (os.getpid(), data_dir)
    if key in _held:
        return
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(_file(data_dir), os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(lock, True)  # `dsa110 db shell` becomes psql, which goes on using the server; `subprocess` closes it
    fcntl.flock(lock, fcntl.LOCK_SH)
    _held[key] = lock


def leave(data_dir: Path) -> None:
    """This process uses the server no longer."""
    lock = _held.pop((os.getpid(), data_dir), None)
    if lock is not None:
        os.close(lock)


def keep_others_out(data_dir: Path) -> bool:
    """Make new users wait until this process calls `leave`; False when others use the server, or this process does not."""
    lock = _held.get((os.getpid(), data_dir))
    if lock is None:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def set_until_unused(data_dir: Path, until_unused: bool) -> None:
    """Remember, for a server that was just started, whether the last user stops it."""
    _file(data_dir).write_bytes(_UNTIL_UNUSED if until_unused else b"")


def is_until_unused(data_dir: Path) -> bool:
    """Whether the last user stops the server."""
    try:
        return _file(data_dir).read_bytes() == _UNTIL_UNUSED
    except FileNotFoundError:
        return False


def _file(data_dir: Path) -> Path:
    return data_dir.parent / f"{data_dir.name}.users"
