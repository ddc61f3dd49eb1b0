"""`dsa110 catalogs`: make, list and search reference catalogs, and predict transits of calibrators."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

    from dsa110_assets.catalogs.survey_list import Coverage
    from dsa110_assets.common.directions import Site
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.stages.provenance.recording import StageResult

app = typer.Typer(no_args_is_help=True)


class Name(StrEnum):
    """Catalogs that can be made."""

    CALIBRATORS = "calibrators"
    NVSS = "nvss"
    FIRST = "first"
    RACS = "racs"
    VLASS = "vlass"
    MONITORED = "monitored"


class Searchable(StrEnum):
    """Catalogs that can be searched."""

    NVSS = "nvss"
    FIRST = "first"
    RACS = "racs"
    VLASS = "vlass"


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print all rows as CSV.")]
CatalogOption = Annotated[Searchable, typer.Option(help="Catalog to search.")]
FaintestOption = Annotated[float, typer.Option(min=0, max=1e9, help="Minimum flux density, mJy.")]
LimitOption = Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows in the table.")]


@app.callback()
def _group() -> None:
    """Local catalogs: calibrators, NVSS, FIRST, RACS, VLASS.

    Example: `dsa110 catalogs list`
    """


@app.command("refresh")
def refresh(
    name: Annotated[Name, typer.Argument(help="Catalog to make.")],
    *,
    file: Annotated[
        Path | None, typer.Option(help="Source file: text of the VLA manual (calibrators), Parquet (nvss), table of positions (monitored).")
    ] = None,
    dec: Annotated[
        list[float] | None,
        typer.Option(min=-90, max=90, help="For a survey from VizieR: center of a strip of declination, degrees; may be repeated."),
    ] = None,
    half_height: Annotated[float, typer.Option(min=0.01, max=90, help="Half the height of the strips, degrees.")] = 4.0,
    min_mjy: Annotated[float, typer.Option(min=0, max=1e9, help="For a survey from VizieR: minimum flux density, mJy.")] = 1.0,
    yes: Annotated[bool, typer.Option("--yes", help="For monitored: accept an empty list, or one that drops over a quarter.")] = False,
    json: JsonOption = False,
) -> None:
    """Make or update a local catalog.

    The old one stays until the new one is complete. Calibrators, NVSS and monitored positions are products of the
    platform and are registered; the other surveys are only files.

    Example: `dsa110 catalogs refresh vlass --dec 54.6 --dec 16.3`
    """
    from dsa110_assets.catalogs import surveys
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import ConfigurationError

    config = PipelineConfig.from_env(validate_paths=False)
    strips = [surveys.Strip(one, half_height) for one in dec or []]
    online = name in (Name.FIRST, Name.RACS, Name.VLASS) or (name is Name.NVSS and bool(strips))
    if online and (file is not None or not strips):
        raise ConfigurationError(
            "--dec", f"{name.value} comes from VizieR strip by strip", "give --dec, the pointing declination, and no --file"
        )
    if strips and not online:
        raise ConfigurationError("--dec", f"{name.value} is made from a file", "leave --dec out")
    figures = _from_vizier(name, config, strips, min_mjy) if online else _from_file(name, config, file, accept_large_change=yes)
    if json:
        emit_json(figures)
    else:
        emit_table(("what", "value"), list(figures.items()), title=name.value)


def _from_file(name: Name, config: PipelineConfig, file: Path | None, *, accept_large_change: bool) -> dict[str, object]:
    from dsa110_assets.files import real_path, refuse_overwriting
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.products import references

    makers = {
        Name.CALIBRATORS: ("vla_calibrators_file", references.refresh_calibrators),
        Name.NVSS: ("nvss_file", references.refresh_nvss),
        Name.MONITORED: (
            "monitored_sources_file",
            references.refresh_monitored_anyway if accept_large_change else references.refresh_monitored,
        ),
    }
    setting, maker = makers[name]
    chosen = config if file is None else config.model_copy(update={setting: real_path(file)})
    platform = Platform.open(chosen)
    for made in (references.calibrators_path(platform), references.reference_path(platform)):
        refuse_overwriting(made, [file])
    return _figures(maker(platform, _run_id()))


def _from_vizier(name: Name, config: PipelineConfig, strips: list, min_mjy: float) -> dict[str, object]:
    from rich.console import Console

    from dsa110_assets.catalogs import surveys
    from dsa110_assets.catalogs.survey_list import SURVEYS
    from dsa110_assets.products import ProductPaths
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.products import references

    with Console(stderr=True).status(f"{name.value} from {config.vizier_server}") as status:

        def progress(done: int, total: int) -> None:
            status.update(f"{name.value} from {config.vizier_server}: {done} of {total} pieces")

        if name is Name.NVSS:
            result = references.refresh_nvss_online(Platform.open(config), _run_id(), strips, min_mjy=min_mjy, progress=progress)
            return _figures(result)
        survey = SURVEYS[name.value]
        table = surveys.fetch(survey, strips, min_mjy=min_mjy, server=config.vizier_server, progress=progress)
        path = ProductPaths.of(config).catalogs_dir / f"{name.value}.parquet"
        surveys.save(table, path)
    return {"sources": len(table), "source": survey.vizier, "path": str(path)}


def _run_id() -> str:
    from uuid import uuid4

    return f"by-hand-{uuid4().hex[:12]}"


def _figures(result: StageResult | None) -> dict[str, object]:
    return {} if result is None else {**result.figures, **{name: str(path) for name, path in result.paths.items()}}


@app.command("own")
def show_own(*, limit: Annotated[int, typer.Option(min=1, max=1000, help="Most rows.")] = 100, json: JsonOption = False) -> None:
    """List the bright sources that images found and no catalog has. Later images start from them.

    Example: `dsa110 catalogs own`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.registry.queries import sky_model
    from dsa110_assets.stages.platform import Platform

    with Platform.open().database.session() as session:
        rows = sky_model.newest(session, limit=limit).rows
    if json:
        emit_json(rows)
        return
    columns = ("source_id", "ra_deg", "dec_deg", "flux_jy", "flux_err_jy", "primary_beam", "origin", "group_id", "first_mjd", "last_mjd")
    emit_table(columns, [[row[name] for name in columns] for row in rows])


