"""`dsa110 lightcurve`: show and export light curves, and choose their epochs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Later = Annotated[bool, typer.Option("--later", help="Do not recompute the light curves now.")]


@app.callback()
def _group() -> None:
    """Light curves, and the epochs they are made from.

    Example: `dsa110 lightcurve show "NVSS J083454+553421"`
    """


@app.command("show")
def show(
    source: Annotated[str, typer.Argument(help="Name or number of a source.")],
    *,
    output: Annotated[
        Path | None, typer.Option(help="File to write: a table (.csv, .fits, .parquet, .vot, .xml) or a plot (.png).")
    ] = None,
    json: Json = False,
) -> None:
    """Show a source's measured and normalized fluxes at all epochs.

    Example: `dsa110 lightcurve show 42 --output source42.vot`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.files import refuse_directory
    from dsa110_assets.registry.queries.measurements import light_curve_rows
    from dsa110_assets.stages.platform import Platform

    if output is not None:
        refuse_directory(output)
    platform = Platform.open()
    number, name = _find(platform, source)
    if output is not None:
        _write(platform, number, name, output)
        return
    with platform.database.session() as session:
        points = light_curve_rows(session, number)
    if json:
        emit_json(points)
    else:
        columns = (
            "time_mjd",
            "mosaic_name",
            "flux_jy",
            "flux_err_jy",
            "normalised_flux_jy",
            "normalised_flux_err_jy",
            "normalisation",
            "flags",
        )
        emit_table(columns, [[_cell(point[column]) for column in columns] for point in points], title=f"{name} (source {number})")


@app.command("export")
def export(
    output: Annotated[Path, typer.Argument(help="Table to write: .csv, .fits, .parquet, .vot or .xml.")],
    *,
    night: Annotated[str | None, typer.Option(help="UTC date of variability figures or candidates. Default: the newest.")] = None,
    what: Annotated[str, typer.Option(help="points (normalized light curves), variability or candidates.")] = "points",
) -> None:
    """Write all light curves, variability figures or candidates.

    Light curves are normalized. Columns have units and UCDs.

    Example: `dsa110 lightcurve export all.parquet`
    """
    from sqlalchemy import select

    from dsa110_assets.cli.times import night_of
    from dsa110_assets.files import refuse_directory
    from dsa110_assets.photometry import write_table
    from dsa110_assets.registry.bulk import read_frame_bulk
    from dsa110_assets.registry.queries.variability import candidates, variability
    from dsa110_assets.registry.schema import LightCurvePoint
    from dsa110_assets.stages.platform import Platform

    if what not in ("points", "variability", "candidates"):
        message = f"{what!r} is not one of points, variability, candidates"
        raise typer.BadParameter(message)
    refuse_directory(output)
    chosen = night_of(night)
    with Platform.open().database.session() as session:
        if what == "points":
            names = ("source_id", "mosaic_name", "time_mjd", "flux_jy", "flux_err_jy", "normalisation", "normalisation_err", "is_limit")
            order = (LightCurvePoint.source_id, LightCurvePoint.time_mjd)
            table = read_frame_bulk(session, select(*[getattr(LightCurvePoint, one) for one in names]).order_by(*order))
        else:
            table = (variability if what == "variability" else candidates)(session, chosen)
    write_table(table, output)
    typer.echo(f"{len(table)} rows in {output}")


