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
