"""A digest of the code that makes a product, and the engines that this code imports.

The digest is taken from the syntax trees without docstrings, comments and formatting, so that every CPython 3.11 finds
the same one. It covers the given modules and all domain modules that they import, directly or not, including imports in
functions and child programs. Parsing takes about half a second for all products, so the results are cached beside
Python's compiled modules, by the checksum of the source.
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
GROUND = (
    "registry",
    "config",
    "errors",
    "folders",
    "products",
    "publication",
    "content",
    "stages",
    "ingest",
    "orchestration",
    "cli",
    "definitions",
)
"""Parts of the package that do not decide the content of a product."""
PICTURES = ("matplotlib", "PIL")
"""These draw previews and decide no number."""


@dataclass(frozen=True)
class Source:
    """``digest`` of a module's syntax tree; ``names``: its imports, as ``module`` or ``module:member``, and strings."""

    digest: str
    names: tuple[str, ...]


def digest(modules: Iterable[str]) -> str:
    """Digest, 12 hexadecimal digits, of modules (named below the package) and the domain modules they import."""
    summary = hashlib.sha256()
    for name in sorted(closure(modules)):
        summary.update(f"{name} {_source(name).digest}\n".encode())
        summary.update(_data_of(name))
    _cache().save()
    return summary.hexdigest()[:12]


def digests(modules: Iterable[str]) -> dict[str, str]:
    """Digest, 12 hexadecimal digits, of each of the modules and of those they import, by name below the package."""
    found = {
        name.removeprefix(f"{PACKAGE}."): hashlib.sha256(_source(name).digest.encode() + _data_of(name)).hexdigest()[:12]
        for name in sorted(closure(modules))
    }
    _cache().save()
    return found


def closure(modules: Iterable[str]) -> set[str]:
    """Full names of the modules and of all domain modules that they import, directly or not."""
    waiting = {f"{PACKAGE}.{name}" for name in modules}
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= set(_imported_by(name)) - found
    return found


def _imported_by(module: str) -> Iterator[str]:
    """Domain modules that a module imports; ``from package import module`` does not count the package itself."""
    known = _modules()
    for name in _source(module).names:
        home, _, member = name.partition(":")
        if f"{home}.{member}" in known:
            yield f"{home}.{member}"
        elif home in known:
            yield home


def engines(modules: Iterable[str]) -> dict[str, str]:
    """Installed distributions that the closure of modules imports, with versions, without those that draw pictures."""
    imported = {re.split("[.:]", name)[0] for module in closure(modules) for name in _source(module).names}
    outside = imported - set(sys.stdlib_module_names) - {PACKAGE, *PICTURES}
    found = dict(sorted({_engine(name) for name in outside}))
    _cache().save()
    return found


@cache
def _engine(module: str) -> tuple[str, str]:
    """Distribution of a top-level module, and its version; if the names differ, it is looked up (0.2 s)."""
    stored = _cache()
    name = stored.distributions.get(module, module)
    try:
        return name, version(name)
    except PackageNotFoundError:
        name = stored.distributions[module] = packages_distributions()[module][0]
        stored.is_changed = True
    return name, version(name)


def _data_of(module: str) -> bytes:
    """Content of the other files of a package, such as tables."""
    source = _modules()[module]
    if source.name != "__init__.py":
        return b""
    files = sorted(file for file in source.parent.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc", ".typed"))
    return b"".join(file.name.encode() + file.read_bytes() for file in files)


@cache
def _source(module: str) -> Source:
    content = _modules()[module].read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    stored = _cache()
    known = stored.sources.get(module)
    if known is not None and known["checksum"] == checksum:
        return Source(known["digest"], tuple(known["names"]))
    tree = _without_docstrings(ast.parse(content))
    found = Source(hashlib.sha256("\n".join(_walk(tree)).encode()).hexdigest(), tuple(sorted(set(_names(tree)))))
    stored.sources[module] = {"checksum": checksum, **asdict(found)}
    stored.is_changed = True
    return found


@cache
def _modules() -> dict[str, Path]:
    """Source files of the domain modules by full name."""
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
    """Remove docstrings and the strings below constants, which are documentation too."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # pyright: ignore[reportAttributeAccessIssue]
    return tree


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)


def _walk(tree: ast.Module) -> Iterator[str]:
    """Types and values of all nodes in a fixed order, without positions in the file."""
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
    """Imports of a module when it runs (not for type checking), and strings with the name of a child program."""
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


# --- results kept between processes -----------------------------------------------------------------------------------
_FILE = Path(cache_from_source(__file__)).with_name("source_digest.json")


class _Cache:
    """Results of earlier processes. If the file cannot be read or written, this only takes time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.sources: dict[str, dict[str, Any]] = {}
        self.distributions: dict[str, str] = {}
        self.is_changed = False
        self.found_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        """Checksum of this module; results of another version do not count."""
        with suppress(OSError, ValueError, KeyError):
            content = json.loads(file.read_text())
            if content["found_by"] == self.found_by:
                self.sources, self.distributions = content["sources"], content["distributions"]

    def save(self) -> None:
        """Write the file if results were added."""
        if not self.is_changed or sys.dont_write_bytecode:
            return
        self.is_changed = False
        staged = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        with suppress(OSError):
            self.file.parent.mkdir(exist_ok=True)
            staged.write_text(json.dumps({"found_by": self.found_by, "sources": self.sources, "distributions": self.distributions}))
            staged.replace(self.file)


@cache
def _cache() -> _Cache:
    return _Cache(_FILE)
