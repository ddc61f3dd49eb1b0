"""The tile in memory: all subbands of an observation, phased to one center, ascending in frequency.

`read_tile` streams subband by subband, so that memory holds the observation only once.
"""

# the type of the flagger's shared arrays is known only at run time:
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_assets import raw_checksums
from dsa110_assets.common.instrument import LARGEST_CREDIBLE_VALUE, SAMPLES_PER_INTEGRATION
from dsa110_assets.conversion.phasing import TileGeometry, tile_geometry
from dsa110_assets.conversion.reading import FileBuffer, RawData, read_raw_data
from dsa110_assets.errors import IncompleteGroupError, InvalidRawFileError, StorageError
from dsa110_assets.flagging.reasons import FlagReason
from dsa110_assets.flagging.threads import over_range
from dsa110_assets.rawfile import POLARIZATIONS, RawHeader, subband_edges_hz, validate_raw_file

SMALLEST_FRACTION = 1e-3
"""Visibilities with a smaller fraction of an integration are flagged; one sample of 96 is the least that comes."""
Allocate = Callable[[tuple[int, ...], type], NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Tile:
    """One observation in memory; baselines are sorted with ``ant_1 <= ant_2``.

    ``header``: of the longest file. ``geometry``: with baselines in the correlator's order. ``ant_1``/``ant_2``: rows
    of the ANTENNA table, shape (Nbls,). ``uvw_m``: CASA's sign (see `order_baselines`), shape (Ntimes, Nbls, 3).
    ``freq_hz``: ascending, shape (Nchan,). ``vis``: complex64 (Ntimes, Nbls, Nchan, Npols), zero where absurd.
    ``reasons``: uint8, same shape, a `FlagReason`. ``weights``: float16, fraction of an integration
    in each visibility (see `samples_when_complete`), zero where impossible; None when all are
    complete. ``notes``: of the header and of the conversion.
    """

    header: RawHeader
    geometry: TileGeometry
    ant_1: NDArray[np.int32]
    ant_2: NDArray[np.int32]
    uvw_m: NDArray[np.float64]
    freq_hz: NDArray[np.float64]
    channel_width_hz: float
    vis: NDArray[np.complex64]
    reasons: NDArray[np.uint8]
    weights: NDArray[np.float16] | None
    missing_subbands: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class BaselineOrder:
    """Where each of the correlator's baselines goes.

    ``row_of``: output position of each of the correlator's baselines, shape (Nbls,). ``conjugate``: whether its data
    are conjugated and its uvw negated. ``ant_1``/``ant_2``: antenna rows of each output baseline.
    """

    row_of: NDArray[np.int64]
    conjugate: NDArray[np.bool_]
    ant_1: NDArray[np.int32]
    ant_2: NDArray[np.int32]


def order_baselines(header: RawHeader) -> BaselineOrder:
    """Sort baselines by antenna with ANTENNA1 <= ANTENNA2, with the sign that CASA and pyuvdata give a Measurement Set.

    The correlator's pair (a, b) has baseline ``r_b - r_a`` and ``V ~ exp(+2 pi i (r_b - r_a).s)``. A Measurement Set
    with ANTENNA1 < ANTENNA2 holds ``UVW = r(ANTENNA1) - r(ANTENNA2)`` and ``DATA ~ exp(+2 pi i UVW.s)``. So a pair with
    a < b is conjugated and its uvw negated, and a pair with a > b only changes its name.
    """
    rank = np.argsort(np.argsort(header.antenna_numbers))
    row_of_number = {int(number): int(row) for number, row in zip(header.antenna_numbers, rank, strict=True)}
    a = np.array([row_of_number[int(n)] for n in header.ant_1])
    b = np.array([row_of_number[int(n)] for n in header.ant_2])
    low, high = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((high, low))
    row_of = np.empty(order.size, dtype=np.int64)
    row_of[order] = np.arange(order.size)
    return BaselineOrder(row_of, a < b, low[order].astype(np.int32), high[order].astype(np.int32))


def read_tile(files: Mapping[int, Path], expected_subbands: int, allocate: Allocate, *, checksums: Mapping[int, str] | None = None) -> Tile:
    """Read, check, phase and stack the subbands of one observation.

    Args:
        files: raw file of each present subband.
        expected_subbands: subbands 0 .. n-1 make up the band; absent ones are flagged.
        allocate: makes zero-filled arrays of a shape and type (shared with child processes where flagging needs it).
        checksums: SHA-256 of the file of each subband whose bytes are to be compared; see `raw_checksums`.

    Raises:
        ChecksumError: files do not have the bytes of their checksums.
        InvalidRawFileError: a file is damaged or belongs to another observation.
        IncompleteGroupError: no file, or a subband outside the band.
    """
    checksums = checksums or {}
    try:
        return _read_tile(files, expected_subbands, allocate, checksums)
    except (InvalidRawFileError, StorageError):
        raw_checksums.refuse_damaged({files[subband]: digest for subband, digest in checksums.items()})
        raise


def _read_tile(files: Mapping[int, Path], expected_subbands: int, allocate: Allocate, checksums: Mapping[int, str]) -> Tile:
    headers = _validated(files, expected_subbands)
    longest = max(headers.values(), key=lambda h: h.n_times)
    geometry, order = tile_geometry(longest), order_baselines(longest)
    n_freqs, n_chan = longest.n_freqs, expected_subbands * longest.n_freqs
    shape = (longest.n_times, longest.n_bls, n_chan, len(POLARIZATIONS))
    vis = allocate(shape, np.complex64)
    reasons = allocate(shape, np.uint8)
    weights: NDArray[np.float16] | None = None
    freq_hz = np.empty(n_chan)
    for subband in range(expected_subbands):
        band = _channels(subband, expected_subbands, n_freqs)
        freq_hz[band] = _nominal_frequencies_hz(subband, n_freqs)
        if subband not in headers:
            reasons[:, :, band] = FlagReason.MISSING_SUBBAND
    complete: dict[int, float] = {}
    for header, data in _read_ahead(list(headers.values()), checksums):
        if data.sha256 != checksums.get(header.subband):
            raise StorageError(header.path, "gave other bytes than those of its checksum, but once only", "check disk and memory")
        band = _channels(header.subband, expected_subbands, n_freqs)
        freq_hz[band] = header.freq_hz[::-1]
        reasons[header.n_times :, :, band] = FlagReason.MISSING_INTEGRATION
        rows = _file_rows(header, longest, order, geometry)
        complete[header.subband] = samples_when_complete(header, data)
        weights = _fill_subband(header, data, rows, vis, reasons, weights, band.start, complete[header.subband], allocate)
    uvw = np.empty_like(geometry.uvw_m)
    uvw[:, order.row_of] = np.where(order.conjugate[None, :, None], -geometry.uvw_m, geometry.uvw_m)
    return Tile(
        header=longest,
        geometry=geometry,
        ant_1=order.ant_1,
        ant_2=order.ant_2,
        uvw_m=uvw,
        freq_hz=freq_hz,
        channel_width_hz=longest.channel_width_hz,
        vis=vis,
        reasons=reasons,
        weights=weights,
        missing_subbands=tuple(s for s in range(expected_subbands) if s not in headers),
        notes=longest.notes + _notes_on_samples(complete),
    )


def _validated(files: Mapping[int, Path], expected_subbands: int) -> dict[int, RawHeader]:
    if not files:
        raise IncompleteGroupError("observation", "no raw file was given", "run `dsa110 ingest status`")
    outside = sorted(s for s in files if not 0 <= s < expected_subbands)
    if outside:
        raise IncompleteGroupError(
            files[outside[0]], f"subbands {outside} lie outside a band of {expected_subbands}", "set PIPELINE_EXPECTED_SUBBANDS"
        )
    headers: dict[int, RawHeader] = {}
    first: RawHeader | None = None
    for subband in sorted(files):
        headers[subband] = validate_raw_file(files[subband], subband, expected=first)
        first = first or headers[subband]
    return headers


def _channels(subband: int, expected_subbands: int, n_freqs: int) -> slice:
    """Channels of a subband in the tile: the highest subband number has the lowest frequency and comes first."""
    first = (expected_subbands - 1 - subband) * n_freqs
    return slice(first, first + n_freqs)


def _read_ahead(headers: Sequence[RawHeader], checksums: Mapping[int, str]) -> Iterator[tuple[RawHeader, RawData]]:
    """Yield the data of each file, valid until the next one; read the next file while the caller works on this one."""
    buffers = (FileBuffer(), FileBuffer())
    with ThreadPoolExecutor(1, thread_name_prefix="raw-reader") as reader:

        def read(n: int) -> Future[RawData]:
            return reader.submit(read_raw_data, headers[n].path, buffers[n % 2], with_checksum=headers[n].subband in checksums)

        upcoming = read(0)
        for n, header in enumerate(headers):
            data = upcoming.result()
            if n + 1 < len(headers):
                upcoming = read(n + 1)
            yield header, data


def _nominal_frequencies_hz(subband: int, n_freqs: int) -> NDArray[np.float64]:
    lower, upper = subband_edges_hz(subband)
    return lower + (np.arange(n_freqs) + 0.5) * (upper - lower) / n_freqs


@dataclass(frozen=True, eq=False)
class _FileRows:
    """Where the rows of one file go.

    ``place``: `RawHeader.row_place`, empty for None. ``order``: of the file's own baselines. ``delta_w_m``: (Ntimes,
    Nbls), in the file's own order and sign.
    """

    place: NDArray[np.int64]
    order: BaselineOrder
    delta_w_m: NDArray[np.float64]


def _file_rows(header: RawHeader, longest: RawHeader, order: BaselineOrder, geometry: TileGeometry) -> _FileRows:
    """Find where the rows of a file go; its baselines may differ in order and sign from those of the geometry."""
    place = np.empty(0, dtype=np.int64) if header.row_place is None else header.row_place
    delta_w = geometry.delta_w_m[: header.n_times]
    if np.array_equal(header.ant_1, longest.ant_1) and np.array_equal(header.ant_2, longest.ant_2):
        return _FileRows(place, order, delta_w)
    own = order_baselines(header)
    in_geometry = np.argsort(order.row_of)[own.row_of]
    same_sign = own.conjugate == order.conjugate[in_geometry]
    return _FileRows(place, own, delta_w[:, in_geometry] * np.where(same_sign, 1.0, -1.0))


def samples_when_complete(header: RawHeader, data: RawData) -> float:
    """``nsamples`` of a complete integration in one file: 96 in the telescope's, 1 in files that count in integrations.

    The majority decides, not the largest value, so that a few damaged values cannot change all weights of a tile; and
    not a file's largest value, because a short file may hold partial integrations only. One case is undecidable: a file
    in which most integrations hold a single sample counts as complete. Its noise is then above the prediction.
    """
    from dsa110_assets.conversion import _kernels

    s, n_rows = data.samples, header.n_times * header.n_bls
    counts = over_range(
        _kernels.compare_samples_with_one,
        s.starts.size,
        s.values,
        s.starts,
        s.origins,
        s.shape,
        n_rows,
        header.n_freqs,
        len(POLARIZATIONS),
        float(SAMPLES_PER_INTEGRATION),
    )
    at_most_one, above = np.sum(counts, axis=0)
    return float(SAMPLES_PER_INTEGRATION) if above > at_most_one else 1.0


def _notes_on_samples(complete: Mapping[int, float]) -> tuple[str, ...]:
    """Say which subbands count samples in another unit than the rest; their weights are right."""
    ones = sorted(subband for subband, number in complete.items() if number == 1.0)
    if not ones or len(ones) == len(complete):
        return ()
    return (f"nsamples is 1 in a complete integration of subbands {ones}, and {SAMPLES_PER_INTEGRATION} in the others",)


def _fill_subband(
    header: RawHeader,
    data: RawData,
    rows: _FileRows,
    vis: NDArray[np.generic],
    reasons: NDArray[np.generic],
    weights: NDArray[np.float16] | None,
    first_channel: int,
    complete: float,
    allocate: Allocate,
) -> NDArray[np.float16] | None:
    """Phase one subband into its channels of the tile; return the weights, allocated when first needed.

    ``complete``: number of samples of a complete integration.
    """
    from dsa110_assets.conversion import _kernels

    n_rows, n_freqs = header.n_times * header.n_bls, header.n_freqs
    step = (header.freq_hz[-1] - header.freq_hz[0]) / max(n_freqs - 1, 1)
    v, s = data.visibilities, data.samples
    steps = np.empty((n_rows, 2))
    at_blocks = np.empty((n_rows, -(-n_freqs // int(v.shape[1])), 2))
    over_range(
        _kernels.phasors,
        n_rows,
        np.ascontiguousarray(rows.delta_w_m).reshape(-1),
        header.freq_hz[0],
        step,
        int(v.shape[1]),
        steps,
        at_blocks,
    )
    over_range(
        _kernels.phase_chunks,
        v.starts.size,
        v.values,
        v.starts,
        v.origins,
        v.shape,
        rows.place,
        header.n_bls,
        steps,
        at_blocks,
        rows.order.conjugate,
        rows.order.row_of,
        n_freqs,
        LARGEST_CREDIBLE_VALUE,
        int(FlagReason.ZERO),
        int(FlagReason.ABSURD_VALUE),
        vis,
        reasons,
        first_channel,
    )
    partial = sum(
        over_range(
            _kernels.check_samples,
            s.starts.size,
            s.values,
            s.starts,
            s.origins,
            s.shape,
            rows.place,
            n_rows,
            header.n_bls,
            n_freqs,
            complete,
            SMALLEST_FRACTION * complete,
            int(FlagReason.NO_SAMPLES),
            rows.order.row_of,
            reasons,
            first_channel,
        )
    )
    if data.flags is not None:
        flagged = np.empty((header.n_times, header.n_bls, n_freqs, len(POLARIZATIONS)), dtype=np.bool_)
        by_row = data.flags if rows.place.size == 0 else data.flags[np.argsort(rows.place)]
        flagged[:, rows.order.row_of] = by_row.reshape(flagged.shape)[:, :, ::-1]
        part = reasons[: header.n_times, :, first_channel : first_channel + n_freqs]
        part[flagged & (part == FlagReason.GOOD)] = FlagReason.RAW_FLAG
    if partial and weights is None:
        weights = np.asarray(allocate(vis.shape, np.float16), dtype=np.float16)  # the same memory
        weights[...] = 1.0
    if partial and weights is not None:
        own_weights = np.zeros((header.n_times, header.n_bls, n_freqs, len(POLARIZATIONS)), dtype=np.float32)
        over_range(
            _kernels.copy_samples,
            s.starts.size,
            s.values,
            s.starts,
            s.origins,
            s.shape,
            rows.place,
            n_rows,
            header.n_bls,
            n_freqs,
            complete,
            SMALLEST_FRACTION * complete,
            rows.order.row_of,
            own_weights,
        )
        weights[: header.n_times, :, first_channel : first_channel + n_freqs] = own_weights
    return weights
