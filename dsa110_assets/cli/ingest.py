"""`dsa110 ingest`: show the queue and rejected raw files, scan for new files, retry an observation."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The ingest queue: observations, rejected files, scan, retry.

    Example: `dsa110 ingest status`
    """


@app.command("status")
def show_status(
    observation: Annotated[str | None, typer.Argument(help="Show this observation (YYYY-MM-DDTHH:MM:SS) with its files.")] = None,
    *,
    state: Annotated[str | None, typer.Option(help="Only this state: collecting, pending, in_progress, completed, failed.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only observations whose tile mosaics leave out.")] = False,
    days: Annotated[float, typer.Option(min=0, max=36500, help="With --refused: only observations completed in so many days.")] = 7,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows.")] = 40,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List observations, their verdicts, and rejected files.

    Mosaics leave out a completed observation if its image is not good. The verdict says why, and what to do.

    Example: `dsa110 ingest status --state failed`
    """
    from dataclasses import asdict
    from datetime import timedelta

    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.errors import UnknownGroupError
    from dsa110_assets.files import why_not_listable
    from dsa110_assets.ingest import status
    from dsa110_assets.registry.schema import GroupState
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.products import gates
    from dsa110_assets.stages.queue.attempts import now

    if state is not None and state not in list(GroupState):
        message = f"{state!r} is not one of {', '.join(GroupState)}"
        raise typer.BadParameter(message)
    platform = Platform.open(PipelineConfig.from_env(validate_paths=False))
    trouble = why_not_listable(platform.config.input_dir)
    with platform.database.session() as session:
        if observation is not None:
            details = status.observation_details(session, observation, expected_subbands=platform.config.expected_subbands)
            if details is None:
                raise UnknownGroupError(observation, "is not in the ingest queue", "list observations with `dsa110 ingest status`")
            verdict = gates.verdicts(session, [observation]).get(observation)
            if json:
                emit_json({**asdict(details), "verdict": None if verdict is None else asdict(verdict)})
                return
            rows = [("verdict", "no image" if verdict is None else verdict.line()), *asdict(details.group).items()]
            emit_table(("what", "value"), rows, title=observation)
            emit_table(("subband", "state", "file", "reason"), [(f.subband, f.state, f.path, f.reason or "") for f in details.files])
            return
        summary = status.backlog(session, now())
        group_ids = list(gates.not_good(session, completed_after=now() - timedelta(days=days), limit=limit)) if refused else None
        groups = status.observations(session, state=None if state is None else GroupState(state), group_ids=group_ids, limit=limit)
        verdicts = gates.verdicts(session, [g.group_id for g in groups])
        rejected = status.rejected_files(session, limit=limit)
    if json:
        observations = [{**asdict(g), "verdict": asdict(verdicts[g.group_id]) if g.group_id in verdicts else None} for g in groups]
        emit_json(
            {"input_trouble": trouble, "backlog": asdict(summary), "observations": observations, "rejected": [asdict(f) for f in rejected]}
        )
        return
    if trouble is not None:
        typer.secho(f"the input directory {platform.config.input_dir} {trouble}: no new file is found", fg=typer.colors.RED, err=True)
    emit_table(
        ("state", "observations"),
        [("completed in the last day" if name is GroupState.COMPLETED else name.value, number) for name, number in summary.counts.items()],
        title="Queue",
    )
    emit_table(
        ("observation", "state", "stage", "subbands", "attempt", "calibrator", "verdict", "error"),
        [
            (
                g.group_id,
                g.state,
                g.stage,
                g.n_subbands,
                g.attempt,
                g.calibrator or "",
                verdicts[g.group_id].line() if g.group_id in verdicts else "",
                g.error or "",
            )
            for g in groups
        ],
        title="Observations, newest first",
    )
    if rejected:
        emit_table(("file", "reason"), [(f.path, f.reason) for f in rejected], title="Rejected files, left where they are", wrap=True)


@app.command("scan")
def scan() -> None:
    """Scan the whole input directory once, now.

    Example: `dsa110 ingest scan`
    """
    from dsa110_assets.ingest.scan import scan_directory
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.queue.attempts import now

    platform = Platform.open()
    report = scan_directory(platform.database, platform.config.input_dir, platform.config, now())
    typer.echo(
        f"{report.n_listed} files listed, {report.n_opened} read, {len(report.accepted)} accepted, {len(report.rejected)} rejected, "
        f"{report.n_being_written} being written, {report.n_unread} left for the next scan; now pending: {', '.join(report.pending) or 'none'}"
    )
    for rejection in report.rejected:
        typer.echo(f"  {rejection.path}: {rejection.reason}")


@app.command("retry")
def retry(
    observation: Annotated[str, typer.Argument(help="Name of an observation, YYYY-MM-DDTHH:MM:SS.")],
    *,
    force: Annotated[bool, typer.Option(help="Take it from a run that still works on it.")] = False,
) -> None:
    """Process an observation again, from its raw files.

    It goes back to the queue. The running platform then processes it.

    Example: `dsa110 ingest retry 2026-03-12T05:09:39`
    """
    from dsa110_assets.ingest import ledger
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.queue.attempts import now

    platform = Platform.open()
    with platform.database.session() as session:
        ledger.retry(session, observation, now(), platform.config, force=force)
    typer.echo(f"{observation} is pending")
