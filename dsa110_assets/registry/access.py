"""The system user that runs the embedded server, and that user's access to its files.

PostgreSQL refuses to run as root. When root starts it, it runs as a system user of its own, who must be able to reach
the data directory and the programs. Below a home with mode 0700 it cannot. An access control list then grants search
permission to that one user, so that the directories need not be opened to all.
"""

from __future__ import annotations

import errno
import logging
import os
import pwd
import shutil
import stat
import struct
import subprocess
from pathlib import Path

from dsa110_assets.errors import ConfigurationError

SYSTEM_USER = "pgserver"
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_SEARCH = 1
_log = logging.getLogger(__name__)


def server_account(data_dir: Path) -> pwd.struct_passwd | None:
    """Account that runs the server; None for the caller's own. Existing data keep their owner.

    Raises:
        ConfigurationError: the caller is root and no account can be created.
    """
    if os.geteuid() != 0:
        return None
    if data_dir.exists() and (owner := data_dir.stat().st_uid) != 0:
        return pwd.getpwuid(owner)
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        raise _no_account("there is no `useradd`")
    made = subprocess.run(
        [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER], capture_output=True, text=True, check=False
    )
    try:  # another process may have created it in the meantime
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError as error:
        raise _no_account(made.stderr.strip()) from error


def _no_account(cause: str) -> ConfigurationError:
    return ConfigurationError(
        f"system user {SYSTEM_USER}",
        f"PostgreSQL does not run as root, and the user cannot be created ({cause})",
        f"create the user {SYSTEM_USER} by hand, run as an ordinary user, or set PIPELINE_DATABASE_URL",
    )


def open_path(path: Path, account: pwd.struct_passwd, setting: str) -> None:
    """Grant ``account`` search permission down to the directory ``path``. The error names ``setting``.

    Raises:
        ConfigurationError: a parent directory is closed and the file system has no access control lists.
    """
    for directory in [*reversed(path.resolve().parents), path.resolve()]:
        if _can_search(directory, account):
            continue
        try:
            _grant_search(directory, account.pw_uid)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EROFS, errno.EACCES):
                raise
            raise ConfigurationError(
                setting,
                f"the database's user {account.pw_name} cannot enter {directory} ({error.strerror})",
                f"run `chmod o+x {directory}`, or choose another place, such as /var/lib/dsa110",
            ) from error
        _log.warning("%s: the user %s may now enter this directory (access control list)", directory, account.pw_name)


def _can_search(directory: Path, account: pwd.struct_passwd) -> bool:
    status = directory.stat()
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    entries = _read_acl(directory)
    mask = next((permission for tag, permission, _ in entries if tag == _MASK), 7)
    for tag, permission, identity in entries:
        if tag == _USER and identity == account.pw_uid:
            return bool(permission & mask & _SEARCH)
    if status.st_gid == account.pw_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _read_acl(path: Path) -> list[tuple[int, int, int]]:
    """Entries (tag, permission, identity) of an access control list, if any. See acl(5) and posix_acl_xattr.h."""
    try:
        raw = os.getxattr(path, _ACL)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return []
        raise
    return [struct.unpack_from("<HHI", raw, offset) for offset in range(4, len(raw), 8)]


def _grant_search(path: Path, uid: int) -> None:
    mode = path.stat().st_mode
    entries = _read_acl(path) or [
        (_USER_OBJ, mode >> 6 & 7, _NO_ID),
        (_GROUP_OBJ, mode >> 3 & 7, _NO_ID),
        (_OTHER, mode & 7, _NO_ID),
    ]
    entries = [entry for entry in entries if not (entry[0] == _USER and entry[2] == uid)]
    mask = next((permission for tag, permission, _ in entries if tag == _MASK), mode >> 3 & 7) | _SEARCH
    entries = [entry for entry in entries if entry[0] != _MASK] + [(_USER, _SEARCH, uid), (_MASK, mask, _NO_ID)]
    raw = struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries, key=lambda e: (e[0], e[2])))
    os.setxattr(path, _ACL, raw)
