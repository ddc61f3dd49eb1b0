"""The page of pitfalls and the tests that are named after them agree."""

from __future__ import annotations

import re

from dsa110_assets_tests.docs.named_commands import PACKAGE, ROOT

PAGE = (ROOT / "docs/pitfalls.md").read_text()
TESTS = ROOT / "dsa110_assets_tests"
NO_TEST_YET = "**no test yet**"
ROWS = {
    int(number): set(re.findall(r"`(test_\w+\.py)`", tests)) if tests != NO_TEST_YET else set()
    for number, tests in re.findall(r"^\| (\d+) \| \S.* \| (\S.*) \|$", PAGE, re.MULTILINE)
}
OPEN = {40, 41, 42, 45, 46, 47}
"""Pitfalls that have no test yet. Remove a number when you add its test."""


def test_pitfalls_are_numbered_without_a_gap() -> None:
    assert list(ROWS) == list(range(1, len(ROWS) + 1))


def test_each_pitfall_names_all_its_tests_and_only_the_open_ones_have_none() -> None:
    written: dict[int, set[str]] = {number: set() for number in ROWS}
    for path in (TESTS / "pitfalls").glob("test_pitfall_*.py"):
        written[int(path.name.split("_")[2])].add(path.name)
    assert written == ROWS
    assert {number for number, tests in ROWS.items() if not tests} == OPEN


def test_each_test_of_a_pitfall_is_named_after_it() -> None:
    for path in (TESTS / "pitfalls").glob("test_*.py"):
        number = re.match(r"test_pitfall_(\d\d)_", path.name)
        assert number is not None, path.name
        named = set(re.findall(r"^def test_pitfall_(\d\d)_", path.read_text(), re.MULTILINE))
        assert named == {number[1]}, path.name


def test_each_pitfall_that_code_or_a_test_cites_is_on_the_page() -> None:
    cited = {
        int(number)
        for folder in (PACKAGE, TESTS, ROOT / "benchmarks")
        for path in folder.rglob("*.py")
        for numbers in re.findall(r"pitfalls? (\d+(?:(?:, | and )\d+)*)", path.read_text())
        + re.findall(r"def test_pitfall_(\d\d)_", path.read_text())
        for number in re.findall(r"\d+", numbers)
    }
    assert len(cited) > 30
    assert cited <= set(ROWS)
