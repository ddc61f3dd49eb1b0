"""Services under systemd: whether this process is one of them, the end of their journal, a restart.

Reading needs the group `systemd-journal`, a restart the rule of `deploy/polkit`. Both are asked from systemd's own
programs, so this account has no other right.
"""

from __future__ import annotations

import os
import signal
from types import MappingProxyType

from dsa110_assets.common.child_process import Child, ChildEnd, run_child
from dsa110_assets.errors import ConfigurationError, NotFoundError

UNITS = MappingProxyType({name: f"dsa110-{name}.service" for name in ("code-server", "webserver", "daemon", "api")})
"""Unit of each service."""
RULE = "deploy/polkit/50-dsa110.rules"
_ASKING = "api"
"""Service whose processes ask: systemd's signal reaches all of them."""
LINES = 1000
"""Most lines of the journal that are read."""
_LIMIT_S = 20.0


def started_this_process() -> bool:
    """Whether systemd started this process as a unit. Children of `dsa110 up` are none, also if `up` itself is one."""
    return os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())


def how_to_start() -> str:
    """The command that starts the platform: of systemd if it has started this process."""
    return "`systemctl start dsa110.target`" if started_this_process() else "`dsa110 up`"


def journal_command(name: str) -> list[str]:
    """Command that prints the end of a service's journal, oldest line first."""
    return ["journalctl", "--no-pager", "--quiet", "--output=short-iso", "--utc", f"--lines={LINES}", f"--unit={UNITS[name]}"]


def restart_command(name: str) -> list[str]:
    """Command that asks systemd to restart a service, and does not wait for it."""
    return ["systemctl", "restart", "--no-block", "--no-ask-password", UNITS[name]]


def journal(name: str) -> str:
    """Return the end of a service's journal.

    Raises:
        NotFoundError: nothing is there, or this account may not read it.
    """
    unit = UNITS[name]
    ended = _run(journal_command(name), f"journal of {unit}")
    if ended.code != 0 or not ended.stdout.strip():
        cause = ended.last_lines[-1] if ended.stderr.strip() else "holds nothing that this account may read"
        raise NotFoundError(
            f"journal of {unit}", cause, f"look with `journalctl -u {unit}`; the account of dsa110-api needs the group systemd-journal"
        )
    return ended.stdout


def restart(name: str) -> None:
    """Ask systemd to restart a service. A service that restarts itself may be stopped together with the question.

    Raises:
        ConfigurationError: systemd refuses.
    """
    unit = UNITS[name]
    ended = _run(restart_command(name), unit)
    if ended.code == -signal.SIGTERM and name == _ASKING:
        return
    if ended.code != 0:
        raise ConfigurationError(
            unit,
            f"systemd does not restart it ({' '.join(ended.last_lines) or ended.reason})",
            f"install the rule {RULE} as deploy/README.md says, or use `systemctl restart {unit}` as root",
        )


def _run(command: list[str], subject: str) -> ChildEnd:
    child = Child(command[0], command, environment={"LC_ALL": "C.UTF-8"})
    return run_child(child, subject=subject, timeout_s=_LIMIT_S, timeout_advice="look with `systemctl status`")
