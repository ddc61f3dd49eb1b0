"""The built documentation at /docs/, and its search, off-line."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from dsa110_assets.errors import NotFoundError

MOST_HITS = 50


def built() -> Path:
    """Folder of the documentation that `make docs` builds; it need not exist."""
    return Path(__file__).parents[2] / "build" / "docs"


def install(app: FastAPI) -> None:
    """Serve the documentation, if it is built, at /docs/."""
    if built().is_dir():
        app.mount("/docs", StaticFiles(directory=built(), html=True), name="documentation")


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
