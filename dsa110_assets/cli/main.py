"""The `dsa110` command: its sub-commands, and how errors become messages and exit codes.

A sub-command is a module with a `typer.Typer` called ``app`` (a group), or a function registered here. Modules import
what they need inside their functions, because every `dsa110` call pays for imports at the top.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from dsa110_assets import __version__
from dsa110_assets.cli import (
    alerts,
    api,
    backfill,
    calibrate,
    candidates,
    catalogs,
    clean,
    config,
    convert,
    db,
    demo,
    docs,
    environment,
    export,
    image,
    ingest,
    lightcurve,
    mark,
    mosaic,
    photometry,
    preflight,
    prepare,
    service,
    shift,
    simulate,
    stale,
    targets,
    up,
    worker,
)
from dsa110_assets.cli.exit_codes import exit_code_of
from dsa110_assets.errors import PipelineError
from dsa110_assets.files import typed_error

app = typer.Typer(
    name="dsa110",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's panels cut long option names at 80 columns and drop `<...>` as markup
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(db.app, name="db")
app.add_typer(config.app, name="config")
app.add_typer(ingest.app, name="ingest")
app.add_typer(convert.app, name="convert")
app.add_typer(catalogs.app, name="catalogs")
app.add_typer(mosaic.app, name="mosaic")
app.add_typer(photometry.app, name="photometry")
app.add_typer(lightcurve.app, name="lightcurve")
app.add_typer(candidates.app, name="candidates")
app.add_typer(targets.app, name="targets")
app.add_typer(mark.app, name="mark")
app.add_typer(simulate.app, name="simulate")
app.add_typer(api.app, name="api")
app.add_typer(docs.app, name="docs")
app.command("image")(image.image)
app.command("preflight")(preflight.preflight)
app.command("prepare")(prepare.prepare)
app.command("service")(service.service)
app.command("up")(up.up)
app.command("worker")(worker.worker)
app.command("down")(up.down)
app.command("demo")(demo.demo)
app.command("calibrate")(calibrate.calibrate)
app.command("apply")(calibrate.apply)
app.command("export")(export.export)
app.add_typer(stale.app, name="stale")
app.command("backfill")(backfill.backfill)
app.command("clean")(clean.clean)
app.add_typer(alerts.app, name="alerts")
app.add_typer(shift.app, name="shift")


class _Command(TyperCommand):
    """A command whose numbers are finite: NaN passes every comparison with a limit, and infinity ends no loop."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as Typer does, then refuse NaN and infinity unless it is the option's default."""
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            value = ctx.params.get(str(parameter.name))
            for one in value if isinstance(value, list | tuple) else [value]:
                if isinstance(one, float) and not math.isfinite(one) and one != parameter.default:
                    message = f"{parameter.name}: {one} is no finite number."
                    raise typer.BadParameter(message, ctx=ctx)
        return rest


def _with_finite_numbers(group: typer.Typer) -> None:
    for command in group.registered_commands:
        command.cls = _Command
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _with_finite_numbers(inner.typer_instance)


_with_finite_numbers(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; accepted anywhere before `--`.")] = False,
) -> None:
    """Data platform of the DSA-110 continuum survey: raw subbands to light curves.

    Settings are environment variables; `dsa110 config show` explains them. Exit codes: 0 success, 1 the answer is no,
    2 failure, 75 temporary failure: try again.

    Example: `dsa110 preflight && dsa110 up`
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code.

    An error of the pipeline becomes one message on standard error, without a traceback.
    """
    split = list(arguments).index("--") if "--" in arguments else len(arguments)
    before, after = list(arguments[:split]), list(arguments[split:])
    debug = "--debug" in before
    try:
        app(args=[argument for argument in before if argument != "--debug"] + after, prog_name="dsa110")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
    except PipelineError as error:
        if debug:
            raise
        _show(error)
        return exit_code_of([error])
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:  # `dsa110 ... | head`
        sys.stderr.close()
        return 141
    except OSError as error:
        if debug:
            raise
        _show(shown := typed_error(error))
        return exit_code_of([shown])
    return 0


def _show(error: PipelineError) -> None:
    from rich.console import Console
    from rich.text import Text

    message = Text.assemble(
        ("error: ", "bold red"), (error.subject, "bold"), (f": {error.cause}\n", "red"), ("next:  ", "bold"), (error.next_step, "")
    )
    Console(stderr=True, soft_wrap=True, highlight=False).print(message)


def main() -> None:
    """Entry point of the `dsa110` program."""
    environment.make_harmless()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