@app.command("list")
def show_list(*, json: JsonOption = False) -> None:
    """List local catalogs: contents, size, and age.

    Example: `dsa110 catalogs list`
    """
    from datetime import UTC, datetime

    from dsa110_assets.catalogs import calibrators
    from dsa110_assets.catalogs.survey_list import SURVEYS, coverage
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.products import CALIBRATORS_FILE, ProductPaths

    directory = ProductPaths.of(PipelineConfig.from_env(validate_paths=False)).catalogs_dir
    rows: list[dict[str, object]] = []
    path = directory / CALIBRATORS_FILE
    known = calibrators.load(path) if path.is_file() else []
    usable, standards = sum(c.sets_flux_scale for c in known), sum(c.standard is not None for c in known)
    contents = f"{usable} may set the flux scale, {standards} standards, {sum(c.is_variable for c in known)} variable"
    rows.append({"name": "calibrators", "sources": len(known), "contents": contents, "path": path})
    for name, survey in SURVEYS.items():
        path = directory / f"{name}.parquet"
        found = coverage(path) if path.is_file() else None
        rows.append({"name": name, "sources": found.sources if found else 0, "contents": _contents(found, survey.reference), "path": path})
    for row in rows:
        path = Path(str(row["path"]))
        row["made"] = f"{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%dT%H:%M:%SZ}" if path.is_file() else None
        if row["made"] is None:
            from_file = row["name"] == Name.CALIBRATORS
            step = (
                "`dsa110 catalogs refresh calibrators --file FILE`" if from_file else f"`dsa110 catalogs refresh {row['name']} --dec DEC`"
            )
            row["contents"] = f"missing; make it with {step}"
        row["path"] = str(path)
    if json:
        emit_json(rows)
    else:
        emit_table(
            ("name", "sources", "contents", "made", "path"),
            [list(map(row.get, ("name", "sources", "contents", "made", "path"))) for row in rows],
        )


def _contents(found: Coverage | None, reference: str) -> str:
    if found is None:
        return ""
    where = ", ".join(f"{low:+.1f} to {high:+.1f}" for low, high in found.strips_deg)
    return f"declination {where} deg, above {found.faintest_jy * 1e3:.3g} mJy; {reference}"


