"""`dsa110 preflight`: check whether this machine can run the platform, and what to fix if it cannot."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_assets.cli import preflight_hosts as hosts
from dsa110_assets.cli import preflight_systemd as units
from dsa110_assets.cli.preflight_finding import Finding

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig


class Role(StrEnum):
    """What a machine is to do."""

    MACHINE = "machine"
    SYSTEMD = "systemd"
    HEAD = "head"
    WORKER = "worker"


GIB = 1 << 30
FAIL_BELOW_GIB = 5  # less than one full tile and its images
WARN_BELOW_GIB = 100  # less than about a day of calibrated tiles
CASA_LIMIT_S = 120.0
_CASA_PROGRAM = """
import socket
def refuse(*_args, **_kwargs):
    raise OSError("CASA must not use the network")
socket.socket.connect = refuse
import dsa110_assets, casatools
measures = casatools.measures()
position = measures.observatory("OVRO_MMA")
assert position["type"] == "position", position
epoch = measures.measure(measures.epoch("utc", "61100.0d"), "tai")
print(casatools.version_string())
"""


def check_names(config: PipelineConfig) -> list[Finding]:
    """Check that all names which look like settings are some: a misspelled one would leave its default."""
    return [
        Finding("settings", "warning", f"{name} is no setting", f"write {meant}" if meant else "remove it; `dsa110 config show` lists all")
        for name, meant in config.unknown_names().items()
    ]


def check_input(config: PipelineConfig) -> Finding:
    """Check that the directory of raw files exists and can be listed. It may be read-only."""
    try:
        number = sum(1 for entry in os.scandir(config.input_dir) if entry.name.endswith(".hdf5"))
    except OSError as error:
        return Finding(
            "input directory", "failed", f"{config.input_dir}: {error.strerror}", "set PIPELINE_INPUT_DIR to the directory of the raw files"
        )
    return Finding("input directory", "ok", f"{config.input_dir}: {number} raw files")


def check_writable(name: str, path: Path) -> Finding:
    """Check that a directory can be made and written, and that its file system has room."""
    subject, variable = f"{name} directory", f"PIPELINE_{name.upper()}_DIR"
    probe = path / f".preflight-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
        free_gib = shutil.disk_usage(path).free / GIB
    except OSError as error:
        return Finding(subject, "failed", f"{path}: {error.strerror}", f"set {variable} to a writable directory")
    found = f"{path}: {free_gib:.0f} GiB free"
    if free_gib < FAIL_BELOW_GIB:
        return Finding(subject, "failed", found, f"free at least {FAIL_BELOW_GIB} GiB, or set {variable} to a larger disk")
    if free_gib < WARN_BELOW_GIB and name != "state":
        return Finding(subject, "warning", found, f"a day of tiles needs more; set {variable} to a larger disk")
    return Finding(subject, "ok", found)


def check_database(config: PipelineConfig) -> Finding:
    """Check that the registry can be reached and has this release's schema. Starts the embedded server."""
    from dsa110_assets.errors import PipelineError
    from dsa110_assets.registry.database import Database
    from dsa110_assets.registry.migrations import HEAD_REVISION

    begun = time.monotonic()
    try:
        database = Database.connect(config, migrate=False)
        revision = database.revision()
    except PipelineError as error:
        return Finding("database", "failed", f"{error.subject}: {error.cause}", error.next_step)
    where = "embedded" if config.database_url is None else database.engine.url.host or "external"
    found = f"{where}, answered in {time.monotonic() - begun:.1f} s, schema {revision or 'empty'}"
    if revision is not None and revision > HEAD_REVISION:
        return Finding("database", "failed", f"{found}, this release has {HEAD_REVISION}", "install the newer release on this host")
    if revision not in (None, HEAD_REVISION):
        return Finding("database", "warning", found, "run `dsa110 db migrate`")
    return Finding("database", "ok", found)


def check_roots(config: PipelineConfig) -> list[Finding]:
    """Check that the registered files lie below the directories of the settings; they may have been moved."""
    from dsa110_assets.errors import PipelineError
    from dsa110_assets.registry.database import Database
    from dsa110_assets.registry.migrations import HEAD_REVISION
    from dsa110_assets.registry.relocate import foreign_roots

    try:
        database = Database.connect(config, migrate=False)
        if database.revision() != HEAD_REVISION:
            return []
        with database.session() as session:
            foreign = foreign_roots(session, config)
    except PipelineError:
        return []  # the check of the database says why
    return [
        Finding(
            "moved files",
            "failed",
            f"{one.registered} is registered, but PIPELINE_{one.setting.upper()} is {one.configured}",
            "if the files were moved: `dsa110 db relocate OLD NEW`; otherwise correct the setting",
        )
        for one in foreign
    ]


