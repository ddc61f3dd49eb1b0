"""`dsa110 alerts`: list open problems, acknowledge or snooze them, or test the webhook."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(invoke_without_command=True)


@app.callback()
def alerts(
    context: typer.Context,
    *,
    test: Annotated[bool, typer.Option("--test", help="Send a test message to PIPELINE_ALERT_WEBHOOK_URL.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what needs attention. Exit code 1: something does, and nobody has acknowledged it.

    The list comes from the disk and the registry, and from what the running platform has found in Dagster (failed runs,
    assets that are not fresh). The running platform sends these alerts to the log and the webhook.

    Example: `dsa110 alerts --test`
    """
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from dsa110_assets.cli.output import emit_json
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.stages.operations import alerts as messages
    from dsa110_assets.stages.operations import attention
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.queue.attempts import now

    if test:
        config = PipelineConfig.from_env(validate_paths=False)
        if config.alert_webhook_url is None:
            raise ConfigurationError("PIPELINE_ALERT_WEBHOOK_URL", "is not set", "set it to the webhook address of your chat")
        messages.send(config.alert_webhook_url.get_secret_value(), "DSA-110 pipeline: this is a test")
        typer.echo("test message sent")
        return
    platform = Platform.open(PipelineConfig.from_env(validate_paths=False))
    present = messages.conditions(platform, now())
    with platform.database.session() as session:
        found = attention.open_alerts(session, present, now())
    if json:
        emit_json([asdict(one) for one in found])
    else:
        typer.echo("\n".join(f"{one.line()}  [{one.key}]" for one in found) or "nothing needs attention")
    raise typer.Exit(1 if any(one.acknowledged is None for one in found) else 0)


@app.command("acknowledge")
def acknowledge(
    key: Annotated[str, typer.Argument(help="The alert's key, in brackets in the list.")],
    *,
    by: Annotated[str, typer.Option(help="Your name.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    hours: Annotated[float | None, typer.Option(min=0.1, max=720, help="For so many hours; default: as long as it lasts.")] = None,
) -> None:
    """Make an open alert quiet.

    It stays in the list, and nothing is sent about it. With --hours it is sent again if it is still open afterwards.

    Example: `dsa110 alerts acknowledge behind/live --by "J. Doe" --reason "the backlog of the storm" --hours 8`
    """
    from datetime import timedelta

    from dsa110_assets.stages.operations import attention
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.queue.attempts import now

    until = None if hours is None else now() + timedelta(hours=hours)
    attention.acknowledge(Platform.open(), key, person=by, reason=reason, until=until, now=now())
    typer.echo(f"{key} is quiet {'as long as it lasts' if until is None else f'until {until:%Y-%m-%d %H:%M} UTC'}")


@app.command("take-back")
def take_back(key: Annotated[str, typer.Argument(help="The alert's key.")]) -> None:
    """Take an acknowledgement back.

    An alert that is still open is sent again.

    Example: `dsa110 alerts take-back behind/live`
    """
    from dsa110_assets.stages.operations import attention
    from dsa110_assets.stages.platform import Platform

    with Platform.open().database.session() as session:
        attention.take_back(session, key)
    typer.echo(f"{key} is no longer quiet")
