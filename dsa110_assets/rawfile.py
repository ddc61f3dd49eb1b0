"""Header of a raw subband file, and the checks that decide whether the platform accepts the file.

Reads the header of a UVH5 file with plain h5py (`uvh5`: the correlator's layout, and the newer one of pyuvdata 3) and
checks it against the frequency plan, so that ingest can decide in milliseconds. Raw files are always opened read-only
(pitfall 28).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.directions import Site, TilePointing, meridian_icrs
from dsa110_assets.common.instrument import (
    CHANNEL_WIDTH_HZ,
    CHANNELS_PER_SUBBAND,
    LARGEST_CREDIBLE_VALUE,
    N_SUBBANDS,
    SAMPLES_PER_INTEGRATION,
    TOP_CHANNEL_HZ,
)
from dsa110_assets.errors import ConfigurationError, InvalidRawFileError, NonRetriableError
from dsa110_assets.files import is_special, printable, why_not_openable
from dsa110_assets.products import parse_raw_name
from dsa110_assets.times import JD_MINUS_MJD, datetime_to_mjd
from dsa110_assets.uvh5 import (
    POINTING_TOLERANCE_RAD,
    HeaderItems,
    Rows,
    check_filters,
    declination_of_baselines_rad,
    invalid,
    read_channel_width_hz,
    read_pointing_dec_rad,
    read_rows,
    read_site_deg,
    refuse_data_elsewhere,
    refuse_parts_elsewhere,
    text,
)

SUBBAND_WIDTH_HZ = CHANNELS_PER_SUBBAND * CHANNEL_WIDTH_HZ
FREQUENCY_TOLERANCE_HZ = 0.05 * CHANNEL_WIDTH_HZ
INTEGRATION_TOLERANCE = 0.01
POLARIZATIONS = (-5, -6)
"""XX, YY in the numbering of AIPS memo 117, which UVH5 uses."""
SITE_TOLERANCE = (1e-10, 1e-10, 1e-3)
"""Latitude and longitude (rad), altitude (m): a millimeter. pyuvdata's geocentric coordinates change less."""
FUTURE_TOLERANCE_S = 600.0
"""A file that starts later than this after now is rejected for good: its node's clock is wrong.

Clocks of working nodes differ by seconds; two observations (618 s) must not be able to change places.
"""
LARGEST_OFFSET_M = 1e5
"""No antenna is farther from the reference point; geocentric positions are 6400 km."""
_SAMPLE_ROWS = 128
_SAMPLES = 8


@dataclass(frozen=True, eq=False)
class RawHeader:
    """Header of one raw subband file.

    ``subband``: 0..15 from the frequencies. ``start_jd``: center of the first integration (UTC), which identifies the
    observation. ``times_jd``: center of each integration, UTC, shape (Ntimes,). ``integration_s``: length of an
    integration. ``freq_hz``: channel centers as stored, descending, shape (Nfreqs,). ``channel_width_hz``: positive.
    ``ant_1``/``ant_2``: antenna *numbers* of each baseline in the correlator's order, shape (Nbls,).
    ``row_place``: position ``integration * Nbls + baseline`` of each row of the file; None when rows run in this order.
    ``is_newer_layout``: whether pyuvdata 3 wrote the header. ``uvw_fits``: whether the file's uvw confirm the
    antennas and the sign of each baseline.
    ``antenna_numbers``/``antenna_names``: all antennas of the header, shape (Nants_telescope,).
    ``antenna_positions_m``: ITRF offsets from the site's reference point, shape (Nants_telescope, 3).
    ``site``: reference point. ``pointing_dec_rad``: apparent declination of the meridian phase centers.
    ``notes``: unusual but acceptable things.
    """

    path: Path
    subband: int
    start_jd: float
    times_jd: NDArray[np.float64]
    integration_s: float
    n_times: int
    n_bls: int
    freq_hz: NDArray[np.float64]
    channel_width_hz: float
    ant_1: NDArray[np.int64]
    ant_2: NDArray[np.int64]
    antenna_numbers: NDArray[np.int64]
    antenna_names: tuple[str, ...]
    antenna_positions_m: NDArray[np.float64]
    site: Site
    pointing_dec_rad: float
    telescope_name: str
    polarizations: tuple[int, ...]
    size_bytes: int
    row_place: NDArray[np.int64] | None = None
    is_newer_layout: bool = False
    uvw_fits: bool = False
    notes: tuple[str, ...] = ()

    @property
    def start_mjd(self) -> float:
        """Center of the first integration, UTC MJD."""
        return self.start_jd - JD_MINUS_MJD

    @property
    def n_freqs(self) -> int:
        """Number of channels."""
        return int(self.freq_hz.size)


