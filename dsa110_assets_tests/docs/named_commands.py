"""Every command line that a message of the package, a help text or a page of the documentation names."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dsa110_assets"
PROGRAMS = ("dsa110", "make", "dagster", "dg", "python")
_NAMES_ONLY = ("docs/operators/migration.md", "docs/decisions/", "CHANGELOG.md")
"""Pages that mention commands, but do not tell anyone to run them."""


@dataclass(frozen=True, order=True)
class NamedCommand:
    """One command line. ``where``: file and line. ``instruction``: the reader should run it, so it must be complete."""

    program: str
    arguments: tuple[str, ...]
    where: str
    instruction: bool

    @property
    def line(self) -> str:
        """The command line as typed in a shell."""
        return shlex.join((self.program, *self.arguments))


@dataclass(frozen=True)
class Text:
    """Text that users read. ``help``: a command's help text or a message, not a developer's docstring."""

    content: str
    where: str
    help: bool


def texts_of_the_package(about: str = "") -> Iterator[Text]:
    """Strings of the modules in which the pattern ``about`` occurs. An f-string has ``{name}`` in place of a value."""
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text()
        if re.search(about, source) is None:
            continue
        nodes = list(ast.walk(ast.parse(source)))
        in_cli = path.parent.name == "cli"
        docstrings = {
            id(node.body[0].value): in_cli and not isinstance(node, ast.Module)
            for node in nodes
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node) is not None
            and isinstance(node.body[0], ast.Expr)
        }
        parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                content = "".join(_text_of(part) for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                content = node.value
            else:
                continue
            yield Text(content, f"{path.relative_to(ROOT)}:{node.lineno}", docstrings.get(id(node), True))


def pages() -> list[Path]:
    """The pages of the documentation."""
    top = [path for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md") if (path := ROOT / name).is_file()]
    return [*top, *sorted((ROOT / "docs").rglob("*.md"))]


def named_commands() -> list[NamedCommand]:
    """All named commands, each with the first place that names it."""
    found: dict[tuple[str, tuple[str, ...], bool], NamedCommand] = {}
    for text in texts_of_the_package(rf"\b({'|'.join(PROGRAMS)})\b"):
        for code in re.findall(r"`([^`]+)`", text.content):
            for one in commands_in(code, text.where, instruction=text.help):
                found.setdefault((one.program, one.arguments, one.instruction), one)
    for page in pages():
        name = str(page.relative_to(ROOT))
        for code in code_of_page(page.read_text()):
            for one in commands_in(code, name, instruction=not name.startswith(_NAMES_ONLY)):
                found.setdefault((one.program, one.arguments, one.instruction), one)
    return sorted(found.values())


def code_of_page(markdown: str) -> Iterator[str]:
    """Lines of code blocks, and text in backticks."""
    fence = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
    for language, block in fence.findall(markdown):
        if language != "mermaid":
            yield from block.replace("\\\n", " ").splitlines()
    rest = fence.sub("", markdown)
    yield from re.findall(r"^    (\w.*)$", rest, re.MULTILINE)
    yield from re.findall(r"`([^`]+)`", rest)


def commands_in(code: str, where: str, *, instruction: bool) -> Iterator[NamedCommand]:
    """Command lines in a piece of code, split at ``&&`` and without settings in front.

    ``a|b`` stands for two command lines, and ``[a]`` for one with ``a``.
    """
    for part in re.split(r"&&|;|\|\|", " ".join(code.split())):
        words = part.strip()
        while re.match(r"[A-Z][A-Z0-9_]*=\S+ ", words):
            words = words.split(" ", 1)[1]
        if not words.startswith(tuple(f"{program} " for program in PROGRAMS)):
            continue
        words = re.sub(r"\$\([^)]*\)", "value", words)
        tokens = shlex.split(words, comments=True)
        choices = [[token] if " " in token else token.strip("[]").split("|") for token in tokens[1:]]
        for arguments in itertools.product(*choices):
            yield NamedCommand(tokens[0], arguments, where, instruction)


def _text_of(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    inside = part.value
    name = inside.attr if isinstance(inside, ast.Attribute) else inside.id if isinstance(inside, ast.Name) else "value"
    return "{" + name + "}"
