"""Compiled loops of the matched filter, imported only when fluxes are measured. They work in pixels only."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.robust import MAD_TO_SIGMA_ROUNDED

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def _compile(function: Any) -> Any:
    """Compile with a cache on disk if the installation allows one; numba raises at once if it does not."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        return numba.njit(nogil=True, error_model="numpy")(function)


@_compile
def _row_range(
    a: float,
    b: float,
    c: float,
    dy: float,
    q_max: float,
    x0: float,
    nx: int,
) -> tuple[int, int, bool]:
    """First and last column of a row of the footprint ``q <= q_max``, and whether the array's edge cuts it."""
    discriminant = b * b * dy * dy - a * (c * dy * dy - q_max)
    if discriminant < 0.0:
        return 0, -1, False
    half = np.sqrt(discriminant)
    first, last = int(np.ceil(x0 + (-b * dy - half) / a)), int(np.floor(x0 + (-b * dy + half) / a))
    clipped = first < 0 or last > nx - 1
    return max(first, 0), min(last, nx - 1), clipped


@_compile
def _overlap_of_row(
    a: float,
    b: float,
    c: float,
    x0: float,
    dy: float,
    left: int,
    right: int,
    q_max: float,
    widened: float,
    weighted: F64,
    scaled: F64,
) -> tuple[float, float]:
    """Two sums over the columns of a row, for the overlap with another source's beam.

    The first is of ``weighted`` times that beam, the second of ``scaled`` times the beam widened by the noise. The beam
    ends at ``q_max``, the widened one at three times that.
    """
    first, last, _ = _row_range(a, b, c, dy, 3.0 * q_max, x0, right + 1)
    first = max(first, left)
    if last < first:
        return 0.0, 0.0
    dx = first - x0
    exponent, slope = -0.5 * (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy), -a * (dx + 0.5) - b * dy
    spread, ratio, step, noise_sum = np.exp(exponent * widened), np.exp(slope * widened), np.exp(-a * widened), 0.0
    for column in range(first - left, last - left + 1):
        noise_sum += scaled[column] * spread
        spread *= ratio
        ratio *= step
    first, last, _ = _row_range(a, b, c, dy, q_max, x0, right + 1)
    first = max(first, left)
    if last < first:
        return 0.0, noise_sum
    dx = first - x0
    kernel, ratio, step, normal_sum = (
        np.exp(-0.5 * (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy)),
        np.exp(-a * (dx + 0.5) - b * dy),
        np.exp(-a),
        0.0,
    )
    for column in range(first - left, last - left + 1):
        normal_sum += weighted[column] * kernel
        kernel *= ratio
        ratio *= step
    return normal_sum, noise_sum


@_compile
def fit_groups(  # noqa: PLR0912
    image: F32,
    noise: F32,
    x: F64,
    y: F64,
    form: F64,
    offsets: I64,
    members: I64,
    background: F64,
    center_noise: F64,
    q_max: float,
    correlation: float,
    flux: F64,
    variance: F64,
    coverage: F64,
    flags: I64,
) -> None:
    """Fit the fluxes of each group of overlapping beams by weighted least squares; the formulas are in `forced`.

    ``offsets``/``members``: groups in compressed form. Fill ``flux``, ``variance`` (of correlated noise), ``coverage``
    (share of the beam's weight on valid pixels) and ``flags`` (1: array edge, 2: invalid pixels).
    """
    ny, nx = image.shape
    n_groups = offsets.size - 1
    widened = 1.0 / (1.0 + correlation * correlation)
    row_weighted, row_scaled = np.empty(nx), np.empty(nx)
    for g in range(n_groups):
        first, last = offsets[g], offsets[g + 1]
        n = last - first
        normal = np.zeros((n, n))
        noise_form = np.zeros((n, n))
        right = np.zeros(n)
        smoothing = np.empty(n)
        near = np.empty(n, np.int64)
        for i in range(n):
            s = members[first + i]
            determinant = form[s, 0] * form[s, 2] - form[s, 1] * form[s, 1]
            smoothing[i] = 2.0 * np.pi / np.sqrt(determinant) * correlation * correlation * widened / center_noise[s]
        for i in range(n):
            s = members[first + i]
            n_near = 0
            for j in range(n):  # only beams that overlap
                ex, ey = x[members[first + j]] - x[s], y[members[first + j]] - y[s]
                if j != i and form[s, 0] * ex * ex + 2.0 * form[s, 1] * ex * ey + form[s, 2] * ey * ey <= 6.0 * q_max:
                    near[n_near] = j
                    n_near += 1
            a, b, c = form[s, 0], form[s, 1], form[s, 2]
            determinant = a * c - b * b
            reach = np.sqrt(q_max * a / determinant)
            y0, x0 = y[s], x[s]
            top, bottom = int(np.ceil(y0 - reach)), int(np.floor(y0 + reach))
            if top < 0 or bottom > ny - 1:
                flags[s] |= 1
            seen, own_right, own_normal, own_noise = (
                0.0,
                0.0,
                0.0,
                0.0,
            )  # sums in registers; sums in the arrays would cost a read and a write at every pixel
            step_ratio, step_ratio_g = np.exp(-a), np.exp(-a * widened)
            for row in range(max(top, 0), min(bottom, ny - 1) + 1):
                dy = row - y0
                left, right_end, clipped = _row_range(a, b, c, dy, q_max, x0, nx)
                if clipped:
                    flags[s] |= 1
                if right_end < left:
                    continue
                dx = left - x0
                exponent = -0.5 * (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy)
                kernel, ratio = np.exp(exponent), np.exp(-a * (dx + 0.5) - b * dy)
                wide, ratio_g = np.exp(exponent * widened), np.exp((-a * (dx + 0.5) - b * dy) * widened)
                for column in range(left, right_end + 1):
                    value, sigma = np.float64(image[row, column]), np.float64(noise[row, column])
                    if np.isfinite(value) and sigma > 0.0 and sigma < np.inf:
                        inverse = 1.0 / sigma
                        scaled = kernel * inverse
                        weighted = scaled * inverse
                        own_right += (value - background[s]) * weighted
                        own_normal += kernel * weighted
                        seen += kernel * kernel
                        own_noise += scaled * wide
                        if n_near > 0:
                            row_weighted[column - left], row_scaled[column - left] = weighted, scaled
                    else:
                        flags[s] |= 2
                        if n_near > 0:
                            row_weighted[column - left], row_scaled[column - left] = 0.0, 0.0
                    kernel *= ratio
                    ratio *= step_ratio
                    wide *= ratio_g
                    ratio_g *= step_ratio_g
                for k in range(n_near):
                    j = near[k]
                    t = members[first + j]
                    normal_sum, noise_sum = _overlap_of_row(
                        form[t, 0], form[t, 1], form[t, 2], x[t], row - y[t], left, right_end, q_max, widened, row_weighted, row_scaled
                    )
                    normal[i, j] += normal_sum
                    noise_form[i, j] += noise_sum * smoothing[j]
            right[i], normal[i, i], noise_form[i, i] = own_right, own_normal, own_noise * smoothing[i]
            coverage[s] = seen * np.sqrt(determinant) / np.pi
        if correlation == 0.0:
            noise_form[:, :] = normal
        _solve(normal, noise_form, right, first, members, flux, variance)


