"""Bring a Measurement Set of another telescope or program into the platform's layout.

The platform's Measurement Sets have one field, one spectral window with ascending channels, the two parallel hands,
rows in order of time, and a pointing for each integration (`common.measurement_sets`). `adopt` selects and adds what is
missing, so that `calibrate`, `apply` and `image` need no exceptions. Visibilities, flags, weights and UVW are copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.measurement_sets import (
    MAKE_AGAIN,
    SECONDS_PER_DAY,
    TRACKING_KEYWORD,
    mark_calibrated,
    naming_damage,
    open_table,
    read_antenna_pairs,
    row_blocks,
)
from dsa110_assets.conversion.foreign_checks import (
    check_frequencies,
    check_rows,
    complete_intervals,
    flagged_where_unusable,
    has_weights,
    name_antennas,
    refuse_moving_field,
    refuse_odd_units,
)
from dsa110_assets.errors import ForeignDataError, MeasurementSetError

_HANDS = {"circular": (5, 8), "linear": (9, 12)}
"""Codes of the parallel hands in CORR_TYPE (casacore's Stokes): RR and LL, XX and YY."""
_EQUATORIAL = ("J2000", "ICRS", "FK5")
_LARGEST_OFFSET_DEG = 10.0
"""A pointing that is farther than this from the phase center is taken for another frame or a placeholder."""
_DATA_COLUMNS = ("DATA", "CORRECTED_DATA", "MODEL_DATA", "FLOAT_DATA", "FLAG_CATEGORY")
_SPECTRA = ("WEIGHT_SPECTRUM", "SIGMA_SPECTRUM")


@dataclass
class Adopted:
    """What was copied. ``notes``: what was missing, and what stands in for it."""

    out: Path
    telescope: str
    field_name: str
    n_rows: int
    n_integrations: int
    n_channels: int
    hands: str
    column: str
    pointing_ra_deg: float
    pointing_dec_deg: float
    dish_diameter_m: float
    notes: list[str] = field(default_factory=list)


def adopt(
    ms: Path,
    out: Path,
    *,
    field_name: str | None = None,
    window: int | None = None,
    column: str = "DATA",
    pointing_deg: tuple[float, float] | None = None,
) -> Adopted:
    """Copy one field and one spectral window of a Measurement Set.

    Args:
        ms: any Measurement Set with linear or circular hands; only read.
        out: new Measurement Set; must not exist.
        field_name: name or number of the field; None if there is one.
        window: number of the spectral window; None if there is one.
        column: DATA, or CORRECTED_DATA, which is then marked as calibrated (Jy).
        pointing_deg: ICRS direction of the telescope; None for the POINTING table, or else the phase center.

    Raises:
        ForeignDataError: what is needed is missing or ambiguous; the next step names what to give.
        MeasurementSetError: it is damaged or incomplete.
    """
    try:
        with naming_damage(ms):
            return _adopt(ms, out, field_name, window, column, pointing_deg)
    except MeasurementSetError as error:
        if error.next_step != MAKE_AGAIN:
            raise
        raise type(error)(error.subject, error.cause, "export it again with the program that wrote it") from error


def _adopt(
    ms: Path, out: Path, field_name: str | None, window: int | None, column: str, pointing_deg: tuple[float, float] | None
) -> Adopted:
    notes: list[str] = []
    field_id, name, phase = _field(ms, field_name, notes)
    window_id, frequency_hz = _window(ms, window)
    hands, correlations, descriptions = _hands(ms, window_id)
    telescope, diameter_m = _telescope(ms, notes)
    refuse_odd_units(ms)
    refuse_moving_field(ms, field_id)
    with open_table(ms) as main:
        if column not in main.colnames():
            found = ", ".join(one for one in ("DATA", "CORRECTED_DATA", "FLOAT_DATA") if one in main.colnames()) or "none"
            raise ForeignDataError(ms, f"has no column {column} (it has: {found})", "give another --column")
        if main.nrows() == 0:
            raise ForeignDataError(ms, "has no rows", "export it again")
        read_antenna_pairs(main)  # are there all antennas that rows name?
        wanted = f"FIELD_ID == {field_id} && DATA_DESC_ID IN [{', '.join(map(str, descriptions))}]"
        try:
            chosen = main.query(wanted, sortlist="TIME, ANTENNA1, ANTENNA2")
        except RuntimeError as error:
            raise ForeignDataError(ms, f"its main table cannot be read ({error})", "it is damaged; export it again") from error
        try:
            if chosen.nrows() == 0:
                raise ForeignDataError(ms, f"has no rows of field {name!r} in window {window_id}", "give another --field or --window")
            check_rows(ms, chosen)
            check_frequencies(ms, frequency_hz, int(np.asarray(chosen.getcell(column, 0)).shape[0]))
            time_s = np.unique(np.asarray(chosen.getcol("TIME"), dtype=np.float64))
            notes += _copy(
                ms, chosen, out, column, correlations, descending=bool(frequency_hz.size > 1 and frequency_hz[1] < frequency_hz[0])
            )
        finally:
            chosen.close()
    ra_deg, dec_deg = _pointing(ms, time_s, phase, pointing_deg, notes)
    notes += complete_intervals(ms, out, time_s) + name_antennas(out)
    _write_subtables(out, field_id, window_id, correlations, time_s, (ra_deg, dec_deg), diameter_m)
    with open_table(out, writable=True) as made:
        made.putkeyword(TRACKING_KEYWORD, True)
        if column == "CORRECTED_DATA":
            mark_calibrated(made, {"telescope": telescope, "source": str(ms), "channels_averaged": 1, "made_by": "another program"})
            notes.append("taken as calibrated, in Jy, because --column CORRECTED_DATA was given")
        n_rows = int(made.nrows())
    return Adopted(
        out, telescope, name, n_rows, time_s.size, frequency_hz.size, hands, column, float(np.median(ra_deg)), float(np.median(dec_deg)),
        diameter_m, notes,
    )  # fmt: skip


# --- what is there --------------------------------------------------------------------------------------------------
def _field(ms: Path, wanted: str | None, notes: list[str]) -> tuple[int, str, NDArray[np.float64]]:
    with open_table(ms, "FIELD") as table:
        names = [str(name) for name in table.getcol("NAME")] if table.nrows() else []
        if not names:
            raise ForeignDataError(ms, "has an empty table FIELD", "it is not complete; export it again")
        number = _chosen_field(ms, names, wanted)
        phase = np.asarray(table.getcell("PHASE_DIR", number), dtype=np.float64).reshape(-1, 2)[0]
        frame = _frame(table, "PHASE_DIR")
    if frame not in _EQUATORIAL:
        raise ForeignDataError(
            ms,
            f"has a phase center in the frame {frame}",
            "shift it to J2000 first: CASA's `fixvis` with phasecenter='J2000 ...' (`phaseshift` keeps the frame)",
        )
    if not np.isfinite(phase).all():
        raise ForeignDataError(ms, f"has no phase center for field {names[number]!r}", "export it again")
    return number, names[number], phase


def _chosen_field(ms: Path, names: Sequence[str], wanted: str | None) -> int:
    listed = ", ".join(f"{number} {name}" for number, name in list(enumerate(names))[:20])
    if wanted is None:
        if len(names) > 1:
            raise ForeignDataError(ms, f"has {len(names)} fields", f"give --field: {listed}")
        return 0
    fitting = [number for number, name in enumerate(names) if wanted in (name, str(number))]
    if len(fitting) != 1:
        raise ForeignDataError(ms, f"has {len(fitting) or 'no'} fields {wanted!r}", f"give --field, name or number: {listed}")
    return fitting[0]


def _window(ms: Path, wanted: int | None) -> tuple[int, NDArray[np.float64]]:
    with open_table(ms, "SPECTRAL_WINDOW") as table:
        number = table.nrows()
        if wanted is None and number > 1:
            raise ForeignDataError(ms, f"has {number} spectral windows", f"give --window, 0 to {number - 1}")
        chosen = wanted or 0
        if not 0 <= chosen < number:
            raise ForeignDataError(ms, f"has no spectral window {chosen}", f"give --window, 0 to {number - 1}")
        return chosen, np.asarray(table.getcell("CHAN_FREQ", chosen), dtype=np.float64)


def _hands(ms: Path, window_id: int) -> tuple[str, tuple[int, int], list[int]]:
    """Kind of the hands, the positions of the parallel ones in the data, and the data descriptions that have them."""
    with open_table(ms, "DATA_DESCRIPTION") as table:
        windows, setups = table.getcol("SPECTRAL_WINDOW_ID"), table.getcol("POLARIZATION_ID")
    descriptions = np.flatnonzero(windows == window_id)
    if descriptions.size == 0:
        raise ForeignDataError(ms, f"has no data of window {window_id}", "give another --window")
    setup = int(setups[descriptions[0]])
    with open_table(ms, "POLARIZATION") as table:
        types = [int(one) for one in np.asarray(table.getcell("CORR_TYPE", setup)).ravel()]
    for kind, (first, second) in _HANDS.items():
        if first in types and second in types:
            return kind, (types.index(first), types.index(second)), [int(one) for one in descriptions if setups[one] == setup]
    raise ForeignDataError(
        ms,
        f"has no pair of parallel hands (its CORR_TYPE are {types})",
        "give data with RR and LL, or XX and YY; Stokes data cannot be calibrated",
    )


def _telescope(ms: Path, notes: list[str]) -> tuple[str, float]:
    with open_table(ms, "OBSERVATION") as table:
        telescope = str(table.getcell("TELESCOPE_NAME", 0)) if table.nrows() else ""
    with open_table(ms, "ANTENNA") as table:
        diameters = np.asarray(table.getcol("DISH_DIAMETER"), dtype=np.float64) if table.nrows() else np.empty(0)
    used = diameters[np.isfinite(diameters) & (diameters > 0)]
    if not telescope:
        notes.append("the telescope has no name")
    if used.size == 0:
        raise ForeignDataError(ms, "has no dish diameters, so its primary beam is unknown", "write them into ANTENNA/DISH_DIAMETER, in m")
    if np.ptp(used) > 0.01 * np.median(used):
        notes.append(f"dishes of {used.min():g} to {used.max():g} m: the primary beam is that of {np.median(used):g} m")
    return telescope or "unknown", float(np.median(used))


def _pointing(
    ms: Path, time_s: NDArray[np.float64], phase: NDArray[np.float64], wanted: tuple[float, float] | None, notes: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ICRS direction of the telescope at each time, degrees: given, of the POINTING table, or the phase center."""
    center = np.degrees(phase)
    if wanted is None:
        found, why = _table_pointing(ms, time_s, phase)
        if found is not None:
            return np.mod(np.degrees(found[:, 0]), 360.0), np.degrees(found[:, 1])
        notes.append(f"{why}; the telescope is taken to point at the phase center (--pointing gives another direction)")
        wanted = (float(center[0] % 360.0), float(center[1]))
    return np.full(time_s.size, wanted[0]), np.full(time_s.size, wanted[1])


def _table_pointing(ms: Path, time_s: NDArray[np.float64], phase: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, str]:
    with open_table(ms, "POINTING") as table:
        if table.nrows() == 0:
            return None, "the table POINTING is empty"
        frame = _frame(table, "DIRECTION")
        if frame not in _EQUATORIAL:
            return None, f"the table POINTING is in the frame {frame}"
        first = table.query("ANTENNA_ID == 0", sortlist="TIME", columns="TIME, DIRECTION")
        try:
            if first.nrows() == 0:
                return None, "the table POINTING has no antenna 0"
            times = np.asarray(first.getcol("TIME"), dtype=np.float64)
            direction = np.asarray(first.getcol("DIRECTION"), dtype=np.float64).reshape(times.size, -1, 2)[:, 0]
        finally:
            first.close()
    nearest = np.abs(times[None, :] - time_s[:, None]).argmin(axis=1)
    found = direction[nearest]
    cosine = np.sin(found[:, 1]) * math.sin(phase[1]) + np.cos(found[:, 1]) * math.cos(phase[1]) * np.cos(found[:, 0] - phase[0])
    offset_deg = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    if not np.isfinite(offset_deg).all() or offset_deg.max() > _LARGEST_OFFSET_DEG:
        return None, f"the table POINTING is up to {np.nanmax(offset_deg):.0f} deg from the phase center"
    return found, ""


def _frame(table: Any, column: str) -> str:
    keywords = table.getcolkeywords(column)
    return str(keywords.get("MEASINFO", {}).get("Ref", "J2000")).upper()


# --- writing --------------------------------------------------------------------------------------------------------
def _copy(ms: Path, chosen: Any, out: Path, column: str, correlations: tuple[int, int], *, descending: bool) -> list[str]:
    """Copy rows with all subtables, then replace what has an axis of correlations by its parallel hands.

    Samples that are no numbers or have no weight are flagged. Returns notes about them and about their weights.

    Raises:
        ForeignDataError: no sample can be used.
    """
    from casacore.tables import makearrcoldesc, maketabdesc, table

    chosen.copy(str(out), deep=True, valuecopy=True).close()
    n_channels = int(np.asarray(chosen.getcell("FLAG", 0)).shape[0])
    spectra = [name for name in _SPECTRA if name in chosen.colnames() and chosen.iscelldefined(name, 0)]
    notes: list[str] = []
    if "WEIGHT_SPECTRUM" not in spectra or not has_weights(chosen, "WEIGHT_SPECTRUM"):
        notes.append("WEIGHT_SPECTRUM is missing or 0; taken from WEIGHT")
        spectra = [name for name in spectra if name != "WEIGHT_SPECTRUM"]
    kinds = {"DATA": "complex", "FLAG": "boolean", "WEIGHT": "float", "SIGMA": "float", "WEIGHT_SPECTRUM": "float"}
    kinds |= dict.fromkeys(spectra, "float")
    counts = np.zeros(3, dtype=np.int64)
    with table(str(out), readonly=False, ack=False) as made:
        made.removecols([name for name in {*_DATA_COLUMNS, *_SPECTRA, *kinds} if name in made.colnames()])
        for name, kind in kinds.items():
            shape = [2] if name in ("WEIGHT", "SIGMA") else [n_channels, 2]
            made.addcols(maketabdesc(makearrcoldesc(name, None, shape=shape, valuetype=kind)))
        for first, number in row_blocks(made.nrows(), n_channels):
            block = {
                name: np.asarray(chosen.getcol(column if name == "DATA" else name, first, number))[..., list(correlations)]
                for name in kinds
                if name != "WEIGHT_SPECTRUM" or name in spectra
            }
            if "WEIGHT_SPECTRUM" not in block:
                block["WEIGHT_SPECTRUM"] = np.broadcast_to(block["WEIGHT"][:, None], block["DATA"].shape)
            block["FLAG"], block["WEIGHT_SPECTRUM"], found = flagged_where_unusable(
                block, np.asarray(chosen.getcol("FLAG_ROW", first, number))
            )
            counts += found
            for name, content in block.items():
                made.putcol(name, content[:, ::-1] if descending and content.ndim == 3 else content, first, number)
        for name in ("FIELD_ID", "DATA_DESC_ID"):
            made.putcol(name, np.zeros(made.nrows(), dtype=np.int32))
    used, odd, total = counts.tolist()
    if used == 0:
        raise ForeignDataError(ms, "every visibility is flagged, is no number or has no weight", "look at FLAG, WEIGHT and the data")
    if odd:
        notes.append(f"{100 * odd / total:.3g} % of the visibilities are no numbers or have no weight, and were flagged")
    return notes


def _write_subtables(
    out: Path, field_id: int, window_id: int, correlations: tuple[int, int], time_s: NDArray[np.float64],
    direction_deg: tuple[NDArray[np.float64], NDArray[np.float64]], diameter_m: float,
) -> None:  # fmt: skip
    with open_table(out, "DATA_DESCRIPTION", writable=True) as table:
        setup = int(np.asarray(table.getcol("POLARIZATION_ID"))[np.flatnonzero(table.getcol("SPECTRAL_WINDOW_ID") == window_id)[0]])
        _keep(table, [0])
        table.putcol("SPECTRAL_WINDOW_ID", np.zeros(1, dtype=np.int32))
        table.putcol("POLARIZATION_ID", np.zeros(1, dtype=np.int32))
    with open_table(out, "FIELD", writable=True) as table:
        _keep(table, [field_id])
    with open_table(out, "SPECTRAL_WINDOW", writable=True) as table:
        _keep(table, [window_id])
        if (frequency := np.asarray(table.getcell("CHAN_FREQ", 0))).size > 1 and frequency[1] < frequency[0]:
            for name in ("CHAN_FREQ", "CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
                table.putcell(name, 0, np.asarray(table.getcell(name, 0))[::-1])
        table.putcell("CHAN_WIDTH", 0, np.abs(np.asarray(table.getcell("CHAN_WIDTH", 0))))
    with open_table(out, "POLARIZATION", writable=True) as table:
        _keep(table, [setup])
        types = np.asarray(table.getcell("CORR_TYPE", 0))[list(correlations)]
        table.putcell("CORR_TYPE", 0, types)
        table.putcell("CORR_PRODUCT", 0, np.array([[0, 0], [1, 1]], dtype=np.int32))
        table.putcell("NUM_CORR", 0, 2)
    with open_table(out, "ANTENNA", writable=True) as table:
        diameters = np.asarray(table.getcol("DISH_DIAMETER"), dtype=np.float64)
        table.putcol("DISH_DIAMETER", np.where(np.isfinite(diameters) & (diameters > 0), diameters, diameter_m))
    with open_table(out, "POINTING", writable=True) as table:
        _keep(table, [])
        table.addrows(time_s.size)
        table.putcol("ANTENNA_ID", np.zeros(time_s.size, dtype=np.int32))
        table.putcol("TIME", time_s)
        interval = float(np.median(np.diff(time_s))) if time_s.size > 1 else 1.0 / SECONDS_PER_DAY
        table.putcol("INTERVAL", np.full(time_s.size, interval))
        table.putcol("TRACKING", np.ones(time_s.size, dtype=bool))
        radians = np.radians(np.stack(direction_deg, axis=1))
        for name in ("DIRECTION", "TARGET"):
            for row in range(time_s.size):
                table.putcell(name, row, radians[row][None, :])
        table.putcol("NUM_POLY", np.zeros(time_s.size, dtype=np.int32))


def _keep(table: Any, rows: Sequence[int]) -> None:
    """Remove all rows but these."""
    table.removerows([row for row in range(table.nrows()) if row not in rows])
