"""`dsa110 alerts`: list open problems, or test the webhook."""

from __future__ import annotations

from typing import Annotated

import typer


def alerts(
    *,
    test: Annotated[bool, typer.Option("--test", help="Send a test message to PIPELINE_ALERT_WEBHOOK_URL.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what needs attention. Exit code 1: something does.

    The list comes from the disk and the registry. The running platform sends these alerts to the log and the webhook,
    and also reports failed runs and assets that are not fresh.

    Example: `dsa110 alerts --test`
    """
    from dataclasses import asdict

    from dsa110_assets.cli.output import emit_json
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.stages.operations import alerts as messages
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.queue.attempts import now

    if test:
        config = PipelineConfig.from_env(validate_paths=False)
        if config.alert_webhook_url is None:
            raise ConfigurationError("PIPELINE_ALERT_WEBHOOK_URL", "is not set", "set it to the webhook address of your chat")
        messages.send(config.alert_webhook_url.get_secret_value(), "DSA-110 pipeline: this is a test")
        typer.echo("test message sent")
        return
    found = messages.conditions(Platform.open(), now())
    if json:
        emit_json([asdict(one) for one in found])
    else:
        typer.echo("\n".join(one.line() for one in found) or "nothing needs attention")
    raise typer.Exit(1 if found else 0)
