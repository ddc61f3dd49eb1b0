"""`dsa110 image`: images of one calibrated Measurement Set by hand, without Dagster and without the registry."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.imaging import ImageReport
    from dsa110_assets.quality.gate import TileVerdict
    from dsa110_assets.quality.verdict import Verdict


class Engine(StrEnum):
    """Imaging engines."""

    WGRIDDER = "wgridder"
    WPROJECT = "wproject"
    WSCLEAN = "wsclean"


class Weights(StrEnum):
    """Imaging weights."""

    BRIGGS = "briggs"
    NATURAL = "natural"
    UNIFORM = "uniform"


def image(
    *,
    ms: Annotated[Path, typer.Option("--ms", help="Calibrated Measurement Set to image.")],
    imagename: Annotated[Path, typer.Option("--imagename", help="Prefix of the products: DIR/NAME gives DIR/NAME-image.fits and so on.")],
    mask_radius_arcsec: Annotated[
        float | None, typer.Option(min=0.1, max=36_000, help="Radius of the mask's circles around catalog sources.")
    ] = None,
    no_nvss_mask: Annotated[
        bool, typer.Option("--no-nvss-mask", help="Search the whole image, instead of around catalog sources first.")
    ] = False,
    mask: Annotated[Path | None, typer.Option(help="FITS mask with the image's pixels, instead of circles around catalog sources.")] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="Reference sky (Parquet: ra_deg, dec_deg, flux_jy). Default: the platform's own.")
    ] = None,
    no_catalog: Annotated[bool, typer.Option("--no-catalog", help="Use no catalog; fluxes and positions are not checked.")] = False,
    engine: Annotated[Engine | None, typer.Option(help="Imaging engine.")] = None,
    size: Annotated[int | None, typer.Option(min=64, max=32768, help="Pixels on a side; even.")] = None,
    cell_arcsec: Annotated[float | None, typer.Option(min=0.01, max=3600, help="Pixel size.")] = None,
    weighting: Annotated[Weights, typer.Option(help="Imaging weights.")] = Weights.BRIGGS,
    robust: Annotated[float | None, typer.Option(min=-2, max=2, help="Briggs robustness.")] = None,
    taper_arcsec: Annotated[float, typer.Option(min=0, max=36_000, help="FWHM of a Gaussian taper that widens the PSF.")] = 0.0,
    uv_min: Annotated[float, typer.Option(min=0, max=1e9, help="Shortest baseline, wavelengths.")] = 0.0,
    uv_max: Annotated[float, typer.Option(min=0, max=1e9, help="Longest baseline, wavelengths; 0 for no limit.")] = 0.0,
    multiscale: Annotated[bool | None, typer.Option(help="Multi-scale CLEAN, for extended emission.")] = None,
    niter: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Maximum number of minor iterations; 0 gives the dirty image.")
    ] = None,
    auto_mask: Annotated[float | None, typer.Option(min=1, max=1e6, help="Find components down to this many times the noise.")] = None,
    auto_threshold: Annotated[
        float | None, typer.Option(min=0.1, max=1e6, help="Clean components down to this many times the noise.")
    ] = None,
    local_rms: Annotated[
        bool | None, typer.Option("--local-rms/--global-rms", help="Also require that components exceed the local noise.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, max=16, help="Split the band into this many parts, clean them jointly, and map the spectral index.")
    ] = None,
    spectral_terms: Annotated[int | None, typer.Option(min=1, max=4, help="Number of polynomial terms of the components' spectra.")] = None,
    selfcal: Annotated[
        int | None,
        typer.Option(min=0, max=10, help="Maximum rounds of self-calibration: phases, then amplitudes, as long as the image improves."),
    ] = None,
    selfcal_integrations: Annotated[
        int, typer.Option(min=0, max=1000, help="Integrations that share the gains of self-calibration; 0 for the whole tile.")
    ] = 0,
    threads: Annotated[int | None, typer.Option(min=0, max=128, help="Threads to use; 0 for all cores.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Image a tile, correct it for the primary beam, and check it.

    Options that are left out come from the configuration (`dsa110 config show`). The products are dirty, psf, model,
    residual, image, image-pb, pb, weight and noise as FITS, and previews. --channels adds NAME-chNN-image, -image-pb,
    -pb and -weight for each channel, and NAME-alpha and -alpha-error. They appear together, once all are complete. Exit
    codes: 0 the image is good; 1 it was made and is not good; 2 failure.

    Example: `dsa110 image --ms tile.cal.ms --imagename out/tile --uv-min 100`
    """
    from dataclasses import replace

    from dsa110_assets.cli.output import libraries_write_to_stderr
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.imaging import ImagingOptions
    from dsa110_assets.quality import gate

    config = PipelineConfig.from_env(validate_paths=False)
    ms = config.own_spelling(ms)
    _refuse_own_inputs(imagename, ms, mask, catalog)
    given = {
        "engine": engine and engine.value,
        "image_size": size,
        "cell_arcsec": cell_arcsec,
        "weighting": weighting.value,
        "briggs_robust": robust,
        "taper_arcsec": taper_arcsec,
        "uv_min_lambda": uv_min,
        "uv_max_lambda": uv_max,
        "multiscale": multiscale,
        "niter": niter,
        "auto_mask_sigma": auto_mask,
        "auto_threshold_sigma": auto_threshold,
        "mask_radius_arcsec": mask_radius_arcsec,
        "use_mask": False if no_nvss_mask else None,
        "local_rms": local_rms,
        "channels": channels,
        "spectral_terms": spectral_terms,
        "selfcal_rounds": selfcal,
        "selfcal_integrations": selfcal_integrations,
        "threads": threads,
    }
    options = replace(ImagingOptions.from_config(config), **{name: value for name, value in given.items() if value is not None})
    sky = None if no_catalog else _reference_sky(config, catalog)
    with libraries_write_to_stderr():
        report, verdicts = _make(ms, imagename, options, sky, mask, config)
    verdict = gate.verdict_on(verdicts)
    _show(report, verdicts, verdict, json=json)
    if not verdict.is_good:
        raise typer.Exit(1)


