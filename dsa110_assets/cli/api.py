"""`dsa110 api`: serve the HTTP API alone; tokens of people who may change something through it."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(invoke_without_command=True)


@app.callback()
def serve(context: typer.Context) -> None:
    """Serve the HTTP API; tokens for it. `dsa110 up` serves it too.

    It listens on PIPELINE_API_HOST and PIPELINE_API_PORT, and explains itself at /api/docs. Ctrl-C lets running
    requests finish.

    Example: `dsa110 api`
    """
    if context.invoked_subcommand is not None:
        return
    from dsa110_assets.api import documentation
    from dsa110_assets.api.app import create_app
    from dsa110_assets.api.serving import server_of
    from dsa110_assets.cli.services import why_not_bindable
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.registry.database import Database

    config = PipelineConfig.from_env(raw_files=False)
    if (why := why_not_bindable(config.api_host, config.api_port)) is not None:
        raise ConfigurationError("PIPELINE_API_PORT", f"port {config.api_port} {why}", "choose another one")
    Database.connect(config).dispose()  # starts the embedded database, and brings the schema up to date
    documentation.builder.start()
    server_of(create_app(config), config, prepare=True).run()


@app.command("token")
def token(
    name: Annotated[str, typer.Argument(help="The person's name; it is recorded with each change.")],
    *,
    revoke: Annotated[bool, typer.Option("--revoke", help="End the person's token; make none.")] = False,
) -> None:
    """Make a token for a person, and print it once.

    The registry keeps only its hash. A person has one token: a new one ends the one before.

    Example: `dsa110 api token "J. Doe"`
    """
    from dsa110_assets.registry.queries import people
    from dsa110_assets.stages.platform import Platform

    with Platform.open().database.session() as session:
        if revoke:
            people.revoke_tokens(session, name)
            made = None
        else:
            made = people.new_token(session, name)
    typer.echo(f"the token of {name} is no longer valid" if made is None else made)


@app.command("tokens")
def tokens(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the people who have a token.

    Example: `dsa110 api tokens`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.registry.queries import people
    from dsa110_assets.stages.platform import Platform

    with Platform.open().database.session() as session:
        rows = people.tokens(session)
    if json:
        emit_json(rows)
    else:
        emit_table(("person", "since"), [(row["person"], f"{row['created_at']:%Y-%m-%d %H:%M}") for row in rows])
