"""What a raw subband file says about itself, and whether it is one that the platform accepts.

Reads the header of a UVH5 file (old 4-D layout) with plain h5py and checks it against the frequency plan, so that ingest
can decide in milliseconds. Reading visibilities belongs to `conversion`; grouping and names belong to `ingest` and
`products`. Raw files are opened read-only, always (pitfall 28).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.errors import ConfigurationError, InvalidRawFileError, NonRetriableError
from dsa110_assets.geometry import Site, TilePointing, meridian_icrs
from dsa110_assets.instrument import CHANNEL_WIDTH_HZ, CHANNELS_PER_SUBBAND, LARGEST_CREDIBLE_VALUE, N_SUBBANDS, TOP_CHANNEL_HZ
from dsa110_assets.products import parse_raw_name
from dsa110_assets.times import JD_MINUS_MJD, datetime_to_mjd

SUBBAND_WIDTH_HZ = CHANNELS_PER_SUBBAND * CHANNEL_WIDTH_HZ
FREQUENCY_TOLERANCE_HZ = 0.05 * CHANNEL_WIDTH_HZ
INTEGRATION_TOLERANCE = 0.01
POLARIZATIONS = (-5, -6)
"""XX, YY in the numbering of AIPS memo 117, which UVH5 uses."""
FUTURE_TOLERANCE_DAYS = 1.0
_LEAVE_ALONE = "the file is left where it is and listed as rejected; ask the correlator's operator if more follow"
_SAMPLE_ROWS = 128
_SAMPLES = 8


@dataclass(frozen=True, eq=False)
class RawHeader:
    """Header of one raw subband file.

    ``subband``: 0..15 from the frequencies. ``start_jd``: centre of the first integration (UTC), the group's key.
    ``times_jd``: centre of each integration, UTC, shape (Ntimes,). ``integration_s``: length of an integration.
    ``freq_hz``: channel centres as stored, descending, shape (Nfreqs,). ``channel_width_hz``: positive.
    ``ant_1``/``ant_2``: antenna *numbers* of each baseline in the correlator's order, shape (Nbls,).
    ``antenna_numbers``/``antenna_names``: all antennas of the header, shape (Nants_telescope,).
    ``antenna_positions_m``: ITRF offsets from the site's reference point, shape (Nants_telescope, 3).
    ``site``: reference point. ``pointing_dec_rad``: apparent declination of the meridian phase centres.
    ``notes``: what was unusual but acceptable.
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
    notes: tuple[str, ...] = ()

    @property
    def start_mjd(self) -> float:
        """Centre of the first integration, UTC MJD."""
        return self.start_jd - JD_MINUS_MJD

    @property
    def n_freqs(self) -> int:
        """Channels of the file."""
        return int(self.freq_hz.size)


def subband_edges_hz(subband: int) -> tuple[float, float]:
    """(lower, upper) edge of a subband: sb00 is the top of the band, frequency falls with the number (pitfall 1)."""
    upper = TOP_CHANNEL_HZ + 0.5 * CHANNEL_WIDTH_HZ - subband * SUBBAND_WIDTH_HZ
    return upper - SUBBAND_WIDTH_HZ, upper


def subband_of(freq_hz: NDArray[np.float64], channel_width_hz: float) -> int | None:
    """Number of the subband that these descending channels fill exactly, whatever their number; None when none does."""
    upper = freq_hz[0] + 0.5 * channel_width_hz
    number = round((subband_edges_hz(0)[1] - upper) / SUBBAND_WIDTH_HZ)
    lower_edge, upper_edge = subband_edges_hz(number)
    step = SUBBAND_WIDTH_HZ / freq_hz.size
    plan = upper_edge - (np.arange(freq_hz.size) + 0.5) * step
    fits = np.max(np.abs(freq_hz - plan)) <= FREQUENCY_TOLERANCE_HZ and abs(freq_hz[-1] - 0.5 * step - lower_edge) <= FREQUENCY_TOLERANCE_HZ
    return number if fits and 0 <= number < N_SUBBANDS else None


def read_raw_header(path: Path) -> RawHeader:
    """Read the header of a raw file; no visibility is touched.

    Raises:
        InvalidRawFileError: the file does not open, or the header lacks something, contradicts itself or holds channels
            that are no subband of this telescope.
    """
    with _open(path) as file:
        return _header_of(path, file)


