"""The operator's playbook knows every alert, error, state, reason and message that an operator can meet."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import dsa110_assets
from dsa110_assets import errors
from dsa110_assets.cli import preflight
from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest.arrivals import Reason
from dsa110_assets.registry.schema import GroupState, TileStage
from dsa110_assets.stages.operations import alerts, housekeeping

PAGE = (Path(dsa110_assets.__file__).parents[1] / "docs" / "playbook.md").read_text()
ERRORS = [
    one
    for _, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, errors.PipelineError) and one not in (errors.PipelineError, errors.RetriableError, errors.NonRetriableError)
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_each_error_has_a_row_that_says_whether_it_may_pass(error) -> None:
    may_pass = "yes" if issubclass(error, errors.RetriableError) else "no"
    assert re.search(rf"^\| `{error.__name__}` \| {may_pass} \| \S.* \| \S.* \|$", PAGE, re.MULTILINE), error.__name__


@pytest.mark.parametrize("name", [*alerts.KINDS, *GroupState, *Reason, *housekeeping.RULES])
def test_each_alert_state_refusal_and_rule_has_a_row(name) -> None:
    assert re.search(rf"^\| `{name}` \| \S.* \| \S.* \|$", PAGE, re.MULTILINE), name


def test_each_alert_that_the_code_raises_is_of_a_known_kind() -> None:
    package = Path(dsa110_assets.__file__).parent
    raised = {
        kind
        for module in ("stages/operations/alerts.py", "orchestration/alerting.py")
        for kind in re.findall(r'Alert\(\s*f?"([a-z-]+)/', (package / module).read_text())
    }
    assert raised == set(alerts.KINDS)


def test_the_stage_that_waits_is_explained() -> None:
    assert f"`{TileStage.AWAITING_CALIBRATION}`" in PAGE


def test_each_line_of_preflight_is_named() -> None:
    source = inspect.getsource(preflight)
    subjects = set(re.findall(r'Finding\(\s*"([^"{]+)", "(?:ok|warning|failed)"', source)) | set(
        re.findall(r'check_port\("([^"]+)"', source)
    )
    assert {"machine", "database", "CASA", "Dagster UI"} <= subjects
    for subject in {*subjects, "output directory", "scratch directory", "state directory", "calibrator catalogue", "reference sky"}:
        assert f"`{subject}`" in PAGE, subject


def test_each_message_of_an_idle_sensor_is_explained() -> None:
    package = Path(dsa110_assets.__file__).parent
    text = "".join(
        (package / name).read_text() for name in ("stages/queue/intake.py", "orchestration/sensors.py", "orchestration/alerting.py")
    )
    for message in re.findall(r"^\| `([^`]+)` \| [^|]+ \|$", PAGE.split("## Messages of sensors")[1].split("##")[0], re.MULTILINE):
        assert message.removesuffix(": ...") in text or message.startswith("paused"), message


def test_each_setting_that_the_playbook_names_exists() -> None:
    for name in set(re.findall(r"PIPELINE_([A-Z0-9_]+)", PAGE)):
        assert name.lower() in PipelineConfig.model_fields, name
