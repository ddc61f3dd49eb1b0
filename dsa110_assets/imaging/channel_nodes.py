"""Fewer samples with the same image: visibilities at as few frequencies as the field of view needs.

Within a field of view, the visibilities of a short baseline change slowly with frequency. Those of a source at delay
``tau`` are ``exp(2 pi i tau f)``, and ``abs(tau)`` is at most the length of the baseline times the radius of the field
over c. So they follow from the values at a few frequencies, the nodes: ``V(f) = sum_k A(f, k) V(f_k)``, where A has the
least squared error for all delays of the field (Fessler & Sutton 2003, IEEE Trans. Signal Process. 51, 560, for the
Fourier transform). The image of visibilities ``V`` with weights ``w`` is that of ``A^T (w V)`` at the nodes. Unlike
averages, this smears no source.
"""

from __future__ import annotations

import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S

_NUMBERS = (12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 384, 512)
"""Numbers of nodes that a baseline may have."""
_SPARE_NODES, _NODES_PER_TURN = 8, 2.4
"""Nodes beyond the two of each turn (Nyquist). The rms error is then 1e-4; at the field's edge and in the outermost
channels it reaches 1e-3."""
_BEYOND_BAND = 1.0
"""Nodes continue beyond the outermost channels by this many spacings."""
_MARGIN = 1.05
"""The delays of the fit over those of the field."""
_RIDGE = 1e-8


@dataclass(frozen=True)
class NodeGroup:
    """Rows with the same nodes.

    ``rows``: (n,) ascending. ``frequency_hz``: of the nodes, (Nnodes,) evenly spaced. ``matrix``: (nchan, Nnodes); None
    if the nodes are the channels. ``start``: first of the samples.
    """

    rows: NDArray[np.int64]
    frequency_hz: NDArray[np.float64]
    matrix: NDArray[np.float32] | None
    start: int

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.rows.size * self.frequency_hz.size

    def of(self, samples: NDArray[Any]) -> NDArray[Any]:
        """The group's part of samples, a view (n, Nnodes, ...)."""
        return samples[self.start : self.start + self.size].reshape(self.rows.size, self.frequency_hz.size, *samples.shape[1:])


class ChannelNodes:
    """The nodes of the rows of a set of visibilities, for a field of view.

    ``groups``: rows with the same nodes. ``samples``: number of values at nodes. ``reference_hz``: frequency to which
    `uvw_m` belongs.
    """

    def __init__(self, uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64], radius_rad: float, n_threads: int) -> None:
        """Choose the nodes. ``uvw_m`` (nrow, 3); ``radius_rad``: radius of the field in direction cosines."""
        self._shape = (uvw_m.shape[0], frequency_hz.size)
        self._uvw_m, self._n_threads = uvw_m, n_threads
        self.reference_hz = float(frequency_hz.mean())
        depth = 1 - np.sqrt(max(0.0, 1 - radius_rad**2))
        delay_s = (np.hypot(uvw_m[:, 0], uvw_m[:, 1]) * radius_rad + np.abs(uvw_m[:, 2]) * depth) / SPEED_OF_LIGHT_M_PER_S
        turns = delay_s * float(frequency_hz[-1] - frequency_hz[0])
        numbers = np.array([*(number for number in _NUMBERS if number < frequency_hz.size), frequency_hz.size])
        most_turns = np.append((numbers[:-1] - _SPARE_NODES) / _NODES_PER_TURN, np.inf)
        choice = np.searchsorted(most_turns, turns)
        self.groups: list[NodeGroup] = []
        self.samples = 0
        for k in np.unique(choice):
            rows = np.flatnonzero(choice == k)
            if k == numbers.size - 1:
                group = NodeGroup(rows, frequency_hz, None, self.samples)
            else:
                nodes_hz, matrix = _nodes(frequency_hz, int(numbers[k]), float(most_turns[k]))
                group = NodeGroup(rows, nodes_hz, matrix, self.samples)
            self.groups.append(group)
            self.samples += group.size

    def uvw_m(self) -> NDArray[np.float64]:
        """Coordinates of the samples at the reference frequency, (Nsamples, 3)."""
        out = np.empty((self.samples, 3))
        for group in self.groups:
            np.multiply(self._uvw_m[group.rows, None, :], (group.frequency_hz / self.reference_hz)[None, :, None], out=group.of(out))
        return out

    def condensed(self, vis: NDArray[np.complex64], weight: NDArray[np.float32]) -> NDArray[np.complex64]:
        """``A^T (w V)``: values whose unweighted image is that of the weighted visibilities, (Nsamples,)."""
        from dsa110_assets.imaging import _kernels

        out = np.empty(self.samples, dtype=np.complex64)
        with ThreadPoolExecutor(self._n_threads) as pool:
            done: list[Future[None]] = []
            for group in self.groups:
                block = group.of(out)
                if group.matrix is None:
                    np.multiply(vis[group.rows], weight[group.rows], out=block)
                    continue
                done += [
                    pool.submit(_kernels.condense_channels, group.rows[part], group.matrix, vis, weight, block[part])
                    for part in self._parts(group)
                ]
            for one in done:
                one.result()
        return out

    def expanded(self, values: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """``A V``: visibilities in all channels from those at the nodes, (nrow, nchan)."""
        from dsa110_assets.imaging import _kernels

        out = np.empty(self._shape, dtype=np.complex64)
        with ThreadPoolExecutor(self._n_threads) as pool:
            done: list[Future[None]] = []
            for group in self.groups:
                block = group.of(values)
                if group.matrix is None:
                    out[group.rows] = block
                    continue
                transposed = np.ascontiguousarray(group.matrix.T)
                done += [
                    pool.submit(_kernels.expand_channels, group.rows[part], transposed, block[part], out) for part in self._parts(group)
                ]
            for one in done:
                one.result()
        return out

    def _parts(self, group: NodeGroup) -> list[slice]:
        edges = np.linspace(0, group.rows.size, 2 * self._n_threads + 1).astype(int)
        return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _nodes(frequency_hz: NDArray[np.float64], number: int, turns: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Evenly spaced frequencies of nodes, and the matrix A (nchan, number) for delays of so many turns over a band."""
    first, last = float(frequency_hz[0]), float(frequency_hz[-1])
    beyond = _BEYOND_BAND / (number - 1 - 2 * _BEYOND_BAND)
    node = np.linspace(-beyond, 1 + beyond, number)
    channel = (frequency_hz - first) / (last - first)
    # mean over the delays of exp(2 pi i tau (a - b)): least squares over a continuum of sources
    width = 2 * _MARGIN * turns
    normal = np.sinc(width * (node[:, None] - node[None, :]))
    normal[np.diag_indices(number)] += _RIDGE
    matrix = np.linalg.solve(normal, np.sinc(width * (node[:, None] - channel[None, :]))).T
    return first + node * (last - first), np.ascontiguousarray(matrix, dtype=np.float32)
