"""No modules of the package import each other in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import dsa110_assets

ROOT = Path(dsa110_assets.__file__).parent


def modules() -> dict[str, Path]:
    return {
        ".".join((ROOT.name, *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): file for file in ROOT.rglob("*.py")
    }


def imported_by(name: str, known: dict[str, Path]) -> set[str]:
    """Modules that a module imports, also in functions. Imports for the type checker alone do not count."""
    found: set[str] = set()
    to_visit: list[ast.AST] = [ast.parse(known[name].read_text())]
    while to_visit:
        node = to_visit.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            to_visit.extend(node.orelse)
            continue
        to_visit.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module for alias in node.names}
    return (found & set(known)) - {name}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Modules that reach each other: strongly connected components of more than one."""
    reached: dict[str, set[str]] = {}
    for start, neighbors in graph.items():
        seen: set[str] = set()
        to_visit = list(neighbors)
        while to_visit:
            module = to_visit.pop()
            if module not in seen:
                seen.add(module)
                to_visit.extend(graph[module])
        reached[start] = seen
    return sorted({frozenset(b for b in reached[a] if a in reached[b]) | {a} for a in graph if a in reached[a]}, key=sorted)


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


def test_no_circle_of_modules() -> None:
    known = modules()
    assert circles({name: imported_by(name, known) for name in known}) == []
