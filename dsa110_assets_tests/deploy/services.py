"""`make services`: a newcomer follows `deploy/README.md` on a clean Debian 12 with systemd, and things happen to it.

``python -m dsa110_assets_tests.deploy.services``, as root. The machine is that of `booted`. The commands are those of
the page, word by word: the program reads them there. The checkout is a clean clone of the last commit. Then the
services are killed, restarted from the control panel, stopped and booted, two small tiles become images, the timer
makes a backup, and the release is upgraded to one with another schema and taken back. ``--again`` boots the machine of
the last time and installs nothing, ``--parts`` takes only some parts.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsa110_assets.api.pages.visitor import COOKIE
from dsa110_assets.cli.demo_places import DemoPlaces
from dsa110_assets.cli.service import Runnable
from dsa110_assets.registry.migrations import HEAD_REVISION
from dsa110_assets_tests.chaos.small_night import SETTINGS, SmallNight
from dsa110_assets_tests.deploy.booted import Machine, booted, why_not_possible
from dsa110_assets_tests.deploy.test_monitoring import OPEN_ONLY, expressions
from dsa110_assets_tests.upgrade.newer import NEXT, make_newer

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "deploy/README.md"
ONE_MACHINE, DOOR, MONITORING, UPGRADE = (
    "One machine, systemd", "The front door, nginx", "Prometheus, Alertmanager, Grafana", "Upgrade, and the way back",
)  # fmt: skip
TO_EDIT = "# then edit it"
ORIGIN = "/srv/dsa110.git"
HOST = "telescope"
ADDRESS = f"https://{HOST}:3210"
UNITS = tuple(f"dsa110-{name.value}.service" for name in Runnable)
ALIASES = {
    "contimg-api": "dsa110-api", "contimg-docs": "dsa110-api", "dsa110-contimg-dashboard": "dsa110-api",
    "contimg-stream": "dsa110-daemon", "contimg-absurd-worker": "dsa110-worker",
}  # fmt: skip
LARGEST_EXPOSURE = 3.0
LIMIT_S = 600.0
NIGHT = SmallNight.of(2)


def blocks(page: str, heading: str) -> list[str]:
    """The blocks of commands below a heading of a page."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^```\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)


def with_edits(block: str, edit: str) -> str:
    """A block with a command after the line that says that a file has to be edited."""
    assert block.count(TO_EDIT) == 1, block
    return re.sub(rf"^(.*{re.escape(TO_EDIT)}.*)$", lambda found: f"{found[1]}\n{edit}", block, flags=re.MULTILINE)


@dataclass(frozen=True)
class Times:
    """When a unit began to start and was ready, and when it began to stop and was gone (microseconds)."""

    starting: int
    ready: int
    stopping: int
    gone: int


def wrong_order(times: Mapping[str, Times], after: Mapping[str, Sequence[str]], *, stopped: bool) -> list[str]:
    """Units that began before what they wait for was ready; if all have stopped, also those that outlived it."""
    found: list[str] = []
    for unit, others in after.items():
        for other in others:
            if times[unit].starting < times[other].ready:
                found.append(f"{unit} began before {other} was ready")
            if stopped and times[other].stopping < times[unit].gone:
                found.append(f"{other} stopped before {unit} had ended")
    return found


