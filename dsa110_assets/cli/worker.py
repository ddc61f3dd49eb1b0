"""`dsa110 worker`: make runs on this host, for the platform on another one."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer


def worker(
    *,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Number of runs at a time on this host.")] = 1,
    queue: Annotated[str | None, typer.Option(help="Name of the queue. [PIPELINE_WORKER_QUEUE]")] = None,
    database_url: Annotated[str | None, typer.Option(help="The platform's PostgreSQL server. [PIPELINE_DATABASE_URL]")] = None,
) -> None:
    """Make runs on this host, until SIGTERM or Ctrl-C.

    For the profile `distributed`. Code, settings and directories must be those of the platform; else the worker takes
    no run, and says how they differ. It needs the packages of `dsa110-assets[distributed]`, PIPELINE_BROKER_URL, and a
    platform that `dsa110 up` or `dsa110 prepare` has set up in the shared state directory. A run's temporary files are
    in TMPDIR, which should be a local disk. Runs at work are interrupted at the end, and made elsewhere.

    Example: `dsa110 worker --concurrency 4`
    """
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import ConfigurationError

    given = {"PIPELINE_WORKER_QUEUE": queue, "PIPELINE_DATABASE_URL": database_url}
    os.environ.update({name: value for name, value in given.items() if value is not None})  # the runs read it
    os.environ["PIPELINE_PROFILE"] = "distributed"
    config = PipelineConfig.from_env()
    if find_spec("celery") is None:
        raise ConfigurationError("dsa110 worker", "Celery is not installed", "run `pip install 'dsa110-assets[distributed]'`")
    if config.database_url is None:
        raise ConfigurationError("PIPELINE_DATABASE_URL", "is not set", "set it to the platform's server, as on the platform's own machine")
    if config.broker_url is None:
        raise ConfigurationError("PIPELINE_BROKER_URL", "is not set", "set it to Redis or Valkey, such as redis://head:6379/0")
    home = config.dagster_home
    if not (home / "dagster.yaml").is_file():
        raise ConfigurationError(
            home, "is not set up", "share PIPELINE_STATE_DIR with the platform's machine, and run `dsa110 prepare` there"
        )
    environment = {
        **os.environ,
        "PIPELINE_INPUT_DIR": str(config.input_dir.absolute()),
        "PIPELINE_OUTPUT_DIR": str(config.output_dir.absolute()),
        "PIPELINE_SCRATCH_DIR": str(config.scratch_dir.absolute()),
        "PIPELINE_STATE_DIR": str(config.state_dir.absolute()),
        "DAGSTER_HOME": str(home),
        "PYTHONUNBUFFERED": "1",
    }
    program = "dsa110_assets.orchestration.cluster.worker"
    command = [sys.executable, "-m", program, "--queue", config.worker_queue, "--concurrency", str(concurrency)]
    os.execve(command[0], command, environment)  # noqa: S606 - no shell
