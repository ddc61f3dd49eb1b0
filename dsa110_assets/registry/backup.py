"""Backup and restore of the registry, or of Dagster's database, with the PostgreSQL programs of the embedded server.

A backup is consistent while the platform runs. It holds no products, which are files. Copies for a laptop: `export`.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from sqlalchemy.engine import make_url

from dsa110_assets import publication
from dsa110_assets.errors import NonRetriableError, PipelineError, RegistryError
from dsa110_assets.files import refuse_directory, refuse_replacing, why_not_openable
from dsa110_assets.registry.environment import OF_A_SESSION
from dsa110_assets.registry.server import address_text, bin_dir

_MAY_PASS = re.compile(
    r"connection to server|connection .*(closed|terminated|refused)|terminating|the database system is|No space left", re.I
)
"""What the programs say when the server does not answer or the disk is full."""
_MAGIC = b"PGDMP"
"""First bytes of PostgreSQL's custom format."""


def history_of(path: Path) -> Path:
    """Path of Dagster's history beside a backup of the registry."""
    return Path(f"{path}.dagster")


def backup(url: str, path: Path) -> int:
    """Write the whole database into one compressed file, published when complete. Return its size in bytes.

    Raises:
        ConfigurationError: anything but a backup is in its place.
        RegistryError: the server does not answer, or the disk is full; the error quotes the program's message.
    """
    check_destination(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with publication.publish(path.absolute()) as staged:
        _run(url, "pg_dump", "--format=custom", "--no-owner", "--file", str(staged))
    return path.stat().st_size


def check_destination(path: Path) -> None:
    """Check that a backup may be written to a path: an older backup is replaced, nothing else.

    Raises:
        ConfigurationError: something else is there.
    """
    refuse_replacing(path, "a backup", lambda old: _why_not_archive(old) is None)
    refuse_directory(path)


def restore(url: str, path: Path, *, replace: bool = False) -> None:
    """Fill a database from a backup in one transaction. A failure leaves the database as it was.

    Args:
        url: the database (SQLAlchemy).
        path: file made by `backup`.
        replace: drop the present content. Without it the database must be empty.

    Raises:
        NonRetriableError: the file does not exist or is damaged; or the database is not empty, without ``replace``.
        RegistryError: the server does not answer; the error quotes the program's message.
    """
    check_archive(path)
    clean = ["--clean", "--if-exists"] if replace else []
    if not replace and _run(url, "psql", "-At", "-c", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").strip() != "0":
        raise NonRetriableError(
            "registry", "is not empty", "stop the platform, then restore with --replace, which drops the present content"
        )
    _run(url, "pg_restore", "--no-owner", "--single-transaction", "--exit-on-error", *clean, "--dbname", _address(url), str(path))


def check_archive(path: Path) -> None:
    """Check that a file is a backup, before anything is dropped.

    Raises:
        NonRetriableError: it cannot be opened, or is none.
    """
    if (why := _why_not_archive(path)) is not None:
        raise NonRetriableError(path, why, "give a file that `dsa110 db backup FILE` has written")


def _why_not_archive(path: Path) -> str | None:
    """Why a file is no backup; None if it begins as one."""
    why = why_not_openable(path)
    if why is None:
        with path.open("rb") as stream:
            why = None if stream.read(len(_MAGIC)) == _MAGIC else "is no backup of a registry"
    return why


def _run(url: str, program: str, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_SESSION}
    if password := make_url(url).password:  # not on the command line, which all users can read
        environment["PGPASSWORD"] = str(password)
    target = () if program == "pg_restore" else ("--dbname", _address(url))
    done = subprocess.run(
        [str(bin_dir() / program), *target, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise _failure(program, done.stderr, done.returncode)
    return done.stdout


def _failure(program: str, said: str, code: int) -> PipelineError:
    """Error of a program that failed: retriable only where the server or the disk was at fault, not the file."""
    cause = " ".join(said.split())[-500:] or f"ended with exit status {code}"
    if code < 0 or _MAY_PASS.search(said):
        return RegistryError(f"{program} of the registry", cause, "check `dsa110 db status`, then try again")
    return NonRetriableError(f"{program} of the registry", cause, "check `dsa110 db status`; of a damaged backup, take an older one")


def _address(url: str) -> str:
    return address_text(make_url(url).set(drivername="postgresql", password=None))
