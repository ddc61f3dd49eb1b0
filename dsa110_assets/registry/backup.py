"""Backup and restore of the registry, or of Dagster's database, with the PostgreSQL programs of the embedded server.

A backup is consistent while the platform runs. It holds no products, which are files. Copies for a laptop: `export`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from contextlib import suppress
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
_DROP_ALL = """
SET LOCAL client_min_messages = warning;
DO $$ DECLARE one record; BEGIN
    FOR one IN SELECT relname, CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END AS kind
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition
    LOOP
        EXECUTE format('DROP %s IF EXISTS public.%I CASCADE', one.kind, one.relname);
    END LOOP;
END $$;
"""
"""Drops all tables and views, also those of a newer release, which may refer to those of the backup."""
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
        replace: drop the present content, all tables and views. Without it the database must be empty.

    Raises:
        NonRetriableError: the file does not exist or is damaged; or the database is not empty, without ``replace``.
        RegistryError: the server does not answer; the error quotes the program's message.
    """
    check_archive(path)
    if not replace and _run(url, "psql", "-At", "-c", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").strip() != "0":
        raise NonRetriableError(
            "registry", "is not empty", "stop the platform, then restore with --replace, which drops the present content"
        )
    _run_archive(url, path, first=_DROP_ALL if replace else "")


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
    done = subprocess.run(
        [str(bin_dir() / program), "--dbname", _address(url), *arguments],
        env=_environment(url),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise _failure(program, done.stderr, done.returncode)
    return done.stdout


def _run_archive(url: str, path: Path, *, first: str) -> None:
    """Run a statement and those of a backup in one transaction, committed only if the backup was read to its end."""
    with tempfile.TemporaryFile() as said:
        reading = subprocess.Popen(
            [str(bin_dir() / "pg_restore"), "--no-owner", "--file=-", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        writing = subprocess.Popen(
            [str(bin_dir() / "psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-o", os.devnull, "--dbname", _address(url)],
            env=_environment(url),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert reading.stdout is not None
        assert writing.stdin is not None
        with reading, writing:
            complained = threading.Thread(target=lambda: messages.append(writing.stderr.read() if writing.stderr else b""))
            messages: list[bytes] = []
            complained.start()
            with suppress(BrokenPipeError):  # psql ended: its message says why
                writing.stdin.write(f"BEGIN;{first}\n".encode())
                shutil.copyfileobj(reading.stdout, writing.stdin)
                if reading.wait() == 0:
                    writing.stdin.write(b"COMMIT;\n")
            reading.stdout.close()
            with suppress(BrokenPipeError):
                writing.stdin.close()
            complained.join()
        said.seek(0)
        if writing.returncode != 0:
            raise _failure("psql", messages[0].decode("utf-8", "replace"), writing.returncode)
        if reading.returncode != 0:
            raise _failure("pg_restore", said.read().decode("utf-8", "replace"), reading.returncode)


def _environment(url: str) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_SESSION}
    if password := make_url(url).password:  # not on the command line, which all users can read
        environment["PGPASSWORD"] = str(password)
    return environment


def _failure(program: str, said: str, code: int) -> PipelineError:
    """Error of a program that failed: retriable only where the server or the disk was at fault, not the file."""
    cause = " ".join(said.split())[-500:] or f"ended with exit status {code}"
    if code < 0 or _MAY_PASS.search(said):
        return RegistryError(f"{program} of the registry", cause, "check `dsa110 db status`, then try again")
    return NonRetriableError(f"{program} of the registry", cause, "check `dsa110 db status`; of a damaged backup, take an older one")


def _address(url: str) -> str:
    return address_text(make_url(url).set(drivername="postgresql", password=None))
