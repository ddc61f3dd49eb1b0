"""The pages of the documentation have short lines, working links, and one word for one thing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dsa110_assets_tests.docs.named_commands import PACKAGE, ROOT, pages

LONGEST = 120
PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()]


def prose(markdown: str) -> list[tuple[int, str]]:
    """Numbered lines outside code blocks and tables, without the targets of links."""
    lines, in_code = [], False
    for number, line in enumerate(markdown.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code and not line.startswith("|"):
            lines.append((number, re.sub(r"\]\([^)]*\)|<https?://[^>]*>", "]", line)))
    return lines


@pytest.mark.parametrize("path", PAGES)
def test_lines_of_prose_fit_into_120_columns(path: Path) -> None:
    assert [f"{path.name}:{number}" for number, line in prose(path.read_text()) if len(line) > LONGEST] == []


@pytest.mark.parametrize("path", PAGES)
def test_each_link_to_a_file_works(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_glossary_has_one_word_for_one_thing() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs/glossary.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| term |")
    ]
    terms = [row[0].strip("`") for row in rows]
    assert len(terms) == len(set(terms)) <= 40
    assert all(len(row) == 4 and row[1].endswith(".") for row in rows)
    code = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    for term, _, where, avoided in rows:
        for name in re.findall(r"`([\w/.]+)`", where):
            assert name in code or (PACKAGE / name).exists(), (term, name)
        assert not set(terms) & {word.strip() for word in avoided.split(",")}, (term, avoided)


DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))


def test_decisions_are_numbered_without_a_gap_and_have_one_form() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    for path in DECISIONS:
        text = path.read_text()
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        assert re.search(r"^Status: (accepted|superseded by decision \d+)\.$", text, re.MULTILINE), path.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], path.name


def test_each_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert f" {page.relative_to(ROOT / 'docs')}\n" in navigation, page.name
