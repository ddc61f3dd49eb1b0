"""`dsa110 stale`: which products would come out differently today, and why; accept those that would not."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(invoke_without_command=True)


@app.callback()
def stale(
    context: typer.Context,
    *,
    night: Annotated[str | None, typer.Option(help="Only this night, YYYY-MM-DD.")] = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="List each partition instead of totals for each asset.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what changed, and how long it takes to make all again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List products that would come out differently today.

    They were made by other code, with other settings, or from inputs that have changed since.

    `dsa110 backfill --stale` remakes exactly these. Exit code 1: something is stale.

    Example: `PIPELINE_BRIGGS_ROBUST=0 dsa110 stale --partitions`

    Example: `dsa110 stale --plan`
    """
    if context.invoked_subcommand is not None:
        return
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.stages.operations.staleness import remaking_plan, stale_partitions, summary
    from dsa110_assets.stages.platform import Platform

    platform = Platform.open()
    found = [one for one in stale_partitions(platform) if night is None or one.night == night]
    if plan and found:
        planned = remaking_plan(platform, None if night is None else {(one.asset, one.key) for one in found})
        hours = sum(one.total_h or 0.0 for one in planned)
        if json:
            emit_json([{"asset": o.asset, "stale": o.stale, "why": o.why, "seconds_each": o.each_s, "hours": o.total_h} for o in planned])
        else:
            known = [(f"{one.each_s:.1f}", f"{one.total_h:.1f}") if one.each_s is not None else ("?", "?") for one in planned]
            rows = [(one.asset, one.stale, *times, ", ".join(one.why)) for one, times in zip(planned, known, strict=True)]
            emit_table(("asset", "stale", "s each", "hours", "why (number of products)"), rows)
            typer.echo(
                f"at most {hours:.1f} hours of stages, one at a time; `dsa110 stale accept PRODUCT --reason TEXT --by NAME` spares what comes out equal"
            )
    elif json:
        emit_json(
            [{"asset": o.asset, "partition": o.partition, "key": o.key, "reasons": list(o.reasons), "made_at": o.made_at} for o in found]
        )
    elif not found:
        typer.echo("nothing is stale")
    elif partitions:
        rows = [(o.asset, o.partition or o.key, ", ".join(o.reasons), f"{o.made_at:%Y-%m-%d %H:%M}") for o in found]
        emit_table(("asset", "partition", "reasons", "made (UTC)"), rows)
    else:
        emit_table(("asset", "stale", "reasons", "first night", "last night"), [tuple(row.values()) for row in summary(found)])
    raise typer.Exit(1 if found else 0)


@app.command("accept")
def accept(
    product: Annotated[str, typer.Argument(help="Asset, such as tile_image.")],
    *,
    reason: Annotated[str, typer.Option(help="Why it should come out the same.")],
    by: Annotated[str, typer.Option(help="Your name.")],
    sample: Annotated[int, typer.Option(min=1, max=100_000, help="Number of products of each earlier recipe to make again.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Accept a new recipe if a random sample comes out equal.

    The sample is made in a place of its own; no product is touched. If all of it says the same as the products that
    exist, the others of the same earlier recipes are no longer stale. If anything differs, nothing is accepted.

    Reason, name, sample and result are kept in the table accepted_recipes. Exit code 1: something differs.

    Example: `dsa110 stale accept tile_image --reason "only names changed" --by "J. Doe" --sample 10`
    """
    from dsa110_assets.cli.output import emit_json
    from dsa110_assets.stages.operations.acceptance import Trial, shortened
    from dsa110_assets.stages.operations.acceptance import accept as decide
    from dsa110_assets.stages.platform import Platform

    def progress(trial: Trial) -> None:
        typer.echo(f"{trial.key:22}{trial.duration_s:8.1f} s  {'equal' if trial.is_equal else shortened(trial.differs)}", err=json)

    found = decide(Platform.open(), product, reason=reason, person=by, sample=sample, progress=progress)
    if json:
        trials = [{"key": one.key, "duration_s": one.duration_s, "differs": one.differs} for one in found.trials]
        emit_json({"product": found.product, "accepted": found.accepted, "products": found.products, "sample": trials})
    else:
        for one in found.without_inputs:
            typer.echo(f"not in the sample, its input is gone: {one}")
        if found.accepted:
            typer.echo(f"accepted: {found.products} products of {product} are no longer stale; {len(found.trials)} were made again")
        else:
            typer.echo(f"nothing accepted: `dsa110 backfill --stale` makes {product} again")
    raise typer.Exit(0 if found.accepted else 1)