def validate_raw_file(
    path: Path, subband: int | None = None, *, expected: RawHeader | None = None, now_jd: float | None = None
) -> RawHeader:
    """Check that a file is a complete, credible subband file, and return its header.

    Args:
        path: the file; opened read-only.
        subband: number that the name (or the caller) claims; taken from the name when None.
        expected: header of another subband of the same observation; start, baselines, antennas and pointing must agree.
        now_jd: time after which (plus a day) a file is future-dated; the clock when None.

    Raises:
        InvalidRawFileError: with the precise reason.
    """
    with _open(path) as file:
        header = _header_of(path, file)
        if subband is None:
            name = parse_raw_name(path.name)
            subband = None if name is None else name.subband
        if subband is not None and subband != header.subband:
            raise _invalid(path, f"the name says sb{subband:02d} but the frequencies are those of sb{header.subband:02d}")
        now = datetime_to_mjd(datetime.now(UTC)) + JD_MINUS_MJD if now_jd is None else now_jd
        if header.times_jd[-1] > now + FUTURE_TOLERANCE_DAYS:
            raise _invalid(path, f"dated in the future (JD {header.times_jd[-1]:.5f}, now {now:.5f}); the node's clock is wrong")
        if expected is not None:
            _check_same_observation(header, expected)
        _check_data(path, file, header)
    return header


def raw_names(directory: Path) -> Iterator[tuple[Path, datetime]]:
    """Files of a directory whose names are those of raw files, sorted, with the times in the names (hints only).

    Raises:
        ConfigurationError: the directory cannot be listed.
    """
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - a hundred thousand Path objects are dear
    except OSError as error:
        raise ConfigurationError(directory, f"cannot be listed ({error.strerror})", "give the directory of the raw files") from error
    for name in names:
        parsed = parse_raw_name(name)
        if parsed is not None:
            yield directory / name, parsed.stamp


def any_site(directory: Path) -> Site:
    """Site in the first header that reads: it comes from a header and from nowhere else (pitfall 3).

    Raises:
        NonRetriableError: there is none.
        ConfigurationError: the directory cannot be listed.
    """
    for path, _ in raw_names(directory):
        try:
            return read_raw_header(path).site
        except InvalidRawFileError:
            continue
    raise NonRetriableError(
        directory, "holds no readable raw subband file, whose header would tell the site", "give a raw file or its directory"
    )


def pointing_of(header: RawHeader) -> TilePointing:
    """Where an observation looked, from its raw header alone."""
    ra_rad, dec_rad = meridian_icrs(header.times_jd, header.pointing_dec_rad, header.site)
    middle = len(ra_rad) // 2
    return TilePointing(
        time_mjd=header.times_jd - JD_MINUS_MJD,
        ra_deg=np.degrees(ra_rad),
        dec_deg=np.degrees(dec_rad),
        phase_ra_deg=float(np.degrees(ra_rad[middle])),
        phase_dec_deg=float(np.degrees(dec_rad[middle])),
    )


