"""The operator's playbook explains everything that an operator can meet, and nothing that does not exist.

Each test compares a section's table with the code in both directions.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterable, Iterator

import pytest

from dsa110_assets import errors
from dsa110_assets.cli import main
from dsa110_assets.cli.preflight import Role
from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest.grouping import Reason
from dsa110_assets.quality import gate
from dsa110_assets.registry.provenance import StaleReason
from dsa110_assets.registry.schema import GroupState, TileStage
from dsa110_assets.stages.operations import alert_table, housekeeping
from dsa110_assets.stages.operations.alert_table import KINDS
from dsa110_assets_tests.docs.named_commands import PACKAGE, ROOT

PAGE = (ROOT / "docs/operators/playbook.md").read_text()
BASES = {errors.PipelineError, errors.RetriableError, errors.NonRetriableError}


def rows(title: str) -> dict[str, list[str]]:
    """Table of a section: maps the first cell of each row (in backticks) to the other cells. No cell is empty."""
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None, title
    found: dict[str, list[str]] = {}
    for line in section[1].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if (name := re.fullmatch(r"`([^`]+)`", cells[0])) is not None:
            assert name[1] not in found, f"{name[1]} has two rows"
            assert all(cells), line
            found[name[1]] = cells[1:]
    return found


def classes_of_errors() -> dict[str, type]:
    return {name: one for name, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, Exception)}


def test_every_error_is_explained_with_whether_it_may_pass() -> None:
    table = rows("Errors")
    raised = {name: one for name, one in classes_of_errors().items() if one not in BASES}
    assert set(table) == set(raised)
    for name, one in raised.items():
        assert table[name][0] == ("yes" if issubclass(one, errors.RetriableError) else "no"), name
    for base in BASES - {errors.PipelineError}:
        assert f"`{base.__name__}`" in PAGE


def test_all_errors_of_the_package_are_in_one_module() -> None:
    known = set(classes_of_errors())
    elsewhere = [
        f"{path.name}: {node.name}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "errors.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).split(".")[-1] in known or ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)
    ]
    assert elsewhere == []


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Alerts", KINDS),
        ("States of an observation", [*GroupState]),
        ("Rejected files", [*Reason]),
        ("Checks of tile images", gate.TILE_CHECKS),
        ("Verdicts on tiles", [*gate.TileWord]),
        ("Housekeeping", housekeeping.RULES),
        ("Reasons of `dsa110 stale`", [*StaleReason]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_section_explains_exactly_what_exists(title: str, names: Iterable[str]) -> None:
    assert len(list(names)) > 1
    assert sorted(rows(title)) == sorted(str(name) for name in names)


@pytest.mark.parametrize(
    ("title", "checks"), [("Checks of tile images", gate.TILE_CHECKS), ("Checks of blind source catalogs", gate.CATALOG_CHECKS)]
)
def test_checks_have_the_same_words_on_the_page_and_in_a_verdict(title, checks) -> None:
    table = rows(title)
    assert set(table) == set(checks)
    for name, cells in table.items():
        check = checks[name]
        assert [cell.casefold() for cell in cells] == [f"{check.meaning}.".casefold(), f"{check.next_step}.".casefold()], name


def test_an_alert_has_the_same_words_on_the_page_as_in_the_table_of_alerts() -> None:
    table = rows("Alerts")
    assert table == {kind.name: [kind.severity.value, kind.meaning, kind.what_to_do] for kind in KINDS.values()}


def test_each_alert_that_the_platform_finds_is_raised_by_the_code_and_no_other() -> None:
    constants = {id(kind): name for name, kind in vars(alert_table).items() if isinstance(kind, alert_table.AlertKind)}
    found = {constants[id(KINDS[name])] for name in alert_table.platform_kinds()}
    trees = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    raised = [call.func.value for tree in trees.values() for call in calls(tree, "alert") if isinstance(call.func, ast.Attribute)]
    assert {ast.unparse(one).split(".")[-1] for one in raised} == found
    assert [path.name for path, tree in trees.items() if any(calls(tree, "Alert"))] == ["alert_table.py"]


def test_the_stage_that_waits_for_calibration_is_explained() -> None:
    assert f"`{TileStage.AWAITING_CALIBRATION}`" in PAGE


def test_each_line_of_preflight_is_explained(registry_config, monkeypatch, tmp_path, capsys) -> None:
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", registry_config.database_url.get_secret_value())
    monkeypatch.setenv("PIPELINE_GRIDDER", "wsclean")  # its line is shown only with this engine
    monkeypatch.chdir(tmp_path)
    shown = {"moved files"}  # only shown if there are any
    for role in Role:
        main.run(["preflight", "--json", "--for", role, *([] if role is Role.MACHINE else ["--no-casa"])])
        shown |= {finding["subject"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert set(rows("Lines of `dsa110 preflight`")) == shown


def test_each_message_of_a_sensor_or_schedule_is_explained() -> None:
    messages = {
        message
        for path in (*PACKAGE.glob("orchestration/*.py"), *PACKAGE.glob("stages/queue/*.py"), PACKAGE / "stages/operations/disk.py")
        for message in messages_of(ast.parse(path.read_text()))
    }
    explained = set(rows("Messages of sensors and schedules"))
    assert {one for one in messages if not any(covers(row, one) for row in explained)} == set()
    assert {row for row in explained if not any(covers(row, one) for one in messages)} == set()


def covers(row: str, message: str) -> bool:
    """Whether a row of the page is the message, or the beginning of it followed by ``...``."""
    return row == message or (row.endswith("...") and message.startswith(row.removesuffix("...")))


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == name:
            yield node


def template(node: ast.expr) -> str:
    """A string, with ``...`` in place of each value."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "..."


