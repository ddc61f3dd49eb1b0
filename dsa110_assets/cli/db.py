"""`dsa110 db`: query, copy, back up, check and migrate the registry; start and stop the embedded server."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_assets.errors import NonRetriableError

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.registry.database import Database

app = typer.Typer(no_args_is_help=True)
_FETCH = 2000


@app.callback()
def _group() -> None:
    """The registry: queries, shell, export, backup, the server.

    Example: `dsa110 db query "SELECT state, count(*) FROM ingest_queue GROUP BY state"`
    """


def _config() -> PipelineConfig:
    from dsa110_assets.config import PipelineConfig

    return PipelineConfig.from_env(validate_paths=False)


def _connect() -> Database:
    from dsa110_assets.registry.database import Database

    return Database.connect(_config())


@app.command("query")
def query(
    statement: Annotated[str, typer.Argument(help="One SQL statement, run in a read-only transaction.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header; any number of rows.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows in the table.")] = 200,
) -> None:
    """Query the registry. A query cannot change anything.

    Example: `dsa110 db query "SELECT path, mid_mjd FROM ms_index ORDER BY mid_mjd DESC LIMIT 10" --csv`
    """
    from sqlalchemy.exc import DataError, InternalError, NotSupportedError, ProgrammingError

    from dsa110_assets.cli.output import emit_csv, emit_json, emit_table
    from dsa110_assets.registry.database import reachable

    database = _connect()
    try:
        with reachable(database.url), database.engine.connect() as connection:
            connection.execution_options(postgresql_readonly=True, no_parameters=True)
            connection.exec_driver_sql("SET default_transaction_read_only = on")  # holds even after a COMMIT within the statement
            if csv:  # row by row, so that any number of rows fits in memory
                connection.execution_options(stream_results=True, max_row_buffer=_FETCH)
            result = connection.exec_driver_sql(statement)
            if not result.returns_rows:
                return
            columns = list(result.keys())
            if csv:
                emit_csv(columns, (tuple(row) for row in result))
            elif json:
                emit_json([dict(zip(columns, row, strict=True)) for row in result])
            else:
                rows = result.fetchmany(limit + 1)
                emit_table(columns, [tuple(row) for row in rows[:limit]])
                if len(rows) > limit:
                    typer.echo(f"only the first {limit} rows; use --limit or --csv", err=True)
    except (ProgrammingError, DataError, InternalError, NotSupportedError) as error:
        raise NonRetriableError(
            "query", " ".join(str(error.orig).split()), "`dsa110 db status` lists the tables; `dsa110 db shell` can change things"
        ) from error
    finally:
        database.engine.dispose()  # the read-only connection must not be used again


@app.command("shell", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def shell(context: typer.Context) -> None:
    r"""Open psql on the registry. Arguments after `--` go to psql.

    Example: `dsa110 db shell -- -c "\d ingest_queue"`
    """
    from sqlalchemy.engine import make_url

    from dsa110_assets.registry.server import address_text, bin_dir

    url = make_url(_connect().url)
    environment = dict(os.environ)
    if url.password is not None:  # not on the command line, where every user can read it
        environment["PGPASSWORD"] = str(url.password)
    address = address_text(url.set(drivername="postgresql", password=None))
    program = str(bin_dir() / "psql")
    os.execve(program, [program, address, *context.args], environment)  # noqa: S606


@app.command("export")
def export(
    path: Annotated[Path, typer.Argument(help="SQLite file (.sqlite3, .sqlite or .db), or a directory for Parquet files.")],
    *,
    table: Annotated[list[str] | None, typer.Option(help="Only this table; may be repeated.")] = None,
) -> None:
    """Copy the registry for a laptop: a SQLite file or Parquet files.

    Example: `dsa110 db export registry.sqlite3`
    """
    from rich.console import Console

    from dsa110_assets.registry.export import export as export_registry

    database = _connect()
    with Console(stderr=True).status("reading") as status:
        counts = export_registry(database, path, tables=table or [], progress=lambda name, rows: status.update(f"{name}: {rows} rows"))
    typer.echo(f"{path}: {sum(counts.values())} rows in {len(counts)} tables")


@app.command("backup")
def backup(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="File to write. An old one is replaced once the new one is complete.")],
    *,
    history: Annotated[bool, typer.Option(help="Also save Dagster's runs, events and switches, as FILE.dagster.")] = True,
) -> None:
    """Back up the registry and Dagster's history.

    FILE gets the whole registry, compressed; FILE.dagster gets Dagster's history. The platform may keep running.

    Example: `dsa110 db backup /backup/registry-$(date +%F).dump`
    """
    from dsa110_assets.registry.backup import backup as write
    from dsa110_assets.registry.backup import check_destination, history_of
    from dsa110_assets.registry.database import Database
    from dsa110_assets.registry.server import dagster_url

    for written in (path, history_of(path)):
        check_destination(written)
    registry = Database.connect(_config(), migrate=False)  # a backup before an upgrade is of the schema that it finds
    if history:  # first, so that its history has no run that the registry does not know
        typer.echo(f"{history_of(path)}: {write(dagster_url(_config()), history_of(path)) / 1e6:.1f} MB")
    typer.echo(f"{path}: {write(registry.url, path) / 1e6:.1f} MB")


@app.command("restore")
def restore(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Backup made by `dsa110 db backup FILE`.")],
    *,
    replace: Annotated[bool, typer.Option(help="Drop the present contents of the registry. Stop the platform first.")] = False,
) -> None:
    """Restore the registry from a backup.

    Either all of it is restored, or nothing changes. Dagster's history comes from FILE.dagster, if that file is there.
    Run `dsa110 db check` afterwards to compare the registry with the products.

    Example: `dsa110 down && dsa110 db restore /backup/registry-2026-03-01.dump --replace`
    """
    from dsa110_assets.registry.backup import check_archive, history_of
    from dsa110_assets.registry.backup import restore as fill
    from dsa110_assets.registry.database import Database
    from dsa110_assets.registry.server import dagster_url

    check_archive(path)
    database = Database.connect(_config(), migrate=False)
    database.dispose()
    fill(database.url, path, replace=replace)
    database.migrate()
    typer.echo(f"restored from {path}; schema {database.revision()}")
    if history_of(path).is_file():
        fill(dagster_url(_config()), history_of(path), replace=replace)
        typer.echo(f"Dagster's history restored from {history_of(path)}")
    else:
        typer.echo(f"no {history_of(path)}: Dagster keeps its present history")


@app.command("relocate")
def relocate(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Directory in which the registered files lay.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Directory in which the same files lie now.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare and count; change nothing.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Compare all contents with their checksums; reads everything.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell the registry that files were moved.

    Stop the platform, move the files, set the directory's PIPELINE_ variable, then run this. All sizes are compared,
    and the contents of the newest products. A directory of another setting inside OLD that did not move stays. Nothing
    on disk changes. Either all paths change or none.

    Example: `dsa110 db relocate /stage/ms /disk2/ms --dry-run`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.registry.relocate import relocate as move
    from dsa110_assets.stages.provenance.contents import agrees

    with _connect().session() as session:
        config = _config()
        found = move(session, old, config.own_spelling(new), config, agrees=agrees, thorough=thorough, dry_run=dry_run)
    if json:
        emit_json(
            {"dry_run": dry_run, "paths": found.rows, "products": found.n_products, "checksums": found.n_checksums, "kept": found.kept}
        )
    else:
        emit_table(("column", "paths"), list(found.rows.items()), title="would change" if dry_run else "changed")
        for directory in found.kept:
            typer.echo(f"files in {directory} stay there, because a setting names it")
        typer.echo(f"{found.n_products} products found at their new places, contents of {found.n_checksums} compared")


class Contents(StrEnum):
    """What `dsa110 db check` compares of each product's contents."""

    NONE = "none"
    SIZE = "size"
    CHECKSUM = "checksum"


