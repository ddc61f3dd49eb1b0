"""A digest of the code that makes a product: of what it does, not of how it is written.

Taken from the compiled modules, so that comments, docstrings and formatting do not count, and from all modules of the domain
that they import in their turn. Python keeps compiled modules on disk, which makes this cheap enough for every process.
What does not belong here: which modules make which product (`recipes`).
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import dsa110_assets

PACKAGE = "dsa110_assets"
GROUND = ("registry", "config", "errors", "products", "publication", "times", "stages", "ingest", "orchestration", "cli")
"""Parts of the package whose code does not decide what is in a product."""


def digest(modules: Iterable[str]) -> str:
    """Twelve hexadecimal digits over modules (names below the package) and everything of the domain that they import."""
    summary = hashlib.sha256()
    for name in sorted(closure(modules)):
        summary.update(name.encode())
        summary.update(_digest_of(name))
    return summary.hexdigest()[:12]


def closure(modules: Iterable[str]) -> set[str]:
    """The modules themselves and all of the domain that they import, directly or not; full names."""
    waiting = {f"{PACKAGE}.{name}" for name in modules}
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= _imported(name) - found
    return found


@cache
def _digest_of(module: str) -> bytes:
    summary = hashlib.sha256()
    for part in _parts(_compiled(module)):
        summary.update(part)
    source = _modules()[module]
    if source.name == "__init__.py":  # what else lies in the package and is no code of ours, such as flagging strategies
        for file in sorted(source.parent.iterdir()):
            if file.is_file() and file.suffix not in (".py", ".pyc", ".typed"):
                summary.update(file.name.encode())
                summary.update(file.read_bytes())
    return summary.digest()


@cache
def _imported(module: str) -> frozenset[str]:
    """Modules of the domain that a module names: in import statements anywhere in it, or as a program to start."""
    known = _modules()
    found: set[str] = set()
    for code in _nested(_compiled(module)):
        for name in (*code.co_names, *(one for one in code.co_consts if isinstance(one, str))):
            if name in known:
                found |= {name} | {f"{name}.{member}" for member in code.co_names if f"{name}.{member}" in known}
    return frozenset(found)


@cache
def _compiled(module: str) -> CodeType:
    code = SourceFileLoader(module, str(_modules()[module])).get_code(module)
    assert code is not None, module
    return code


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


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _parts(code: CodeType) -> Iterator[bytes]:
    """All of a compiled module that decides what it does; line numbers and docstrings are not among it."""
    yield repr((code.co_name, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_names)).encode()
    yield repr((code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags)).encode()
    yield code.co_code
    yield code.co_exceptiontable
    documentation = _documentation(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
        elif not (isinstance(constant, str) and constant == documentation):
            yield _text(constant).encode()


def _documentation(code: CodeType) -> str | None:
    """Docstring of a function, a class or a module."""
    first = code.co_consts[0] if code.co_consts else None
    if code.co_flags & inspect.CO_OPTIMIZED:  # a function: the compiler puts its docstring, or None, first
        return first if isinstance(first, str) else None
    if "__doc__" not in code.co_names:
        return None
    return next((one for one in code.co_consts if isinstance(one, str) and one != code.co_qualname), None)


def _text(constant: object) -> str:
    """A constant as text that does not depend on the order of hashes."""
    if isinstance(constant, frozenset):
        return f"frozenset({sorted(map(_text, constant))})"
    if isinstance(constant, tuple):
        return f"({', '.join(map(_text, constant))})"
    return repr(constant)