@dataclass
class Newcomer:
    """Somebody at the machine. ``found``: what is wrong. ``figures``: what was measured. ``token``: of the person."""

    machine: Machine
    work: Path
    found: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    token: str = ""

    def dsa110(self, arguments: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `dsa110` as its user, with the settings of the machine."""
        settings = "$(grep -v '^#' /etc/dsa110/platform.env)"
        return self.machine.run(f"cd /opt/dsa110 && runuser -u dsa110 -- env {settings} .venv/bin/dsa110 {arguments}", check=check)

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        shown = self.machine.run(f"systemctl show {unit} " + " ".join(f"--property={name}" for name in names)).stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def is_active(self, unit: str) -> bool:
        """Whether a unit runs."""
        return self.show(unit, "ActiveState")["ActiveState"] == "active"

    def ask(self, path: str, *arguments: str, signed_in: bool = True) -> tuple[int, str]:
        """Status and body of an answer at the door."""
        login = ["--cookie", f"{COOKIE}={self.token}"] if signed_in else []
        where = ["--resolve", f"{HOST}:3210:127.0.0.1", "--cacert", str(self.work / "tls/fullchain.pem")]
        done = self.machine.curl(*where, *login, "--write-out", "\n%{http_code}", *arguments, f"{ADDRESS}{path}")
        body, _, status = done.stdout.rpartition("\n")
        return (int(status), body) if done.returncode == 0 else (0, done.stderr)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note a finding."""
        if not holds:
            self.found.append(otherwise)
            print(f"   WRONG: {otherwise}", file=sys.stderr, flush=True)

    def until(self, holds: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> float:
        """Wait for something; return the seconds.

        Raises:
            RuntimeError: it does not come.
        """
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > limit_s:
                raise RuntimeError(f"waited {limit_s:.0f} s in vain: {what}")
            time.sleep(0.3)
        return time.monotonic() - began

    def all_answer(self) -> bool:
        """Whether every unit runs, and the door shows the pages, the Dagster UI and the documentation."""
        answers = all(self.ask(path)[0] == 200 for path in ("/ui/dashboard", "/dagster/runs", "/docs/", "/api/status"))
        return answers and all(map(self.is_active, UNITS))

    def query(self, sql: str) -> str:
        """Answer of the registry."""
        return self.dsa110(f'db query "{sql}"').stdout


# --- the parts -----------------------------------------------------------------------------------------------------
def install(one: Newcomer) -> None:
    """The section of one machine, word by word, and then the one of the door."""
    root = one.machine.root
    (root / "etc/apt/apt.conf.d/90yes").write_text('APT::Get::Assume-Yes "true";\n')
    subprocess.run(["git", "clone", "--quiet", "--bare", str(REPOSITORY), str(root / ORIGIN.lstrip("/"))], check=True)
    for folder in ("data/incoming", "stage/reference", "etc/dsa110/tls"):
        (root / folder).mkdir(parents=True)
    NIGHT.plan.write_references(root / "stage/reference")
    own = {
        name: text for name, text in (DemoPlaces(Path("/stage")).settings(3000) | SETTINGS).items() if not name.endswith(("DIR", "PORT"))
    }
    own |= {"PIPELINE_UI_URL": f"{ADDRESS}/dagster", "PIPELINE_PAGES_URL": f"{ADDRESS}/ui", "PIPELINE_DOCS_URL": f"{ADDRESS}/docs"}
    own |= {"PIPELINE_MAX_WORKERS": "2"}
    (root / "root/own-settings").write_text("".join(f"{name}={text}\n" for name, text in own.items()))
    keys = one.work / "tls"
    shutil.rmtree(keys, ignore_errors=True)
    keys.mkdir(parents=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", f"/CN={HOST}", "-addext",
         f"subjectAltName=DNS:{HOST}", "-keyout", str(keys / "privkey.pem"), "-out", str(keys / "fullchain.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    shutil.copytree(keys, root / "etc/dsa110/tls", dirs_exist_ok=True)
    one.machine.run("apt-get update")
    (block,) = blocks(PAGE.read_text(), ONE_MACHINE)
    began = time.monotonic()
    block = block.replace("<this repository>", ORIGIN)
    _say(one.machine.run(with_edits(block, "cat /root/own-settings >> /etc/dsa110/platform.env"), limit_s=3600))
    one.figures["from the first command to all services started (s)"] = round(time.monotonic() - began)
    (block,) = blocks(PAGE.read_text(), DOOR)
    said = one.machine.run(f"cd /opt/dsa110\n{block}").stdout
    (one.work / "token").write_text(next(word for word in said.split() if word.startswith("dsa110_")))
    _read_token(one)
    one.figures["until the door shows everything (s)"] = round(one.until(one.all_answer, "the door"))


def _say(done: subprocess.CompletedProcess[str]) -> None:
    print("".join(f"   | {line}\n" for line in done.stdout.splitlines()[-30:]), file=sys.stderr, flush=True)


def _read_token(one: Newcomer) -> None:
    one.token = (one.work / "token").read_text()


def renew(one: Newcomer) -> None:
    """Bring the machine of the last time to the present commit, as an upgrade does.

    It may have been left in the middle of anything: packages half installed, no branch checked out after the way back.
    """
    origin = str(one.machine.root / ORIGIN.lstrip("/"))
    named = subprocess.run(["git", "--git-dir", origin, "symbolic-ref", "--short", "HEAD"], check=True, capture_output=True, text=True)
    branch = named.stdout.strip()  # what clones get, and what the page pulls
    subprocess.run(["git", "push", "--quiet", "--force", origin, f"HEAD:refs/heads/{branch}"], cwd=REPOSITORY, check=True)
    one.machine.run("dpkg --configure --pending")
    one.machine.run(
        f"cd /opt/dsa110 && git fetch --quiet --force origin && git checkout --quiet --force {branch} && "
        f"git reset --quiet --hard origin/{branch} && make .venv/.installed docs && "
        "cp -r deploy/systemd/dsa110* /etc/systemd/system/ && cp deploy/nginx/dsa110.conf /etc/nginx/conf.d/ && systemctl daemon-reload && "
        "systemctl reset-failed && systemctl reload nginx && systemctl restart dsa110.target"
    )


def door(one: Newcomer) -> None:
    """What the door shows, to whom."""
    one.until(one.all_answer, "the door")
    for path in ("/ui/dashboard", "/dagster/runs", "/docs/"):
        one.expect(one.ask(path, signed_in=False)[0] == 302, f"{path} is open without a login")
    one.expect(one.ask("/api/status", signed_in=False)[0] == 401, "/api/status is open without a login")
    one.expect(one.ask("/metrics")[0] == 404, "/metrics is open at the door")
    failed = one.machine.run("systemctl --failed --no-legend --plain").stdout.split("\n")
    one.expect(not failed[0], f"units have failed: {failed}")


def _times(one: Newcomer) -> tuple[dict[str, Times], dict[str, list[str]]]:
    names = {"starting": "InactiveExit", "ready": "ActiveEnter", "stopping": "ActiveExit", "gone": "InactiveEnter"}
    times: dict[str, Times] = {}
    after: dict[str, list[str]] = {}
    for unit in UNITS:
        shown = one.show(unit, "After", *(f"{name}TimestampMonotonic" for name in names.values()))
        times[unit] = Times(**{kind: int(shown[f"{name}TimestampMonotonic"]) for kind, name in names.items()})
        after[unit] = [other for other in shown["After"].split() if other in UNITS]
    return times, after


def order(one: Newcomer) -> None:
    """Each service began when those before it were ready."""
    times, after = _times(one)
    one.expect(sum(map(len, after.values())) >= len(UNITS), f"hardly any order is asked for: {after}")
    one.found += wrong_order(times, after, stopped=False)


def names(one: Newcomer) -> None:
    """The earlier pipeline's names."""
    one.machine.run("systemctl enable dsa110-worker")
    for alias, unit in ALIASES.items():
        one.expect(one.show(alias, "Id")["Id"] == f"{unit}.service", f"{alias} is not {unit}")
    one.machine.run("systemctl disable dsa110-worker")


def security(one: Newcomer) -> None:
    """How open the units are, as systemd says of those that run."""
    shown: dict[str, float] = {}
    for unit in (*UNITS, "dsa110-backup.service", "dsa110-worker.service"):
        said = one.machine.run(f"systemctl start dsa110-backup.timer; systemd-analyze security --no-pager {unit}", check=False).stdout
        exposure = re.search(r"exposure level for \S+ ([\d.]+)", said)
        one.expect(exposure is not None, f"systemd says nothing of {unit}: {said[-200:]}")
        if exposure:
            shown[unit.removesuffix(".service")] = float(exposure[1])
    one.found += [f"{unit} is too open: {value}" for unit, value in shown.items() if value >= LARGEST_EXPOSURE]
    one.figures["systemd-analyze security"] = shown
    pid = one.show("dsa110-api.service", "MainPID")["MainPID"]
    status = dict(re.findall(r"^(\w+):\s*(.*)$", one.machine.run(f"cat /proc/{pid}/status").stdout, re.MULTILINE))
    one.expect(int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", f"the API may: {status}")


def journal(one: Newcomer) -> None:
    """Each service writes into the journal."""
    for unit in UNITS:
        said = one.machine.run(f"journalctl --no-pager --quiet --output=cat _SYSTEMD_UNIT={unit}").stdout
        one.expect(bool(said.strip()), f"the journal of {unit} is empty")


def panel(one: Newcomer) -> None:
    """The control panel shows a journal and restarts a service; its account may do nothing else."""
    said = one.ask("/ui/control-panel/services/daemon/log")
    last = one.machine.run("journalctl --no-pager --quiet --output=cat --lines=400 --unit=dsa110-daemon").stdout
    words = [word for word in re.findall(r"[A-Za-z]{9,}", last) if word in said[1]]
    one.expect(
        said[0] == 200 and len(words) > 5, f"the panel does not show the journal: {said[0]} {re.sub('<[^>]+>', ' ', said[1])[-400:]}"
    )
    page = one.ask("/ui/control-panel")[1]
    csrf = re.search(r'name="csrf" value="(\w+)"', page)
    one.expect(csrf is not None, "the panel has no form")
    for name in ("webserver", "api"):
        before = one.show(f"dsa110-{name}.service", "InvocationID")
        form = f"csrf={csrf[1] if csrf else ''}"
        status, said_then = one.ask(f"/ui/control-panel/services/{name}/restart", "--data", form)
        one.expect(status == 303, f"the panel does not restart {name}: {status} {re.sub('<[^>]+>', ' ', said_then)[-600:]}")
        if status == 303:
            took = one.until(lambda n=name, b=before: one.show(f"dsa110-{n}.service", "InvocationID") != b, f"the restart of {name}")
            took += one.until(one.all_answer, f"{name} after the panel's restart")
            one.figures[f"restart of {name} from the panel (s)"] = round(took)
    for what in ("restart nginx.service", "stop dsa110-daemon.service"):
        refused = one.machine.run(f"runuser -u dsa110 -- systemctl --no-ask-password {what}", check=False)
        one.expect(refused.returncode != 0, f"the platform's account may {what}")


def kills(one: Newcomer) -> None:
    """Each service dies, and is there again."""
    took: dict[str, int] = {}
    for unit in UNITS:
        before = one.show(unit, "MainPID", "NRestarts")
        one.machine.run(f"kill -9 {before['MainPID']}")

        def again(unit: str = unit, before: dict[str, str] = before) -> bool:
            now = one.show(unit, "MainPID", "NRestarts")
            return now["MainPID"] not in ("0", before["MainPID"]) and int(now["NRestarts"]) == int(before["NRestarts"]) + 1

        took[unit.removesuffix(".service")] = round(one.until(again, f"the restart of {unit}") + one.until(one.all_answer, f"{unit} again"))
    one.figures["killed until all answers again (s)"] = took

    def told() -> bool:
        alerts = one.dsa110("alerts", check=False).stdout
        return all(f"service-restarted/{name.value}" in alerts for name in Runnable)

    try:
        one.until(told, "alerts of the restarts", 180.0)
    except RuntimeError:
        one.expect(False, f"the restarts are not reported: {one.dsa110('alerts', check=False).stdout}")


def work(one: Newcomer) -> None:
    """Two tiles become images under the hardened units, while the code server, and with it the runs, is killed once."""
    incoming = one.machine.root / "data/incoming"
    for tile in range(NIGHT.n_tiles):
        NIGHT.write(incoming, tile)
    began = time.monotonic()
    one.until(lambda: "in_progress" in one.query("SELECT state FROM ingest_queue"), "work")
    one.machine.run(f"kill -9 {one.show('dsa110-code-server.service', 'MainPID')['MainPID']}")
    one.until(lambda: one.query("SELECT state FROM ingest_queue").count("completed") == NIGHT.n_tiles, "two completed observations", 1500.0)
    one.figures["two small tiles, with a kill of the code server and its runs (s)"] = round(time.monotonic() - began)
    checked = one.dsa110("db check --contents checksum", check=False)
    one.expect(checked.returncode == 0, f"dsa110 db check: {checked.stdout[-1000:]}{checked.stderr[-500:]}")


def timer(one: Newcomer) -> None:
    """The timer starts the backup, and old backups are removed."""
    state = one.show("dsa110-backup.timer", "ActiveState", "NextElapseUSecRealtime")
    one.expect(
        state["ActiveState"] == "active" and re.search(r" 16:0\d:|16:10:00", state["NextElapseUSecRealtime"]) is not None, f"timer: {state}"
    )
    changed = "/run/systemd/system/dsa110-backup.timer.d"

    def backups() -> set[str]:
        return set(one.machine.run("ls /stage/backup").stdout.split())

    before, old = backups(), "registry-2026-01-01T160000.dump"
    one.machine.run(
        f"touch -d '40 days ago' /stage/backup/{old}; "
        f"mkdir -p {changed}; printf '[Timer]\\nRandomizedDelaySec=0\\nOnActiveSec=2\\nAccuracySec=1\\n' > {changed}/now.conf; "
        "systemctl daemon-reload; systemctl restart dsa110-backup.timer"
    )
    one.until(lambda: one.show("dsa110-backup.service", "ExecMainExitTimestampMonotonic", "ActiveState") != {}, "the backup", 10)
    try:
        one.until(lambda: len((now := backups()) - before) == 2 and old not in now, "a backup of two files, and no old one", 180.0)
    except RuntimeError as error:
        journal_of_it = one.machine.run("journalctl --no-pager -u dsa110-backup").stdout
        one.expect(False, f"{error}: {one.machine.run('ls -l /stage/backup').stdout} {journal_of_it}")
    one.until(lambda: one.show("dsa110-backup.service", "ActiveState")["ActiveState"] == "inactive", "the end of the backup")
    one.expect(one.show("dsa110-backup.service", "Result")["Result"] == "success", "the backup has failed")
    one.machine.run(f"rm -r {changed}; systemctl daemon-reload; systemctl restart dsa110-backup.timer")


def monitoring(one: Newcomer) -> None:
    """Prometheus' section, word by word; all that it asks answers."""
    block = blocks(PAGE.read_text(), MONITORING)[0]
    one.machine.run(f"cd /opt/dsa110\n{block}")
    one.machine.run("echo PIPELINE_ALERT_DELIVERY=prometheus >> /etc/dsa110/platform.env; systemctl restart dsa110.target")

    def up() -> dict[str, str]:
        answer = json.loads(one.machine.curl("http://127.0.0.1:9090/api/v1/query?query=up").stdout or "{}")
        return {row["metric"]["job"]: row["value"][1] for row in answer.get("data", {}).get("result", [])}

    try:
        one.until(lambda: set(up().values()) == {"1"} and "dsa110" in up(), "Prometheus' targets", 300.0)
    except RuntimeError:
        one.expect(False, f"targets of Prometheus: {up()}")
    one.figures["targets of Prometheus"] = sorted(up())
    loaded = json.loads(one.machine.curl("http://127.0.0.1:9090/api/v1/rules").stdout)["data"]["groups"]
    one.expect(sum(len(group["rules"]) for group in loaded) > 20, "Prometheus has not loaded the rules")
    known = json.loads(one.machine.curl("http://127.0.0.1:9090/api/v1/alertmanagers").stdout)["data"]["activeAlertmanagers"]
    one.expect(len(known) == 1, f"Prometheus knows these Alertmanagers: {known}")
    one.until(one.all_answer, "the door")
    asked = {expression: where for expression, where in expressions().items() if expression not in OPEN_ONLY}
    without = dict(asked)
    for _ in range(3):  # rates need several scrapes
        time.sleep(20.0)
        without = {expression: where for expression, where in without.items() if not _has_series(one, expression)}
    one.figures["expressions of rules and boards with a series"] = f"{len(asked) - len(without)} of {len(asked)}"
    one.figures["those without: nothing of the kind has happened here"] = sorted(set(without.values()))
    one.expect(len(without) < len(asked) / 3, "most expressions find nothing")


def _has_series(one: Newcomer, expression: str) -> bool:
    answer = one.machine.curl("--get", "--data-urlencode", f"query={expression}", "http://127.0.0.1:9090/api/v1/query")
    return bool(json.loads(answer.stdout or "{}").get("data", {}).get("result"))


def stop(one: Newcomer) -> None:
    """The target stops all, in order, and leaves nothing."""
    began = time.monotonic()
    one.machine.run("systemctl stop dsa110.target")  # it does not wait for the units
    one.until(lambda: not any(one.show(unit, "ActiveState")["ActiveState"] in ("active", "deactivating") for unit in UNITS), "the stop")
    times, after = _times(one)
    one.figures["stop of the target (s)"] = round(time.monotonic() - began)
    one.found += wrong_order(times, after, stopped=True)
    left = one.machine.run("pgrep -u dsa110 -a || true").stdout
    one.expect(not left, f"processes are left: {left}")
    failed = [unit for unit in UNITS if one.show(unit, "ActiveState", "Result") != {"ActiveState": "inactive", "Result": "success"}]
    one.expect(not failed, f"not stopped in order: {failed}")


def boot(one: Newcomer) -> None:
    """The machine is shut down and boots; nobody logs in, and all is there."""
    one.figures["shutdown of the machine (s)"] = round(one.machine.power_off())
    began = time.monotonic()
    one.machine.boot()
    one.until(one.all_answer, "the door after a boot")
    one.figures["from boot to all answers (s)"] = round(time.monotonic() - began)
    order(one)
    door(one)


def upgrade(one: Newcomer) -> None:
    """The section of upgrades, word by word, to a release with another schema; the older code refuses it; and back."""
    there, back = blocks(PAGE.read_text(), UPGRADE)
    newer = one.work / "newer"
    shutil.rmtree(newer, ignore_errors=True)
    origin = one.machine.root / ORIGIN.lstrip("/")
    subprocess.run(["git", "clone", "--quiet", str(origin), str(newer)], check=True)
    make_newer(newer)
    who = ["-c", "user.name=A Developer", "-c", "user.email=developer@example.org"]
    subprocess.run(["git", "add", "--all"], cwd=newer, check=True)
    subprocess.run(["git", *who, "commit", "--quiet", "--no-verify", "-m", "A newer schema"], cwd=newer, check=True)
    subprocess.run(["git", "push", "--quiet", "origin", "HEAD"], cwd=newer, check=True)
    rows = "SELECT group_id, state, attempt FROM ingest_queue ORDER BY 1"
    before = one.query(rows)
    began = time.monotonic()
    one.machine.run(there)
    one.until(one.all_answer, "the door after the upgrade")
    one.figures["upgrade (s)"] = round(time.monotonic() - began)
    revision = "SELECT version_num FROM alembic_version"
    one.expect(NEXT in one.query(revision), f"the registry is still at {one.query(revision)}")
    one.expect(one.query(rows) == before, "the upgrade has changed the queue")
    began = time.monotonic()
    run = there.split("\n")[0]
    older, rest = back.split("systemctl start dsa110-database\n")
    one.machine.run(older)
    one.machine.run("systemctl start dsa110-database; systemctl start --no-block dsa110-api")

    def refuses() -> bool:
        said = " ".join(one.machine.run("journalctl --no-pager --output=cat --lines=40 --unit=dsa110-api").stdout.split())
        return NEXT in said and "dsa110 db restore FILE --replace" in said

    try:
        one.until(refuses, "the older code refuses the newer registry", 120.0)
    except RuntimeError as error:
        one.expect(False, f"{error}: {one.machine.run('journalctl --no-pager --lines=60 --unit=dsa110-api').stdout}")
    one.expect(not one.is_active("dsa110-api.service"), "the older API serves the newer registry")
    one.machine.run("systemctl stop dsa110-api")
    one.machine.run(f"{run}\ncd /opt/dsa110\nsystemctl start dsa110-database\n{rest}")
    one.until(one.all_answer, "the door after the way back")
    one.figures["the way back (s)"] = round(time.monotonic() - began)
    one.expect(HEAD_REVISION in one.query(revision), f"the registry is at {one.query(revision)}")
    one.expect(one.query(rows) == before, "the way back has changed the queue")


PARTS: dict[str, Callable[[Newcomer], None]] = {
    part.__name__: part
    for part in (install, door, order, names, security, journal, panel, kills, work, timer, monitoring, stop, boot, upgrade)
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command. The exit code is 0 only if everything is as the page says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp/dsa110-services"), help="emptied first, without --again")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--again", action="store_true", help="boot the machine of the last time, and install nothing")
    options = parser.parse_args(arguments)
    if (why := why_not_possible()) is not None:
        print(f"not possible: {why}")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the machine ends with this process
    work_place: Path = options.directory.absolute()
    machine = Machine(work_place / "root")
    if not options.again:
        shutil.rmtree(work_place, ignore_errors=True)
        work_place.mkdir(parents=True)
        machine.install()
    one = Newcomer(machine, work_place)
    if options.again:
        _read_token(one)
    began = time.monotonic()
    with booted(machine):
        if options.again:
            renew(one)
        for name in options.parts:
            if options.again and name == "install":
                continue
            print(f"{time.monotonic() - began:6.0f} s  {name}", file=sys.stderr, flush=True)
            known = set(one.figures)
            try:
                PARTS[name](one)
                for what in one.figures.keys() - known:
                    print(f"          {what}: {one.figures[what]}", file=sys.stderr, flush=True)
            except (RuntimeError, AssertionError, subprocess.SubprocessError) as error:
                one.expect(False, f"{name}: {error}")
                if name == "install":
                    break
    print(json.dumps({**one.figures, "wrong": one.found}, indent=1))
    print("BROKEN" if one.found else "all is as deploy/README.md says", flush=True)
    return 1 if one.found else 0


if __name__ == "__main__":
    sys.exit(main())
