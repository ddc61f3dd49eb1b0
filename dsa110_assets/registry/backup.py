"""Backup and restore of the registry, or of Dagster's database, with the PostgreSQL programs of the embedded server.

A backup is consistent while the platform runs. It holds no products, which are files. Copies for a laptop: `export`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sqlalchemy.engine import make_url

from dsa110_assets import publication
from dsa110_assets.errors import NonRetriableError, RegistryError
from dsa110_assets.files import why_not_openable
from dsa110_assets.registry.server import bin_dir

_MAGIC = b"PGDMP"
"""First bytes of PostgreSQL's custom format."""


def history_of(path: Path) -> Path:
    """Path of Dagster's history beside a backup of the registry."""
    return path.with_name(f"{path.name}.dagster")


def backup(url: str, path: Path) -> int:
    """Write the whole database into one compressed file, published when complete. Return its size in bytes.

    Raises:
        RegistryError: `pg_dump` failed; the error quotes its message.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with publication.publish(path.absolute()) as staged:
        _run(url, "pg_dump", "--format=custom", "--no-owner", "--file", str(staged))
    return path.stat().st_size


def restore(url: str, path: Path, *, replace: bool = False) -> None:
    """Fill a database from a backup in one transaction. A failure leaves the database as it was.

    Args:
        url: the database (SQLAlchemy).
        path: file made by `backup`.
        replace: drop the present content. Without it the database must be empty.

    Raises:
        NonRetriableError: the file does not exist, or the database is not empty and ``replace`` was not given.
        RegistryError: `pg_restore` failed; the error quotes its message.
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
    why = why_not_openable(path)
    if why is None:
        with path.open("rb") as stream:
            why = None if stream.read(len(_MAGIC)) == _MAGIC else "is no backup of a registry"
    if why is not None:
        raise NonRetriableError(path, why, "give a file that `dsa110 db backup FILE` has written")


def _run(url: str, program: str, *arguments: str) -> str:
    environment = dict(os.environ)
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
        raise RegistryError(
            f"{program} of the registry",
            " ".join(done.stderr.split())[-500:] or f"ended with exit status {done.returncode}",
            "check `dsa110 db status`",
        )
    return done.stdout


def _address(url: str) -> str:
    return make_url(url).set(drivername="postgresql", password=None).render_as_string(hide_password=False)
