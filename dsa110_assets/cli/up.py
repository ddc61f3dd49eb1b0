"""`dsa110 up` and `dsa110 down`: start and stop the whole platform on one machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.operations.services import drop_requests, pid_file, running_pid, take_requests


def up(
    *,
    input_dir: Annotated[Path | None, typer.Option(help="Directory of the raw files. [PIPELINE_INPUT_DIR]")] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Directory of the Measurement Sets. [PIPELINE_OUTPUT_DIR]")] = None,
    scratch_dir: Annotated[Path | None, typer.Option(help="Directory of all other products. [PIPELINE_SCRATCH_DIR]")] = None,
    omp_threads: Annotated[int | None, typer.Option(min=0, max=128, help="Threads of a stage. [PIPELINE_THREADS_PER_WORKER]")] = None,
    chunk_duration: Annotated[
        float | None, typer.Option(help="Accepted for compatibility: an observation ends where its files do.")
    ] = None,
) -> None:
    """Start the platform and keep it running.

    Code server, Dagster UI, daemon and HTTP API run until Ctrl-C or `dsa110 down`. The embedded database runs on after
    Ctrl-C; `dsa110 down` stops it too.

    Example: `PIPELINE_INPUT_DIR=/data/incoming dsa110 up`
    """
    from rich.console import Console

    from dsa110_assets.cli import services
    from dsa110_assets.errors import ConfigurationError, PipelineError
    from dsa110_assets.products import ProductPaths
    from dsa110_assets.registry.database import Database
    from dsa110_assets.registry.server import ensure_alive
    from dsa110_assets.staging import keep_journal_in, sweep

    _ = chunk_duration
    given = {"INPUT_DIR": input_dir, "OUTPUT_DIR": output_dir, "SCRATCH_DIR": scratch_dir, "THREADS_PER_WORKER": omp_threads}
    os.environ.update({f"PIPELINE_{name}": str(value) for name, value in given.items() if value is not None})  # the services read it
    console = Console(highlight=False)
    config = PipelineConfig.from_env()
    if (other := running_pid(config)) is not None:
        raise ConfigurationError(config.state_dir, f"a platform is already running there (process {other})", "stop it with `dsa110 down`")
    if services.port_is_open(config.dagster_port):
        raise ConfigurationError("PIPELINE_DAGSTER_PORT", f"port {config.dagster_port} is in use", "choose another one")
    if services.port_is_open(config.api_port):
        raise ConfigurationError("PIPELINE_API_PORT", f"port {config.api_port} is in use", "choose another one")
    Database.connect(config).dispose()
    journal = ProductPaths.of(config).staging_journal
    keep_journal_in(journal)
    for leftover in sweep(journal):
        console.print(f"removed the leftovers of a crashed stage: {leftover}")
    code_port = services.code_server_port(config)
    env = services.environment(config)
    services.set_pool_limits(config, env)
    supervisor = services.Supervisor(
        services.services(config, code_port), env, config.state_dir.absolute() / "logs", log_limit_mb=config.log_limit_mb
    )
    stop_signals: list[int] = []

    def request_stop(number: int, frame: FrameType | None) -> None:  # the signature of a signal handler
        stop_signals.append(number)

    def revive_database() -> None:
        try:
            if ensure_alive(config):
                console.print("the database had stopped and was restarted")
        except PipelineError as error:  # such as a full disk; the next round tries again
            console.print(f"[red]{error}[/]")

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    drop_requests(config)
    pid_file(config).write_text(str(os.getpid()))
    try:
        supervisor.start()
        console.print(f"Pages:      http://{config.api_host}:{config.api_port}/ui/dashboard   API: /api/docs")
        console.print(f"Dagster UI: http://{config.api_host}:{config.dagster_port}   logs: {config.state_dir.absolute() / 'logs'}")
        supervisor.watch(lambda: bool(stop_signals), revive_database=revive_database, restarts=lambda: take_requests(config))
    finally:
        supervisor.stop()
        pid_file(config).unlink(missing_ok=True)
        if config.database_url is None:
            console.print("stopped; the embedded database runs on until `dsa110 down`")


def down(*, keep_database: Annotated[bool, typer.Option(help="Leave the embedded database running.")] = False) -> None:
    """Stop the platform of this state directory, and its database.

    Example: `dsa110 down`
    """
    stop(PipelineConfig.from_env(validate_paths=False), keep_database=keep_database)


def stop(config: PipelineConfig, *, keep_database: bool = False) -> bool:
    """Stop supervisor, services and database of a state directory; False if no supervisor was running."""
    from dsa110_assets.cli.services import STOP_TIMEOUT_S, stop_tree
    from dsa110_assets.registry.server import stop_server

    pid = running_pid(config)
    if pid is not None:
        stop_tree(pid, 3 * STOP_TIMEOUT_S)
    if not keep_database and (config.state_dir / "postgres").is_dir():
        stop_server(config)
    return pid is not None
