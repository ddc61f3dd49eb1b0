"""The documentation builds without a broken link, and its reference pages list every command, setting and table."""

import logging
from pathlib import Path

from dsa110_assets.cli import reference
from dsa110_assets.cli.main import app
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.schema import Base

ROOT = Path(__file__).parents[2]


def test_the_documentation_builds_without_a_broken_link(tmp_path):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    logging.getLogger("mkdocs").setLevel(logging.WARNING)
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "docs"), strict=True)
    build(config)
    assert (tmp_path / "docs/index.html").is_file()
    assert "OUT/&lt;date&gt;/&lt;observation&gt;.ms" in (tmp_path / "docs/reference/commands.html").read_text()


def test_the_reference_pages_list_every_command_setting_and_table():
    commands = reference.commands()
    names = [command.name or command.callback.__name__ for command in app.registered_commands] + [
        group.name for group in app.registered_groups
    ]
    assert all(f"## `dsa110 {name}`" in commands for name in names)
    assert all(f"`PIPELINE_{name.upper()}`" in reference.settings() for name in PipelineConfig.model_fields)
    assert all(f"## {table}\n" in reference.tables() for table in Base.metadata.tables)