def subband_edges_hz(subband: int) -> tuple[float, float]:
    """(lower, upper) edge of a subband: sb00 is the top of the band, frequency falls with the number (pitfall 1)."""
    upper = TOP_CHANNEL_HZ + 0.5 * CHANNEL_WIDTH_HZ - subband * SUBBAND_WIDTH_HZ
    return upper - SUBBAND_WIDTH_HZ, upper


def subband_of(freq_hz: NDArray[np.float64], channel_width_hz: float) -> int | None:
    """Number of the subband that these descending channels fill exactly; None if there is none."""
    upper = freq_hz[0] + 0.5 * channel_width_hz
    number = round((subband_edges_hz(0)[1] - upper) / SUBBAND_WIDTH_HZ)
    lower_edge, upper_edge = subband_edges_hz(number)
    step = SUBBAND_WIDTH_HZ / freq_hz.size
    plan = upper_edge - (np.arange(freq_hz.size) + 0.5) * step
    fits = np.max(np.abs(freq_hz - plan)) <= FREQUENCY_TOLERANCE_HZ and abs(freq_hz[-1] - 0.5 * step - lower_edge) <= FREQUENCY_TOLERANCE_HZ
    return number if fits and 0 <= number < N_SUBBANDS else None


def read_raw_header(path: Path) -> RawHeader:
    """Read the header of a raw file, but no visibilities.

    Raises:
        InvalidRawFileError: the file does not open, or the header is incomplete, contradicts itself or has channels
            that are not a subband of this telescope.
    """
    with _open(path) as file:
        return _header_of(path, file)


def validate_raw_file(
    path: Path, subband: int | None = None, *, expected: RawHeader | None = None, now_jd: float | None = None
) -> RawHeader:
    """Check that a file is a complete, credible subband file, and return its header.

    Args:
        path: the file; opened read-only.
        subband: expected number; None takes it from the file name.
        expected: header of another subband of the same observation; start, baselines, antennas and pointing must agree.
        now_jd: time after which (plus `FUTURE_TOLERANCE_S`) a file is future-dated; None reads the clock.

    Raises:
        InvalidRawFileError: gives the exact reason.
    """
    with _open(path) as file:
        header = _header_of(path, file)
        if subband is None:
            name = parse_raw_name(path.name)
            subband = None if name is None else name.subband
        if subband is not None and subband != header.subband:
            raise invalid(path, f"the name says sb{subband:02d} but the frequencies are those of sb{header.subband:02d}")
        now = datetime_to_mjd(datetime.now(UTC)) + JD_MINUS_MJD if now_jd is None else now_jd
        if is_future_dated(header, now):
            raise invalid(path, f"dated in the future (JD {header.times_jd[0]:.5f}, now {now:.5f}); the node's clock is wrong")
        if expected is not None:
            _check_same_observation(header, expected)
        _check_data(path, file, header)
    return header


def is_future_dated(header: RawHeader, now_jd: float) -> bool:
    """Whether a file's first integration lies more than `FUTURE_TOLERANCE_S` after ``now_jd`` (UTC)."""
    return bool(header.times_jd[0] > now_jd + FUTURE_TOLERANCE_S / 86_400.0)


def raw_names(directory: Path) -> Iterator[tuple[Path, datetime]]:
    """Files of a directory that are named like raw files, sorted, with the times in their names (hints only).

    Raises:
        ConfigurationError: the directory cannot be listed.
    """
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - a hundred thousand Path objects are slow
    except OSError as error:
        raise ConfigurationError(directory, f"cannot be listed ({error.strerror})", "give the directory of the raw files") from error
    for name in names:
        parsed = parse_raw_name(name)
        if parsed is not None:
            yield directory / name, parsed.stamp


