"""A headless Chromium that loads pages and times them, through its DevTools protocol.

Debian's package `chromium` is enough: no driver, and no browser that a package manager downloads.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

QUIET_S = 1.5
"""A page has loaded when it has asked for no data for this long; its time ends with the last answer before."""


@dataclass(frozen=True)
class Load:
    """A loaded page. ``seconds``: until its last answer. ``slowest``: its GraphQL operation and the seconds it took.

    ``complete``: False if it still asked when the time was over. ``failed``: number of failed requests.
    """

    seconds: float
    slowest: tuple[str, float]
    complete: bool
    failed: int


class Browser:
    """A running browser. Each page gets a tab of its own, with the cache of the ones before."""

    def __init__(self, port: str) -> None:
        self._address = f"http://127.0.0.1:{port}/json"
        self._tab = ""
        self._connection: ClientConnection | None = None
        self._number = 0
        self._events: list[dict[str, Any]] = []

    def close(self) -> None:
        """Close the tab."""
        if self._connection is not None:
            self._connection.close()
            self._ask(f"close/{self._tab}")

    def _ask(self, what: str, method: str = "GET") -> bytes:
        with urllib.request.urlopen(urllib.request.Request(f"{self._address}/{what}", method=method), timeout=30) as answer:
            return bytes(answer.read())

    def _open(self) -> ClientConnection:
        self.close()
        tab = json.loads(self._ask("new?about:blank", "PUT"))
        self._tab, self._connection = tab["id"], connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None)
        for domain in ("Page", "Network"):
            self._call(f"{domain}.enable")
        self._events.clear()
        return self._connection

    def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        assert self._connection is not None
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=60))
            if message.get("id") == self._number:
                return dict(message.get("result", {}))
            self._events.append(message)

    def _next_event(self, connection: ClientConnection, timeout_s: float) -> dict[str, Any] | None:
        if self._events:
            return self._events.pop(0)
        try:
            return dict(json.loads(connection.recv(timeout=timeout_s)))
        except TimeoutError:
            return None

    def load(self, url: str, *, limit_s: float = 120.0) -> Load:
        """Open a page from scratch; scripts and style sheets come from the browser's cache after the first one."""
        connection = self._open()
        began = time.monotonic()
        self._number += 1
        connection.send(json.dumps({"id": self._number, "method": "Page.navigate", "params": {"url": url}}))
        asked: dict[str, tuple[str, float]] = {}
        slowest, failed = ("", 0.0), 0
        last = began
        while (now := time.monotonic()) - began < limit_s:
            if not asked and last > began and now - last > QUIET_S:
                return Load(last - began, slowest, complete=True, failed=failed)
            event = self._next_event(connection, 0.1)
            if event is None:
                continue
            kind, facts = event.get("method", ""), event.get("params", {})
            if kind == "Network.requestWillBeSent" and (operation := _operation(facts["request"]["url"])):
                asked[facts["requestId"]] = (operation, time.monotonic())
            elif kind in ("Network.loadingFinished", "Network.loadingFailed") and facts["requestId"] in asked:
                operation, since = asked.pop(facts["requestId"])
                last = time.monotonic()
                failed += kind == "Network.loadingFailed"
                if last - since > slowest[1]:
                    slowest = (operation, last - since)
        waiting = max(
            ((operation, time.monotonic() - since) for operation, since in asked.values()), key=lambda one: one[1], default=slowest
        )
        return Load(limit_s, max(slowest, waiting, key=lambda one: one[1]), complete=False, failed=failed)

    def picture(self, path: Path) -> None:
        """Write what the tab shows as a PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))


def _operation(url: str) -> str:
    """Name of a GraphQL operation; empty for other requests, such as scripts that the browser fetches ahead."""
    address = urllib.parse.urlsplit(url)
    return "" if not address.path.endswith("/graphql") else urllib.parse.parse_qs(address.query).get("op", ["unnamed"])[0]


@contextmanager
def browser(program: str = "chromium") -> Iterator[Browser]:
    """A browser with an empty profile, which is removed at the end."""
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"{program} is not on PATH: install Debian's package `chromium`, or name another with --browser")
    profile = Path(tempfile.mkdtemp(prefix="dsa110-browser-"))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1600,1200", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [found, *options, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        port_file, limit = profile / "DevToolsActivePort", time.monotonic() + 60
        while not port_file.is_file() or not port_file.read_text():
            if process.poll() is not None or time.monotonic() > limit:
                raise SystemExit(f"{found} did not start")
            time.sleep(0.2)
        port = port_file.read_text().splitlines()[0]
        one = Browser(port)
        yield one
        one.close()
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(profile, ignore_errors=True)