def _invalid(path: Path, cause: str) -> InvalidRawFileError:
    return InvalidRawFileError(path, cause, _LEAVE_ALONE)


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError as error:
        raise InvalidRawFileError(path, "the file has gone", "rescan the input directory") from error
    except PermissionError as error:
        raise InvalidRawFileError(path, "not readable (permission denied)", "let the pipeline's account read it") from error
    except OSError as error:
        raise _invalid(path, f"not a complete HDF5 file ({error})") from error
    try:
        yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        # h5py says in all of these ways that a damaged file makes no sense; none must stop the scan of the others
        raise _invalid(path, f"damaged HDF5 structure ({error})") from error
    finally:
        file.close()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _Items:
    """Typed access to the ``Header`` group; everything missing or misshapen becomes an `InvalidRawFileError`."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        group = file.get("Header")
        if not isinstance(group, h5py.Group):
            raise _invalid(path, "no Header group; not a UVH5 file")
        self.path, self.group = path, group

    def has(self, name: str) -> bool:
        return isinstance(self.group.get(name), h5py.Dataset)

    def raw(self, name: str) -> NDArray[np.generic]:
        item = self.group.get(name)
        if not isinstance(item, h5py.Dataset):
            raise _invalid(self.path, f"header item {name} is missing")
        return np.asarray(item[()])

    def numbers(self, name: str, size: int | None = None) -> NDArray[np.float64]:
        values = self.raw(name)
        if values.dtype.kind not in "fiu":
            raise _invalid(self.path, f"header item {name} is {values.dtype}, not a number")
        flat = np.asarray(values, dtype=np.float64).ravel()
        if flat.size == 0 or (size is not None and flat.size != size):
            raise _invalid(self.path, f"header item {name} has {flat.size} values, expected {size or 'at least one'}")
        if not np.all(np.isfinite(flat)):
            raise _invalid(self.path, f"header item {name} is not finite")
        return flat

    def integers(self, name: str, size: int | None = None) -> NDArray[np.int64]:
        return np.asarray(self.numbers(name, size), dtype=np.int64)

    def count(self, name: str) -> int:
        value = int(self.integers(name, 1)[0])
        if value < 1:
            raise _invalid(self.path, f"header item {name} is {value}")
        return value


def _header_of(path: Path, file: h5py.File) -> RawHeader:
    items = _Items(path, file)
    n_times, n_bls, n_blts, n_freqs = (items.count(name) for name in ("Ntimes", "Nbls", "Nblts", "Nfreqs"))
    if n_blts != n_times * n_bls:
        raise _invalid(path, f"Nblts {n_blts} is not Ntimes {n_times} x Nbls {n_bls}")
    times = _times(items, n_times, n_bls)
    freq_hz, width_hz, subband = _frequencies(items, n_freqs)
    polarizations = tuple(int(p) for p in items.integers("polarization_array"))
    if polarizations != POLARIZATIONS:
        raise _invalid(path, f"polarizations {polarizations}, expected XX, YY {POLARIZATIONS}")
    n_antennas = items.count("Nants_telescope")
    numbers = items.integers("antenna_numbers", n_antennas)
    names = tuple(_text(name) for name in items.raw("antenna_names").ravel().tolist())
    if len(names) != n_antennas:
        raise _invalid(path, f"{len(names)} antenna names for {n_antennas} antennas")
    if np.unique(numbers).size != n_antennas:
        raise _invalid(path, "antenna numbers are not unique")
    ant_1, ant_2 = _baselines(items, n_times, n_bls, numbers)
    integration_s = _integration_s(items, times)
    pointing, notes = _pointing(items)
    return RawHeader(
        path=path,
        subband=subband,
        start_jd=float(times[0]),
        times_jd=times,
        integration_s=integration_s,
        n_times=n_times,
        n_bls=n_bls,
        freq_hz=freq_hz,
        channel_width_hz=width_hz,
        ant_1=ant_1,
        ant_2=ant_2,
        antenna_numbers=numbers,
        antenna_names=names,
        antenna_positions_m=items.numbers("antenna_positions", 3 * n_antennas).reshape(n_antennas, 3),
        site=_site(items),
        pointing_dec_rad=pointing,
        telescope_name=_text(items.raw("telescope_name")[()]),
        polarizations=polarizations,
        size_bytes=path.stat().st_size,
        notes=notes,
    )


def _times(items: _Items, n_times: int, n_bls: int) -> NDArray[np.float64]:
    table = items.numbers("time_array", n_times * n_bls).reshape(n_times, n_bls)
    times = np.ascontiguousarray(table[:, 0])
    if np.any(table != times[:, None]):
        raise _invalid(items.path, "rows are not ordered by integration, then baseline")
    if np.any(np.diff(times) <= 0):
        raise _invalid(items.path, "time_array does not increase")
    if not 2_440_000 < times[0] < 2_500_000:
        raise _invalid(items.path, f"time_array starts at {times[0]}, not a Julian date of this century")
    return times


def _integration_s(items: _Items, times: NDArray[np.float64]) -> float:
    values = items.numbers("integration_time")
    if not values[0] > 0 or np.any(np.abs(values - values[0]) > INTEGRATION_TOLERANCE * values[0]):
        raise _invalid(items.path, f"integration times of {values.min()} to {values.max()} s")
    step_s = float(np.median(np.diff(times))) * 86_400.0 if times.size > 1 else float(values[0])
    if abs(step_s - values[0]) > INTEGRATION_TOLERANCE * values[0]:
        raise _invalid(items.path, f"integrations of {values[0]} s follow each other every {step_s:.4f} s")
    return float(values[0])


def _frequencies(items: _Items, n_freqs: int) -> tuple[NDArray[np.float64], float, int]:
    freq_hz = items.numbers("freq_array", n_freqs)
    width_hz = abs(float(items.numbers("channel_width")[0]))
    if abs(width_hz * n_freqs - SUBBAND_WIDTH_HZ) > FREQUENCY_TOLERANCE_HZ:
        raise _invalid(items.path, f"{n_freqs} channels of {width_hz} Hz do not make a subband of {SUBBAND_WIDTH_HZ:.0f} Hz")
    subband = subband_of(freq_hz, width_hz)
    if subband is None:
        raise _invalid(
            items.path, f"frequencies {freq_hz[0] / 1e6:.4f} to {freq_hz[-1] / 1e6:.4f} MHz are no (descending) subband of this telescope"
        )
    return freq_hz, width_hz, subband


def _baselines(items: _Items, n_times: int, n_bls: int, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pair: list[NDArray[np.int64]] = []
    for name in ("ant_1_array", "ant_2_array"):
        values = items.integers(name, n_times * n_bls).reshape(n_times, n_bls)
        if np.any(values != values[0]):
            raise _invalid(items.path, f"{name} is not the same in each integration")
        if not np.all(np.isin(values[0], numbers)):
            raise _invalid(items.path, f"{name} names antennas that the header does not list")
        pair.append(np.ascontiguousarray(values[0]))
    low, high = np.minimum(*pair), np.maximum(*pair)
    if np.unique(low * (int(numbers.max()) + 1) + high).size != n_bls:
        raise _invalid(items.path, "a baseline occurs twice in one integration")
    return pair[0], pair[1]


def _site(items: _Items) -> Site:
    latitude, longitude, altitude = (float(items.numbers(name, 1)[0]) for name in ("latitude", "longitude", "altitude"))
    if not (abs(latitude) <= 90 and abs(longitude) <= 360):
        raise _invalid(items.path, f"site latitude {latitude}, longitude {longitude} are no degrees")
    return Site(float(np.radians(latitude)), float(np.radians(longitude)), altitude)


def _pointing(items: _Items) -> tuple[float, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    if items.has("phase_center_app_dec"):
        values = items.numbers("phase_center_app_dec")
        if np.ptp(values) > 0:
            raise _invalid(items.path, "the pointing declination changes inside the file")
    else:
        values = items.numbers("extra_keywords/phase_center_dec", 1)
        notes = ("pointing declination from extra_keywords/phase_center_dec, which may be stale: phase_center_app_dec is missing",)
    pointing = float(values[0])
    if abs(pointing) > np.pi / 2:
        raise _invalid(items.path, f"pointing declination {pointing} rad")
    return pointing, notes


def _check_same_observation(header: RawHeader, expected: RawHeader) -> None:
    """Subbands of one observation share its clock, array and pointing."""
    common = min(header.n_times, expected.n_times)
    same = {
        "start time": np.array_equal(header.times_jd[:common], expected.times_jd[:common]),
        "baselines": np.array_equal(header.ant_1, expected.ant_1) and np.array_equal(header.ant_2, expected.ant_2),
        "antennas": np.array_equal(header.antenna_numbers, expected.antenna_numbers)
        and header.antenna_names == expected.antenna_names
        and np.array_equal(header.antenna_positions_m, expected.antenna_positions_m),
        "site": header.site == expected.site,
        "pointing declination": header.pointing_dec_rad == expected.pointing_dec_rad,
        "number of channels": header.n_freqs == expected.n_freqs,
    }
    different = [what for what, equal in same.items() if not equal]
    if different:
        raise _invalid(header.path, f"{', '.join(different)} differ from {expected.path.name} of the same observation")


def _check_data(path: Path, file: h5py.File, header: RawHeader) -> None:
    """Shapes, types and allocation of the data, and a look at a few rows spread over the file."""
    shape = (header.n_times * header.n_bls, 1, header.n_freqs, len(header.polarizations))
    for name, kind in (("visdata", "c"), ("flags", "b"), ("nsamples", "f")):
        dataset = file.get(f"Data/{name}")
        if not isinstance(dataset, h5py.Dataset):
            raise _invalid(path, f"Data/{name} is missing")
        if dataset.shape != shape:
            raise _invalid(path, f"Data/{name} has shape {dataset.shape}, expected {shape}")
        if dataset.dtype.kind != kind:
            raise _invalid(path, f"Data/{name} is {dataset.dtype}")
        if not _is_allocated(dataset, header.size_bytes, may_be_empty=name == "flags"):
            raise _invalid(path, f"Data/{name} was not written to its end, or its parts lie outside of the file")
    size = os.stat(path).st_size  # noqa: PTH116 - a plain stat beside the open handle
    stored = sum(file[f"Data/{name}"].id.get_storage_size() for name in ("visdata", "nsamples"))  # pyright: ignore
    if stored > size:
        raise _invalid(path, f"truncated: {size} bytes on disk, the data alone need {stored}")
    for name in ("visdata", "nsamples"):
        if not _any_credible(file[f"Data/{name}"]):  # pyright: ignore[reportArgumentType]
            raise _invalid(path, f"Data/{name} holds nothing but NaN, infinities or absurd values (pitfall 24)")


def _is_allocated(dataset: h5py.Dataset, file_bytes: int, *, may_be_empty: bool) -> bool:
    """Whether each chunk of a dataset has its own place inside the file; the conversion reads them there without HDF5's help."""
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


def _any_credible(dataset: h5py.Dataset) -> bool:
    """Whether a few rows, spread over the whole file, hold at least one finite value of possible size."""
    n_rows = dataset.shape[0]
    for start in np.unique(np.linspace(0, max(n_rows - _SAMPLE_ROWS, 0), _SAMPLES).astype(int)):
        with np.errstate(all="ignore"):
            magnitude = np.abs(dataset[int(start) : int(start) + _SAMPLE_ROWS])
        if np.any(np.isfinite(magnitude) & (magnitude < LARGEST_CREDIBLE_VALUE)):
            return True
    return False
