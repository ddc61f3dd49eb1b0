"""`dsa110 candidates`: lists, labels of a person, undo and history, without the API."""

from __future__ import annotations

import json

import pytest

from dsa110_assets.cli.main import run
from dsa110_assets_tests.api.conftest import fill


@pytest.fixture
def event(registry_config, database, monkeypatch, capsys) -> int:
    """The number of the only candidate's event."""
    for name in ("database_url", "state_dir", "scratch_dir", "input_dir", "output_dir"):
        value = getattr(registry_config, name)
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", value.get_secret_value() if name == "database_url" else str(value))
    fill(database, registry_config)
    return listed(capsys)[0]["event_id"]


def listed(capsys, *flags: str) -> list[dict]:
    assert run(["candidates", "list", "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_labels_belong_to_a_person_and_are_taken_back_step_by_step(event, capsys) -> None:
    number = str(event)
    assert run(["candidates", "label", number, "maybe", "--by", "J. Doe"]) == 0
    assert run(["candidates", "label", number, "ese", "--by", "J. Doe", "--comment", "deep"]) == 0
    assert run(["candidates", "label", number, "artifact", "--by", "A. Other"]) == 0
    capsys.readouterr()
    assert [(one["label"], one["labeled_by"]) for one in listed(capsys)] == [("artifact", "A. Other")]
    assert listed(capsys, "--unlabeled") == []
    assert run(["candidates", "undo", number, "--by", "A. Other"]) == 0
    assert run(["candidates", "undo", number, "--by", "A. Other"]) != 0
    capsys.readouterr()
    assert [(one["label"], one["comment"], one["labeled_by"]) for one in listed(capsys)] == [("ese", "deep", "J. Doe")]
    assert run(["candidates", "history", number, "--json"]) == 0
    history = json.loads(capsys.readouterr().out)
    assert [(one["person"], one["label"], one["undone"]) for one in history] == [
        ("A. Other", "artifact", True),
        ("J. Doe", "ese", False),
        ("J. Doe", "maybe", False),
    ]


def test_an_event_that_does_not_exist_is_an_error_with_the_next_step(event, capsys) -> None:
    assert run(["candidates", "label", str(event + 1), "ese", "--by", "J. Doe"]) != 0
    assert "dsa110 candidates list" in capsys.readouterr().err
    assert run(["candidates", "list", "--night", "yesterday"]) != 0