@_compile
def _solve(
    normal: F64,
    noise_form: F64,
    right: F64,
    first: int,
    members: I64,
    flux: F64,
    variance: F64,
) -> None:
    n = right.size
    if n == 1:
        s = members[first]
        if normal[0, 0] > 0.0:
            flux[s] = right[0] / normal[0, 0]
            variance[s] = noise_form[0, 0] / (normal[0, 0] * normal[0, 0])
        return
    usable = np.flatnonzero(np.diag(normal) > 0.0)
    m = usable.size
    if m == 0:
        return
    small, small_noise, small_right = np.empty((m, m)), np.empty((m, m)), np.empty(m)
    for i in range(m):
        small_right[i] = right[usable[i]]
        for j in range(m):
            small[i, j] = 0.5 * (normal[usable[i], usable[j]] + normal[usable[j], usable[i]])
            small_noise[i, j] = 0.5 * (noise_form[usable[i], usable[j]] + noise_form[usable[j], usable[i]])
    inverse = np.linalg.inv(small)
    solution = inverse @ small_right
    covariance = inverse @ small_noise @ inverse
    for i in range(m):
        s = members[first + usable[i]]
        flux[s] = solution[i]
        variance[s] = covariance[i, i]


@_compile
def _median(values: F64, n: int) -> float:
    """Upper median of the first ``n`` values, which are reordered. No branch of the inner loops depends on a value."""
    low, high, wanted = 0, n - 1, n // 2
    while low < high:
        one, two, three = values[low], values[(low + high) // 2], values[high]
        pivot = max(min(one, two), min(max(one, two), three))
        below = low
        for i in range(low, high + 1):
            value = values[i]
            values[i] = values[below]
            values[below] = value
            below += int(value < pivot)
        if wanted < below:
            high = below - 1
        elif below > low:
            low = below
        else:  # nothing is below the pivot: move the values equal to it to the front
            for i in range(low, high + 1):
                value = values[i]
                values[i] = values[below]
                values[below] = value
                below += int(value == pivot)
            if wanted < below:
                return pivot
            low = below
    return values[wanted]


@_compile
def annulus_statistics(
    image: F32,
    x: F64,
    y: F64,
    form: F64,
    q_in: float,
    q_out: float,
    samples: int,
    median: F64,
    spread: F64,
) -> None:
    """Median and 1.4826 x median absolute deviation of about ``samples`` pixels with ``q_in <= q <= q_out``."""
    ny, nx = image.shape
    buffer = np.empty(4 * samples + 64)
    for s in range(x.size):
        a, b, c = form[s, 0], form[s, 1], form[s, 2]
        determinant = a * c - b * b
        if not determinant > 0.0:
            continue
        area = np.pi * (q_out - q_in) / np.sqrt(determinant)
        stride = max(1, int(np.sqrt(area / samples)))
        reach_x, reach_y = int(np.sqrt(q_out * c / determinant)), int(np.sqrt(q_out * a / determinant))
        center_x, center_y = int(np.floor(x[s] + 0.5)), int(np.floor(y[s] + 0.5))
        n = 0
        for row in range(center_y - reach_y, center_y + reach_y + 1, stride):
            if row < 0 or row >= ny:
                continue
            dy = row - y[s]
            for column in range(center_x - reach_x, center_x + reach_x + 1, stride):
                if column < 0 or column >= nx:
                    continue
                dx = column - x[s]
                q = a * dx * dx + 2.0 * b * dx * dy + c * dy * dy
                if q < q_in or q > q_out or n == buffer.size:
                    continue
                value = np.float64(image[row, column])
                if np.isfinite(value):
                    buffer[n] = value
                    n += 1
        if n < 8:
            continue
        median[s] = _median(buffer, n)
        for k in range(n):
            buffer[k] = abs(buffer[k] - median[s])
        spread[s] = MAD_TO_SIGMA_ROUNDED * _median(buffer, n)
