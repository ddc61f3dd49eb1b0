"""`dsa110 docs`: search the documentation without a browser or a network."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Search the documentation off-line.

    Example: `dsa110 docs search "primary beam"`
    """


@app.command("search")
def search(
    query: Annotated[list[str], typer.Argument(help="Words; a section must have all of them.")],
    *,
    limit: Annotated[int, typer.Option(min=1, max=50, help="Maximum number of sections.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the sections that have all words, best first.

    The documentation is built first if that was not done yet. Exit code 1: nothing was found.

    Example: `dsa110 docs search late subband`
    """
    from dataclasses import asdict

    from dsa110_assets.api import documentation
    from dsa110_assets.cli.output import emit_json

    if not documentation.is_current():
        typer.echo("building the documentation, which takes some seconds ...", err=True)
        documentation.build()
    hits = documentation.search(" ".join(query), limit=limit)
    if json:
        emit_json([asdict(hit) for hit in hits])
    else:
        for hit in hits:
            typer.echo(f"{hit.title}  ({hit.location})\n    {hit.excerpt}")
        if not hits:
            typer.echo("nothing was found")
    raise typer.Exit(0 if hits else 1)
