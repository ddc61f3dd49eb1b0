"""Checks of `dsa110 preflight` for several machines: what a host needs to work with the others."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dsa110_assets.cli.preflight_finding import Finding
from dsa110_assets.errors import ConfigurationError, PipelineError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dsa110_assets.config import PipelineConfig

BROKER_LIMIT_S = 5.0
CLOCK_WARN_S, CLOCK_FAIL_S = 1.0, 30.0
"""Leases, beats and times of files are compared with the clocks of other hosts."""
SLOT_CORES = 2
MOST_FILES = 20
"""Newest registered products that are looked for."""
LOCAL_SCRATCH_GIB = 10
_INSTALL = "`pip install 'dsa110-assets[distributed]'`, or `make .venv/.installed` in the checkout"


def check_slots(config: PipelineConfig) -> Finding:
    """Say how many runs fit on this host."""
    import psutil

    from dsa110_assets.cli.services import RUN_MEMORY_BYTES

    cores, memory_gib = len(os.sched_getaffinity(0)), psutil.virtual_memory().total / (1 << 30)
    slots = int(min(max(1, cores // SLOT_CORES), psutil.virtual_memory().total // RUN_MEMORY_BYTES))
    found = f"{cores} cores, {memory_gib:.0f} GiB of memory: room for {slots} runs at a time"
    if slots == 0:
        return Finding("slots", "warning", found, f"a full tile needs {RUN_MEMORY_BYTES >> 30} GiB; start no worker here")
    return Finding("slots", "ok", f"{found}; all workers together have {config.cluster_runs} (PIPELINE_CLUSTER_RUNS)")


def check_server(config: PipelineConfig) -> Finding:
    """Check that the shared PostgreSQL server answers, and has exactly this release's schema."""
    from dsa110_assets.registry.database import Database
    from dsa110_assets.registry.migrations import HEAD_REVISION

    if config.database_url is None:
        return Finding("database", "failed", "PIPELINE_DATABASE_URL is not set", "set it to the server that all hosts reach")
    try:
        database = Database.connect(config, migrate=False)
        revision = database.revision()
        database.dispose()
    except PipelineError as error:
        return Finding.of_error("database", error)
    if revision == HEAD_REVISION:
        return Finding("database", "ok", f"{database.engine.url.host or 'this machine'}, schema {revision}")
    if revision is None or revision < HEAD_REVISION:
        found = f"its schema is {revision or 'empty'}, this release has {HEAD_REVISION}"
        return Finding("database", "failed", found, "run `dsa110 prepare` on the platform's machine")
    return Finding(
        "database", "failed", f"its schema {revision} is newer than {HEAD_REVISION}", "install the platform's release on this host"
    )


def check_broker(config: PipelineConfig) -> Finding:
    """Check that Redis or Valkey takes a connection with this address and password."""
    try:
        from kombu.connection import Connection
    except ImportError:
        return Finding("broker", "failed", "Celery is not installed", _INSTALL)
    if config.broker_url is None:
        return Finding("broker", "failed", "PIPELINE_BROKER_URL is not set", "set it to Redis or Valkey, such as redis://head:6379/0")

    from dsa110_assets.registry.server import without_password

    address = without_password(config.broker_url.get_secret_value())
    limits = {"socket_connect_timeout": BROKER_LIMIT_S, "socket_timeout": BROKER_LIMIT_S}
    try:
        with Connection(config.broker_url.get_secret_value(), transport_options=limits) as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_LIMIT_S)
            connection.default_channel.client.ping()
    except Exception as error:  # noqa: BLE001 - each transport has kinds of its own, and a wrong address is any of them
        cause = str(error).strip() or type(error).__name__
        return Finding(
            "broker", "failed", f"{address}: {cause}", "start Redis or Valkey there, let this host in, or correct PIPELINE_BROKER_URL"
        )
    return Finding("broker", "ok", address)


def check_clock(config: PipelineConfig) -> Finding:
    """Compare this host's clock with that of the database server."""
    import time

    from sqlalchemy import text

    try:
        with _session(config) as session:
            session.execute(text("SELECT 1"))
            before = time.time()
            theirs = float(session.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)
            after = time.time()
    except PipelineError as error:
        return Finding.of_error("clock", error)
    off_s = theirs - (before + after) / 2.0
    if abs(off_s) <= CLOCK_WARN_S + (after - before) / 2.0:
        return Finding("clock", "ok", f"within {CLOCK_WARN_S:.0f} s of the database server's")
    verdict = "failed" if abs(off_s) > CLOCK_FAIL_S else "warning"
    found = f"{abs(off_s):.1f} s {'behind' if off_s > 0 else 'ahead of'} the database server's"
    return Finding("clock", verdict, found, "let chrony or systemd-timesyncd set the clocks of both hosts: `timedatectl`")


def check_shared(config: PipelineConfig) -> list[Finding]:
    """Check that the shared directories rename, exchange and lock, and hold what the registry says."""
    roots = {"output": config.output_dir, "scratch": config.scratch_dir, "state": config.state_dir}
    return [_check_renames(name, path) for name, path in roots.items()] + [_check_registered(config), _check_home(config)]


