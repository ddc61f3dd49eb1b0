"""Checks of `dsa110 preflight --for systemd`: whether the units fit this release, these settings and this account."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dsa110_assets.cli.preflight_finding import Finding
from dsa110_assets.errors import PipelineError

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig

UNITS = Path("/etc/systemd/system")
RULES = Path("/etc/polkit-1/rules.d")
COMMON = "dsa110-.service.d/common.conf"
_COPY = "`cp -r deploy/systemd/dsa110* /etc/systemd/system/ && systemctl daemon-reload`, as root"


def check_units(_config: PipelineConfig) -> Finding:
    """Check that the installed units are those of this release. `systemctl edit` changes them elsewhere."""
    from dsa110_assets.cli.services import project_file

    try:
        ours = project_file("deploy/systemd/dsa110.target").parent
    except PipelineError as error:
        return Finding.of_error("units", error)
    files = [path.relative_to(ours) for path in sorted(ours.rglob("*")) if path.is_file() and path.name != "platform.env.example"]
    wanted = [path for path in files if path.name != "dsa110-worker.service"]
    missing = [str(path) for path in wanted if not (UNITS / path).is_file()]
    if missing:
        return Finding("units", "failed", f"not installed in {UNITS}: {', '.join(missing)}", _COPY)
    changed = [str(path) for path in files if (UNITS / path).is_file() and (UNITS / path).read_bytes() != (ours / path).read_bytes()]
    if changed:
        step = f"compare them with deploy/systemd; changes of your own belong into `systemctl edit UNIT`; then {_COPY}"
        return Finding("units", "warning", f"other than this release's: {', '.join(changed)}", step)
    return Finding("units", "ok", f"{len(wanted)} files in {UNITS}, as in this release")


def check_writable_paths(config: PipelineConfig) -> Finding:
    """Check that the units may write where the settings say: all else is read-only for them."""
    subject = "paths of the units"
    try:
        drop_ins = sorted(UNITS.glob("dsa110-.service.d/*.conf"))
        text = "\n".join(path.read_text() for path in drop_ins)
    except OSError as error:
        return Finding(subject, "failed", f"{error.filename}: {error.strerror}", "run this as root, or as the account of the units")
    allowed = [Path(one.lstrip("-+")) for line in re.findall(r"^ReadWritePaths=(.*)$", text, flags=re.MULTILINE) for one in line.split()]
    written = {"PIPELINE_OUTPUT_DIR": config.output_dir, "PIPELINE_SCRATCH_DIR": config.scratch_dir, "PIPELINE_STATE_DIR": config.state_dir}
    if backups := os.environ.get("DSA110_BACKUP_DIR"):
        written["DSA110_BACKUP_DIR"] = Path(backups)
    outside = [f"{name} ({path})" for name, path in written.items() if not any(path.absolute().is_relative_to(one) for one in allowed)]
    if outside:
        found = f"{', '.join(outside)} is not below ReadWritePaths ({' '.join(map(str, allowed)) or 'none'})"
        return Finding(subject, "failed", found, f"add it to ReadWritePaths in {UNITS / COMMON}, then `systemctl daemon-reload`")
    return Finding(subject, "ok", f"all below {' '.join(map(str, allowed))}")


def check_backups(_config: PipelineConfig) -> Finding:
    """Check that the timer's backups have a place."""
    place = os.environ.get("DSA110_BACKUP_DIR")
    if not place:
        step = "set it in /etc/dsa110/platform.env; run this with the variables of that file"
        return Finding("backups", "failed", "DSA110_BACKUP_DIR is not set", step)
    if not Path(place).is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding(
            "backups",
            "failed",
            f"{place} is no directory that this account can write",
            f"`install -d -o dsa110 -g dsa110 {place}`, as root",
        )
    return Finding("backups", "ok", place)


def check_supervisor(config: PipelineConfig) -> Finding:
    """Check that no `dsa110 up` has the state directory."""
    from dsa110_assets.stages.operations.services import running_pid

    if (pid := running_pid(config)) is not None:
        return Finding("supervisor", "failed", f"`dsa110 up` runs on {config.state_dir} (process {pid})", "end it: `dsa110 down`")
    return Finding("supervisor", "ok", "no `dsa110 up` runs on the state directory")


def check_panel(_config: PipelineConfig) -> Finding:
    """Check that the control panel may restart services."""
    from dsa110_assets.stages.operations.systemd import RULE

    installed = RULES / Path(RULE).name
    try:
        if installed.is_file():
            return Finding("control panel", "ok", f"may restart services ({installed})")
    except PermissionError:
        return Finding("control panel", "ok", f"{RULES} is for root and polkit only, so it was not looked at")
    step = f"`install -m 644 {RULE} {RULES}/`, as root"
    return Finding("control panel", "warning", f"cannot restart services: {installed} is missing", step)


CHECKS: tuple[Callable[[PipelineConfig], Finding], ...] = (check_units, check_writable_paths, check_backups, check_supervisor, check_panel)
