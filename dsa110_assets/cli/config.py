"""`dsa110 config`: the settings, where their values come from, and what they mean."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Settings: values, sources, meanings.

    Example: `dsa110 config show`
    """


@dataclass(frozen=True)
class Setting:
    """One setting.

    ``source``: ``environment``, ``.env`` or ``default``. ``science``: True if it changes the content of products.
    """

    variable: str
    value: str | None
    source: str
    science: bool
    meaning: str


def settings(config: PipelineConfig) -> list[Setting]:
    """All settings in the order of the model. Secrets are masked; in a database URL only the password is."""
    from pydantic import SecretStr

    from dsa110_assets.config import ENV_FILE
    from dsa110_assets.env_file import read_env_file
    from dsa110_assets.registry.server import without_password

    environment = {name.upper() for name in os.environ}
    env_file = {name.upper() for name in read_env_file(Path(ENV_FILE))}
    found: list[Setting] = []
    for name, field in type(config).model_fields.items():
        variable = f"PIPELINE_{name.upper()}"
        value = getattr(config, name)
        if name == "database_url" and isinstance(value, SecretStr):
            text = without_password(value.get_secret_value())
        else:
            text = None if value is None else str(value)  # a secret's own text is asterisks
        source = "environment" if variable in environment else ".env" if variable in env_file else "default"
        science = isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("science"))
        found.append(Setting(variable, text, source, science, field.description or ""))
    return found


@app.command("show")
def show(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show every setting: its value, source, and meaning.

    The source is the environment, `.env`, or the default.

    Settings marked with * change the content of products. --json adds the configuration hash of each product: a hash of
    the settings that its stage reads, as recorded with the product.

    Example: `PIPELINE_BRIGGS_ROBUST=0 dsa110 config show`
    """
    from dataclasses import asdict

    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.stages.provenance.recipes import configuration_of
    from dsa110_assets.stages.table import TABLE

    config = PipelineConfig.from_env(validate_paths=False)
    rows = settings(config)
    for name, meant in config.unknown_names().items():
        typer.echo(f"note: {name} is no setting{f'; did you mean {meant}?' if meant else ''}", err=True)
    hashes = {row.name: configuration_of(row.name, config) for row in TABLE.with_recipe()}
    if json:
        emit_json({"settings": [asdict(row) for row in rows], "configuration_of_products": hashes})
        return
    emit_table(
        ["setting", "value", "source", "meaning"],
        [(row.variable + ("*" if row.science else ""), row.value, row.source, row.meaning) for row in rows],
        wrap=True,
    )
