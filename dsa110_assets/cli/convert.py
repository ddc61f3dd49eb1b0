"""`dsa110 convert`: raw files to Measurement Sets by hand, without Dagster."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_assets.cli.convert_ms import convert_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import PipelineError
    from dsa110_assets.stages.by_hand.batch_conversion import RejectedFile, Step, Transit

app = typer.Typer(no_args_is_help=True)
app.command("ms")(convert_ms)


class Writer(StrEnum):
    """Names that scripts of the earlier pipeline use. There is only one writer."""

    AUTO = "auto"
    PARALLEL_SUBBAND = "parallel-subband"


@app.callback()
def _group() -> None:
    """Convert by hand, by time window or calibrator transit.

    Example: `dsa110 convert groups /data/incoming /data/ms 2026-03-12T05:00:00 2026-03-12T06:00:00`
    """


@app.command("groups")
def groups(
    input_dir: Annotated[Path, typer.Argument(metavar="IN", help="Directory of raw files, which are never changed.")],
    output_dir: Annotated[Path, typer.Argument(metavar="OUT", help="Measurement Sets go to OUT/<date>/<observation>.ms.")],
    start: Annotated[str | None, typer.Argument(help="UTC, YYYY-MM-DD[THH:MM:SS]. Optional with --calibrator.")] = None,
    end: Annotated[str | None, typer.Argument(help="UTC. Observations that start in [START, END) are converted.")] = None,
    *,
    calibrator: Annotated[str | None, typer.Option(help="Only around transits of this calibrator, such as 0834+555 or 3C286.")] = None,
    window_minutes: Annotated[
        float, typer.Option(min=0, max=1440, help="Minutes around a transit; 0 for only the observation that contains it.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done; write nothing.")] = False,
    find_only: Annotated[bool, typer.Option("--find-only", help="Only list observations and transits; do not look into OUT.")] = False,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Keep products that are complete and made from the same raw files. Each is read in full."),
    ] = False,
    no_rename_calibrator_fields: Annotated[
        bool, typer.Option("--no-rename-calibrator-fields", help="Name every field `meridian`, even if a calibrator transits.")
    ] = False,
    writer: Annotated[Writer, typer.Option(help="Accepted for compatibility; there is only one writer.")] = Writer.AUTO,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Convert observations to flagged Measurement Sets.

    Each product is written beside its place, read back and then moved there, so OUT never holds half of one. If IN and
    OUT are the platform's own directories, the command takes each observation from the queue and registers the product.
    Exit codes: 0 all converted, 1 nothing found, 2 an observation failed, 75 only temporary failures: try again.

    Example: `dsa110 convert groups /data/incoming /data/ms 2026-03-12 2026-03-13 --calibrator 0834+555 --dry-run`
    """
    from dsa110_assets.cli.times import mjd_of
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.files import refuse_overwriting
    from dsa110_assets.stages.by_hand import batch_conversion as batch

    _ = writer
    config = PipelineConfig.from_env(validate_paths=False)
    if (start is None or end is None) and (calibrator is None or start is not None):
        raise ConfigurationError("START END", "both are needed", "give a time window in UTC, or --calibrator alone")
    input_dir, output_dir = config.own_spelling(input_dir), config.own_spelling(output_dir)
    refuse_overwriting(output_dir, [input_dir])
    own = batch.is_platforms_own(output_dir, config)
    if own and (no_rename_calibrator_fields or input_dir.resolve() != config.input_dir.resolve()):
        raise ConfigurationError(
            output_dir,
            "is the platform's own directory (PIPELINE_OUTPUT_DIR): its products come from PIPELINE_INPUT_DIR and have the calibrator's name",
            "give another OUT",
        )
    first, last = (mjd_of(start), mjd_of(end)) if start is not None and end is not None else batch.name_span(input_dir)
    if last <= first:
        raise ConfigurationError("START END", f"{end} is not after {start}", "give the earlier time first")

    transits: list[Transit] = []
    if calibrator is not None:
        star = batch.calibrators.find(batch.known_calibrators(config), calibrator)
        chosen, transits, refused = batch.observations_around_transits(
            input_dir, star, first, last, window_minutes=window_minutes, expected_subbands=config.expected_subbands
        )
    else:
        observations, refused = batch.observations_between(input_dir, first, last, expected_subbands=config.expected_subbands)
        chosen = [(one, None) for one in observations]
    rename = not no_rename_calibrator_fields
    catalog = batch.known_calibrators(config) if rename and _has_catalog(config) else []
    if rename and not catalog and not own:
        typer.echo("no calibrator catalog: all fields are named meridian (make it with `dsa110 catalogs refresh calibrators`)", err=True)
    steps = list(
        batch.plan(
            chosen,
            output_dir,
            config,
            catalog=catalog,
            rename_fields=rename,
            skip_existing=skip_existing and not find_only,
        )
    )
    if not steps and not refused and calibrator is None:
        typer.echo(f"note: {batch.why_nothing(input_dir)}", err=True)
    if find_only or dry_run:
        _show(steps, transits, refused, config, as_json=json, found_only=find_only)
        raise typer.Exit(0 if steps else 1)
    done, failed = _convert_all(steps, output_dir, config, own=own)
    _show(steps, transits, refused, config, as_json=json, done=done, failed=failed)
    if failed:
        from dsa110_assets.cli.exit_codes import exit_code_of

        raise typer.Exit(exit_code_of(failed.values()))
    raise typer.Exit(0 if steps else 1)


