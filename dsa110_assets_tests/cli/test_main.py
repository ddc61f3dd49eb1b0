"""The `dsa110` command starts fast, reports errors as one message and an exit code, and explains each sub-command."""

import json
import re
import subprocess
import sys

import pytest
import typer

from dsa110_assets.cli import main
from dsa110_assets.errors import ConfigurationError, RegistryError

HEAVY = (
    "casatools",
    "casatasks",
    "casacore",
    "pyuvdata",
    "radler",
    "aoflagger",
    "matplotlib",
    "numba",
    "astropy",
    "dagster",
    "fastapi",
    "pandas",
    "sqlalchemy",
)


def test_the_command_starts_without_heavy_imports():
    program = "import json, sys, dsa110_assets.cli.main; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert loaded.isdisjoint(HEAVY)


def _commands(command, path=()):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, (*path, name))


ALL = [pytest.param(path, command, id=" ".join(path) or "dsa110") for path, command in _commands(typer.main.get_command(main.app))]


@pytest.mark.parametrize(("path", "command"), ALL)
def test_every_command_explains_itself_with_an_example(path, command):
    assert "Example" in (command.help or "")
    assert "dsa110" in (command.help or "")
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name == "help", f"{' '.join(path)} {parameter.name} has no help"


def assert_options_are_whole(command, out):
    options = out.split("\nOptions:\n")[1].split("\n\n")[0]
    for parameter in command.params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            if name.startswith("-"):
                assert re.search(rf"^  (\S+,? )*{re.escape(name)}(?![\w-])", options.replace(" / ", " "), re.MULTILINE), name


@pytest.mark.parametrize(("path", "command"), ALL)
def test_help_at_80_columns_shows_every_word(path, command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main.run([*path, "--help"]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "…" not in out
    assert_options_are_whole(command, out)
    shown = " ".join(re.sub(r"-\n *", "-", out).split())  # lines of prose may end at a hyphen
    for paragraph in (command.help or "").split("\n\n"):
        assert " ".join(paragraph.split()) in shown
    for parameter in command.params:
        assert " ".join((getattr(parameter, "help", None) or "").split()) in shown
    listed = shown.split("Commands: ")[-1]
    for name, child in getattr(command, "commands", {}).items():
        first = re.split(r"(?<=\.) ", " ".join((child.help or "").split("\n\n")[0].split()))[0]
        assert f"{name} {first.removesuffix('.')}" in listed, "the first sentence is too long for the list of commands"


@pytest.fixture
def failing(monkeypatch):
    """The real command line with two added commands: one fails for good, one may succeed later."""
    extended = typer.Typer(pretty_exceptions_enable=False)
    extended.add_typer(main.app, name="inner")

    @extended.command("for-good")
    def _for_good():
        raise ConfigurationError("PIPELINE_INPUT_DIR", "is [red]not[/red] a directory", "set it")

    @extended.command("for-now")
    def _for_now():
        raise RegistryError("registry", "went away", "try again")

    monkeypatch.setattr(main, "app", extended)


def test_a_failure_is_one_message_with_subject_cause_and_next_step(failing, capsys):
    assert main.run(["for-good"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["error: PIPELINE_INPUT_DIR: is [red]not[/red] a directory", "next:  set it"]


def test_a_failure_that_may_pass_has_its_own_exit_code(failing, capsys):
    assert main.run(["for-now"]) == 75
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--debug", "for-now"], ["for-now", "--debug"]])
def test_debug_shows_the_traceback(failing, arguments):
    with pytest.raises(RegistryError):
        main.run(arguments)


def test_wrong_usage_is_exit_code_2_and_version_0(capsys):
    assert main.run(["db", "nonsense"]) == 2
    assert main.run(["--version"]) == 0
    assert main.run(["db", "--help"]) == 0


def test_the_installed_program_is_this_one():
    done = subprocess.run([sys.executable, "-m", "dsa110_assets.cli.main", "db", "query"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "statement" in done.stderr.lower()
    assert "Traceback" not in done.stderr
