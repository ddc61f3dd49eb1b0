"""Backup and restore of the registry, or of Dagster's database, with PostgreSQL's own programs, which come with the embedded server.

A backup is consistent while the platform runs. What does not belong here: copies for a laptop (`export`), products (they are files).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sqlalchemy.engine import make_url

from dsa110_assets import publication
from dsa110_assets.errors import NonRetriableError, RegistryError
from dsa110_assets.registry.server import bin_dir


def history_of(path: Path) -> Path:
    """Where Dagster's history lies beside a backup of the registry."""
    return path.with_name(f"{path.name}.dagster")


def backup(url: str, path: Path) -> int:
    """Write the whole database into one compressed file, in place when it is complete; returns its size in bytes.

    Raises:
        RegistryError: `pg_dump` failed; its words are quoted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with publication.publish(path.absolute()) as staged:
        _run(url, "pg_dump", "--format=custom", "--no-owner", "--file", str(staged))
    return path.stat().st_size


def restore(url: str, path: Path, *, replace: bool = False) -> None:
    """Fill a database from a backup, in one transaction: afterwards it is the backup's content, or what it was.

    Args:
        url: the database (SQLAlchemy).
        path: made by `backup`.
        replace: drop what the database holds now; without it only an empty one is filled.

    Raises:
        NonRetriableError: the file is not there, or the database is not empty and ``replace`` was not given.
        RegistryError: `pg_restore` failed; its words are quoted.
    """
    if not path.is_file():
        raise NonRetriableError(path, "is not there", "name a file that `dsa110 db backup FILE` has written")
    clean = ["--clean", "--if-exists"] if replace else []
    if not replace and _run(url, "psql", "-At", "-c", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").strip() != "0":
        raise NonRetriableError("registry", "is not empty", "stop the platform, then restore with --replace, which drops what is there now")
    _run(url, "pg_restore", "--no-owner", "--single-transaction", "--exit-on-error", *clean, "--dbname", _address(url), str(path))


def _run(url: str, program: str, *arguments: str) -> str:
    environment = dict(os.environ)
    if password := make_url(url).password:  # not on the command line, where everybody reads it
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
            " ".join(done.stderr.split())[-500:] or f"ended with {done.returncode}",
            "look at `dsa110 db status`",
        )
    return done.stdout


def _address(url: str) -> str:
    return make_url(url).set(drivername="postgresql", password=None).render_as_string(hide_password=False)