def _has_catalog(config: PipelineConfig) -> bool:
    from dsa110_assets.errors import NonRetriableError
    from dsa110_assets.stages.by_hand.batch_conversion import known_calibrators

    try:
        return bool(known_calibrators(config))
    except NonRetriableError:
        return False


def _convert_all(
    steps: Sequence[Step], output: Path, config: PipelineConfig, *, own: bool
) -> tuple[dict[str, dict[str, object]], dict[str, PipelineError]]:
    """Convert one by one, since each uses all cores. Go on after a failure, except of the disk."""
    import os

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from dsa110_assets.errors import PipelineError
    from dsa110_assets.stages.by_hand import batch_conversion as batch

    threads = config.threads_per_worker or len(os.sched_getaffinity(0))
    done: dict[str, dict[str, object]] = {}
    failed: dict[str, PipelineError] = {}
    if output.is_dir() and not own:
        batch.sweep(config)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    to_do = [step for step in steps if step.action in ("convert", "replace")]
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("converting", total=len(to_do))
        for step in to_do:
            name = step.observation.group_id
            progress.update(bar, description=name)
            try:
                done[name] = batch.convert_through_queue(step, config) if own else batch.convert(step, config, threads=threads)
            except PipelineError as error:
                failed[name] = error
                if batch.affects_all_observations(error):
                    break
            progress.advance(bar)
    return done, failed


def _show(
    steps: Sequence[Step],
    transits: Sequence[Transit],
    refused: Sequence[RejectedFile],
    config: PipelineConfig,
    *,
    as_json: bool,
    found_only: bool = False,
    done: dict[str, dict[str, object]] | None = None,
    failed: dict[str, PipelineError] | None = None,
) -> None:
    from math import degrees

    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.times import mjd_to_datetime

    def utc(mjd: float) -> str:
        return f"{mjd_to_datetime(mjd):%Y-%m-%dT%H:%M:%S}"

    outcome = dict.fromkeys(done or {}, "converted") | dict.fromkeys(failed or {}, "failed")
    rows: list[dict[str, object]] = []
    for step in steps:
        one = step.observation
        name = one.group_id
        action = (
            "found" if found_only else outcome.get(name, step.action if done is None or step.action in ("skip", "leave") else "not tried")
        )
        row: dict[str, object] = {
            "observation": name,
            "start": utc(one.start_mjd),
            "end": utc(one.end_mjd),
            "declination_deg": round(degrees(one.header.pointing_dec_rad), 3),
            "subbands": len(one.files),
            "missing_subbands": [n for n in range(config.expected_subbands) if n not in one.files],
            "field": step.calibrator or "meridian",
            "transit": utc(step.transit.mjd) if step.transit is not None else None,
            "action": action,
            "reason": str(failed[name]) if failed and name in failed else step.reason,
            "path": str(step.destination),
            **(done or {}).get(name, {}),
        }
        rows.append(row)
    if as_json:
        emit_json(
            {
                "observations": rows,
                "transits": [{"calibrator": t.calibrator.name, "transit": utc(t.mjd), "beam": t.beam} for t in transits],
                "refused": [{"path": str(r.path), "reason": r.reason} for r in refused],
            }
        )
        return
    if transits:
        emit_table(("calibrator", "transit (UTC)", "power beam"), [(t.calibrator.name, utc(t.mjd), f"{t.beam:.2f}") for t in transits])
    columns = ("observation", "start", "declination_deg", "subbands", "field", "transit", "action", "reason")
    more = ("seconds", "flagged_fraction") if done else ()
    emit_table(
        tuple(name.replace("_deg", " (deg)").replace("_", " ") for name in (*columns, *more)),
        [[_cell(row.get(name)) for name in (*columns, *more)] for row in rows],
        title="Found" if found_only else "Done" if done is not None else "Would be done",
    )
    if refused:
        emit_table(("file", "reason"), [(r.path.name, r.reason) for r in refused], title="Rejected files, left where they are", wrap=True)


def _cell(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