@app.command("cone")
def cone(
    ra: Annotated[float, typer.Argument(min=0, max=360, help="Right ascension, ICRS, degrees.")],
    dec: Annotated[float, typer.Argument(min=-90, max=90, help="Declination, ICRS, degrees (after `--` if negative).")],
    radius: Annotated[float, typer.Argument(min=0, max=180, help="Radius of the cone, degrees.")],
    *,
    catalog: CatalogOption = Searchable.NVSS,
    min_mjy: FaintestOption = 0.0,
    limit: LimitOption = 40,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """List sources around a direction, brightest first.

    Example: `dsa110 catalogs cone 128.7288 55.5725 0.5 --catalog first --min-mjy 10`
    """
    from dsa110_assets.catalogs import sky

    found = sky.cone(_table(catalog), ra, dec, radius)
    found = found.assign(separation_arcmin=60 * sky.separation_deg(found, ra, dec))
    _show(found, min_mjy, limit, as_json=json, as_csv=csv)


@app.command("strip")
def strip(
    dec: Annotated[float, typer.Argument(min=-90, max=90, help="Center of the strip, degrees (after `--` if negative).")],
    half_height: Annotated[float, typer.Argument(min=0, max=90, help="Half the height of the strip, degrees.")] = 1.35,
    *,
    ra_from: Annotated[float, typer.Option(min=-360, max=720, help="Right ascension where the strip begins, degrees.")] = 0.0,
    ra_to: Annotated[
        float,
        typer.Option(
            min=-360, max=720, help="Right ascension where it ends, to the east; may lie beyond 0h. Equal to --ra-from: the whole circle."
        ),
    ] = 0.0,
    catalog: CatalogOption = Searchable.NVSS,
    min_mjy: FaintestOption = 0.0,
    limit: LimitOption = 40,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """List sources in a strip of declination, by right ascension.

    Example: `dsa110 catalogs strip 54.6 1.35 --ra-from 350 --ra-to 10 --min-mjy 500`
    """
    from dsa110_assets.catalogs import sky

    _show(sky.strip(_table(catalog), ra_from, ra_to, dec, half_height), min_mjy, limit, as_json=json, as_csv=csv)


def _table(catalog: Searchable) -> pd.DataFrame:
    from dsa110_assets.catalogs import surveys
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.products import ProductPaths

    return surveys.load(ProductPaths.of(PipelineConfig.from_env(validate_paths=False)).catalogs_dir / f"{catalog.value}.parquet")


def _show(found: pd.DataFrame, min_mjy: float, limit: int, *, as_json: bool, as_csv: bool) -> None:
    from dsa110_assets.cli.output import emit_csv, emit_json, emit_table

    found = found.loc[found["flux_jy"].to_numpy() * 1e3 >= min_mjy]
    columns = [str(name) for name in found.columns]
    if as_json:
        emit_json(found.to_dict("records"))
    elif as_csv:
        emit_csv(columns, found.itertuples(index=False, name=None))
    else:
        shown = [name for name in columns if found[name].notna().to_numpy().any() and name != "frequency_hz"]
        rows = found[shown].head(limit).itertuples(index=False, name=None)
        emit_table(
            shown, [[f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows], title=f"{len(found)} sources"
        )
        if len(found) > limit:
            typer.echo(f"only the first {limit}; use --limit or --csv", err=True)
    raise typer.Exit(0 if len(found) else 1)


@app.command("transits")
def transits(
    name: Annotated[str | None, typer.Argument(help="Calibrator, such as 0834+555 or 3C286. Default: all that the pointing sees.")] = None,
    *,
    start: Annotated[str | None, typer.Option(help="Start, UTC, YYYY-MM-DD[THH:MM:SS]. Default: now.")] = None,
    days: Annotated[float, typer.Option(min=0.01, max=3660, help="Days from the start.")] = 1.0,
    dec: Annotated[
        float | None,
        typer.Option(min=-90, max=90, help="Pointing declination (apparent, degrees). Gives the beam; required without a name."),
    ] = None,
    min_jy: Annotated[float, typer.Option(min=0, max=1e6, help="Without a name: minimum flux density, Jy.")] = 1.0,
    raw: Annotated[
        Path | None, typer.Option(help="Raw file, or directory of raw files, whose header has the site. Default: PIPELINE_INPUT_DIR.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List transits of calibrators.

    Shows whether each calibrator may set the flux scale. The site comes from a raw file's header, because published
    positions of the array differ. Exit code 1: nothing transits.

    Example: `dsa110 catalogs transits --dec 54.6 --start 2026-03-12`
    """
    from datetime import UTC, datetime

    from dsa110_assets.catalogs import calibrators
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.cli.times import mjd_of
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.products import CALIBRATORS_FILE, ProductPaths
    from dsa110_assets.times import datetime_to_mjd, mjd_to_datetime

    config = PipelineConfig.from_env(validate_paths=False)
    if name is None and dec is None:
        raise ConfigurationError("transits", "neither a calibrator nor a declination", "give a name, or --dec")
    catalog = calibrators.load(ProductPaths.of(config).catalogs_dir / CALIBRATORS_FILE)
    site = _site(raw or config.input_dir)
    first = datetime_to_mjd(datetime.now(UTC)) if start is None else mjd_of(start)
    found = calibrators.transits(
        [calibrators.find(catalog, name)] if name is not None else catalog,
        site,
        first,
        first + days,
        pointing_dec_deg=dec,
        min_flux_jy=0.0 if name is not None else min_jy,
        min_beam=0.0 if name is not None else 0.5,
        usable_only=name is None,
    )
    rows = [
        {
            "calibrator": one.calibrator.name,
            "other_name": one.calibrator.alt_name,
            "transit": f"{mjd_to_datetime(one.mjd):%Y-%m-%dT%H:%M:%S.%f}"[:-5],
            "mjd": one.mjd,
            "flux_jy": one.calibrator.flux_at_jy() if one.calibrator.sets_flux_scale else None,
            "scale": one.calibrator.scale,
            "elevation_deg": round(one.elevation_deg, 2),
            "beam": None if one.beam is None else round(one.beam, 3),
        }
        for one in found
    ]
    if json:
        emit_json(rows)
    else:
        columns = ("calibrator", "other_name", "transit", "flux_jy", "scale", "elevation_deg", "beam")
        cells = [[f"{row[c]:.3f}" if c == "flux_jy" and row[c] is not None else row[c] for c in columns] for row in rows]
        emit_table(("calibrator", "other name", "transit (UTC)", "Jy at 1.4 GHz", "flux scale", "elevation (deg)", "power beam"), cells)
    raise typer.Exit(0 if rows else 1)


def _site(source: Path) -> Site:
    from dsa110_assets.rawfile import any_site, read_raw_header

    return read_raw_header(source).site if source.is_file() else any_site(source)
