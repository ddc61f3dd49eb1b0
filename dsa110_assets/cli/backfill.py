"""`dsa110 backfill`: remake partitions through the running platform, as a Dagster backfill that the UI shows."""

from __future__ import annotations

import json as encoding
import urllib.error
import urllib.request
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsa110_assets.errors import ChildFailedError, NonRetriableError

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.stages.operations.backfill import Backfill

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on PartitionKeysNotFoundError { message }
    ... on InvalidSubsetError { message }
    ... on UnauthorizedError { message }
  }
}
"""


def backfill(
    night: Annotated[
        datetime | None, typer.Argument(formats=["%Y-%m-%d"], help="First night (UTC). Optional with --stale or --only-failed.")
    ] = None,
    *,
    to: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="Last night. Default: the first night.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="First asset to remake, such as calibrated_ms.")] = None,
    only_failed: Annotated[bool, typer.Option("--only-failed", help="Only failed observations.")] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Only stale products.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be made; make nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remake the products of a night or a range of nights.

    Live data have priority over these runs. Exit code 1: there is nothing to make.

    Example: `dsa110 backfill 2025-12-01 --to 2025-12-03 --from calibrated_ms`

    Example: `dsa110 backfill --stale --dry-run`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.stages.operations.backfill import plan
    from dsa110_assets.stages.platform import Platform

    platform = Platform.open()
    first, last = night.date() if night else None, to.date() if to else None
    chosen = plan(platform, first, last, start=start, only_failed=only_failed, only_stale=stale)
    title = "stale products" if stale else "failed observations" if only_failed else " .. ".join(str(day) for day in (first, last) if day)
    backfill_id = launch(platform.config, chosen, title) if chosen.partitions and not dry_run else None
    if json:
        emit_json({"partitions": {a: list(k) for a, k in chosen.partitions.items()}, "left_out": chosen.left_out, "backfill": backfill_id})
    else:
        if chosen.partitions:
            emit_table(("asset", "partitions", "which"), [tuple(row.values()) for row in chosen.rows()])
        for line in chosen.left_out:
            typer.echo(f"left out: {line}")
        if backfill_id:
            typer.echo(f"backfill {backfill_id}: {_webserver(platform.config)}/runs/b/{backfill_id}")
        elif not chosen.partitions:
            typer.echo("there is nothing to make")
    raise typer.Exit(0 if chosen.partitions else 1)


def launch(config: PipelineConfig, chosen: Backfill, title: str) -> str:
    """Start the backfill on the running platform; returns its identifier.

    Raises:
        ChildFailedError: the Dagster UI does not answer.
        NonRetriableError: Dagster refuses the backfill; its message is quoted.
    """
    from dsa110_assets.stages.operations.backfill import consecutive

    targets = [
        {
            "assetKey": {"path": [asset]},
            "partitions": {"ranges": [{"start": first, "end": last} for first, last in consecutive(asset, keys)]} if keys else None,
        }
        for asset, keys in chosen.partitions.items()
    ]
    parameters = {
        "partitionsByAssets": targets,
        "title": f"{title}: {chosen.size} products",
        "tags": [{"key": "dagster/max_retries", "value": "0"}, {"key": "dsa110/because", "value": f"backfill of {title}"}],
    }
    answer = _post(config, LAUNCH, {"params": parameters})["launchPartitionBackfill"]
    if answer["__typename"] != "LaunchBackfillSuccess":
        raise NonRetriableError(
            "backfill", answer.get("message", answer["__typename"]), "run the same command with `--dry-run` and check the list"
        )
    return str(answer["backfillId"])


def _webserver(config: PipelineConfig) -> str:
    return f"http://{config.api_host}:{config.dagster_port}"


def _post(config: PipelineConfig, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    body = encoding.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{_webserver(config)}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            found = encoding.load(answer)
    except (OSError, urllib.error.HTTPError, ValueError) as error:
        raise ChildFailedError(
            f"Dagster UI at {_webserver(config)}",
            f"does not answer ({error})",
            "start the platform with `dsa110 up`; check PIPELINE_DAGSTER_PORT",
        ) from error
    if found.get("errors"):
        raise NonRetriableError("backfill", str(found["errors"][0].get("message")), "read the web server's log")
    return dict(found["data"])