def check_casa() -> Finding:
    """Check in a child process, because CASA may crash, that it imports offline and knows the observatory."""
    from dsa110_assets.common.child_process import Child, run_child
    from dsa110_assets.errors import ChildFailedError, ConfigurationError

    begun = time.monotonic()
    remedy = "reinstall casatools and casadata; unset CASASITECONFIG"
    try:
        child = run_child(
            Child("the import of CASA", [sys.executable, "-c", _CASA_PROGRAM]),
            subject="CASA",
            timeout_s=CASA_LIMIT_S,
            timeout_advice=remedy,
        )
    except (ChildFailedError, ConfigurationError) as error:
        return Finding("CASA", "failed", error.cause, remedy)
    if child.code != 0:
        return Finding("CASA", "failed", (child.last_lines or [child.reason])[-1], remedy)
    return Finding("CASA", "ok", f"casatools {child.stdout.split()[-1]} with its data, offline, in {time.monotonic() - begun:.0f} s")


def check_earth_rotation() -> Finding:
    """Check that the table of the Earth's rotation lasts."""
    from dsa110_assets.common import earth_rotation

    why = earth_rotation.why_not_known(datetime.now(UTC))
    if why is None:
        return Finding("Earth rotation", "ok", f"the table lasts until {earth_rotation.table_end():%Y-%m-%d}")
    return Finding("Earth rotation", "warning", why, earth_rotation.REFRESH)


def check_port(subject: str, variable: str, host: str, port: int) -> Finding:
    """Check that a port is free, or that the platform itself uses it."""
    import psutil

    from dsa110_assets.cli.services import why_not_bindable

    why = why_not_bindable(host, port)
    if why is None:
        return Finding(subject, "ok", f"port {port} is free")
    if why == "needs privileges":
        return Finding(subject, "failed", f"port {port} {why}", f"set {variable} to one above 1023")
    owner = next(
        (c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port), None
    )
    try:
        command = " ".join(psutil.Process(owner).cmdline()) if owner is not None else ""
    except psutil.Error:
        command = ""
    if any(ours in command for ours in ("dagster", "dsa110")):
        return Finding(subject, "ok", f"port {port} is in use by the platform itself (process {owner})")
    user = f"process {owner} ({command[:60]})" if command else "another program"
    return Finding(subject, "failed", f"port {port} is used by {user}", f"stop it, or set {variable}")


def check_catalogs(config: PipelineConfig) -> list[Finding]:
    """Check that the reference catalogs exist, or that their source files do."""
    from dsa110_assets.products import CALIBRATORS_FILE, REFERENCE_FILE, ProductPaths

    directory = ProductPaths.of(config).catalogs_dir
    findings: list[Finding] = []
    for subject, name, variable, source, refresh in (
        (
            "calibrator catalog",
            CALIBRATORS_FILE,
            "PIPELINE_VLA_CALIBRATORS_FILE",
            config.vla_calibrators_file,
            "`dsa110 catalogs refresh calibrators`",
        ),
        ("reference sky", REFERENCE_FILE, "PIPELINE_NVSS_FILE", config.nvss_file, "`dsa110 catalogs refresh nvss`"),
    ):
        path = directory / name
        if path.is_file():
            findings.append(Finding(subject, "ok", str(path)))
        elif source is not None and source.is_file():
            findings.append(
                Finding(
                    subject,
                    "warning",
                    f"{name} does not exist yet; its source is {source}",
                    f"run {refresh}, or start the platform, which makes it",
                )
            )
        else:
            missing = f"{path} is missing" + (f", and so is {source}" if source is not None else "")
            findings.append(Finding(subject, "failed", missing, f"set {variable} and run {refresh}"))
    return findings


