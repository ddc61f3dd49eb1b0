"""`dsa110 simulate`: raw files of a known sky, for demonstrations, tests and benchmarks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dsa110_assets.simulation.imperfections import Imperfections

app = typer.Typer(no_args_is_help=True)


class Size(StrEnum):
    """Sizes of an observation."""

    TINY = "tiny"
    DEMO = "demo"
    FULL = "full"


class Truth(StrEnum):
    """How far telescope and catalog are from what the pipeline assumes."""

    PERFECT = "perfect"
    WRONG_CATALOG = "wrong-catalog"
    REAL = "real"


_TRUTH_HELP = (
    "perfect: a perfect telescope under a known sky; wrong-catalog: a catalog with errors of 10 % that lacks a fifth, and a "
    "tenth of variables; real: that, and all imperfections of the telescope."
)


def _imperfections(truth: Truth) -> Imperfections:
    from dsa110_assets.simulation.imperfections import NONE, REAL, WRONG_CATALOG

    return {Truth.PERFECT: NONE, Truth.WRONG_CATALOG: WRONG_CATALOG, Truth.REAL: REAL}[truth]


@app.callback()
def _group() -> None:
    """Simulate raw files: one tile, or a night of the demonstration.

    Example: `dsa110 simulate tile /data/incoming --size demo`
    """


@app.command("tile")
def tile(
    output: Annotated[Path, typer.Argument(help="Directory for the 16 files.")],
    *,
    size: Annotated[Size, typer.Option(help="tiny: 8 antennas; demo: 24 antennas, 30 MB; full: 96 antennas, 2.3 GB.")] = Size.DEMO,
    start: Annotated[str, typer.Option(help="Center of the first integration, UTC.")] = "2026-03-12T05:09:39.2",
    declination: Annotated[float, typer.Option(min=-90, max=90, help="Pointing declination, degrees.")] = 54.6,
    min_jy: Annotated[float, typer.Option(min=0, max=1e6, help="Flux density of the faintest source, Jy.")] = 0.12,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Random seed of noise and gains.")] = 110,
    truth: Annotated[Truth, typer.Option(help=_TRUTH_HELP)] = Truth.PERFECT,
    reference: Annotated[Path | None, typer.Option(help="Directory for the reference catalogs and the true sky.")] = None,
) -> None:
    """Write the raw files of one observation of the demonstration's sky.

    Example: `dsa110 simulate tile /data/incoming --size full --reference /data/reference`
    """
    from datetime import UTC, datetime

    from dsa110_assets.simulation import array, band
    from dsa110_assets.simulation.night import demo_plan
    from dsa110_assets.simulation.receivers import Receivers
    from dsa110_assets.simulation.tile import simulate_tile
    from dsa110_assets.times import datetime_to_mjd

    plan = demo_plan(min_jy=min_jy, imperfections=_imperfections(truth))
    layout = {Size.TINY: array.tiny_array, Size.DEMO: array.demo_array, Size.FULL: array.full_array}[size]()
    files = simulate_tile(
        output,
        start_mjd=datetime_to_mjd(datetime.fromisoformat(start).replace(tzinfo=UTC)),
        declination_deg=declination,
        sky=plan.sky,
        array=layout,
        band=band.full_band() if size is Size.FULL else band.demo_band(),
        seed=seed,
        receivers=Receivers(seed=seed),
        imperfections=plan.imperfections,
    )
    if reference is not None:
        reference.mkdir(parents=True, exist_ok=True)
        plan.write_references(reference)
        plan.write_truth(reference)
    typer.echo(f"{len(files)} files in {output}, {sum(f.stat().st_size for f in files) / 1e6:.0f} MB, {len(plan.sky)} sources in the sky")


@app.command("night")
def night(
    output: Annotated[Path, typer.Argument(help="Directory for the raw files.")],
    *,
    which: Annotated[int, typer.Option(min=1, max=2, help="First or second night of the demonstration.")] = 1,
    tiles: Annotated[int, typer.Option(min=2, max=24, help="Number of observations.")] = 12,
    min_jy: Annotated[float, typer.Option(min=0, max=1e6, help="Flux density of the faintest source, Jy.")] = 0.12,
    truth: Annotated[Truth, typer.Option(help=_TRUTH_HELP)] = Truth.PERFECT,
    dwell: Annotated[float, typer.Option(min=0, max=86_400, help="Seconds to wait after each file.")] = 0.0,
    reference: Annotated[Path | None, typer.Option(help="Directory for the reference catalogs and the true sky.")] = None,
) -> None:
    """Write the raw files of one night of the demonstration.

    The files appear one by one, as at the telescope.

    Example: `dsa110 simulate night /data/incoming --which 2 --reference /data/reference`
    """
    from dsa110_assets.simulation.night import demo_plan

    plan = demo_plan(n_tiles=tiles, min_jy=min_jy, imperfections=_imperfections(truth))
    if reference is not None:
        reference.mkdir(parents=True, exist_ok=True)
        plan.write_references(reference)
        plan.write_truth(reference)
    written = plan.simulate(output, which - 1, dwell_s=dwell, on_tile=lambda i, files: typer.echo(f"tile {i + 1}: {files[0].name} ..."))
    typer.echo(f"{sum(len(files) for files in written.files)} files in {output}")
