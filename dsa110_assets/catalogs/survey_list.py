"""The surveys that the platform can keep as local tables, and what a local table covers, read without loading it.

Fetching and loading them is in `surveys`, which imports what takes a second.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dsa110_assets.errors import NonRetriableError


@dataclass(frozen=True)
class Survey:
    """One survey in VizieR.

    ``name``: the platform's name. ``prefix``/``digits``: for designations made from positions; decimals of the seconds
    of right ascension, the arcseconds have one less. ``vizier``: table. ``flux``, ``error``, ``peak``: columns in mJy;
    None where the survey has none. ``shape``: columns of the fitted (NVSS: deconvolved) major and minor axis in arcsec
    and the position angle. ``frequency_hz``: of the fluxes. ``dec_deg``: covered declinations. ``keep``: columns and
    their values in good rows.
    """

    name: str
    prefix: str
    digits: int
    vizier: str
    flux: str
    error: str | None
    peak: str | None
    shape: tuple[str, str, str]
    frequency_hz: float
    dec_deg: tuple[float, float]
    reference: str
    keep: tuple[tuple[str, tuple[int, ...]], ...] = ()


SURVEYS: dict[str, Survey] = {
    survey.name: survey
    for survey in (
        Survey(
            "nvss", "NVSS", 0, "VIII/65/nvss", "S1.4", "e_S1.4", None, ("MajAxis", "MinAxis", "PA"), 1.4e9, (-40.0, 90.0),
            "Condon et al. 1998, AJ 115, 1693",
        ),
        Survey(
            "first", "FIRST", 1, "VIII/92/first14", "Fint", "Rms", "Fpeak", ("fMaj", "fMin", "fPA"), 1.4e9, (-12.0, 66.0),
            "Helfand, White & Becker 2015, ApJ 801, 26",
        ),
        Survey(
            "racs", "RACS-MID1", 1, "J/other/PASA/41.3/sourcesm", "Ftot", "e_Ftot", "Fpeak", ("Maj", "Min", "PA"), 1.3675e9, (-90.0, 49.0),
            "Duchesne et al. 2024, PASA 41, e003",
        ),
        Survey(
            # quick-look images; without duplicates and doubtful components, as the authors recommend (section 3)
            "vlass", "VLASS1QL", 2, "J/ApJS/255/30/comp", "Ftot", "e_Ftot", "Fpeak", ("Maj", "Min", "PA"), 3.0e9, (-40.0, 90.0),
            "Gordon et al. 2021, ApJS 255, 30", (("DupFlag", (0, 1)), ("QualFlag", (0, 4))),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Coverage:
    """What a local table holds.

    ``sources``: number of rows. ``strips_deg``: lowest and highest declination of each strip that was asked for, or of
    the rows. ``faintest_jy``: lowest flux density among the rows.
    """

    sources: int
    strips_deg: tuple[tuple[float, float], ...]
    faintest_jy: float


def coverage(parquet: Path) -> Coverage:
    """What the local table of a survey covers, from the file's own summary.

    Raises:
        NonRetriableError: the file is not such a table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    step = f"make it with `dsa110 catalogs refresh {parquet.stem}`"
    try:
        found = pq.read_metadata(parquet)
    except (OSError, pa.ArrowException) as error:
        raise NonRetriableError(parquet, f"not a catalog ({error})", step) from error
    names: list[str] = found.schema.names
    if not {"dec_deg", "flux_jy"} <= set(names):
        raise NonRetriableError(parquet, f"columns are {names}", step)
    groups = [found.row_group(number) for number in range(found.num_row_groups)]
    dec, flux = ([group.column(names.index(name)).statistics for group in groups] for name in ("dec_deg", "flux_jy"))
    about = json.loads((found.metadata or {}).get(b"pandas", b"{}")).get("attributes", {}).get("survey")
    strips = about["strips_deg"] if about else [(min(one.min for one in dec), max(one.max for one in dec))]
    return Coverage(found.num_rows, tuple((float(low), float(high)) for low, high in strips), min(float(one.min) for one in flux))
