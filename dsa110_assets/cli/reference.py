"""Reference pages of the documentation, generated from the code: commands, settings, products, tables of the registry.

mkdocs calls this module as a hook (`mkdocs.yml`). The pages exist only in the built documentation, so they cannot be
out of date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference pages, and the pages that are not under docs/, to the files that mkdocs found."""
    from pathlib import Path

    from mkdocs.structure.files import File

    root = Path(config.config_file_path).parent
    sources = {
        "index.md": "README.md",
        "contributing.md": "CONTRIBUTING.md",
        "changelog.md": "CHANGELOG.md",
        "deployment.md": "deploy/README.md",
    }
    links = {
        "](docs/decisions/)": "](decisions/0001-stages-between-domain-and-orchestration.md)",
        "](docs/": "](",
        "](../docs/": "](",
        **{f"]({source})": f"]({page})" for page, source in sources.items()},
    }
    pages: dict[str, str] = {}
    for page, source in sources.items():
        pages[page] = (root / source).read_text(encoding="utf-8")
        for old, new in links.items():
            pages[page] = pages[page].replace(old, new)
    pages |= {
        "reference/commands.md": commands(),
        "reference/settings.md": settings(),
        "reference/products.md": products(),
        "reference/tables.md": tables(),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    import typer
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from dsa110_assets.cli.main import app

    command = get_command(app)
    context = typer.Context(command, info_name="dsa110")
    with context:
        return _escape_tags(get_docs_for_click(obj=command, ctx=context, name="dsa110", title="Commands"))


def settings() -> str:
    """Every setting with its default and meaning, as Markdown."""
    from dsa110_assets.config import PipelineConfig

    rows: list[str] = []
    plain = {name: field.default for name, field in PipelineConfig.model_fields.items()}
    for name, field in PipelineConfig.model_fields.items():
        science = isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("science"))
        default = "" if field.default is None else str(field.get_default(call_default_factory=True, validated_data=plain))
        rows.append(f"| `PIPELINE_{name.upper()}`{' *' if science else ''} | {_cell(default)} | {_cell(field.description or '')} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Settings marked with * change the content of products.",
            "",
            "| setting | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def products() -> str:
    """The table of products, and the description of each, as Markdown."""
    from dsa110_assets.stages.table import TABLE

    head = ["# Products", "", "| product | one for each | from | job | pool | folder |", "|---|---|---|---|---|---|"]
    parts: list[str] = []
    for row in TABLE:
        inputs = ", ".join(f"[{one.name}](#{one.name})" for one in row.inputs)
        made_by = "the sensor `raw_files`" if row.stage is None and row.job is None else f"`{row.job}`" if row.job else "command"
        folder = "" if row.folder is None else row.folder.value
        head.append(f"| [{row.name}](#{row.name}) | {row.level.value} | {inputs} | {made_by} | {row.pool or ''} | {folder} |")
        parts += [f"## {row.name}", "", row.description(), ""]
        if row.recipe is not None and row.recipe.settings:
            parts += [f"Settings that change it: {', '.join(f'`PIPELINE_{name.upper()}`' for name in row.recipe.settings)}.", ""]
        parts += [f"[How it is made](../{row.page}.md).", ""]
    return "\n".join([*head, "", *parts])


def tables() -> str:
    """Every table of the registry with its columns, as Markdown."""
    import inspect

    from sqlalchemy.dialects import postgresql

    from dsa110_assets.registry.schema import Base

    dialect = postgresql.dialect()
    parts = ["# Tables of the registry", ""]
    for mapper in sorted(Base.registry.mappers, key=lambda mapper: mapper.local_table.name):
        parts += [f"## {mapper.local_table.name}", "", inspect.getdoc(mapper.class_) or "", "", "| column | type | |", "|---|---|---|"]
        for column in mapper.local_table.columns:
            notes = [text for text, holds in (("primary key", column.primary_key), ("may be null", column.nullable)) if holds]
            notes += [f"-> {key.target_fullname}" for key in column.foreign_keys]
            parts.append(f"| `{column.name}` | {column.type.compile(dialect=dialect)} | {', '.join(notes)} |")
        parts.append("")
    return "\n".join(parts)


def _escape_tags(markdown: str) -> str:
    """Escape `<...>` outside of code, which Markdown would take for an HTML tag and drop."""
    import re

    code = r"```.*?```|`[^`\n]+`"
    return re.sub(rf"({code})|<", lambda found: found.group(1) or "&lt;", markdown, flags=re.DOTALL)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
