"""The UVH5 format: typed access to header items, and the differences between its two layouts.

The correlator writes the old layout: ``visdata`` (Nblts, 1, Nfreqs, Npols), ``freq_array`` (1, Nfreqs), one
``channel_width``. pyuvdata 3 writes the newer one (``Header/version`` 1.2): ``visdata`` (Nblts, Nfreqs, Npols),
``freq_array`` (Nfreqs,), a ``channel_width`` for each channel, a ``phase_center_catalog``, compressed ``flags`` and
``nsamples``. Rows may be in another order, and baselines may have the other sign. This module reads both layouts;
`rawfile` decides whether a file comes from this telescope.
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.errors import InvalidRawFileError
from dsa110_assets.files import printable

LEAVE_ALONE = "the file is left where it is and listed as rejected; ask the correlator's operator if more follow"
MERIDIAN_KINDS = frozenset({"unprojected", "driftscan"})
"""Types of phase center that fit data fringe-stopped to the meridian."""
POINTING_TOLERANCE_RAD = 1e-8
"""2 milliarcseconds: pyuvdata computes apparent positions for each integration, with rounding errors."""
SIDEREAL_DAYS_PER_DAY = 1.00273781191135448
_LARGEST_ITEM = 10_000_000
"""Values of a header item. The largest, ``uvw_array``, has half a million; a small file can claim any number."""
_LST_TOLERANCE_RAD = 1e-5
_UVW_TOLERANCE_M = 0.1
_BASELINE_TOLERANCE_RAD = 1e-4
"""Single-precision baselines give the declination to a few 1e-8 rad; a stale value is off by degrees."""


def invalid(path: Path, cause: str, next_step: str = LEAVE_ALONE) -> InvalidRawFileError:
    """Make the error for a rejected file."""
    return InvalidRawFileError(path, cause, next_step)


def text(value: object) -> str:
    """Convert a string of a header, which h5py returns as bytes or as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def refuse_parts_elsewhere(path: Path, file: h5py.File) -> None:
    """Refuse links to other files, without following them: HDF5 opens what they name, and waits for ever for a pipe.

    Raises:
        InvalidRawFileError: names the first link.
    """
    found: list[str] = []

    def look(name: bytes, link: Any) -> bool | None:
        if link.type not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            found.append(name.decode("utf-8", "backslashreplace"))
            return True
        return None

    file.id.links.visit(look, info=True)
    if found:
        raise invalid(path, f"{printable(found[0])} is a link to another file; a raw file is complete in itself")


