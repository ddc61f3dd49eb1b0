"""The command `dsa110 convert ms IN OUT`: bring a foreign Measurement Set into the platform's layout."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Column(StrEnum):
    """Columns of visibilities that can be taken."""

    DATA = "DATA"
    CORRECTED_DATA = "CORRECTED_DATA"


def convert_ms(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Measurement Set of another telescope or program; only read.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="New Measurement Set.")],
    *,
    field: Annotated[str | None, typer.Option(help="Name or number of the field; needed if there are several.")] = None,
    window: Annotated[
        int | None, typer.Option(min=0, max=10_000, help="Number of the spectral window; needed if there are several.")
    ] = None,
    column: Annotated[Column, typer.Option(help="CORRECTED_DATA is taken as calibrated, in Jy.")] = Column.DATA,
    pointing: Annotated[
        str | None,
        typer.Option(help="Direction of the telescope, ICRS: `RA,DEC` in degrees. Default: the POINTING table, or else the phase center."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring a foreign Measurement Set into this layout.

    One field and one spectral window are copied for `calibrate`, `apply` and `image`. What is missing is named, or
    replaced with a note. Visibilities, flags, weights and baselines are not changed.

    Example: `dsa110 convert ms ngc5921.ms 1331.ms --field 0`
    """
    from dataclasses import asdict, replace

    from dsa110_assets import publication, staging
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.conversion.foreign import adopt
    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.files import refuse_overwriting
    from dsa110_assets.products import ProductPaths

    config = PipelineConfig.from_env(validate_paths=False)
    refuse_overwriting(output, [source], replaces_directory=True)
    if output.exists():
        raise ConfigurationError(output, "exists already", "give another OUT, or remove it")
    direction = None if pointing is None else _direction(pointing)
    staging.keep_journal_in(ProductPaths.of(config).staging_journal)
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    with publication.publish(output.absolute()) as staged:
        made = adopt(source, staged, field_name=field, window=window, column=column.value, pointing_deg=direction)
    made = replace(made, out=output)
    if json:
        emit_json({**asdict(made), "out": str(output)})
        return
    shown = {name: value for name, value in asdict(made).items() if name not in ("notes", "out")}
    emit_table(
        ("what", "value"),
        [(name, f"{value:.6g}" if isinstance(value, float) else str(value)) for name, value in shown.items()],
        title=str(output),
    )
    for note in made.notes:
        typer.echo(f"note: {note}")


def _direction(text: str) -> tuple[float, float]:
    from dsa110_assets.errors import ConfigurationError

    try:
        ra_deg, dec_deg = (float(part) for part in text.replace(",", " ").split())
        if not (0 <= ra_deg < 360 and -90 <= dec_deg <= 90):
            raise ValueError
    except ValueError as error:
        raise ConfigurationError("--pointing", f"{text!r} is no direction", "give RA,DEC in degrees, such as 202.78,30.51") from error
    return ra_deg, dec_deg