@app.command("check")
def check(
    *,
    contents: Annotated[
        Contents, typer.Option(help="Also compare each product's size, or what it says (checksum); that reads all data.")
    ] = Contents.NONE,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the registry with the product directories. Exit code 1: they disagree.

    This goes in parts, so the platform may run meanwhile; progress appears on standard error.

    Example: `dsa110 db check --contents size`
    """
    from dataclasses import asdict

    from rich.console import Console

    from dsa110_assets.cli.output import emit_json
    from dsa110_assets.products import ProductPaths
    from dsa110_assets.registry.audit import audit
    from dsa110_assets.stages.provenance.contents import agrees

    database = _connect()
    with Console(stderr=True).status("comparing") as status:

        def progress(what: str, done: int, total: int) -> None:
            status.update(f"{what}: {done} of {total}")

        found = audit(database, ProductPaths.of(_config()), contents=contents.value, agrees=agrees, progress=progress)
    if json:
        emit_json([asdict(one) for one in found])
    else:
        for one in found:
            typer.echo(f"{one.kind:13}{one.product:20}{one.path} -> {one.next_step}")
        typer.echo("registry and disk agree" if not found else f"{len(found)} disagreements")
    raise typer.Exit(1 if found else 0)


@app.command("migrate")
def migrate() -> None:
    """Migrate the schema to this release. Every start of the platform does this too.

    Example: `dsa110 db migrate`
    """
    from dsa110_assets.registry.database import Database

    database = Database.connect(_config(), migrate=False)
    before = database.revision()
    changed = database.migrate()
    typer.echo(f"schema {before or '(empty)'} -> {database.revision()}" if changed else f"schema {before}: nothing to do")


@app.command("status")
def status(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the server's state, schema, size and tables.

    This does not start the server. Exit code 1: the server is not running.

    Example: `dsa110 db status`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.registry.status import registry_status

    found = registry_status(_config())
    if json:
        emit_json({"server": found.server, "running": found.running, "version": found.version, "schema": found.schema,
                   "schema_is_current": found.schema_is_current, "size_bytes": found.size_bytes, "connections": found.connections,
                   "tables": [{"name": name, "rows": rows, "size_bytes": size} for name, rows, size in found.tables]})  # fmt: skip
    else:
        typer.echo(f"server       {found.server}")
        if not found.running:
            typer.echo("             not running; start it with `dsa110 db start`")
        else:
            schema = found.schema or "empty"
            typer.echo(f"version      PostgreSQL {found.version}, {found.connections} connections")
            typer.echo(f"schema       {schema}" + ("" if found.schema_is_current else "; of another release: run `dsa110 db migrate`"))
            typer.echo(f"size         {found.size_bytes / 1e6:.1f} MB")
            emit_table(["table", "rows (about)", "MB"], [(name, rows, f"{size / 1e6:.1f}") for name, rows, size in found.tables])
    raise typer.Exit(0 if found.running else 1)


@app.command("start")
def start() -> None:
    """Start the embedded server.

    Every command that needs the server also starts it. It runs until `dsa110 db stop` or `dsa110 down`.

    Example: `dsa110 db start`
    """
    typer.echo(_connect().engine.url.render_as_string(hide_password=True))


@app.command("stop")
def stop() -> None:
    """Stop the embedded server. This ends sessions and flushes data to disk.

    Example: `dsa110 db stop`
    """
    from dsa110_assets.registry.server import stop_server

    config = _config()
    if config.database_url is not None:
        raise NonRetriableError(
            "PIPELINE_DATABASE_URL", "names an external server, which this command does not stop", "stop it where it runs"
        )
    typer.echo("stopped" if stop_server(config) else "was not running")