def any_site(directory: Path) -> Site:
    """Return the site from the first readable header, which is its only source (pitfall 3).

    Raises:
        NonRetriableError: no header is readable.
        ConfigurationError: the directory cannot be listed.
    """
    for path, _ in raw_names(directory):
        try:
            return read_raw_header(path).site
        except InvalidRawFileError:
            continue
    raise NonRetriableError(
        directory, "holds no readable raw subband file, from whose header the site is read", "give a raw file or its directory"
    )


def pointing_of(header: RawHeader) -> TilePointing:
    """Compute the pointing of an observation from its raw header alone."""
    ra_rad, dec_rad = meridian_icrs(header.times_jd, header.pointing_dec_rad, header.site)
    middle = len(ra_rad) // 2
    return TilePointing(
        time_mjd=header.times_jd - JD_MINUS_MJD,
        ra_deg=np.degrees(ra_rad),
        dec_deg=np.degrees(dec_rad),
        phase_ra_deg=float(np.degrees(ra_rad[middle])),
        phase_dec_deg=float(np.degrees(dec_rad[middle])),
    )


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    if is_special(path):
        raise invalid(path, why_not_openable(path) or "not a regular file")
    try:
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError as error:
        raise InvalidRawFileError(path, "the file has gone", "rescan the input directory") from error
    except PermissionError as error:
        raise InvalidRawFileError(path, "not readable (permission denied)", "let the pipeline's account read it") from error
    except OSError as error:
        raise invalid(path, f"not a complete HDF5 file ({error})") from error
    try:
        refuse_parts_elsewhere(path, file)
        yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        # h5py raises any of these for a damaged file; none may stop the scan of the other files
        raise invalid(path, f"damaged HDF5 structure ({error})") from error
    finally:
        file.close()


def _header_of(path: Path, file: h5py.File) -> RawHeader:
    items = HeaderItems(path, file)
    n_times, n_bls, n_blts, n_freqs = (items.count(name) for name in ("Ntimes", "Nbls", "Nblts", "Nfreqs"))
    if n_blts != n_times * n_bls:
        raise invalid(path, f"Nblts {n_blts} is not Ntimes {n_times} x Nbls {n_bls}")
    freq_hz, width_hz, subband = _frequencies(items, n_freqs)
    polarizations = tuple(int(p) for p in items.integers("polarization_array"))
    if polarizations != POLARIZATIONS:
        raise invalid(path, f"polarizations {polarizations}, expected XX, YY {POLARIZATIONS}")
    n_antennas = items.count("Nants_telescope")
    numbers = items.integers("antenna_numbers", n_antennas)
    names = tuple(text(name) for name in items.raw("antenna_names").ravel().tolist())
    if len(names) != n_antennas:
        raise invalid(path, f"{len(names)} antenna names for {n_antennas} antennas")
    if np.unique(numbers).size != n_antennas:
        raise invalid(path, "antenna numbers are not unique")
    if (odd := next((name for name in names if not name or printable(name) != name), None)) is not None:
        raise invalid(path, f"antenna name {printable(odd)!r} is empty or not printable")
    if len(set(names)) != n_antennas:
        raise invalid(path, "antenna names are not unique")
    rows = read_rows(items, n_times, n_bls)
    times = rows.times_jd
    if not 2_440_000 < times[0] < 2_500_000:
        raise invalid(path, f"time_array starts at {times[0]}, not a Julian date of this century")
    _check_baselines(items, rows, numbers)
    positions_m = items.numbers("antenna_positions", 3 * n_antennas).reshape(n_antennas, 3)
    if np.abs(positions_m).max() > LARGEST_OFFSET_M or (n_antennas > 1 and np.ptp(positions_m, axis=0).max() == 0.0):
        largest = np.abs(positions_m).max()
        raise invalid(path, f"antenna_positions of up to {largest:.0f} m are not offsets from the array's reference point")
    uvw_dec_rad = declination_of_baselines_rad(items, rows, numbers, positions_m)
    if rows.place is not None and uvw_dec_rad is None:
        raise invalid(path, "rows are not ordered by integration, and uvw_array does not belong to their baselines")
    pointing, notes = read_pointing_dec_rad(items, uvw_dec_rad)
    latitude, longitude, altitude_m = read_site_deg(items)
    return RawHeader(
        path=path,
        subband=subband,
        start_jd=float(times[0]),
        times_jd=times,
        integration_s=_integration_s(items, times),
        n_times=n_times,
        n_bls=n_bls,
        freq_hz=freq_hz,
        channel_width_hz=width_hz,
        ant_1=rows.ant_1,
        ant_2=rows.ant_2,
        antenna_numbers=numbers,
        antenna_names=names,
        antenna_positions_m=positions_m,
        site=Site(float(np.radians(latitude)), float(np.radians(longitude)), altitude_m),
        pointing_dec_rad=pointing,
        telescope_name=text(items.raw("telescope_name")[()]),
        polarizations=polarizations,
        size_bytes=path.stat().st_size,
        row_place=rows.place,
        is_newer_layout=bool(items.phase_centers()),
        uvw_fits=uvw_dec_rad is not None,
        notes=notes,
    )


