"""Reading one raw file's data: where its chunks lie, and their bytes, with as few copies as possible.

The correlator writes very small chunks (12 kB). HDF5 would copy each one twice; instead the file is read once, in one
piece, and the compiled loops take the chunks from its bytes. Files that are compressed, contiguous or oddly aligned go
through h5py. Headers are read by `rawfile`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.errors import InvalidRawFileError

_ROWS_PER_PIECE = 1024


@dataclass(frozen=True, eq=False)
class Chunks:
    """A 4-D dataset (Nblts, 1, Nfreqs, Npols) as pieces of one float32 buffer.

    ``values``: the buffer, shape (N,) float32. ``starts``: index of each piece's first value. ``origins``: first (row,
    channel, polarization) of each piece, shape (Nchunks, 3). ``shape``: (rows, channels, polarizations) of a piece;
    pieces at the end of an axis may reach beyond it.
    """

    values: NDArray[np.float32]
    starts: NDArray[np.int64]
    origins: NDArray[np.int64]
    shape: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RawData:
    """Visibilities, numbers of samples, and the writer's own flags (None when no flag is set) of one raw file.

    ``flags`` has shape (Nblts, Nfreqs, Npols).
    """

    visibilities: Chunks
    samples: Chunks
    flags: NDArray[np.bool_] | None


def read_raw_data(path: Path) -> RawData:
    """Read the data of a raw file that `rawfile.validate_raw_file` has accepted.

    Raises:
        InvalidRawFileError: the file became unreadable since.
    """
    try:
        contents: NDArray[np.uint8] | None = None
        with h5py.File(path, "r", locking=False) as file:
            data = file["Data"]
            vis, samples, flags = data["visdata"], data["nsamples"], data["flags"]
            if _is_plain(vis, np.complex64) and _is_plain(samples, np.float32):
                size = path.stat().st_size
                contents = np.fromfile(path, dtype=np.uint8, count=size - size % 4)
            return RawData(_chunks(vis, np.complex64, contents), _chunks(samples, np.float32, contents), _flags(flags))
    except (OSError, RuntimeError, KeyError) as error:
        raise InvalidRawFileError(path, f"unreadable while converting ({error})", "check the disk; retry the observation") from error


def _is_plain(dataset: h5py.Dataset, dtype: type) -> bool:
    return dataset.chunks is not None and dataset.dtype == np.dtype(dtype) and dataset.id.get_create_plist().get_nfilters() == 0


def _chunks(dataset: h5py.Dataset, dtype: type, contents: NDArray[np.uint8] | None) -> Chunks:
    if contents is not None:
        places: list[tuple[int, int, int, int]] = []
        dataset.id.chunk_iter(
            lambda chunk: places.append((chunk.byte_offset, chunk.chunk_offset[0], chunk.chunk_offset[2], chunk.chunk_offset[3]))
        )
        table = np.array(places, dtype=np.int64).reshape(-1, 4)
        user_block = dataset.file.userblock_size
        offsets = table[:, 0] + user_block
        if np.all(offsets % 4 == 0):
            rows, _, channels, pols = dataset.chunks
            return Chunks(contents.view(np.float32), offsets // 4, np.ascontiguousarray(table[:, 1:]), np.array([rows, channels, pols]))
    values = np.empty(dataset.shape, dtype=dtype)
    dataset.read_direct(values)
    n_rows, _, channels, pols = dataset.shape
    rows = np.arange(0, n_rows, _ROWS_PER_PIECE)
    flat = values.reshape(-1).view(np.float32)
    origins = np.stack([rows, np.zeros_like(rows), np.zeros_like(rows)], axis=1)
    return Chunks(flat, rows * (flat.size // n_rows), origins, np.array([_ROWS_PER_PIECE, channels, pols]))


def _flags(dataset: h5py.Dataset) -> NDArray[np.bool_] | None:
    if dataset.id.get_storage_size() == 0:
        return None
    values = np.asarray(dataset[()], dtype=np.bool_)[:, 0]
    return values if values.any() else None