def _check_renames(name: str, path: Path) -> Finding:
    """Products are moved into place by a rename; directories are exchanged, and staging folders are locked."""
    from dsa110_assets.publication import exchanges

    subject, mount = f"shared {name}", "mount the shared directory here, read and write, with locks"
    try:
        with tempfile.TemporaryDirectory(prefix=".preflight-", dir=path) as made:
            one, other = Path(made, "one"), Path(made, "other")
            one.mkdir()
            (one / "file").write_bytes(b"x")
            with (one / "file").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            one.rename(other)
            one.mkdir()
            can_exchange = exchanges(one, other)
    except OSError as error:
        why = error.strerror or type(error).__name__
        return Finding(
            subject, "failed", f"{path}: {why}", "start the lock service of the server" if error.errno == errno.ENOLCK else mount
        )
    if not can_exchange:
        found = f"{path} cannot exchange two directories in one step"
        return Finding(
            subject, "warning", found, "nothing, if it is NFS: a directory is replaced by two renames (docs/operators/scaling.md)"
        )
    return Finding(subject, "ok", f"{path} renames, exchanges and locks")


def _check_registered(config: PipelineConfig) -> Finding:
    """Files that another host has registered must be here."""
    from sqlalchemy import exists, select

    from dsa110_assets.registry.schema import ProductVersion, StoredPart

    subject = "shared files"
    made = (StoredPart.product == ProductVersion.product) & (StoredPart.key == ProductVersion.key)
    not_removed = ~exists().where(made, StoredPart.retired_at.is_not(None))
    query = select(ProductVersion.path).where(ProductVersion.path.is_not(None), ProductVersion.superseded_at.is_(None), not_removed)
    try:
        with _session(config) as session:
            paths = [str(path) for path in session.scalars(query.order_by(ProductVersion.version_id.desc()).limit(MOST_FILES))]
    except PipelineError as error:
        return Finding.of_error(subject, error)
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        found = f"{len(missing)} of the {len(paths)} newest registered files are not here, such as {missing[0]}"
        return Finding(
            subject, "failed", found, "mount the platform's directories on this host under the same names; then `dsa110 db check`"
        )
    return Finding(subject, "ok", f"the {len(paths)} newest registered files are here" if paths else "nothing is registered yet")


def _check_home(config: PipelineConfig) -> Finding:
    """The platform's machine has written Dagster's home into the shared state directory."""
    home = config.dagster_home
    if (home / "dagster.yaml").is_file():
        return Finding("Dagster's home", "ok", str(home))
    step = "run `dsa110 prepare` on the platform's machine, and share PIPELINE_STATE_DIR with it"
    return Finding("Dagster's home", "failed", f"{home} is not set up", step)


def check_workers(config: PipelineConfig) -> Finding:
    """Check that a worker lives, and that none refuses work because its code or settings differ."""
    from dsa110_assets.registry.queries import workers
    from dsa110_assets.stages.provenance.installed import Installed, installed

    try:
        with _session(config) as session:
            alive = [one for one in workers.states(session) if one.silent_s <= config.worker_lost_s]
    except PipelineError as error:
        return Finding.of_error("workers", error)
    if not alive:
        return Finding("workers", "warning", "none is alive", "run `dsa110 preflight --for worker` and `dsa110 worker` on a worker host")
    here = installed(config)
    other = [(one.worker, how) for one in alive if (how := Installed.parse(one.version).difference(here)) is not None]
    if other:
        found = "; ".join(f"{name}: {how}" for name, how in other)
        return Finding("workers", "failed", found, "install the same release with the same settings on all hosts, and restart the workers")
    return Finding("workers", "ok", f"{len(alive)} with {sum(one.slots for one in alive)} slots, of this code and these settings")


def check_version(config: PipelineConfig) -> Finding:
    """Compare code and settings of this host with those of the platform, which its last request for a run has."""
    from dsa110_assets.registry.queries import workers
    from dsa110_assets.stages.provenance.installed import Installed, installed

    try:
        with _session(config) as session:
            platform = workers.newest_version(session, config.worker_queue)
    except PipelineError as error:
        return Finding.of_error("version", error)
    here = installed(config)
    if platform is None:
        return Finding("version", "ok", f"{here}; the platform has asked for no run yet, so there is nothing to compare with")
    if (how := here.difference(Installed.parse(platform))) is not None:
        return Finding(
            "version", "failed", how, "install the platform's release on this host, with the same settings (`dsa110 config show`)"
        )
    return Finding("version", "ok", f"{here}, as the platform's")


def check_local_scratch(config: PipelineConfig) -> Finding:
    """Temporary files of runs belong on a local disk."""
    place = Path(tempfile.gettempdir())
    found = f"{place}: {shutil.disk_usage(place).free >> 30} GiB free"
    step = "set TMPDIR to a directory on a local disk"
    if any(root.exists() and root.stat().st_dev == place.stat().st_dev for root in (config.output_dir, config.scratch_dir)):
        return Finding("local scratch", "warning", f"{found}, on the file system of the products", step)
    if shutil.disk_usage(place).free >> 30 < LOCAL_SCRATCH_GIB:
        return Finding("local scratch", "warning", found, step)
    return Finding("local scratch", "ok", found)


@contextmanager
def _session(config: PipelineConfig) -> Iterator[Session]:
    from sqlalchemy.exc import ProgrammingError

    from dsa110_assets.registry.database import Database, reachable

    database = Database.connect(config, migrate=False)
    try:
        with reachable(database.url), database.session() as session:
            yield session
    except ProgrammingError as error:
        raise ConfigurationError("registry", "has no tables of this release", "run `dsa110 prepare` on the platform's machine") from error
    finally:
        database.dispose()
