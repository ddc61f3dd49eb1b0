"""`dsa110 up` and `dsa110 down`: start and stop the whole platform on one machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_assets.stages.operations.services import (
    Restart,
    drop_requests,
    record_restart,
    record_stop,
    running_pid,
    supervising,
    take_requests,
)

if TYPE_CHECKING:
    from rich.console import Console

    from dsa110_assets.config import PipelineConfig


def up(
    *,
    input_dir: Annotated[Path | None, typer.Option(help="Directory of the raw files. [PIPELINE_INPUT_DIR]")] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Directory of the Measurement Sets. [PIPELINE_OUTPUT_DIR]")] = None,
    scratch_dir: Annotated[Path | None, typer.Option(help="Directory of all other products. [PIPELINE_SCRATCH_DIR]")] = None,
    omp_threads: Annotated[int | None, typer.Option(min=0, max=128, help="Threads of a stage. [PIPELINE_THREADS_PER_WORKER]")] = None,
    chunk_duration: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="Accepted for compatibility: an observation ends where its files do.")
    ] = None,
) -> None:
    """Start the platform and keep it running.

    Embedded database, code server, Dagster UI, daemon and HTTP API run until Ctrl-C or `dsa110 down`. What an earlier
    `dsa110 up` left when it was killed is ended first.

    Example: `PIPELINE_INPUT_DIR=/data/incoming dsa110 up`
    """
    from rich.console import Console

    from dsa110_assets.cli import services
    from dsa110_assets.cli.prepare import make_ready
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.registry.server import own_server, running_url, stop_unused_server

    _ = chunk_duration
    given = {"INPUT_DIR": input_dir, "OUTPUT_DIR": output_dir, "SCRATCH_DIR": scratch_dir, "THREADS_PER_WORKER": omp_threads}
    os.environ.update({f"PIPELINE_{name}": str(value) for name, value in given.items() if value is not None})  # the services read it
    console = Console(highlight=False)
    from dsa110_assets.config import PipelineConfig

    config = PipelineConfig.from_env()
    stop_signals: list[int] = []

    def request_stop(number: int, frame: FrameType | None) -> None:  # the signature of a signal handler
        stop_signals.append(number)

    with supervising(config):
        signal.signal(signal.SIGTERM, request_stop)
        signal.signal(signal.SIGINT, request_stop)
        if number := services.end_left_behind(config):
            record_stop(config)
            console.print(f"ended {number} processes of a `dsa110 up` that was killed")
        for name, port in (("PIPELINE_DAGSTER_PORT", config.dagster_port), ("PIPELINE_API_PORT", config.api_port)):
            if (why := services.why_not_bindable(config.api_host, port)) is not None:
                raise ConfigurationError(name, f"port {port} {why}", "choose another one")
        try:
            own_server(config)
            make_ready(config, console.print)
            _serve(config, console, lambda: bool(stop_signals))
        finally:
            if config.database_url is None and not stop_unused_server(config) and running_url(config) is not None:
                console.print("other programs use the embedded database, so it runs on; `dsa110 down` stops it")


def _serve(config: PipelineConfig, console: Console, stop: Callable[[], bool]) -> None:
    """Run the services until ``stop`` returns True; end them in order, whatever happens."""
    from dsa110_assets.cli import services
    from dsa110_assets.errors import PipelineError
    from dsa110_assets.registry.server import ensure_alive

    def tell(name: str, why: str) -> None:
        record_restart(config, Restart(name, datetime.now(UTC), why))
        console.print(f"[yellow]{name} {why} and was restarted[/]")

    def revive_database() -> None:
        try:
            if ensure_alive(config):
                tell("database", "ended")
        except PipelineError as error:  # such as a full disk; the next round tries again
            console.print(f"[red]{error}[/]")

    supervisor = services.Supervisor(
        services.services(config), services.environment(config), config.state_dir.absolute() / "logs", log_limit_mb=config.log_limit_mb
    )
    drop_requests(config)
    try:
        supervisor.start(stop)
        console.print(f"Pages:      http://{config.api_host}:{config.api_port}/ui/dashboard   API: /api/docs")
        console.print(f"Dagster UI: http://{config.api_host}:{config.dagster_port}   logs: {config.state_dir.absolute() / 'logs'}")
        supervisor.watch(stop, revive_database=revive_database, restarts=lambda: take_requests(config), tell=tell)
    finally:
        supervisor.stop()
        services.end_left_behind(config)  # runs of a code server that was killed
        record_stop(config)


def down(*, keep_database: Annotated[bool, typer.Option(help="Leave the embedded database running.")] = False) -> None:
    """Stop the platform of this state directory, and its database.

    Example: `dsa110 down`
    """
    from dsa110_assets.config import PipelineConfig

    stop(PipelineConfig.from_env(validate_paths=False), keep_database=keep_database)


def stop(config: PipelineConfig, *, keep_database: bool = False) -> bool:
    """Stop supervisor, services and database of a state directory; False if nothing was running.

    Services whose supervisor was killed are ended too.
    """
    from dsa110_assets.cli.services import STOP_TIMEOUT_S, end_left_behind, stop_tree
    from dsa110_assets.registry.server import ensure_server, running_url, stop_server

    if keep_database and running_url(config) is not None:
        ensure_server(config)  # a database with another user outlives the supervisor
    pid = running_pid(config)
    if pid is not None:
        stop_tree(pid, 3 * STOP_TIMEOUT_S)
    number = end_left_behind(config)
    if number:
        record_stop(config)
    if not keep_database and (config.state_dir / "postgres").is_dir():
        stop_server(config)
    return pid is not None or number > 0
