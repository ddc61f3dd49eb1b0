"""Arrays that child processes can map: anonymous files in memory, freed when the last process closes them.

Why: AOFlagger's Python bindings hold the interpreter's lock, so two cores need two processes, and a tile is too big to
copy.
"""

# the buffers are None after they are closed:
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray


class _SharedMap(mmap.mmap):
    """A shared mapping that owns the descriptor under which children can open it."""

    descriptor: int = -1

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def allocate_shared(shape: tuple[int, ...], dtype: type) -> NDArray[np.generic]:
    """Allocate a zero-filled array that children can map; unwritten parts take no memory."""
    size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("dsa110", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    mapping = _SharedMap(descriptor, size)
    mapping.descriptor = descriptor
    return np.frombuffer(mapping, dtype=dtype, count=int(np.prod(shape))).reshape(shape)


def descriptor_of(array: NDArray[np.generic]) -> int | None:
    """File descriptor of a whole array that `allocate_shared` made; None for any other array."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if not isinstance(owner, _SharedMap) or not array.flags.c_contiguous or array.nbytes != len(owner):
        return None
    return owner.descriptor


def attach(descriptor: int, shape: tuple[int, ...], dtype: str) -> NDArray[np.generic]:
    """Map, in a child, the array behind an inherited descriptor."""
    mapping = mmap.mmap(descriptor, 0)
    return np.frombuffer(mapping, dtype=dtype, count=int(np.prod(shape))).reshape(shape)
