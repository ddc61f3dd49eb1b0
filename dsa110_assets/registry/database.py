"""Connections to the registry: engine, transactions, and migrations of the schema."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from psycopg2.extensions import adapt, register_adapter
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError, QuestionTooSlowError, RegistryError
from dsa110_assets.registry.migrations import HEAD_REVISION
from dsa110_assets.registry.server import ensure_server, without_password

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATION_LOCK = 0x0D5A_0110  # any fixed number; advisory locks are numbers

for _scalar in (np.float64, np.float32, np.int64, np.int32, np.int16, np.bool_):  # else psycopg2 sends their repr
    register_adapter(_scalar, lambda value: adapt(value.item()))

_OPTIONS = "-c search_path=public -c lock_timeout=0 -c default_transaction_read_only=off -c bytea_output=hex -c extra_float_digits=1"
"""What a connection must not take from the environment (PGOPTIONS). Options in the server's address come after it."""


_CANCELED = "57014"
"""PostgreSQL's code for a statement that was stopped at its time limit."""
_NEVER_PASSES = re.compile(r"authentication failed|(role|database) .* does not exist|no pg_hba.conf entry|no password supplied")
"""What a server says to a connection that it will refuse again."""


def _fix_time(connection: Any, _record: object) -> None:
    """Set what the client library takes from PGTZ and PGDATESTYLE after all options."""
    with connection.cursor() as cursor:
        cursor.execute("SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'")
    connection.commit()


class Database:
    """One process's connection pool to the registry. Do not share it across a fork: connect again in the child."""

    def __init__(self, url: str, *, statement_limit_s: int = 0) -> None:
        self.url = url
        options = make_url(url).query.get("options", "")
        self.engine: Engine = create_engine(
            url,
            pool_size=5,  # opened one by one on demand: a short-lived process has one
            max_overflow=15,
            pool_pre_ping=True,  # the server may have restarted
            pool_recycle=1800,
            connect_args={
                "connect_timeout": 10,
                "application_name": f"{Path(sys.argv[0]).name or 'python'}[{os.getpid()}]"[:63],
                "client_encoding": "utf8",
                "options": " ".join(
                    (_OPTIONS, f"-c statement_timeout={statement_limit_s * 1000}", *([options] if isinstance(options, str) else options))
                ),
            },
        )
        event.listen(self.engine, "connect", _fix_time)

    @classmethod
    def connect(cls, config: PipelineConfig, *, migrate: bool = True) -> Self:
        """Connect. Start the embedded server if needed; with ``migrate``, bring the schema up to date first.

        Raises:
            ConfigurationError: the server cannot be set up here, or the schema is newer than this code.
            RegistryError: the server cannot be reached.
        """
        database = cls(ensure_server(config))
        if migrate:
            database.migrate()
        return database

    @contextmanager
    def session(self) -> Generator[Session]:
        """Yield a session for one transaction: committed at the end of the block, rolled back on an exception.

        Raises:
            RegistryError: the connection was lost, a lock is not available, or the server's disk is full; retriable.
        """
        with reachable(self.url), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def trial(self) -> Generator[Database]:
        """Yield this registry for a trial: transactions see what others of the trial wrote, and none of it stays.

        All run inside one transaction on one connection, which is rolled back at the end. Locks are held until then.
        """
        with reachable(self.url), self.engine.connect() as connection, connection.begin() as outer:
            yield _Trial(self.url, connection)
            outer.rollback()

    def revision(self) -> str | None:
        """Revision of the database's schema; None for an empty database."""
        with reachable(self.url), self.engine.connect() as connection:
            return _revision(connection)

    def migrate(self) -> bool:
        """Bring the schema to this code's revision. Return False when it was current. Several processes may call it.

        Raises:
            ConfigurationError: the database is from a newer release.
        """
        if self.revision() == HEAD_REVISION:
            return False
        with reachable(self.url), self.engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()  # the lock belongs to the session, not to the transaction
            try:
                return self._migrate_locked(connection)
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
                connection.commit()

    def _migrate_locked(self, connection: Connection) -> bool:
        from alembic import command
        from alembic.script import ScriptDirectory

        found = _revision(connection)
        if found == HEAD_REVISION:
            return False
        with alembic_config(connection) as configuration:
            known = {script.revision for script in ScriptDirectory.from_config(configuration).walk_revisions()}
            if found is not None and found not in known:
                raise ConfigurationError(
                    "registry",
                    f"its schema ({found}) is newer than this release ({HEAD_REVISION})",
                    "install the newer release, or restore the backup that was made before the upgrade: `dsa110 db restore FILE --replace`",
                )
            command.upgrade(configuration, "head")
        connection.commit()
        return True

    def dispose(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


class _Trial(Database):
    """A database whose transactions are savepoints of one transaction."""

    def __init__(self, url: str, connection: Connection) -> None:
        super().__init__(url)
        self._connection = connection

    @contextmanager
    def session(self) -> Generator[Session]:
        with Session(self._connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as session, session.begin():
            yield session


@contextmanager
def reachable(url: str) -> Generator[None]:
    """Turn the driver's operational errors into a typed error with the next step.

    Raises:
        RegistryError: the server does not answer; it may do so later.
        QuestionTooSlowError: the statement took longer than its limit.
        ConfigurationError: the server refuses the user, the password or the database.
    """
    try:
        yield
    except DBAPIError as error:
        if not (isinstance(error, (OperationalError, InterfaceError)) or error.connection_invalidated):
            raise  # an error in the statement; a server that dies during one raises any kind of DatabaseError
        if getattr(error.orig, "pgcode", None) == _CANCELED:
            raise QuestionTooSlowError("question", "took too long and was stopped", "ask for less: a shorter time, fewer rows") from error
        if _NEVER_PASSES.search(str(error.orig)):
            raise ConfigurationError(
                "PIPELINE_DATABASE_URL",
                f"{without_password(url)} refuses: {str(error.orig).strip()}",
                "correct the user, password or database",
            ) from error
        raise RegistryError(
            "registry " + without_password(url),
            f"cannot be used ({str(error.orig).strip()})",
            "check `dsa110 db status`; the next attempt may succeed",
        ) from error


@contextmanager
def alembic_config(connection: Connection) -> Generator[Config]:
    """Yield Alembic's configuration for an open connection. There is no alembic.ini."""
    from alembic.config import Config

    with as_file(files("dsa110_assets.registry") / "migrations") as location:
        configuration = Config()
        configuration.set_main_option("script_location", str(location).replace("%", "%%"))
        configuration.set_main_option("path_separator", "os")
        configuration.attributes["connection"] = connection
        yield configuration


def _revision(connection: Connection) -> str | None:
    try:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except ProgrammingError:  # no such table: empty
        connection.rollback()
        return None
    connection.commit()
    return found
