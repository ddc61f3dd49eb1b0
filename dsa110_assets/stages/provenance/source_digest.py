"""A digest of the code that makes a product: of what it does, not of how it is written; and the engines that it imports.

Taken from the syntax trees, without docstrings, comments and formatting, so that every CPython 3.11 finds the same. It covers the modules
that are named and all modules of the domain that they import in their turn, function-level imports and child programs included.
Parsing takes about half a second for all products, so what was found is kept beside Python's own compiled modules, by the
source's checksum.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import dsa110_assets

PACKAGE = "dsa110_assets"
GROUND = ("registry", "config", "errors", "folders", "products", "publication", "stages", "ingest", "orchestration", "cli", "definitions")
"""Parts of the package whose code does not decide what is in a product."""
PICTURES = ("matplotlib", "PIL")
"""They draw previews and decide no number."""


@dataclass(frozen=True)
class Source:
    """What a module says: ``digest`` of its syntax tree; ``names``: what it imports, ``module`` or ``module:member``, and strings."""

    digest: str
    names: tuple[str, ...]


def digest(modules: Iterable[str]) -> str:
    """Twelve hexadecimal digits over modules (names below the package) and everything of the domain that they import."""
    summary = hashlib.sha256()
    for name in sorted(closure(modules)):
        summary.update(f"{name} {_source(name).digest}\n".encode())
        summary.update(_data_of(name))
    _kept().save()
    return summary.hexdigest()[:12]


def closure(modules: Iterable[str]) -> set[str]:
    """The modules themselves and all of the domain that they import, directly or not; full names."""
    waiting = {f"{PACKAGE}.{name}" for name in modules}
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= set(_imported_by(name)) - found
    return found


def _imported_by(module: str) -> Iterator[str]:
    """Modules of the domain; ``from package import module`` does not count the package's own list of names."""
    known = _modules()
    for name in _source(module).names:
        home, _, member = name.partition(":")
        if f"{home}.{member}" in known:
            yield f"{home}.{member}"
        elif home in known:
            yield home


def engines(modules: Iterable[str]) -> dict[str, str]:
    """Installed distributions that the closure of modules imports, with their versions; those that draw pictures are left out."""
    imported = {re.split("[.:]", name)[0] for module in closure(modules) for name in _source(module).names}
    outside = imported - set(sys.stdlib_module_names) - {PACKAGE, *PICTURES}
    found = dict(sorted({_engine(name) for name in outside}))
    _kept().save()
    return found


@cache
def _engine(module: str) -> tuple[str, str]:
    """Distribution that a top-level module comes from, and its version: mostly one of the same name, else it is looked up (0.2 s)."""
    kept = _kept()
    name = kept.distributions.get(module, module)
    try:
        return name, version(name)
    except PackageNotFoundError:
        name = kept.distributions[module] = packages_distributions()[module][0]
        kept.is_changed = True
    return name, version(name)


def _data_of(module: str) -> bytes:
    """What else lies in a package and is no code of ours, such as flagging strategies."""
    source = _modules()[module]
    if source.name != "__init__.py":
        return b""
    files = sorted(file for file in source.parent.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc", ".typed"))
    return b"".join(file.name.encode() + file.read_bytes() for file in files)


@cache
def _source(module: str) -> Source:
    content = _modules()[module].read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    kept = _kept()
    known = kept.sources.get(module)
    if known is not None and known["checksum"] == checksum:
        return Source(known["digest"], tuple(known["names"]))
    tree = _without_docstrings(ast.parse(content))
    found = Source(hashlib.sha256("\n".join(_walk(tree)).encode()).hexdigest(), tuple(sorted(set(_names(tree)))))
    kept.sources[module] = {"checksum": checksum, **asdict(found)}
    kept.is_changed = True
    return found


@cache
def _modules() -> dict[str, Path]:
    """Source files of the domain's modules by full name."""
    root = Path(dsa110_assets.__file__).parent
    found: dict[str, Path] = {}
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        if parts[0] not in GROUND:
            found[".".join((PACKAGE, *parts)).removesuffix(".__init__")] = file
    del found[PACKAGE]
    return found


# --- syntax trees ---------------------------------------------------------------------------------------------------
def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Also without the strings that stand as statements below a constant: they are documentation too."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # pyright: ignore[reportAttributeAccessIssue]
    return tree


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)


def _walk(tree: ast.Module) -> Iterator[str]:
    """Types and values of all nodes in a fixed order; positions in the file are not among it."""
    waiting: list[object] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.AST):
            yield type(node).__name__
            waiting.extend(getattr(node, name, None) for name in node._fields)
        elif isinstance(node, list):
            yield str(len(node))
            waiting.extend(node)
        else:
            yield repr(node)


def _names(tree: ast.Module) -> Iterator[str]:
    """What a module imports when it runs (not for type checking), and strings that name a program to start."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}:{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{PACKAGE}."):
            yield node.value


# --- kept between processes -----------------------------------------------------------------------------------------
_FILE = Path(cache_from_source(__file__)).with_name("source_digest.json")


class _Kept:
    """What earlier processes have found. A file that cannot be read or written only costs time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.sources: dict[str, dict[str, Any]] = {}
        self.distributions: dict[str, str] = {}
        self.is_changed = False
        self.found_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        """Checksum of this module: what an older one has found does not count."""
        with suppress(OSError, ValueError, KeyError):
            content = json.loads(file.read_text())
            if content["found_by"] == self.found_by:
                self.sources, self.distributions = content["sources"], content["distributions"]

    def save(self) -> None:
        """Write what was added, if anything was."""
        if not self.is_changed or sys.dont_write_bytecode:
            return
        self.is_changed = False
        staged = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        with suppress(OSError):
            self.file.parent.mkdir(exist_ok=True)
            staged.write_text(json.dumps({"found_by": self.found_by, "sources": self.sources, "distributions": self.distributions}))
            staged.replace(self.file)


@cache
def _kept() -> _Kept:
    return _Kept(_FILE)