def messages_of(tree: ast.AST) -> Iterator[str]:
    """Messages of a module's ticks: strings in `SkipReason`, `TickReport`, ``skip_reason=``, and variables used there.

    Also the reasons that ``shortage`` returns when no work may begin.
    """
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        outcomes: list[ast.expr] = [
            argument for name in ("SkipReason", "TickReport") for call in calls(function, name) for argument in call.args
        ]
        outcomes += [word.value for call in calls(function, "SensorResult") for word in call.keywords if word.arg == "skip_reason"]
        if function.name == "shortage":
            outcomes += [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
        names: set[str] = set()
        new = names_in(outcomes)
        while new:
            names |= new
            values = [
                node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id in new for target in node.targets)
            ]
            outcomes += values
            new = names_in(value for value in values if isinstance(value, (ast.IfExp, ast.Name))) - names  # a choice of two messages
        outcomes += [
            argument
            for call in calls(function, "append")
            if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in names
            for argument in call.args
        ]
        yield from {text for one in outcomes for text in sentences(one) if re.search(r"[a-z]{3,} \S", text)}


def names_in(expressions: Iterable[ast.expr]) -> set[str]:
    return {node.id for one in expressions for node in ast.walk(one) if isinstance(node, ast.Name)}


def sentences(node: ast.expr) -> Iterator[str]:
    if isinstance(node, (ast.Constant, ast.JoinedStr)):
        if isinstance(node, ast.JoinedStr) or isinstance(node.value, str):
            yield template(node)
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from sentences(child)


def test_everything_that_the_playbook_names_in_the_ui_exists() -> None:
    from dsa110_assets.definitions import defs

    repository = defs.get_repository_def()
    known = {
        "Jobs": set(repository.job_names),
        "Automation": {one.name for one in (*repository.sensor_defs, *repository.schedule_defs)},
        "Catalog": {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()},
    }
    operations = (ROOT / "docs/operators/operations.md").read_text()
    named = [(place, name) for place, name in re.findall(r"(Jobs|Automation|Catalog|Assets) > `(\w+)`", PAGE + operations)]
    assert {place for place, _ in named} >= {"Jobs", "Automation", "Catalog"}
    for place, name in named:
        assert name in known["Catalog" if place == "Assets" else place], (place, name)
    speakers = {name for row in rows("Messages of sensors and schedules").values() for name in re.findall(r"`(\w+)`", row[0])}
    assert speakers <= known["Automation"]


def test_each_setting_that_the_playbook_names_exists() -> None:
    for name in set(re.findall(r"PIPELINE_([A-Z0-9_]+)", PAGE)):
        assert name.lower() in PipelineConfig.model_fields, name
