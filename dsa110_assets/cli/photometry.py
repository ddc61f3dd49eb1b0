"""`dsa110 photometry`: measure fluxes at given positions in images, as CSV, Parquet or VOTable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(no_args_is_help=True)

Output = Annotated[Path, typer.Option(help="Table to write: .csv, .fits, .parquet, .vot or .xml.")]
Positions = Annotated[
    Path | None,
    typer.Option(help="Table with name, ra_deg, dec_deg (ICRS). Default: the registry's active sources.", exists=True, dir_okay=False),
]
Noise = Annotated[list[Path] | None, typer.Option(help="Noise map of each image. Default: the one beside it.", exists=True)]


@app.callback()
def _group() -> None:
    """Forced photometry with the restoring beam.

    Example: `dsa110 photometry peak --image hourly_2026-03-12T05-image.fits --output fluxes.vot`
    """


@app.command("peak")
def peak(
    image: Annotated[
        Path, typer.Option(help="Image to measure: a mosaic's -image.fits or a tile's -image-pb.fits.", exists=True, dir_okay=False)
    ],
    output: Output,
    *,
    positions: Positions = None,
    noise: Noise = None,
    blend_beams: Annotated[float, typer.Option(min=0.0, max=100, help="Positions closer than this many beams are fitted together.")] = 1.5,
    calibration_error: Annotated[float, typer.Option(min=0.0, max=1, help="Error of the flux scale, as a fraction of the flux.")] = 0.0,
) -> None:
    """Measure the flux density of a point source at each position.

    The table has errors, upper limits and flags.

    Example: `dsa110 photometry peak --image flare-image.fits --positions sources.csv --output fluxes.csv`
    """
    from dsa110_assets.files import refuse_directory, refuse_overwriting
    from dsa110_assets.photometry import PhotometryOptions, measure_file, write_table
    from dsa110_assets.photometry.tables import check_suffix

    check_suffix(output)
    refuse_directory(output)
    refuse_overwriting(output, (image, positions, *(noise or ())))
    where = _positions(positions)
    table = measure_file(
        image,
        where,
        noise_path=_one_noise(noise, 1)[0],
        options=PhotometryOptions(blend_beams=blend_beams, calibration_error=calibration_error),
    )
    _refuse_nothing(table, where, [image])
    write_table(table, output)
    _summary(table, output)


@app.command("adaptive")
def adaptive(
    image: Annotated[
        list[Path],
        typer.Option(help="Directory, or directory and name, of a tile or mosaic with channel images; or one channel's image, repeated."),
    ],
    output: Output,
    *,
    positions: Positions = None,
    noise: Noise = None,
    target_snr: Annotated[
        float, typer.Option(min=1.0, max=1e6, help="Combine adjacent channels until the expected S/N reaches this.")
    ] = 5.0,
) -> None:
    """Measure flux densities in frequency bins.

    A brighter source gets more bins.

    Example: `dsa110 photometry adaptive --image mosaics/hourly_2026-03-12T05 --output spectra.parquet`
    """
    from dsa110_assets.files import refuse_directory, refuse_overwriting
    from dsa110_assets.photometry import adaptive as measure_adaptive
    from dsa110_assets.photometry import channel_images, read_channel, write_table
    from dsa110_assets.photometry.tables import check_suffix

    check_suffix(output)
    refuse_directory(output)
    images = [one for path in image for one in channel_images(path)]
    refuse_overwriting(output, (*images, positions, *(noise or ())))
    channels = [read_channel(path, noise_map) for path, noise_map in zip(images, _one_noise(noise, len(images)), strict=True)]
    where = _positions(positions)
    table = measure_adaptive(channels, where["ra_deg"].to_numpy(), where["dec_deg"].to_numpy(), target_snr=target_snr)
    _refuse_nothing(table, where, images)
    table.insert(0, "name", where["name"].to_numpy()[table["position"].to_numpy()])
    write_table(table, output)
    _summary(table, output)


@app.command("position")
def position(
    where: Annotated[str, typer.Argument(help="ICRS, such as 08:34:54.9 +55:34:21 or 128.729 +55.572, as one argument.")],
    *,
    mosaics: Annotated[int, typer.Option(min=1, max=200, help="Number of hourly mosaics, the newest first.")] = 30,
    before: Annotated[str | None, typer.Option(help="Go on with mosaics before this observation.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a position in the newest hourly mosaics. It is done now and here.

    The search page shows these fluxes too.

    Example: `dsa110 photometry position "08:34:54.9 +55:34:21" --mosaics 10`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.common.position_lists import position_of
    from dsa110_assets.errors import PositionsError
    from dsa110_assets.stages.operations.positions import measure_at
    from dsa110_assets.stages.platform import Platform

    given = position_of(where)
    if given is None:
        raise PositionsError("position", f"{where!r} is none", "write it as 08:34:54.9 +55:34:21 or 128.729 +55.572")
    found = measure_at(Platform.open(), *given, "command", most=mosaics, before=before)
    if json:
        emit_json({"fluxes": found.rows, "left_out": found.left_out})
        return
    columns = ("mosaic_name", "time_mjd", "flux_jy", "flux_err_jy", "snr", "upper_limit_jy", "flags")
    emit_table(
        columns, [[f"{row[c]:.6g}" if isinstance(row[c], float) and c != "time_mjd" else row[c] for c in columns] for row in found.rows]
    )
    for name, why in found.left_out.items():
        typer.echo(f"left out {name}: {why}", err=True)


def _one_noise(noise: list[Path] | None, number: int) -> list[Path | None]:
    if not noise:
        return [None] * number
    if len(noise) != number:
        message = f"{len(noise)} noise maps for {number} images"
        raise typer.BadParameter(message)
    return list(noise)


def _positions(path: Path | None) -> pd.DataFrame:
    from dsa110_assets.common.position_lists import read_positions

    if path is not None:
        return read_positions(path)
    from dsa110_assets.registry.queries.sources import source_table
    from dsa110_assets.stages.platform import Platform

    with Platform.open().database.session() as session:
        return source_table(session)


def _refuse_nothing(table: pd.DataFrame, positions: pd.DataFrame, images: list[Path]) -> None:
    from dsa110_assets.errors import PhotometryError

    if len(table):
        return
    cause = "the list of positions is empty"
    if len(positions):
        first = positions.iloc[0]
        cause = (
            f"none of the {len(positions)} positions lies on valid pixels; the first is {first['name']} at RA {first['ra_deg']:.4f}, "
            f"Dec {first['dec_deg']:+.4f} (ICRS)"
        )
    raise PhotometryError(images[0], cause, "give positions inside the image; RA and Dec are degrees")


def _summary(table: pd.DataFrame, output: Path) -> None:
    limits = int(table["is_limit"].to_numpy().sum()) if len(table) else 0
    typer.echo(f"{len(table)} fluxes ({limits} upper limits) in {output}")