def refuse_data_elsewhere(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse a dataset whose values lie in other files, before they are read.

    Raises:
        InvalidRawFileError: it is external or virtual.
    """
    if dataset.is_virtual or dataset.external:
        raise invalid(path, f"the values of {printable(dataset.name)} lie in other files; a raw file is complete in itself")


class HeaderItems:
    """Typed access to the ``Header`` group; missing or malformed items raise `InvalidRawFileError`."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        group = file.get("Header")
        if not isinstance(group, h5py.Group):
            raise invalid(path, "no Header group; not a UVH5 file")
        self.path, self.group = path, group

    def has(self, name: str) -> bool:
        """Whether the header has such an item."""
        return isinstance(self.group.get(name), h5py.Dataset)

    def raw(self, name: str) -> NDArray[np.generic]:
        """Return an item as it is stored."""
        item = self.group.get(name)
        if not isinstance(item, h5py.Dataset):
            raise invalid(self.path, f"header item {name} is missing")
        refuse_data_elsewhere(self.path, item)
        if item.size is not None and item.size > _LARGEST_ITEM:
            raise invalid(self.path, f"header item {name} has {item.size} values")
        return np.asarray(item[()])

    def numbers(self, name: str, size: int | None = None) -> NDArray[np.float64]:
        """Return finite numbers, flattened; ``size`` of them, or at least one."""
        values = self.raw(name)
        if values.dtype.kind not in "fiu":
            raise invalid(self.path, f"header item {name} is {values.dtype}, not a number")
        flat = np.asarray(values, dtype=np.float64).ravel()
        if flat.size == 0 or (size is not None and flat.size != size):
            raise invalid(self.path, f"header item {name} has {flat.size} values, expected {size or 'at least one'}")
        if not np.all(np.isfinite(flat)):
            raise invalid(self.path, f"header item {name} is not finite")
        return flat

    def integers(self, name: str, size: int | None = None) -> NDArray[np.int64]:
        """Return `numbers` as integers."""
        return np.asarray(self.numbers(name, size), dtype=np.int64)

    def count(self, name: str) -> int:
        """Return one positive integer."""
        value = int(self.integers(name, 1)[0])
        if value < 1:
            raise invalid(self.path, f"header item {name} is {value}")
        return value

    def phase_centers(self) -> dict[str, str]:
        """Return name and type of each entry of ``phase_center_catalog``; empty in the old layout, which has none."""
        catalog = self.group.get("phase_center_catalog")
        if not isinstance(catalog, h5py.Group):
            return {}
        found: dict[str, str] = {}
        for key in catalog:
            name, kind = (self.raw(f"phase_center_catalog/{key}/{item}")[()] for item in ("cat_name", "cat_type"))
            found[text(name)] = text(kind)
        return found


@dataclass(frozen=True, eq=False)
class Rows:
    """Order of a file's rows.

    ``times_jd``: center of each integration, increasing, (Ntimes,). ``ant_1``/``ant_2``: antenna numbers of each
    baseline, (Nbls,). ``place``: position of each row of the file, ``integration * Nbls + baseline``, (Nblts,); None
    when the rows run by integration, then baseline, as the correlator writes them.
    """

    times_jd: NDArray[np.float64]
    ant_1: NDArray[np.int64]
    ant_2: NDArray[np.int64]
    place: NDArray[np.int64] | None


def read_rows(items: HeaderItems, n_times: int, n_bls: int) -> Rows:
    """Read times and baselines of the rows.

    The correlator's layout has one order: by integration, then baseline. In the newer layout rows may be in any order
    if ``lst_array`` confirms the times: a damaged header must not pass for another order.

    Raises:
        InvalidRawFileError: the rows are not a full table of Ntimes integrations of the same Nbls baselines.
    """
    n_rows = n_times * n_bls
    time = items.numbers("time_array", n_rows)
    first, second = (items.integers(name, n_rows) for name in ("ant_1_array", "ant_2_array"))
    place: NDArray[np.int64] | None = None
    if items.phase_centers() and not _is_by_integration(time.reshape(n_times, n_bls), first, second):
        _check_sidereal_times(items, time)
        order = np.lexsort((np.maximum(first, second), np.minimum(first, second), time))
        time, first, second = time[order], first[order], second[order]
        place = np.empty(n_rows, dtype=np.int64)
        place[order] = np.arange(n_rows)
    table = time.reshape(n_times, n_bls)
    times = np.ascontiguousarray(table[:, 0])
    if np.any(table != times[:, None]):
        raise invalid(items.path, "rows are not ordered by integration, then baseline")
    if np.any(np.diff(times) <= 0):
        raise invalid(items.path, "time_array does not increase")
    for name, values in (("ant_1_array", first), ("ant_2_array", second)):
        if np.any(values.reshape(n_times, n_bls) != values[:n_bls]):
            raise invalid(items.path, f"{name} is not the same in each integration")
    return Rows(times, np.ascontiguousarray(first[:n_bls]), np.ascontiguousarray(second[:n_bls]), place)


def _is_by_integration(times: NDArray[np.float64], first: NDArray[np.int64], second: NDArray[np.int64]) -> bool:
    """Whether rows run by integration, then baseline, with the same baselines each time."""
    if np.any(times != times[:, :1]) or np.any(np.diff(times[:, 0]) <= 0):
        return False
    return not any(np.any(values.reshape(times.shape) != values[: times.shape[1]]) for values in (first, second))


def _check_sidereal_times(items: HeaderItems, time_jd: NDArray[np.float64]) -> None:
    """Reject rows whose times and sidereal times do not belong together."""
    lst = items.numbers("lst_array", time_jd.size)
    rotation = 2 * np.pi * SIDEREAL_DAYS_PER_DAY * (time_jd - time_jd[0])
    error = np.mod(lst - lst[0] - rotation + np.pi, 2 * np.pi) - np.pi
    if np.max(np.abs(error)) > _LST_TOLERANCE_RAD:
        raise invalid(items.path, "rows are not ordered by integration, and time_array and lst_array do not belong to the same rows")


def read_channel_width_hz(items: HeaderItems, n_freqs: int) -> float:
    """Width of the channels, positive: one number in the old layout, the same number for each channel in the newer one.

    Raises:
        InvalidRawFileError: channels of different widths, or of several spectral windows.
    """
    widths = np.abs(items.numbers("channel_width"))
    if widths.size not in (1, n_freqs):
        raise invalid(items.path, f"header item channel_width has {widths.size} values, expected 1 or {n_freqs}")
    if np.ptp(widths) > 1e-6 * widths[0]:
        raise invalid(items.path, f"channel_width runs from {widths.min()} to {widths.max()} Hz; a subband has channels of one width")
    if items.has("flex_spw_id_array") and np.unique(items.integers("flex_spw_id_array", n_freqs)).size > 1:
        raise invalid(items.path, "flex_spw_id_array: the channels belong to several spectral windows; a subband is one")
    return float(widths[0])


def read_site_deg(items: HeaderItems) -> tuple[float, float, float]:
    """Read geodetic latitude and longitude in degrees and altitude in meters of the array's reference point.

    pyuvdata stores the site as geocentric x, y, z, and the conversion back changes the last digits. We round the site
    in pyuvdata's files to 1e-9 deg and 10 micrometers, which restores the site of the original file.
    """
    latitude, longitude, altitude = (float(items.numbers(name, 1)[0]) for name in ("latitude", "longitude", "altitude"))
    if not (abs(latitude) <= 90 and abs(longitude) <= 360):
        raise invalid(items.path, f"site latitude {latitude}, longitude {longitude} are not degrees")
    if items.phase_centers():
        return round(latitude, 9), round(longitude, 9), round(altitude, 5)
    return latitude, longitude, altitude


def read_pointing_dec_rad(items: HeaderItems, declination_of_baselines_rad: float | None) -> tuple[float, tuple[str, ...]]:
    """Read the apparent declination of the meridian points to which the correlator stopped the fringes, with notes.

    It is ``phase_center_app_dec``. A file of the correlator that pyuvdata has rewritten is called unprojected; this
    item is then the declination of the zenith, and only ``extra_keywords/phase_center_dec`` is left. That can be stale;
    the baselines in ``uvw_array`` (see `declination_of_baselines_rad`) show whether it is.

    Raises:
        InvalidRawFileError: the data are not phased to the meridian, or the declination is impossible.
    """
    centers = items.phase_centers()
    if foreign := {name: kind for name, kind in centers.items() if kind not in MERIDIAN_KINDS}:
        name, kind = next(iter(foreign.items()))
        raise invalid(items.path, f"phase_center_catalog: the data are phased to {name!r} ({kind}), not fringe-stopped to the meridian")
    notes: tuple[str, ...] = ()
    unprojected = "unprojected" in centers.values()
    if items.has("phase_center_app_dec") and not unprojected:
        values = items.numbers("phase_center_app_dec")
        if np.ptp(values) > POINTING_TOLERANCE_RAD:
            raise invalid(items.path, "the pointing declination changes inside the file")
        pointing = float(values[0])
    else:
        why = "is the zenith's (unprojected)" if unprojected else "is missing"
        pointing = float(items.numbers("extra_keywords/phase_center_dec", 1)[0])
        notes = (f"pointing declination from extra_keywords/phase_center_dec, which may be stale: phase_center_app_dec {why}",)
        measured = declination_of_baselines_rad if unprojected else None
        zenith = np.radians(items.numbers("latitude", 1)[0])  # baselines toward the zenith do not show where the dishes point
        if measured is not None and all(abs(measured - one) > _BASELINE_TOLERANCE_RAD for one in (pointing, zenith)):
            notes = (f"pointing declination from uvw_array: extra_keywords/phase_center_dec ({pointing:.6f} rad) is stale",)
            pointing = measured
    if abs(pointing) > np.pi / 2:
        raise invalid(items.path, f"pointing declination {pointing} rad")
    return pointing, notes


def declination_of_baselines_rad(
    items: HeaderItems, rows: Rows, antenna_numbers: NDArray[np.int64], antenna_positions_m: NDArray[np.float64]
) -> float | None:
    """Fit the declination on the meridian toward which ``uvw_array`` projects the baselines; None if one does not fit.

    E is the component of a baseline toward the east, X toward the meridian in the plane of the equator, Z toward the
    pole: ``u = E``, ``v = -X sin d + Z cos d``, ``w = X cos d + Z sin d`` (Thompson, Moran & Swenson 2017, eq. 4.1).
    Least squares give d. A fit confirms the antennas of each row, and the sign of the baseline.
    """
    item = items.group.get("uvw_array")
    n_times, n_bls = rows.times_jd.size, rows.ant_1.size
    if not isinstance(item, h5py.Dataset) or item.shape != (n_times * n_bls, 3) or item.dtype.kind != "f":
        return None
    baseline_of_row = np.arange(n_bls) if rows.place is None else rows.place % n_bls
    u, v, w = np.asarray(item[: baseline_of_row.size], dtype=np.float64).T
    row_of = {int(number): row for row, number in enumerate(antenna_numbers)}
    first, second = ([row_of[int(number)] for number in numbers] for numbers in (rows.ant_1, rows.ant_2))
    x_itrf, y_itrf, z = (antenna_positions_m[second] - antenna_positions_m[first])[baseline_of_row].T
    longitude = np.radians(items.numbers("longitude", 1)[0])
    east = y_itrf * np.cos(longitude) - x_itrf * np.sin(longitude)
    x = x_itrf * np.cos(longitude) + y_itrf * np.sin(longitude)
    d = float(np.arctan2(np.sum(w * z - v * x), np.sum(w * x + v * z)))
    residual = np.stack([u - east, v + x * np.sin(d) - z * np.cos(d), w - x * np.cos(d) - z * np.sin(d)])
    fits = np.all(np.abs(residual) <= _UVW_TOLERANCE_M) and np.any(np.abs(x) + np.abs(z) > _UVW_TOLERANCE_M)
    return d if fits and abs(d) <= np.pi / 2 else None


def check_filters(path: Path, dataset: h5py.Dataset) -> None:
    """Reject data compressed with a filter that is not installed.

    Raises:
        InvalidRawFileError: gives the number and the name of the filter.
    """
    properties = dataset.id.get_create_plist()
    for n in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(n)
        if not h5py.h5z.filter_avail(code):
            with suppress(ImportError):
                importlib.import_module("hdf5plugin")  # registers bitshuffle, zstd and others, if installed
            if not h5py.h5z.filter_avail(code):
                raise invalid(
                    path,
                    f"{dataset.name} is compressed with HDF5 filter {code} ({text(name) or 'unnamed'}), which is not installed here",
                    "install the Python package hdf5plugin for the pipeline, then touch the file so that it is checked again",
                )