def _refuse_own_inputs(prefix: Path, ms: Path, mask: Path | None, catalog: Path | None) -> None:
    """Refuse a prefix whose products would replace an input, lie in the Measurement Set, or have too long a name."""
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.files import LONGEST_NAME_BYTES, refuse_overwriting
    from dsa110_assets.products import channel_name, image_path, parse_image_name

    longest = image_path(prefix.parent, channel_name(prefix.name, 0), "alpha-error").name
    if len(os.fsencode(longest)) > LONGEST_NAME_BYTES:
        raise ConfigurationError("--imagename", f"makes names of files longer than {LONGEST_NAME_BYTES} bytes", "give a shorter one")
    refuse_overwriting(prefix.parent, [ms])
    for one in (mask, catalog):
        if one is not None and (parsed := parse_image_name(one.name)) is not None and parsed.name == prefix.name:
            refuse_overwriting(prefix.with_name(one.name), [one])


def _reference_sky(config: PipelineConfig, catalog: Path | None) -> pd.DataFrame | None:
    """The given catalog, or the platform's own, or None if there is none."""
    from dsa110_assets.catalogs import sky
    from dsa110_assets.products import ProductPaths
    from dsa110_assets.stages.products.references import REFERENCE_FILE

    own = ProductPaths.of(config).catalogs_dir / REFERENCE_FILE
    if catalog is None and not own.is_file():
        typer.echo(f"no reference catalog at {own}: searching the whole image; fluxes and positions are not checked", err=True)
        return None
    return sky.load_reference(catalog or own)


def _imaging_sky(ms: Path, sky: pd.DataFrame | None, config: PipelineConfig) -> pd.DataFrame | None:
    """The catalog around the tile, completed with the platform's calibrators; None without a catalog."""
    from dsa110_assets.catalogs import calibrators
    from dsa110_assets.catalogs.sky import completed, cone, of_calibrators
    from dsa110_assets.common.instrument import SKY_RADIUS_DEG
    from dsa110_assets.common.measurement_sets import read_tile_pointing
    from dsa110_assets.products import CALIBRATORS_FILE, ProductPaths

    if sky is None:
        return None
    pointing, list_file = read_tile_pointing(ms), ProductPaths.of(config).catalogs_dir / CALIBRATORS_FILE
    center = (pointing.phase_ra_deg, pointing.phase_dec_deg, SKY_RADIUS_DEG)
    near = cone(sky, *center)
    return completed(near, cone(of_calibrators(calibrators.load(list_file)), *center)) if list_file.is_file() else near


