"""The files under deploy/ name settings and commands that exist."""

import re
from pathlib import Path

from dsa110_assets.cli.main import app
from dsa110_assets.config import PipelineConfig

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_every_setting_of_the_example_exists():
    names = re.findall(r"^#? ?PIPELINE_(\w+)=", (DEPLOY / "systemd/platform.env.example").read_text(), flags=re.MULTILINE)
    assert names
    assert {name.lower() for name in names} <= set(PipelineConfig.model_fields)


def test_the_service_starts_a_command_that_exists():
    command = re.search(r"^ExecStart=\S+/dsa110 (\w+)$", (DEPLOY / "systemd/dsa110.service").read_text(), flags=re.MULTILINE)
    assert command is not None
    assert command[1] in {one.name for one in app.registered_commands}
