"""The rule for polkit lets the control panel restart the platform's services, and nothing else: asked from polkitd.

polkitd and a system bus of their own run in a mount namespace, where the rule and the account are installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dsa110_assets.stages.operations import systemd
from dsa110_assets_tests.cli.test_deployment import DEPLOY

POLKITD = Path("/usr/lib/polkit-1/polkitd")
UID, OTHER_UID = 64990, 64991
RESTART = "org.freedesktop.systemd1.manage-units"
BUS = """
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth><policy context="default">
<allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy></busconfig>
"""
SCRIPT = """
set -e
mount --bind rules /etc/polkit-1/rules.d
mount --bind passwd /etc/passwd
dbus-daemon --config-file=bus.conf --nofork & bus=$!
while [ ! -S bus ]; do sleep 0.1; done
{polkitd} >polkitd.log 2>&1 & polkitd=$!
setpriv --reuid={uid} --regid=65534 --clear-groups sleep 300 & ours=$!
setpriv --reuid={other} --regid=65534 --clear-groups sleep 300 & other=$!
trap 'kill $bus $polkitd $ours $other' EXIT
for _ in $(seq 300); do grep -q Acquired polkitd.log && break; sleep 0.1; done
while read -r who action verb unit; do
    code=0
    pkcheck --action-id "$action" --process "${{!who}}" --detail verb "$verb" --detail unit "$unit" >/dev/null 2>&1 || code=$?
    echo "$code $who $action $verb $unit"
done <questions
"""


def answers(directory: Path, questions: list[str]) -> dict[str, int]:
    """Exit codes of pkcheck; 0: allowed without a password."""
    directory.chmod(0o755)
    rules = directory / "rules"
    rules.mkdir()
    shutil.copy(DEPLOY / "polkit/50-dsa110.rules", rules)
    accounts = f"dsa110:x:{UID}:65534::/:/bin/sh\nsomebody:x:{OTHER_UID}:65534::/:/bin/sh\n"
    (directory / "passwd").write_text(Path("/etc/passwd").read_text() + accounts)
    (directory / "bus.conf").write_text(BUS.format(path=directory / "bus"))
    (directory / "questions").write_text("\n".join(questions) + "\n")
    script = SCRIPT.format(polkitd=POLKITD, uid=UID, other=OTHER_UID)
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        cwd=directory,
        env=os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory / 'bus'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {question: int(code) for code, _, question in (line.partition(" ") for line in done.stdout.splitlines())}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can install a rule")
def test_polkit_lets_the_account_restart_the_services_and_do_nothing_else(server_directory: Path) -> None:
    if not POLKITD.is_file() or shutil.which("pkcheck") is None or shutil.which("dbus-daemon") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("polkitd is missing: `make extras` installs it")
        pytest.skip("polkitd is not installed: `make extras` installs it")
    allowed = [f"ours {RESTART} restart {unit}" for unit in systemd.UNITS.values()]
    refused = [
        f"ours {RESTART} stop {systemd.UNITS['api']}",
        f"ours {RESTART} start {systemd.UNITS['api']}",
        f"ours {RESTART} restart ssh.service",
        f"ours {RESTART} restart dsa110-database.service",
        f"ours org.freedesktop.systemd1.manage-unit-files restart {systemd.UNITS['api']}",
        f"other {RESTART} restart {systemd.UNITS['api']}",
    ]
    directory = server_directory / "polkit"
    directory.mkdir()
    found = answers(directory, allowed + refused)
    assert [question for question, code in found.items() if code == 0] == allowed
    assert set(found) == {*allowed, *refused}