def _make(
    ms: Path, prefix: Path, options: object, sky: pd.DataFrame | None, mask: Path | None, config: PipelineConfig
) -> tuple[ImageReport, list[Verdict]]:
    """Image into a directory beside the destination, check the image, and move all products into place."""
    import tempfile
    from dataclasses import replace

    from dsa110_assets.imaging import ImagingOptions, image_tile
    from dsa110_assets.publication import flush_to_disk, move_into_place
    from dsa110_assets.quality.image import ImageLimits, judge_tile, read_tile
    from dsa110_assets.registry.provenance import release
    from dsa110_assets.stages.provenance.recipes import recipe_of
    from dsa110_assets.stages.table import TILE_IMAGE

    assert isinstance(options, ImagingOptions)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    recipe = recipe_of(TILE_IMAGE.name, config)
    provenance = {"DSACODE": f"{release()} {recipe.code_version}", "inputs": str(ms), "options": str(options)}
    with tempfile.TemporaryDirectory(prefix=".image-", dir=prefix.parent) as scratch:
        staged = Path(scratch)
        report = image_tile(ms, staged, prefix.name, options, mask_sky=_imaging_sky(ms, sky, config), user_mask=mask, provenance=provenance)
        verdicts = judge_tile(read_tile(staged, prefix.name), sky, ImageLimits.from_config(config))

        def place(path: Path) -> Path:
            destination = prefix.parent / path.name
            flush_to_disk(path)
            move_into_place(path, destination)
            return destination

        images = {suffix: place(path) for suffix, path in report.images.items()}
        return replace(report, images=images, preview=place(report.preview), preview_large=place(report.preview_large)), verdicts


def _show(report: ImageReport, verdicts: list[Verdict], verdict: TileVerdict, *, json: bool) -> None:
    from dataclasses import asdict

    from dsa110_assets.cli.output import emit_json, emit_table

    figures = {
        "noise_mjy_per_beam": report.noise_jy_per_beam * 1e3,
        "thermal_mjy_per_beam": report.thermal_jy_per_beam * 1e3,
        "peak_jy_per_beam": report.peak_jy_per_beam,
        "dynamic_range": report.dynamic_range,
        "beam_arcsec": [report.beam.major_arcsec, report.beam.minor_arcsec],
        "beam_angle_deg": report.beam.pa_deg,
        "engine": report.engine,
        "bright_sources": report.bright_sources,
        "major_cycles": report.major_cycles,
        "converged": report.converged,
        "channels_mhz": [round(channel.frequency_hz / 1e6, 1) for channel in report.channels],
        "self_calibration": report.selfcal.summary if report.selfcal else "not requested",
    }
    if json:
        files = {suffix: str(path) for suffix, path in report.images.items()} | {"preview": str(report.preview)}
        emit_json(
            {
                **figures,
                "good": verdict.is_good,
                "verdict": verdict.word,
                "bad": verdict.bad,
                "reason": verdict.reason or None,
                "next_step": verdict.next_step or None,
                "files": files,
                "seconds": report.seconds,
                "checks": [asdict(v) for v in verdicts],
            }
        )
        return
    emit_table(("figure", "value"), [(name, _short(value)) for name, value in figures.items()], title=str(report.images["image"]))
    emit_table(
        ("check", "verdict", "value", "lowest", "highest", "how"),
        [
            (v.name, v.outcome.upper() if v.passed is False else v.outcome.value, _short(v.value), _short(v.low), _short(v.high), v.reason)
            for v in verdicts
        ],
        wrap=True,
    )


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_short(entry) for entry in value)
    return "" if value is None else str(value)
