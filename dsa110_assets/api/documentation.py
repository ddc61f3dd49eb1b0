"""The documentation at /docs/, and its search, off-line. It is built at the first start, and after changes."""

from __future__ import annotations

import html
import json
import logging
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from dsa110_assets import publication
from dsa110_assets.common.child_process import Child, run_child
from dsa110_assets.errors import NotFoundError, PipelineError

MOST_HITS = 50
_ROOT = Path(__file__).parents[2]
_SOURCES = ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md", "docs/**/*.md")
_BUILD_TIMEOUT_S = 900.0
_NICE = "import os, runpy, sys; os.nice(10); sys.argv[0] = 'mkdocs'; runpy.run_module('mkdocs', run_name='__main__')"
"""Data go before documentation."""
_log = logging.getLogger("dsa110.api")


def built() -> Path:
    """Folder of the built documentation; it need not exist."""
    return _ROOT / "build" / "docs"


def is_current() -> bool:
    """Whether the documentation is built, from the pages of today."""
    index = built() / "index.html"
    if not index.is_file():
        return False
    made = index.stat().st_mtime
    return all(path.stat().st_mtime <= made for pattern in _SOURCES for path in _ROOT.glob(pattern))


def build() -> None:
    """Build the documentation, and put it in place in one step.

    Raises:
        PipelineError: its sources are not here, mkdocs failed, or the folder cannot be written.
    """
    sources = _ROOT / "mkdocs.yml"
    if not sources.is_file():
        raise NotFoundError("documentation", "its sources are not installed", "start the platform from the project's checkout")
    with publication.publish(built()) as staged:
        command = [sys.executable, "-c", _NICE, "build", "--quiet", "--config-file", str(sources), "--site-dir", str(staged)]
        ended = run_child(
            Child("mkdocs", command), subject="documentation", timeout_s=_BUILD_TIMEOUT_S, timeout_advice="build it with `make docs`"
        )
        ended.raise_if_failed("documentation", "build it with `make docs`, which shows the error", result=staged / "index.html")


class Builder:
    """Builds the documentation beside the requests, once at a time. ``problem``: why it could not be built."""

    def __init__(self) -> None:
        self.problem = ""
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to build, unless it is current, being built, or has failed."""
        with self._lock:
            if self.problem or (self._thread is not None and self._thread.is_alive()) or is_current():
                return
            self._thread = threading.Thread(target=self._build, daemon=True, name="documentation")
            self._thread.start()

    def _build(self) -> None:
        try:
            build()
        except (PipelineError, OSError) as error:
            self.problem = str(error)
            _log.warning("the documentation is not built: %s", error)


builder = Builder()


class _Served:
    """The built documentation. Until it is built, a page that says so and loads itself again."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        folder = built()
        if (folder / "index.html").is_file():
            await StaticFiles(directory=folder, html=True)(scope, receive, send)
            return
        builder.start()
        await _waiting(builder.problem)(scope, receive, send)


def _waiting(problem: str) -> HTMLResponse:
    if problem:
        text = f"<h1>The documentation is not built</h1><p>{html.escape(problem)}</p><p>Next: <code>make docs</code>, then load this again.</p>"
    else:
        text = "<h1>The documentation is being built</h1><p>It takes some seconds, once. This page then loads itself again.</p>"
    headers = {"Retry-After": "5", "Cache-Control": "no-store"} | ({} if problem else {"Refresh": "5"})
    page = f'<!doctype html><html lang="en"><title>Documentation</title>{text}<p><a href="/ui/dashboard">Dashboard</a></p></html>'
    return HTMLResponse(page, 503, headers=headers)


def install(app: FastAPI) -> None:
    """Serve the documentation at /docs/."""
    app.mount("/docs", _Served(), name="documentation")


@dataclass(frozen=True)
class Hit:
    """A section that was found: title, address below /docs/, and words around the first match."""

    title: str
    location: str
    excerpt: str


def search(query: str, *, limit: int = 10, folder: Path | None = None) -> list[Hit]:
    """Sections of the documentation with all words of a query, best first: words in the title count most.

    Raises:
        NotFoundError: the documentation is not built.
    """
    index = (folder or built()) / "search" / "search_index.json"
    if not index.is_file():
        raise NotFoundError("documentation", "it is not built", "build it with `make docs`")
    words = [word for word in re.findall(r"[\w.-]+", query.casefold()) if word]
    found: list[tuple[float, Hit]] = []
    for section in json.loads(index.read_text(encoding="utf-8"))["docs"]:
        title, text = str(section["title"]), str(section["text"])
        in_title, in_text = title.casefold(), text.casefold()
        if words and all(word in in_title or word in in_text for word in words):
            score = sum(10.0 * (word in in_title) + min(5, in_text.count(word)) for word in words) / (1.0 + len(text) / 5000.0)
            found.append((score, Hit(title, str(section["location"]), _around(text, words))))
    found.sort(key=lambda one: (-one[0], one[1].location))
    return [hit for _, hit in found[: min(limit, MOST_HITS)]]


def _around(text: str, words: list[str]) -> str:
    plain = " ".join(text.split())
    at = min((place for word in words if (place := plain.casefold().find(word)) >= 0), default=0)
    first = max(0, at - 60)
    return ("..." if first else "") + plain[first : at + 100] + ("..." if at + 100 < len(plain) else "")
