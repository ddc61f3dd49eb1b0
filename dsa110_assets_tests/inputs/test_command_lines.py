"""Odd values in every option and argument of every command: an answer or a typed error, never a trace or silence.

Commands and their parameters are found in the code. Each case gives one parameter an odd value and the others a plain
one, on an empty registry.
"""

from __future__ import annotations

import typing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsa110_assets.cli.main import run
from dsa110_assets.config import PipelineConfig
from dsa110_assets_tests.inputs.effort import examples, limit_s
from dsa110_assets_tests.inputs.readers import commands, numbers

LEFT_OUT = {
    "up": "runs until it is stopped",
    "service": "replaces the process",
    "worker": "replaces the process",
    "down": "ends the services of a platform",
    "demo": "runs for minutes",
    "db shell": "replaces the process",
    "db start": "starts a server",
    "db stop": "stops a server",
    "simulate tile": "writes a gigabyte",
    "simulate night": "writes gigabytes",
    "preflight": "takes nothing but the name of a role; it imports CASA",
}
"""Commands that cannot be tried here, and why."""
PLAIN = {
    "ms": "absent.ms", "imagename": "x/y", "observation": "2026-03-12T05:00:00", "statement": "SELECT 1", "path": "absent", "old": "absent",
    "new": ".", "source": "1", "output": "out.csv", "input_dir": ".", "output_dir": "out", "name": "monitored", "image": "absent.fits",
    "since": "2026-03-12", "until": "2026-03-13", "calibrator": "3C286", "where": "128.7 55.5", "epoch": "2026-03-12T05", "event": "1",
    "position": "128.7 55.5", "by": "Ann", "reason": "why", "kind": "tile", "query": "calibrator", "product": "tile_image", "key": "behind/live",
    "subject": "2026-03-12T05:00:00", "text": "clouds", "ra": "128", "dec": "55", "radius": "1", "start": "2026-03-12", "end": "2026-03-13",
}  # fmt: skip
"""A plain value of each parameter that a command needs."""
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=12) | st.sampled_from(
    ["", " ", "-", "--", "NA", "nan", "007", "'; DROP TABLE sources", "../..", "é" * 300, "x" * 5000, "\x1b[2J", "%s{0}", "2026-13-45", "2026-02-30T25:00",
     "0001-01-01", "9999-12-31T23:59:59", "10000-01-01", "3C 286", "J1331+3030", "-1", "1e309", "😀"]
)  # fmt: skip
NUMBERS = (
    st.floats().map(str)
    | st.integers().map(str)
    | st.sampled_from(["nan", "inf", "-inf", "1e309", "-0", "0", "1e-320", "٣", "1_000", "0x10", "1,5"])
)


def parameters() -> dict[str, list[typing.Any]]:
    """Parameters with a value, by the words of the command."""
    return {
        words: [one for one in command.params if one.name != "help" and (one.required or not getattr(one, "is_flag", False))]
        for words, command in commands()
        if words not in LEFT_OUT
    }


PARAMETERS = parameters()
EVERY = [(words, one.name) for words, some in sorted(PARAMETERS.items()) for one in some if not getattr(one, "is_flag", False)]


def line_with(words: str, odd: str, value: str) -> list[str]:
    """A command line in which one parameter is odd and the other ones that are needed are plain."""
    options: list[str] = []
    arguments: list[str] = []
    for one in PARAMETERS[words]:
        if getattr(one, "is_flag", False) and one.required:
            options.append(one.opts[0])
            continue
        if one.name != odd and not one.required:
            continue
        given_value = value if one.name == odd else PLAIN[str(one.name)]
        if one.param_type_name == "option":
            options.append(f"{max(one.opts, key=len)}={given_value}")
        else:
            arguments.append(given_value)
    return [*words.split(), *options, *(["--", *arguments] if arguments else [])]


@pytest.fixture
def empty_platform(registry_config, database, monkeypatch, tmp_path):
    for name in PipelineConfig.model_fields:
        monkeypatch.delenv(f"PIPELINE_{name.upper()}", raising=False)
    for name in ("state_dir", "scratch_dir", "input_dir", "output_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    monkeypatch.setenv("PIPELINE_DAGSTER_PORT", "9")
    monkeypatch.setenv("PIPELINE_VIZIER_SERVER", "127.0.0.1:9")
    monkeypatch.chdir(tmp_path)


def test_every_command_that_is_left_out_exists():
    known = dict(commands())
    assert set(LEFT_OUT) <= set(known)
    assert len(EVERY) > 100


def test_every_parameter_that_a_command_needs_has_a_plain_value():
    needed = {one.name for some in PARAMETERS.values() for one in some if one.required and not getattr(one, "is_flag", False)}
    assert needed <= set(PLAIN), needed - set(PLAIN)


def test_every_number_on_the_command_line_has_bounds():
    """A number without a limit goes on until the database or numpy cannot hold it: 2**63 rows were asked for."""
    found = list(numbers())
    assert len(found) > 50
    assert [one for one in found if one[2].min is None or one[2].max is None] == []


def fault_of(capsys: typing.Any, line: list[str]) -> str | None:
    """What is wrong with how a command line ends; None if it answers or refuses with a word."""
    try:
        code = run(line)
    except Exception as error:  # noqa: BLE001 - a trace is the fault that is looked for
        return f"{line}: {type(error).__name__}: {error}"
    finally:
        shown = capsys.readouterr()
    if code not in (0, 1, 2, 75):
        return f"{line}: exit code {code}"
    return f"{line}: fails without a word" if (code == 2 and not shown.err.strip()) or "Traceback" in shown.err else None


@pytest.mark.timeout(limit_s(400))
@settings(max_examples=max(examples(), min(4 * examples(), 2000)), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(EVERY), TEXT | NUMBERS)
def test_property_a_value_on_the_command_line_is_taken_or_refused(empty_platform, capsys, parameter, value):
    assert fault_of(capsys, line_with(*parameter, value)) is None


ODD = ["nan", "-1", "1e300", "2026-02-30", "'; DROP TABLE sources", "", ".", "/"]


@pytest.mark.timeout(limit_s(400))
@pytest.mark.parametrize("value", ODD)
def test_every_parameter_takes_or_refuses_it(empty_platform, capsys, value):
    """Each parameter, whatever hypothesis chooses: with three of the odd values, with all if there are many cases."""
    each = 1 if examples() >= 100 else 3
    mine = [one for number, one in enumerate(EVERY) if each == 1 or (number + ODD.index(value)) % len(ODD) < each]
    assert [fault for words, name in mine if (fault := fault_of(capsys, line_with(words, name, value))) is not None] == []
