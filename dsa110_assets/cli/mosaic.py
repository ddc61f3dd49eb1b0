"""`dsa110 mosaic`: mosaics on demand, of a time range or around a calibrator's transit."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dsa110_assets.stages.products.mosaics import MosaicPlan
    from dsa110_assets.stages.provenance.recording import StageResult

app = typer.Typer(no_args_is_help=True)

_TIMES = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"]
Since = Annotated[datetime, typer.Option(formats=_TIMES, metavar="TIME", help="Start, UTC: YYYY-MM-DD or YYYY-MM-DDTHH:MM[:SS].")]
Until = Annotated[datetime, typer.Option(formats=_TIMES, metavar="TIME", help="End, UTC, exclusive.")]
ProductsDb = Annotated[
    Path | None, typer.Option("--products-db", help="Accepted for compatibility: there is one registry, PIPELINE_DATABASE_URL.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def _group() -> None:
    """Make mosaics on demand. The running platform makes hourly and nightly ones.

    Example: `dsa110 mosaic create --calibrator 0834+555 --timespan-minutes 50`
    """


@app.command("plan")
def plan(
    name: Annotated[str, typer.Option(help="Name of the mosaic.")],
    since: Since,
    until: Until,
    *,
    declination: Annotated[
        float | None, typer.Option(min=-90, max=90, help="Declination of the strip, degrees. Default: the strip with the most tiles.")
    ] = None,
    products_db: ProductsDb = None,
    json: Json = False,
) -> None:
    """Choose the tiles of a time range and save them as a plan.

    Example: `dsa110 mosaic plan --name flare --since 2026-03-12T05:00 --until 2026-03-12T06:30`
    """
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.products.mosaics import plan_mosaic

    _show_plan(plan_mosaic(Platform.open(), name, _utc(since), _utc(until), declination_deg=declination), json=json)


@app.command("build")
def build(
    name: Annotated[str, typer.Option(help="Name of a saved plan; or, with times, of the mosaic.")],
    *,
    output: Annotated[Path | None, typer.Option(help="Directory for the mosaic. Default: the platform's own.")] = None,
    products_db: ProductsDb = None,
    since: Annotated[
        datetime | None, typer.Option(formats=_TIMES, metavar="TIME", help="Start, UTC: make a new plan instead of using a saved one.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(formats=_TIMES, metavar="TIME", help="End, UTC, exclusive; with --since.")] = None,
    json: Json = False,
) -> None:
    """Make a planned mosaic and register it.

    Example: `dsa110 mosaic build --name flare --output /data/mosaics/flare`
    """
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.products.mosaics import build_mosaic, load_plan, plan_mosaic

    if (since is None) != (until is None):
        message = "give both --since and --until, or neither"
        raise typer.BadParameter(message)
    platform = Platform.open()
    planned = plan_mosaic(platform, name, _utc(since), _utc(until)) if since and until else load_plan(platform, name)
    destination = None if output is None else platform.config.own_spelling(output)
    with _progress(f"mosaic of {len(planned.tiles)} tiles"):
        result = build_mosaic(platform, planned, "dsa110 mosaic build", destination=destination)
    _show_results([result], json=json)


@app.command("create")
def create(
    calibrator: Annotated[list[str], typer.Option(help="Calibrator in the middle; repeat it for one mosaic each.")],
    *,
    timespan_minutes: Annotated[float, typer.Option(min=1.0, max=1440, help="Time range, centered on the transit.")] = 50.0,
    night: Annotated[str | None, typer.Option(help="UTC date of the transit. Default: the newest imaged one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; make nothing.")] = False,
    json: Json = False,
) -> None:
    """Make mosaics centered on the transits of calibrators.

    Example: `dsa110 mosaic create --calibrator 0834+555 --calibrator 3C286 --timespan-minutes 50`
    """
    from dsa110_assets.cli.times import night_of
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.products.mosaics import build_mosaic, plan_around_calibrator

    chosen = None if (when := night_of(night)) is None else when.isoformat()
    platform = Platform.open()
    plans = [plan_around_calibrator(platform, one, timespan_minutes, night=chosen) for one in calibrator]
    if dry_run:
        for one in plans:
            _show_plan(one, json=json)
        return
    results: list[StageResult] = []
    for one in plans:
        with _progress(f"{one.name}: mosaic of {len(one.tiles)} tiles"):
            results.append(build_mosaic(platform, one, "dsa110 mosaic create"))
    _show_results(results, json=json)


def _utc(when: datetime) -> datetime:
    from datetime import UTC

    return when.replace(tzinfo=UTC)


def _progress(text: str) -> AbstractContextManager[object]:
    from rich.console import Console

    return Console(stderr=True).status(text)


def _show_plan(planned: MosaicPlan, *, json: bool) -> None:
    from dataclasses import asdict

    from dsa110_assets.cli.output import emit_json, emit_table

    if json:
        emit_json(asdict(planned))
        return
    rows = [(group_id, "") for group_id in planned.tiles] + list(planned.left_out.items())
    emit_table(
        ("observation", "left out"),
        sorted(rows),
        title=f"{planned.name}: {len(planned.tiles)} tiles at declination {planned.declination_deg:.2f}, {planned.since} to {planned.until}",
    )


def _show_results(results: list[StageResult], *, json: bool) -> None:
    from dsa110_assets.cli.output import emit_json, emit_table

    if json:
        emit_json([{**result.figures, "path": str(result.paths["path"])} for result in results])
        return
    names = ("name", "tiles", "area_deg2", "noise_min_mjy_per_beam", "snr_scatter")
    rows = [[*(_short(result.figures[name]) for name in names), str(result.paths["path"])] for result in results]
    emit_table(("mosaic", "tiles", "deg2", "lowest noise, mJy/beam", "scatter / noise map", "directory"), rows)


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
