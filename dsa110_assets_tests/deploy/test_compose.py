"""`deploy/compose`: the specification accepts the file, the linter the Dockerfile, and what both name is there.

No container was started. `image_steps` carries out the Dockerfile's steps in a clean Debian.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from dsa110_assets.cli.main import app
from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.operations.services import ServiceName
from dsa110_assets_tests.deploy import image_steps

COMPOSE = image_steps.COMPOSE
TEXT = (COMPOSE / "compose.yaml").read_text()
COMMANDS = {one.name for one in app.registered_commands} | {one.name for one in app.registered_groups}
VARIABLES = dict(line.split("=", 1) for line in (COMPOSE / ".env.example").read_text().splitlines() if line and not line.startswith("#"))
FILLED = {name: given or "secret" for name, given in VARIABLES.items()}


def filled(value: Any) -> Any:
    """The file with the variables of ``.env``, as compose puts them in."""
    if isinstance(value, dict):
        return {name: filled(one) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one) for one in value]
    return re.sub(r"\$\{(\w+)(?::[-?][^}]*)?\}", lambda found: FILLED[found[1]], value) if isinstance(value, str) else value


CONTENT: dict[str, Any] = filled(yaml.safe_load(TEXT))
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
OURS = {name: one for name, one in SERVICES.items() if str(one["image"]).startswith("dsa110-assets:")}


def test_the_specification_accepts_the_file() -> None:
    assert set(PyCompose.from_json(json.dumps(CONTENT)).service_names()) == set(SERVICES)


@pytest.mark.parametrize(
    "fault", [{"imagee": "x"}, {"restart": "sometimes"}, {"depends_on": {"api": {"condition": "soon"}}}, {"ports": ["a:b:c:d"]}], ids=str
)
def test_the_specification_refuses_faults(fault: dict[str, Any]) -> None:
    broken = copy.deepcopy(CONTENT)
    broken["services"]["worker"].update(fault)
    with pytest.raises(ValueError, match=r"\S"):
        PyCompose.from_json(json.dumps(broken))


def test_each_variable_is_in_the_example_and_used() -> None:
    assert set(re.findall(r"\$\{(\w+)", TEXT)) == set(VARIABLES)


def test_there_is_a_container_for_each_service_and_each_of_the_others() -> None:
    assert set(OURS) == {*(str(name) for name in ServiceName), "worker"}
    assert set(SERVICES) - set(OURS) == {"network", "database", "broker", "front-door", "prometheus", "grafana", "carta"}


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_commands_that_exist_and_can_change_nothing_else(name: str) -> None:
    one = OURS[name]
    assert one["command"][0] in COMMANDS
    if name != "worker":
        assert one["command"] == ["service", name]
        assert one["network_mode"] == "service:network", "the services speak on 127.0.0.1"
    assert (one["read_only"], one["cap_drop"], one["init"]) == (True, ["ALL"], True)
    assert int(one["stop_grace_period"].removesuffix("s")) >= 60, "runs return their observations"
    settings = {key.removeprefix("PIPELINE_").lower(): given for key, given in one["environment"].items() if key.startswith("PIPELINE_")}
    config = PipelineConfig.model_validate(PipelineConfig(_env_file=None).model_dump() | settings)  # pyright: ignore[reportCallIssue]
    assert config.profile == "distributed", "a run is a child of the container that made it"
    assert config.database_url is not None
    assert "@database/" in config.database_url.get_secret_value()
    version = re.search(r'^version = "(.+)"', (image_steps.REPOSITORY / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert version is not None
    assert one["image"] == f"dsa110-assets:{version[1]}"


def test_every_file_and_every_volume_that_is_mounted_is_there() -> None:
    for name, one in SERVICES.items():
        for volume in one.get("volumes", []):
            source = volume.split(":")[0]
            there = (COMPOSE / source).exists() if source.startswith(".") else source.startswith("/") or source in CONTENT["volumes"]
            assert there, f"{name}: {source}"
        for other in one.get("depends_on", {}):
            assert other in SERVICES


def test_what_shares_the_network_takes_different_ports() -> None:
    """Grafana's own port is that of the Dagster UI."""
    fields = PipelineConfig.model_fields
    ports = [
        fields["dagster_port"].default,
        fields["api_port"].default,
        3210,
        9090,
        int(SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_PORT"]),
        9002,
    ]
    assert len(set(ports)) == len(ports)
    published = [one.split(":") for one in SERVICES["network"]["ports"]]
    assert {one[-1] for one in published} == {"3210", "9090", "3001", "9002"}
    assert [one for one in published if len(one) == 2] == [["3210", "3210"]], "only the front door listens to others"
    assert "listen 3210;" in (COMPOSE / "../nginx/listen-plain.conf").read_text()


def test_the_linter_accepts_the_dockerfile(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("hadolint"))
    shown = subprocess.run([program, str(COMPOSE / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN apt-get install foo\n")
    assert subprocess.run([program, str(tmp_path / "Dockerfile")], capture_output=True, check=False).returncode != 0


def test_the_image_has_what_its_commands_need_and_no_secret() -> None:
    lines = (COMPOSE / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    for needed in (
        "dagster.yaml",
        "workspace.yaml",
        "requirements.lock",
        "Makefile",
        "dsa110_assets/cli/main.py",
        "docs/glossary.md",
        "deploy/compose/entrypoint",
    ):
        assert not image_steps.ignored(needed, patterns), needed
        assert (image_steps.REPOSITORY / needed).exists(), needed
    for left_out in (
        ".git/config",
        ".env",
        "deploy/compose/.env",
        ".venv/bin/python",
        "dsa110_assets/__pycache__/a.pyc",
        "state/postgres/base",
    ):
        assert image_steps.ignored(left_out, patterns), left_out


def test_services_are_prepared_before_they_start_and_other_commands_are_not(tmp_path: Path) -> None:
    """The entry point as it is, with a program that writes down what it was asked."""
    program = tmp_path / "dsa110"
    program.write_text('#!/bin/sh\necho "$@" >>asked\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for command in (["service", "api"], ["worker", "--concurrency", "4"]):
        subprocess.run([str(COMPOSE / "entrypoint"), *command], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "asked").read_text().splitlines() == ["prepare", "service api", "worker --concurrency 4"]
