"""Programs of the Debian packages `prometheus`, `prometheus-alertmanager` and `prometheus-node-exporter`."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import yaml

from dsa110_assets.cli.services import free_port
from dsa110_assets_tests.docs.named_commands import ROOT

DEPLOY = ROOT / "deploy"
PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool", "prometheus-node-exporter")


@pytest.fixture
def programs() -> Callable[..., str]:
    """Run one of the programs to its end; return what it says."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}: Debian's packages of Prometheus are missing; CI installs them with `make extras`")
        pytest.skip(f"{missing} are not installed; `make extras` installs Debian's packages")

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@contextmanager
def service(command: list[str | Path], ready: str, log: Path) -> Iterator[None]:
    """Run a server until the end of the block; it has begun when ``ready`` answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=log.parent)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    if httpx2.get(ready, trust_env=False).status_code == 200:
                        break
                except httpx2.HTTPError:
                    pass
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def running_prometheus(home: Path, targets: dict[str, int], *, every: str | None = None, alertmanager: int | None = None) -> Iterator[str]:
    """Run Prometheus with the files of deploy/; yield its address. Another machine has other ports.

    ``targets``: ports by job. ``every``: another interval of scrapes and rules. ``alertmanager``: its port, if it runs.
    """
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    ports = {**targets, "prometheus": free_port()}
    url = f"http://127.0.0.1:{ports['prometheus']}"
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in ports]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    if every is not None:
        config["global"] = {"scrape_interval": every, "evaluation_interval": every}
        for job in config["scrape_configs"]:
            job.pop("scrape_timeout", None)  # it must not be longer than the interval
    if alertmanager is None:
        del config["alerting"]
    else:
        config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{alertmanager}"]}]
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    command: list[str | Path] = [
        "prometheus", f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={home / 'tsdb'}",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]  # fmt: skip
    with service(command, f"{url}/-/ready", home / "prometheus.log"):
        yield url


@contextmanager
def running_alertmanager(home: Path, page: str, chat: str, **route: str) -> Iterator[int]:
    """Run Alertmanager with the files of deploy/ and two webhooks; yield its port. ``route``: other times."""
    config = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yml").read_text())
    for name, url in (("page", page), ("chat", chat)):
        (home / f"dsa110-{name}-url").write_text(url)
    for receiver in config["receivers"]:
        for slack in receiver["slack_configs"]:
            slack["api_url_file"] = str(home / Path(slack["api_url_file"]).name)
    config["templates"] = [str(DEPLOY / "alertmanager" / name) for name in config["templates"]]
    config["route"] |= route
    (home / "alertmanager.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command: list[str | Path] = [
        "prometheus-alertmanager", f"--config.file={home / 'alertmanager.yml'}", f"--storage.path={home / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with service(command, f"http://127.0.0.1:{port}/-/ready", home / "alertmanager.log"):
        yield port


@contextmanager
def running_exporter(home: Path) -> Iterator[int]:
    """Run the node exporter; yield its port."""
    port = free_port()
    command: list[str | Path] = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"]
    with service(command, f"http://127.0.0.1:{port}/metrics", home / "exporter.log"):
        yield port