def _integration_s(items: HeaderItems, times: NDArray[np.float64]) -> float:
    values = items.numbers("integration_time")
    if not values[0] > 0 or np.any(np.abs(values - values[0]) > INTEGRATION_TOLERANCE * values[0]):
        raise invalid(items.path, f"integration times of {values.min()} to {values.max()} s")
    step_s = float(np.median(np.diff(times))) * 86_400.0 if times.size > 1 else float(values[0])
    if abs(step_s - values[0]) > INTEGRATION_TOLERANCE * values[0]:
        raise invalid(items.path, f"integrations of {values[0]} s follow each other every {step_s:.4f} s")
    return float(values[0])


def _frequencies(items: HeaderItems, n_freqs: int) -> tuple[NDArray[np.float64], float, int]:
    freq_hz = items.numbers("freq_array", n_freqs)
    width_hz = read_channel_width_hz(items, n_freqs)
    if abs(width_hz * n_freqs - SUBBAND_WIDTH_HZ) > FREQUENCY_TOLERANCE_HZ:
        raise invalid(items.path, f"{n_freqs} channels of {width_hz} Hz do not make a subband of {SUBBAND_WIDTH_HZ:.0f} Hz")
    subband = subband_of(freq_hz, width_hz)
    if subband is None:
        raise invalid(
            items.path, f"frequencies {freq_hz[0] / 1e6:.4f} to {freq_hz[-1] / 1e6:.4f} MHz are no (descending) subband of this telescope"
        )
    return freq_hz, width_hz, subband


def _check_baselines(items: HeaderItems, rows: Rows, numbers: NDArray[np.int64]) -> None:
    for name, values in (("ant_1_array", rows.ant_1), ("ant_2_array", rows.ant_2)):
        if not np.all(np.isin(values, numbers)):
            raise invalid(items.path, f"{name} names antennas that the header does not list")
    if np.unique(_pairs(rows.ant_1, rows.ant_2, int(numbers.max()) + 1)).size != rows.ant_1.size:
        raise invalid(items.path, "a baseline occurs twice in one integration")


def _pairs(ant_1: NDArray[np.int64], ant_2: NDArray[np.int64], n_numbers: int) -> NDArray[np.int64]:
    """One number for each baseline, independent of its sign."""
    return np.minimum(ant_1, ant_2) * n_numbers + np.maximum(ant_1, ant_2)


def _check_same_observation(header: RawHeader, expected: RawHeader) -> None:
    """Check that two subbands of one observation have the same times, array and pointing.

    Two files of the correlator's layout must agree exactly: any difference is damage. pyuvdata rounds sites and
    apparent positions, and may reverse baselines and reorder them.
    """
    rewritten = header.is_newer_layout or expected.is_newer_layout
    site_tolerance = SITE_TOLERANCE if rewritten else (0.0, 0.0, 0.0)
    common = min(header.n_times, expected.n_times)
    same = {
        "start time": np.array_equal(header.times_jd[:common], expected.times_jd[:common]),
        "baselines": _same_baselines(header, expected, any_order=rewritten),
        "antennas": np.array_equal(header.antenna_numbers, expected.antenna_numbers)
        and header.antenna_names == expected.antenna_names
        and np.array_equal(header.antenna_positions_m, expected.antenna_positions_m),
        "site": all(
            abs(mine - theirs) <= tolerance
            for mine, theirs, tolerance in zip(astuple(header.site), astuple(expected.site), site_tolerance, strict=True)
        ),
        "pointing declination": abs(header.pointing_dec_rad - expected.pointing_dec_rad) <= (POINTING_TOLERANCE_RAD if rewritten else 0.0),
        "number of channels": header.n_freqs == expected.n_freqs,
    }
    different = [what for what, equal in same.items() if not equal]
    if different:
        raise invalid(header.path, f"{', '.join(different)} differ from {expected.path.name} of the same observation")


