"""Reading the data of one raw file with as few copies as possible: the file's bytes, and where its chunks lie in them.

The correlator writes very small chunks (12 kB). HDF5 would copy each one twice; instead we read the file once, in one
piece, and the compiled loops take the chunks from its bytes. h5py reads data that are compressed, contiguous or oddly
aligned. Both layouts of UVH5 (see `dsa110_assets.uvh5`) are read here; `rawfile` reads the headers.
"""

# h5py's stubs call every item a group, a dataset or a data type:
# pyright: reportArgumentType=false, reportOptionalIterable=false

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.errors import InvalidRawFileError, StorageError
from dsa110_assets.raw_checksums import sha256_of

_ROWS_PER_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Chunks:
    """A dataset (Nblts, 1, Nfreqs, Npols) or (Nblts, Nfreqs, Npols) as chunks in one float32 buffer.

    ``values``: the buffer, shape (N,) float32. ``starts``: index of each chunk's first value. ``origins``: first (row,
    channel, polarization) of each chunk, shape (Nchunks, 3). ``shape``: (rows, channels, polarizations) of a chunk;
    chunks at the end of an axis may reach beyond it.
    """

    values: NDArray[np.float32]
    starts: NDArray[np.int64]
    origins: NDArray[np.int64]
    shape: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RawData:
    """Visibilities, numbers of samples, and the writer's own flags of one raw file.

    ``flags``: shape (Nblts, Nfreqs, Npols); None when no flag is set. ``sha256``: of the whole file, if asked for.
    """

    visibilities: Chunks
    samples: Chunks
    flags: NDArray[np.bool_] | None
    sha256: str | None = None


class FileBuffer:
    """Memory for the bytes of one file, reused for the next: fresh pages take longer than reading does."""

    def __init__(self) -> None:
        self._memory: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)

    def load(self, path: Path) -> NDArray[np.uint8]:
        """Return the bytes of a file; valid until the next call."""
        size = path.stat().st_size
        if self._memory.size < size:
            self._memory = np.empty(-(-size // 4) * 4, dtype=np.uint8)
        view = memoryview(self._memory)
        done = 0
        with path.open("rb", buffering=0) as file:
            while done < size:
                count = file.readinto(view[done:size])
                if not count:
                    raise OSError(f"only {done} of {size} bytes")
                done += count
        return self._memory[:size]


def read_raw_data(path: Path, buffer: FileBuffer, *, with_checksum: bool = False) -> RawData:
    """Read the data of a raw file that `rawfile.validate_raw_file` has accepted.

    The checksum is that of the bytes in memory, so the file is read once. A file whose data are compressed or
    contiguous is read a second time for it.

    Args:
        path: the file.
        buffer: holds its bytes; the result is valid until the buffer is used again.
        with_checksum: also compute the checksum.

    Raises:
        InvalidRawFileError: the file is damaged.
        StorageError: the disk does not give it now.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            vis, samples, flags = (file[f"Data/{name}"] for name in ("visdata", "nsamples", "flags"))
            plain = file.userblock_size == 0 and _is_plain(vis, np.complex64)
            contents = buffer.load(path) if plain else None
            sha256 = None
            if with_checksum:
                sha256 = sha256_of(path) if contents is None else hashlib.sha256(contents).hexdigest()
            return RawData(
                _chunks(vis, np.complex64, contents),
                _chunks(samples, np.float32, contents if _is_plain(samples, np.float32) else None),
                _flags(flags, contents),
                sha256,
            )
    except (OSError, RuntimeError, KeyError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE):
            raise StorageError(path, f"cannot be read now ({error})", "look at the disk of the raw files") from error
        raise InvalidRawFileError(path, f"unreadable while converting ({error})", "check the disk; retry the observation") from error


def _is_plain(dataset: h5py.Dataset, dtype: type) -> bool:
    return dataset.chunks is not None and dataset.dtype == np.dtype(dtype) and dataset.id.get_create_plist().get_nfilters() == 0


def _chunks(dataset: h5py.Dataset, dtype: type, contents: NDArray[np.uint8] | None) -> Chunks:
    if contents is not None:
        places: list[tuple[int, int, int, int]] = []
        dataset.id.chunk_iter(
            lambda chunk: places.append((chunk.byte_offset, chunk.chunk_offset[0], chunk.chunk_offset[-2], chunk.chunk_offset[-1]))
        )
        table = np.array(places, dtype=np.int64).reshape(-1, 4)
        offsets = table[:, 0]
        if np.all(offsets % 4 == 0):
            rows, *_, channels, pols = map(int, dataset.chunks or ())
            return Chunks(
                contents[: contents.size // 4 * 4].view(np.float32),
                offsets // 4,
                np.ascontiguousarray(table[:, 1:]),
                np.array([rows, channels, pols]),
            )
    values = np.empty(dataset.shape, dtype=dtype)
    dataset.read_direct(values)
    n_rows, *_, channels, pols = dataset.shape
    rows = np.arange(0, n_rows, _ROWS_PER_CHUNK)
    flat = values.reshape(-1).view(np.float32)
    origins = np.stack([rows, np.zeros_like(rows), np.zeros_like(rows)], axis=1)
    return Chunks(flat, rows * (flat.size // n_rows), origins, np.array([_ROWS_PER_CHUNK, channels, pols]))


def _flags(dataset: h5py.Dataset, contents: NDArray[np.uint8] | None) -> NDArray[np.bool_] | None:
    if dataset.id.get_storage_size() == 0:
        return None
    if contents is not None and _is_plain(dataset, np.bool_):
        places: list[tuple[int, int]] = []
        dataset.id.chunk_iter(lambda chunk: places.append((chunk.byte_offset, chunk.size)))
        if not any(contents[start : start + size].any() for start, size in places):
            return None
    values = np.asarray(dataset[()], dtype=np.bool_)
    return values.reshape(values.shape[0], *values.shape[-2:]) if values.any() else None
