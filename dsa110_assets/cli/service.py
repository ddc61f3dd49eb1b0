"""`dsa110 service`: one service of the platform in the foreground, for a service manager such as systemd."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig

DATABASE_LIMIT_S = 120.0


class Runnable(StrEnum):
    """What a service manager starts: the embedded database and the services of `dsa110 up`."""

    DATABASE = "database"
    CODE_SERVER = "code-server"
    WEBSERVER = "webserver"
    DAEMON = "daemon"
    API = "api"


def service(
    name: Annotated[Runnable, typer.Argument(help="The service.")],
    *,
    ended: Annotated[bool, typer.Option("--ended", help="Record how the service ended, as systemd says; start nothing.")] = False,
) -> None:
    """Run one service in the foreground, for systemd.

    `dsa110 up` runs all of them and needs no service manager; one state directory has one or the other. The services
    need `dsa110 prepare` and a running database, `dsa110 service database` or PIPELINE_DATABASE_URL. Output goes to
    standard output.

    Example: `dsa110 service daemon`
    """
    from dsa110_assets.config import PipelineConfig

    config = PipelineConfig.from_env(validate_paths=not ended, raw_files=False)
    if ended:
        record_end(config, name)
    elif name is Runnable.DATABASE:
        serve_database(config)
    else:
        become(config, name)


def become(config: PipelineConfig, name: Runnable) -> NoReturn:
    """Replace this process by a service. It keeps its share of the state directory's lock as long as it lives.

    Raises:
        ConfigurationError: `dsa110 up` runs on the state directory, or `dsa110 prepare` has not run.
        RegistryError: the database does not run.
    """
    from dsa110_assets.cli import services
    from dsa110_assets.config import PROCESS_MARK
    from dsa110_assets.stages.operations.services import share_state

    share_state(config)
    environment = services.environment(config) | {"PIPELINE_DATABASE_URL": database_url(config)}
    environment.pop(PROCESS_MARK)  # a service manager ends it, not `dsa110 down`
    command = next(one.command for one in services.services(config) if one.name == name.value)
    os.execve(command[0], command, environment)  # noqa: S606 - no shell


def database_url(config: PipelineConfig) -> str:
    """URL of the database, which another unit runs: a service that started it would take it along when it ends.

    Raises:
        RegistryError: it does not run.
    """
    from dsa110_assets.errors import RegistryError
    from dsa110_assets.registry.server import DATABASE, embedded_server

    if config.database_url is not None:
        return config.database_url.get_secret_value()
    deadline = time.monotonic() + DATABASE_LIMIT_S
    while (address := embedded_server(config).address()) is None:
        if time.monotonic() > deadline:
            raise RegistryError("database", "does not run", "start `dsa110 service database`")
        time.sleep(0.2)
    return address.url(DATABASE, driver="")


def serve_database(config: PipelineConfig) -> None:
    """Run the embedded server until SIGTERM or Ctrl-C, and start it again when it dies.

    A server that another command has started is stopped first. It would be none of the unit's processes, so systemd
    would neither protect nor end it.

    Raises:
        ConfigurationError: the settings name another server.
        RegistryError: the server does not start.
    """
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.registry.server import embedded_server, ensure_alive, ensure_server, stop_server
    from dsa110_assets.stages.operations.services import share_state

    if config.database_url is not None:
        raise ConfigurationError("PIPELINE_DATABASE_URL", "names another server, so there is none to run", "leave this service out")
    share_state(config)
    with _stop_signals() as received:
        if stop_server(config):
            typer.echo("a server that another command had started was stopped")
        ensure_server(config)
        typer.echo(f"PostgreSQL runs; what it says is in {embedded_server(config).data_dir / 'log'}")
        tell_service_manager("READY=1")
        try:
            while not received:
                if ensure_alive(config):
                    typer.echo("the database had ended and was started again")
                time.sleep(1.0)
        finally:
            stop_server(config)


def record_end(config: PipelineConfig, name: Runnable) -> None:
    """Record how a service ended, from the variables that systemd gives to ``ExecStopPost=``.

    An orderly stop of the code server excuses the runs that ended with it. Any other end becomes an alert.
    """
    from dsa110_assets.stages.operations.services import Restart, record_restart, record_stop

    if os.environ.get("SERVICE_RESULT", "success") == "success":
        if name is Runnable.CODE_SERVER:
            record_stop(config)
        return
    how = f"{os.environ.get('EXIT_CODE', 'ended')} {os.environ.get('EXIT_STATUS', '')}".strip()
    record_restart(config, Restart(name.value, datetime.now(UTC), how))


def tell_service_manager(state: str) -> None:
    """Tell systemd a state of the unit (sd_notify); nothing without systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: received.append(number))
    yield received
