"""Pitfall 49: a next step does not work because it names a command, setting, target or page that does not exist."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from dsa110_assets.cli import main
from dsa110_assets.config import PipelineConfig
from dsa110_assets_tests.docs.named_commands import ROOT, NamedCommand, commands_in, named_commands, pages, texts_of_the_package

ALL = named_commands()
OURS = [one for one in ALL if one.program == "dsa110"]
OBSERVATION = "2026-03-12T05:09:39"
PLACEHOLDERS = {
    "DEC": "54.6", "DIRECTORY": "directory", "END": "2026-03-12T07:00:00", "EPOCH": "hourly_2026-03-12T05", "FILE": "file.csv",
    "IMAGE": "field-image.fits", "IN": "incoming", "MS": "tile.ms", "NAME": "0834+555", "NIGHT": "2026-03-12",
    "NEW": "new", "OBSERVATION": OBSERVATION, "OLD": "old", "OUT": "out", "PARQUET": "nvss.parquet", "PRODUCT": "tile_image", "PATH": "registry.sqlite3", "REASON": "thunderstorm",
    "EVENT": "12", "LABEL": "ese", "SOURCE": "42", "SURVEY": "vlass", "SQL": "SELECT 1", "START": "2026-03-12T05:00:00", "TEXT": "manual.txt",
    "{group_id}": OBSERVATION, "{name}": "flare", "{stem}": "first", "{value}": "first",
}  # fmt: skip
USAGE_ERROR = typer.BadParameter.__bases__[0]
READING = {
    ("alerts",), ("candidates", "list"), ("catalogs", "list"), ("config", "show"), ("db", "check"), ("db", "query"), ("db", "status"),
    ("ingest", "status"), ("lightcurve", "epochs"), ("preflight",), ("stale",),
}  # fmt: skip
"""Commands that change nothing. Others run only with --dry-run or --find-only, if the message has it."""


def filled(arguments: tuple[str, ...]) -> list[str]:
    return [PLACEHOLDERS.get(one, PLACEHOLDERS.get(one.removesuffix("..."), one)) for one in arguments]


def leaf_of(arguments: list[str]) -> tuple[object, tuple[str, ...], list[str]]:
    """The command that the first words name, these words, and the remaining words."""
    command, path = typer.main.get_command(main.app), ()
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command, path, arguments = command.commands[arguments[0]], (*path, arguments[0]), arguments[1:]
    return command, path, arguments


def check_command(one: NamedCommand) -> None:
    """Check that the words name a command and that options and arguments parse. A mere mention may be a bare name."""
    command, path, rest = leaf_of(filled(one.arguments))
    assert path, f"{one.where}: there is no `{one.line}`"
    if not rest and not one.instruction:
        return
    alone = getattr(command, "invoke_without_command", False)
    assert alone or not getattr(command, "commands", {}), f"{one.where}: `{one.line}` lacks a sub-command, or has a wrong one"
    for name in rest:
        if name.endswith((".fits", ".csv")):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()  # some options need an existing file
    try:
        command.make_context(" ".join(path), list(rest))
    except USAGE_ERROR as error:
        pytest.fail(f"{one.where}: `{one.line}` does not parse: {error}")


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.line)
def test_pitfall_49_each_command_that_a_message_or_page_names_parses(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_command(one)


@pytest.mark.parametrize(
    "line", ["dsa110 catalogs refresh", "dsa110 ingest retry", "dsa110 ingest again", "dsa110 catalogs refresh 2mass", "dsa110 stale --all"]
)
def test_pitfall_49_a_wrong_command_is_found(line):
    (one,) = commands_in(line, "here", instruction=True)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_command(one)


def is_safe(one: NamedCommand) -> bool:
    _, path, rest = leaf_of(filled(one.arguments))
    return (path in READING and "--test" not in rest) or bool({"--dry-run", "--find-only"} & set(rest))


def test_pitfall_49_each_harmless_command_works_on_an_empty_platform(registry_config, tmp_path, monkeypatch, capfd):
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", registry_config.database_url.get_secret_value())
    monkeypatch.chdir(tmp_path)
    lines = {one.line: one for one in OURS if one.instruction and is_safe(one)}
    assert {"dsa110 config show", "dsa110 stale", "dsa110 backfill --stale --dry-run", "dsa110 clean --dry-run"} <= set(lines)
    for line, one in lines.items():
        arguments = filled(one.arguments)
        code = main.run([*arguments, "--no-casa"] if arguments == ["preflight"] else arguments)
        shown = capfd.readouterr()
        assert "Usage:" not in shown.err, line
        if code in (0, 1):  # success, or the check found a difference
            continue
        assert code in (2, 75), (line, shown.err)
        assert re.search(r"^error: .*\nnext:  \S", shown.err, re.MULTILINE), (line, shown.err)
        assert "db query" not in line, (line, shown.err)  # each statement fits the schema
        for code_in_message in re.findall(r"`([^`]+)`", shown.err):
            for next_one in commands_in(code_in_message, line, instruction=True):
                check_command(next_one)


def test_pitfall_49_each_target_of_make_exists():
    makefile = (ROOT / "Makefile").read_text()
    named = [one for one in ALL if one.program == "make"]
    assert named
    for one in named:
        target = next(word for word in one.arguments if not word.startswith("-"))
        assert target == ".venv/.installed" or re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), (one.where, one.line)


def test_pitfall_49_each_module_and_script_exists_and_has_the_options():
    named = [one for one in ALL if one.program == "python"]
    assert named
    for one in named:
        words = list(one.arguments)
        path = ROOT / (words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0])
        path = path if path.is_file() else path.with_suffix("") / "__main__.py"
        assert path.is_file(), (one.where, one.line)
        for option in (word for word in words[2:] if word.startswith("--")):
            assert f'"{option}"' in path.read_text(), (one.where, one.line)


@pytest.mark.parametrize("one", [one for one in ALL if one.program in ("dagster", "dg")], ids=lambda one: one.line)
def test_pitfall_49_each_command_of_dagster_exists_and_has_the_options(one):
    words = list(one.arguments)
    program = Path(sys.executable).parent / one.program
    done = subprocess.run(
        [program, *words, "--help"], capture_output=True, text=True, check=False
    )  # options are parsed before help is shown
    assert done.returncode == 0, (one.where, one.line, done.stderr)
    path = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    assert f"Usage: {' '.join((one.program, *path))}" in " ".join(done.stdout.split()), (one.where, one.line)


def test_pitfall_49_each_setting_that_a_message_or_page_names_exists_and_is_read():
    known = {f"PIPELINE_{name.upper()}" for name in PipelineConfig.model_fields}
    texts = [(text.content, text.where) for text in texts_of_the_package()]
    texts += [(page.read_text(), str(page)) for page in pages() if page.name != "CHANGELOG.md"]  # it names what is gone
    texts += [(path.read_text(), str(path)) for path in sorted((ROOT / "deploy").rglob("*")) if path.is_file()]
    named = {(name, where) for content, where in texts for name in re.findall(r"\bPIPELINE_[A-Z][A-Z0-9_]*[A-Z0-9]\b", content)}
    assert len(named) > len(known) / 2
    assert {(name, where) for name, where in named if name not in known} == set()
    code = "".join(path.read_text() for path in (ROOT / "dsa110_assets").rglob("*.py") if path.name != "config.py").replace(
        "csv.writer", ""
    )
    unread = {name for name in PipelineConfig.model_fields if not re.search(rf"\.{name}\b|[\"']{name}[\"']", code)}
    assert unread == {"writer"}  # accepted from scripts of the earlier pipeline, as its description says


def test_pitfall_49_each_page_that_a_message_names_exists():
    named = {
        (re.sub(r"\.(html|md)$", "", page), text.where)
        for text in texts_of_the_package()
        for page in re.findall(r"docs/([\w/-]+\.md)\b", text.content) + re.findall(r"^([a-z]+/[\w/-]+\.html)$", text.content)
    }
    assert {"playbook", "reliability"} <= {Path(page).name for page, _ in named}
    assert {(page, where) for page, where in named if not (ROOT / "docs" / f"{page}.md").is_file()} == set()