def check_machine(config: PipelineConfig) -> list[Finding]:
    """Check cores and memory, and WSClean if it is the imager."""
    import psutil

    from dsa110_assets.cli.services import RUN_MEMORY_BYTES, worker_count, workers_for_cores

    cores, memory_gib = len(os.sched_getaffinity(0)), psutil.virtual_memory().total / GIB
    found = f"{cores} cores, {memory_gib:.0f} GiB of memory, Python {sys.version.split()[0]}"
    wanted = workers_for_cores(config)
    needed_gib = wanted * RUN_MEMORY_BYTES / GIB
    findings = [
        Finding("machine", "ok", found)
        if worker_count(config) == wanted
        else Finding("machine", "warning", found, f"{wanted} full tiles at a time need {needed_gib:.0f} GiB; lower PIPELINE_MAX_WORKERS")
    ]
    if config.gridder == "wsclean":
        program = shutil.which("wsclean")
        findings.append(
            Finding("imager", "ok", f"wsclean at {program}")
            if program
            else Finding("imager", "failed", "wsclean is not on PATH", "install Debian's wsclean (not the Python package of that name)")
        )
    return findings


def checks_of(role: Role, config: PipelineConfig, *, casa: bool) -> list[Callable[[], Finding | list[Finding]]]:
    """The checks of a role, in the order in which they are shown."""
    everywhere: list[Callable[[], Finding | list[Finding]]] = [
        lambda: check_names(config),
        (lambda: hosts.check_slots(config)) if role in (Role.HEAD, Role.WORKER) else (lambda: check_machine(config)),
        lambda: check_input(config),
        lambda: check_writable("output", config.output_dir),
        lambda: check_writable("scratch", config.scratch_dir),
        lambda: check_writable("state", config.state_dir),
        (lambda: hosts.check_server(config)) if role in (Role.HEAD, Role.WORKER) else (lambda: check_database(config)),
        lambda: check_roots(config),
        *([check_casa] if casa else []),
        check_earth_rotation,
    ]
    serving: list[Callable[[], Finding | list[Finding]]] = [
        lambda: check_port("Dagster UI", "PIPELINE_DAGSTER_PORT", config.api_host, config.dagster_port),
        lambda: check_port("HTTP API", "PIPELINE_API_PORT", config.api_host, config.api_port),
        lambda: check_catalogs(config),
    ]
    among_others: list[Callable[[], Finding | list[Finding]]] = [
        lambda: hosts.check_broker(config),
        lambda: hosts.check_clock(config),
        lambda: hosts.check_shared(config),
    ]
    match role:
        case Role.MACHINE:
            return [*everywhere, *serving]
        case Role.SYSTEMD:
            return [*everywhere, *serving, *(lambda one=one: one(config) for one in units.CHECKS)]
        case Role.HEAD:
            return [*everywhere, *among_others, lambda: hosts.check_workers(config), *serving]
        case Role.WORKER:
            return [*everywhere, *among_others, lambda: hosts.check_version(config), lambda: hosts.check_local_scratch(config)]


def preflight(
    *,
    role: Annotated[
        Role | None,
        typer.Option("--for", help="What the machine is to do. Default: `head` with PIPELINE_PROFILE=distributed, else `machine`."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    casa: Annotated[bool, typer.Option(help="Also import CASA (takes a few seconds).")] = True,
) -> None:
    """Check whether this machine can run the platform.

    Checks machine, directories, database, CASA, ports and catalogs; `--for systemd` also the units, as the account that
    they run as. `--for head` and `--for worker` are for several machines: broker, schema, clock, shared directories and
    code. Each gets one line, with the next step if one is needed. Exit code 1: a check failed.

    Example: `dsa110 preflight --for worker`
    """
    from dsa110_assets.config import PipelineConfig

    config = PipelineConfig.from_env(validate_paths=False)
    if role is None:
        role = Role.HEAD if config.profile == "distributed" else Role.MACHINE
    findings: list[Finding] = []
    with _no_server_left(config) if role is Role.SYSTEMD else nullcontext():
        for check in checks_of(role, config, casa=casa):
            result = check()
            for finding in result if isinstance(result, list) else [result]:
                findings.append(finding)
                if not json:
                    _show(finding)
    failed = any(finding.verdict == "failed" for finding in findings)
    if json:
        from dsa110_assets.cli.output import emit_json

        emit_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    raise typer.Exit(1 if failed else 0)


@contextmanager
def _no_server_left(config: PipelineConfig) -> Iterator[None]:
    """Stop the embedded server after the block if the block has started it: the unit starts its own."""
    from dsa110_assets.registry.server import embedded_server, stop_server

    ran = embedded_server(config).address() is not None
    yield
    if not ran:
        stop_server(config)


def _show(finding: Finding) -> None:
    color = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "failed": typer.colors.RED}[finding.verdict]
    step = f" -> {finding.next_step}" if finding.next_step else ""
    typer.echo(f"{typer.style(f'{finding.verdict:8}', fg=color, bold=True)}{finding.subject:22}{finding.found}{step}")