def _same_baselines(header: RawHeader, expected: RawHeader, *, any_order: bool) -> bool:
    """Whether order and sign are the same; with ``any_order`` they may differ if the uvw of both files confirm them."""
    if np.array_equal(header.ant_1, expected.ant_1) and np.array_equal(header.ant_2, expected.ant_2):
        return True
    return any_order and header.uvw_fits and expected.uvw_fits and np.array_equal(_sorted_pairs(header), _sorted_pairs(expected))


def _sorted_pairs(header: RawHeader) -> NDArray[np.int64]:
    return np.sort(_pairs(header.ant_1, header.ant_2, int(header.antenna_numbers.max()) + 1))


def _check_data(path: Path, file: h5py.File, header: RawHeader) -> None:
    """Check shapes, types and allocation of the data, and a few rows spread over the file."""
    newer = (header.n_times * header.n_bls, header.n_freqs, len(header.polarizations))
    shapes = ((newer[0], 1, *newer[1:]), newer)
    for name, kind in (("visdata", "c"), ("flags", "b"), ("nsamples", "f")):
        dataset = file.get(f"Data/{name}")
        if not isinstance(dataset, h5py.Dataset):
            raise invalid(path, f"Data/{name} is missing")
        refuse_data_elsewhere(path, dataset)
        if dataset.shape not in shapes:
            raise invalid(path, f"Data/{name} has shape {dataset.shape}, expected {shapes[0]} (or {shapes[1]}, in the newer layout)")
        if dataset.dtype.kind != kind:
            raise invalid(path, f"Data/{name} is {dataset.dtype}")
        check_filters(path, dataset)
        if not _is_allocated(dataset, header.size_bytes, may_be_empty=name == "flags"):
            raise invalid(path, f"Data/{name} was not written to its end, or its parts lie outside of the file")
    size = os.stat(path).st_size  # noqa: PTH116 - a plain stat of the open file
    stored = sum(file[f"Data/{name}"].id.get_storage_size() for name in ("visdata", "nsamples"))  # pyright: ignore
    if stored > size:
        raise invalid(path, f"truncated: {size} bytes on disk, the data alone need {stored}")
    for name, largest in (("visdata", LARGEST_CREDIBLE_VALUE), ("nsamples", SAMPLES_PER_INTEGRATION)):
        if not _any_credible(file[f"Data/{name}"], largest):  # pyright: ignore[reportArgumentType]
            raise invalid(path, f"Data/{name} holds nothing but NaN, infinities or absurd values (pitfall 24)")


def _is_allocated(dataset: h5py.Dataset, file_bytes: int, *, may_be_empty: bool) -> bool:
    """Whether each chunk of a dataset has its own place inside the file; the conversion reads chunks without HDF5."""
    if may_be_empty and dataset.id.get_storage_size() == 0:
        return True
    if dataset.chunks is None:
        return dataset.id.get_storage_size() >= dataset.size * dataset.dtype.itemsize
    places: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(lambda chunk: places.append((chunk.byte_offset, chunk.size, *chunk.chunk_offset)))
    expected = int(np.prod([-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True)]))
    if len(places) != expected:
        return False
    table = np.array(places, dtype=np.uint64)
    inside = bool(np.all(table[:, 0] < file_bytes) and np.all(table[:, 1] <= file_bytes - table[:, 0]))
    return inside and np.unique(table[:, 0]).size == expected and np.unique(table[:, 2:], axis=0).shape[0] == expected


def _any_credible(dataset: h5py.Dataset, largest: float) -> bool:
    """Whether a few rows, spread over the whole file, hold a value of credible size; numbers are not negative."""
    n_rows = dataset.shape[0]
    for start in np.unique(np.linspace(0, max(n_rows - _SAMPLE_ROWS, 0), _SAMPLES).astype(int)):
        with np.errstate(all="ignore"):
            values = dataset[int(start) : int(start) + _SAMPLE_ROWS]
            size = np.abs(values) if values.dtype.kind == "c" else values
            credible = (size >= 0) & (size <= largest)
        if np.any(credible):
            return True
    return False