@app.command("epochs")
def epochs(
    *, limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of epochs, the newest ones.")] = 240, json: Json = False
) -> None:
    """List epochs, their normalization, and which are excluded.

    An excluded epoch shows who excluded it and why.

    Example: `dsa110 lightcurve epochs`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.registry.queries.factors import listed_epochs
    from dsa110_assets.stages.platform import Platform

    with Platform.open().database.session() as session:
        rows = listed_epochs(session, newest=limit + 1)
    if len(rows) > limit:
        typer.echo(f"only the newest {limit} epochs; use --limit", err=True)
        rows = rows[-limit:]
    if json:
        emit_json(rows)
        return
    columns = ("mosaic_name", "time_mjd", "sources", "normalisation", "normalisation_err", "reason", "excluded_by")
    emit_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


@app.command("exclude")
def exclude(
    epoch: Annotated[str, typer.Argument(help="Name of the epoch's mosaic.")],
    *,
    reason: Annotated[str, typer.Option(help="Why the epoch is excluded.")],
    by: Annotated[str, typer.Option(help="Who decided.")],
    later: Later = False,
) -> None:
    """Exclude an epoch from all light curves, and recompute them.

    Its fluxes stay in the registry. `dsa110 lightcurve include EPOCH` undoes this.

    Example: `dsa110 lightcurve exclude hourly_2026-03-12T05 --reason "thunderstorm" --by "J. Doe"`
    """
    from dsa110_assets.registry.queries.measurements import exclude_epoch
    from dsa110_assets.stages.platform import Platform

    platform = Platform.open()
    with platform.database.session() as session:
        exclude_epoch(session, epoch, reason=reason, person=by)
    _recompute(platform, later=later)


@app.command("include")
def include(epoch: Annotated[str, typer.Argument(help="Name of the epoch's mosaic.")], *, later: Later = False) -> None:
    """Include an excluded epoch again, and recompute light curves.

    Example: `dsa110 lightcurve include hourly_2026-03-12T05`
    """
    from dsa110_assets.registry.queries.measurements import include_epoch
    from dsa110_assets.stages.platform import Platform

    platform = Platform.open()
    with platform.database.session() as session:
        include_epoch(session, epoch)
    _recompute(platform, later=later)


@app.command("recompute")
def recompute(
    *,
    night: Annotated[str | None, typer.Option(help="UTC date. Default: the newest.")] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Fit all epochs again, not only what has changed.")] = False,
) -> None:
    """Recompute light curves, variability figures and candidates.

    Example: `dsa110 lightcurve recompute`
    """
    from dsa110_assets.cli.times import night_of
    from dsa110_assets.stages.platform import Platform

    chosen = None if (when := night_of(night)) is None else when.isoformat()
    _recompute(Platform.open(), night=chosen, from_start=from_start)


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.5f}" if value > 1e4 else f"{value:.5g}"  # times of observation need their decimals
    return value


def _recompute(platform: Platform, *, later: bool = False, night: str | None = None, from_start: bool = False) -> None:
    from dsa110_assets.stages.products import night as stages

    if later:
        typer.echo("saved; run `dsa110 lightcurve recompute` to update the light curves")
        return
    curves, _, ranked = stages.recompute(platform, "dsa110 lightcurve", night=night, from_start=from_start)
    figures = curves.figures
    typer.echo(
        f"{figures['sources']} light curves of {figures.get('epochs', 0)} epochs ({figures.get('excluded_epochs', 0)} excluded), "
        f"{ranked.figures['candidates']} candidates"
    )


def _find(platform: Platform, source: str) -> tuple[int, str]:
    from sqlalchemy import select

    from dsa110_assets.errors import LightCurveError
    from dsa110_assets.registry.schema import Source

    query = select(Source.source_id, Source.name)
    with platform.database.session() as session:
        row = session.execute(query.where(Source.name == source)).first()
        if row is None and source.isdecimal():
            row = session.execute(query.where(Source.source_id == int(source))).first()
    if row is None:
        raise LightCurveError(
            f"source {source}",
            "no source has this name or number",
            'list them with `dsa110 db query "SELECT source_id, name FROM sources"`',
        )
    return int(row[0]), str(row[1])


def _write(platform: Platform, number: int, name: str, output: Path) -> None:
    from dsa110_assets.photometry import write_table
    from dsa110_assets.registry.queries.measurements import light_curve

    with platform.database.session() as session:
        table = light_curve(session, number)
    if output.suffix.lower() == ".png":
        _write_plot(platform, number, name, output)
    else:
        write_table(table, output)
    typer.echo(f"{name}: {len(table)} epochs in {output}")


def _write_plot(platform: Platform, number: int, name: str, output: Path) -> None:
    from dsa110_assets.publication import publish
    from dsa110_assets.stages.products.night import source_light_curve
    from dsa110_assets.variability import light_curve_png

    png = light_curve_png(source_light_curve(platform, number), number, title=name)
    output.parent.mkdir(parents=True, exist_ok=True)
    with publish(output) as staged:
        staged.write_bytes(png)
