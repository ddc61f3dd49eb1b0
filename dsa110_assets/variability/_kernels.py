"""Compiled loops over light curves, imported only when they run. `indices`, `totals` and `ese` explain the formulas."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.robust import MAD_TO_SIGMA_ROUNDED

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
BOOL = NDArray[np.bool_]

MIN_FOR_OWN_SCATTER = 8
INLIER_SIGMA = 3.0
CORE_CELLS = 5
"""Cells of a lens template across the width of its core at half depth. Odd, so that an epoch can lie in the middle."""
LENS_STEP = 2.0**0.5
LENS_SHARE = 0.75
"""Longest template in units of the light curve."""
LEAST_OUTSIDE = 0.2
"""Share of the baseline's weight that must lie outside a template."""
LEAST_CORE = 2.0
"""Compare with the templates only where the core alone deviates by this many sigma: one position in 44.

All positions count as trials.
"""
SIDE_WIDTHS = 1.5
"""Distance from the center, in core widths, at which the bright sides end."""


def _compile(function: Any) -> Any:
    """Compile with a cache on disk if the installation allows one; numba raises at once if it does not."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        return numba.njit(nogil=True, error_model="numpy")(function)


@_compile
def _largest_pair(flux: F64, error: F64, order: I64) -> tuple[int, int]:
    """Pair of measurements with the largest difference in units of its error. Bounds keep the work far below N^2."""
    n = flux.size
    least = error.min()
    best, best_high, best_low = 0.0, 0, 0
    for a in range(n - 1, 0, -1):
        high = order[a]
        if flux[high] - flux[order[0]] <= best * np.sqrt(2.0) * least:
            break
        reach = best * np.sqrt(error[high] ** 2 + least**2)
        for b in range(a):
            low = order[b]
            difference = flux[high] - flux[low]
            if difference <= reach:
                break
            value = difference / np.sqrt(error[high] ** 2 + error[low] ** 2)
            if value > best:
                best, best_high, best_low = value, high, low
                reach = best * np.sqrt(error[high] ** 2 + least**2)
    return best_high, best_low


@_compile
def moments(offsets: I64, flux: F64, error: F64, out: F64) -> None:
    """Fill ``out`` (6, Nsources): the moments of `totals.Totals`, in the order of `totals.MOMENTS`, in two passes."""
    for s in range(offsets.size - 1):
        first, last = offsets[s], offsets[s + 1]
        n = last - first
        if n == 0:
            continue
        mean, variance, weight, weighted = 0.0, 0.0, 0.0, 0.0
        for k in range(first, last):
            w = 1.0 / (error[k] * error[k])
            mean += flux[k]
            variance += error[k] * error[k]
            weight += w
            weighted += w * flux[k]
        mean /= n
        weighted /= weight
        square, chi2 = 0.0, 0.0
        for k in range(first, last):
            square += (flux[k] - mean) ** 2
            chi2 += ((flux[k] - weighted) / error[k]) ** 2
        out[0, s], out[1, s], out[2, s], out[3, s], out[4, s], out[5, s] = mean, square, variance, weight, weighted, chi2


@_compile
def extremes(offsets: I64, flux: F64, error: F64, keep: BOOL) -> None:
    """Mark the fluxes that no other flux of the source exceeds (or undercuts) with an error that is no larger."""
    for s in range(offsets.size - 1):
        first, last = offsets[s], offsets[s + 1]
        order = np.argsort(flux[first:last])
        for downward in range(2):
            least = np.inf
            for i in range(order.size):
                k = first + order[order.size - 1 - i if downward == 1 else i]
                if error[k] < least:
                    least = error[k]
                    keep[k] = True


@_compile
def largest_pairs(offsets: I64, flux: F64, error: F64, out: I64) -> None:
    """Fill ``out`` (2, Nsources) with the earlier and the later flux of the pair that differs most in its errors."""
    for s in range(offsets.size - 1):
        first, last = offsets[s], offsets[s + 1]
        if last == first:
            continue
        f, e = flux[first:last], error[first:last]
        high, low = _largest_pair(f, e, np.argsort(f))
        out[0, s], out[1, s] = first + min(high, low), first + max(high, low)


@_compile
def recent_deviations(
    offsets: I64,
    flux: F64,
    error: F64,
    epoch: I32,
    is_new: BOOL,
    was_searched: BOOL,
    n_epochs: I64,
    last_search: F64,
    out: F64,
    epoch_tests: I64,
    epoch_outliers: I64,
) -> None:
    """Fill ``out`` (Nsources,) with the largest |z| of the windows that end with a new epoch.

    ``last_search`` (5, Nsources): level, variance of the ordinary variability, and the baseline's sums of weight,
    weight x flux and number; `recent` explains them. Infinity: the baseline has no epoch outside a window.
    """
    for s in range(offsets.size - 1):
        first, last = offsets[s], offsets[s + 1]
        n = last - first
        level, intrinsic = last_search[0, s], last_search[1, s]
        w, wf = np.zeros(n + 1), np.zeros(n + 1)
        base_w, base_wf, base_n = np.zeros(n + 1), np.zeros(n + 1), np.zeros(n + 1)
        for k in range(n):
            f, e = flux[first + k], error[first + k]
            w[k + 1], wf[k + 1] = w[k] + 1.0 / (e * e), wf[k] + f / (e * e)
            wb = 1.0 / (e * e + intrinsic)
            counts = 1.0 if was_searched[first + k] and abs(f - level) <= INLIER_SIGMA / np.sqrt(wb) else 0.0
            base_w[k + 1], base_wf[k + 1], base_n[k + 1] = base_w[k] + counts * wb, base_wf[k] + counts * wb * f, base_n[k] + counts
        for end in range(1, n + 1):
            if not is_new[first + end - 1]:
                continue
            length = 1
            while length <= end and (length == 1 or 3 * length <= n_epochs[s]):
                start = end - length
                number = last_search[4, s] - (base_n[end] - base_n[start])
                if number < 0.5:
                    out[s] = np.inf
                    break
                wb = last_search[2, s] - (base_w[end] - base_w[start])
                baseline = (last_search[3, s] - (base_wf[end] - base_wf[start])) / wb
                ww = w[end] - w[start]
                variance = 1.0 / ww + intrinsic + 1.0 / wb + intrinsic * (length - 1) / number
                z = abs((wf[end] - wf[start]) / ww - baseline) / np.sqrt(variance)
                if length == 1:
                    epoch_tests[epoch[first + end - 1]] += 1
                    if z > INLIER_SIGMA:
                        epoch_outliers[epoch[first + end - 1]] += 1
                out[s] = max(out[s], z)
                length *= 2


@_compile
def _own_scatter(deviation: F64, error: F64) -> float:
    """Variance of the source's epochs beyond their errors; 0 unless clearly larger than the spread's uncertainty."""
    n = deviation.size
    spread = (MAD_TO_SIGMA_ROUNDED * np.median(np.abs(deviation))) ** 2
    return max(0.0, spread - np.median(error) ** 2 * (1.0 + 3.5 / np.sqrt(n)))


@_compile
def _extend(flux: F64, error: F64, s: int, out: F64) -> None:
    """Widen the window over neighbors with at least half of its depth, to give the event its extent and mean."""
    start, end = int(out[1, s]), int(out[1, s]) + int(out[2, s])
    baseline, half = out[3, s], 0.5 * (out[4, s] - out[3, s])
    if half == 0.0:
        return
    while start > 0 and (flux[start - 1] - baseline) / half > 1.0:
        start -= 1
    while end < flux.size and (flux[end] - baseline) / half > 1.0:
        end += 1
    total, weighted = 0.0, 0.0
    for k in range(start, end):
        w = 1.0 / (error[k] * error[k])
        total += w
        weighted += w * flux[k]
    out[1, s], out[2, s], out[4, s] = start, end - start, weighted / total


@_compile
def _lens(  # noqa: PLR0912
    time: F64,
    terms: F64,
    intrinsic: float,
    bank: F64,
    sums: F64,
    best: float,
    out: F64,
) -> tuple[float, float]:
    """Matched filter of one source with a bank of lens templates; `ese` explains the statistic.

    ``terms`` (Nmeas, 4): weight, weight x flux; the same in the baseline. ``bank`` (Nshapes, Ncells): relative flux
    minus 1 in cells of a `CORE_CELLS`th of the core's width, the core in the middle. ``sums`` (at least CORE_CELLS
    Nmeas + 2, 4): workspace. If a significance exceeds ``best``, fill ``out`` (6): baseline, center (MJD), width of the
    core (days), shape, amplitude (1: the template itself), significance. Return the best significance and the number of
    trials.
    """
    n, n_cells = time.size, bank.shape[1]
    half, core = n_cells // 2, CORE_CELLS // 2
    span = time[n - 1] - time[0]
    cadence = span / (n - 1)
    width, trials = cadence, 0.0
    while cadence > 0.0 and width * n_cells / CORE_CELLS <= LENS_SHARE * span:
        cell = width / CORE_CELLS
        per_cell = 1.0 / cell
        count = int(span * per_cell + 0.5) + 1
        sums[: count + 1] = 0.0
        for k in range(n):
            at = min(int((time[k] - time[0]) * per_cell + 0.5), count - 1) + 1
            for row in range(4):
                sums[at, row] += terms[k, row]
        for at in range(1, count + 1):
            for row in range(4):
                sums[at, row] += sums[at - 1, row]
        step = max(1, int(cadence / cell + 0.5))
        for centre in range(0, count, step):
            low, high = max(centre - half, 0), min(centre + half + 1, count)
            left, right = max(centre - core, 0), min(centre + core + 1, count)
            core_w = sums[right, 0] - sums[left, 0]
            if core_w == 0.0 or sums[left, 0] == sums[low, 0] or sums[high, 0] == sums[right, 0]:
                continue
            wb = sums[count, 2] - (sums[high, 2] - sums[low, 2])
            if wb < LEAST_OUTSIDE * sums[count, 2]:
                continue
            trials += 0.5 * bank.shape[0]  # one-sided
            wbf = sums[count, 3] - (sums[high, 3] - sums[low, 3])
            both = core_w * wb  # deviation and variance of the core are both scaled by this, to save divisions
            deviation = (sums[right, 1] - sums[left, 1]) * wb - wbf * core_w
            if wbf <= 0.0 or deviation >= 0.0 or deviation * deviation < LEAST_CORE**2 * both * (wb + core_w + intrinsic * both):
                continue
            baseline = wbf / wb
            for shape in range(bank.shape[0]):
                top, bottom, noise, signed = 0.0, 0.0, 0.0, 0.0
                lobe = np.zeros(3)
                for at in range(low, high):
                    w = sums[at + 1, 0] - sums[at, 0]
                    if w == 0.0:
                        continue
                    offset = at - centre
                    g = bank[shape, offset + half]
                    h = g / (1.0 / w + intrinsic)
                    top += h * ((sums[at + 1, 1] - sums[at, 1]) / w - baseline)
                    bottom += h * g
                    noise += h * h / w
                    lobe[1 if g < 0.0 else (0 if offset < 0 else 2)] += h
                    signed += h
                noise += intrinsic * (lobe[0] ** 2 + lobe[1] ** 2 + lobe[2] ** 2) + signed * signed / wb
                z = top / np.sqrt(noise)
                if z > best:
                    best = z
                    out[0], out[1], out[2] = baseline, time[0] + centre * cell, width
                    out[3], out[4], out[5] = shape, top / (bottom * baseline), z
        width *= LENS_STEP
    return best, trials


@_compile
def _lens_core(time: F64, flux: F64, error: F64, lens: F64, s: int, out: F64) -> None:
    """Write the best lens as the source's event: its core is the window; both sides get their relative deviations."""
    n = flux.size
    baseline, centre, width = lens[0], lens[1], lens[2]
    start, length, w, wf = 0, 0, 0.0, 0.0
    side = np.zeros((2, 2))
    for k in range(n):
        offset = (time[k] - centre) / width
        weight = 1.0 / (error[k] * error[k])
        if abs(offset) <= 0.5 + 1e-9:
            if length == 0:
                start = k
            length += 1
            w += weight
            wf += weight * flux[k]
        elif abs(offset) <= SIDE_WIDTHS:
            side[int(offset > 0.0), 0] += weight
            side[int(offset > 0.0), 1] += weight * flux[k]
    out[0, s], out[1, s], out[2, s], out[3, s], out[4, s], out[5, s] = -lens[5], start, length, baseline, wf / w, 1.0
    out[9, s], out[10, s], out[11, s], out[12, s] = centre, width, lens[3], lens[4]
    for which in range(2):
        if side[which, 0] > 0.0:
            out[13 + which, s] = side[which, 1] / side[which, 0] / baseline - 1.0


@_compile
def events(  # noqa: PLR0912
    offsets: I64,
    flux: F64,
    error: F64,
    epoch: I32,
    epoch_mjd: F64,
    catalogue: F64,
    catalogue_error: F64,
    ordinary: float,
    bank: F64,
    out: F64,
    epoch_tests: I64,
    epoch_outliers: I64,
) -> None:
    """Find each source's most significant event and fill ``out`` (18, Nsources); `ese.EventSearch` names the rows."""
    longest = 0
    for s in range(offsets.size - 1):
        longest = max(longest, offsets[s + 1] - offsets[s])
    sums, lens = np.zeros((CORE_CELLS * longest + 2, 4)), np.zeros(6)
    for s in range(offsets.size - 1):
        first, last = offsets[s], offsets[s + 1]
        n = last - first
        known = np.isfinite(catalogue[s]) and catalogue_error[s] > 0.0
        if n + int(known) < 2:
            continue
        f, e = flux[first:last], error[first:last]
        with_catalogue = np.append(f, catalogue[s]) if known else f
        level = np.median(with_catalogue)
        intrinsic = (ordinary * max(level, 0.0)) ** 2
        if n >= MIN_FOR_OWN_SCATTER:
            intrinsic = max(intrinsic, _own_scatter(f - level, e))
        # running sums in time: of all fluxes (for windows), and of the points in the baseline
        window_w, window_wf = np.zeros(n + 1), np.zeros(n + 1)
        base_w, base_wf, base_n = np.zeros(n + 1), np.zeros(n + 1), np.zeros(n + 1)
        terms = np.empty((n, 4))
        for k in range(n):
            w, wb = 1.0 / (e[k] * e[k]), 1.0 / (e[k] * e[k] + intrinsic)
            inlier = 1.0 if with_catalogue.size <= 2 or abs(f[k] - level) <= INLIER_SIGMA / np.sqrt(wb) else 0.0
            terms[k, 0], terms[k, 1], terms[k, 2], terms[k, 3] = w, w * f[k], inlier * wb, inlier * wb * f[k]
            window_w[k + 1], window_wf[k + 1] = window_w[k] + w, window_wf[k] + w * f[k]
            base_w[k + 1], base_wf[k + 1], base_n[k + 1] = base_w[k] + inlier * wb, base_wf[k] + inlier * wb * f[k], base_n[k] + inlier
        extra_w = 1.0 / (catalogue_error[s] ** 2 + intrinsic) if known else 0.0
        best, trials = -1.0, 0.0
        length = 1
        while length == 1 or 3 * length <= n:
            if length == 1 and n == 2 and not known:
                trials += 1  # both windows test the same difference
            else:
                trials += n - length + 1
            for start in range(n - length + 1):
                end = start + length
                wb = base_w[n] - (base_w[end] - base_w[start]) + extra_w
                wbf = base_wf[n] - (base_wf[end] - base_wf[start]) + extra_w * (catalogue[s] if known else 0.0)
                count = base_n[n] - (base_n[end] - base_n[start])
                if count < 0.5 and not known:  # no inlier is left outside the window: take all other points
                    wb = window_w[n] - (window_w[end] - window_w[start])
                    wbf = window_wf[n] - (window_wf[end] - window_wf[start])
                    count = n - length
                baseline = wbf / wb
                baseline_variance = 1.0 / wb + intrinsic * (length - 1) / max(count, 1.0)
                ww = window_w[end] - window_w[start]
                mean = (window_wf[end] - window_wf[start]) / ww
                z = (mean - baseline) / np.sqrt(1.0 / ww + intrinsic + baseline_variance)
                if length == 1:
                    epoch_tests[epoch[first + start]] += 1
                    if abs(z) > 3.0:
                        epoch_outliers[epoch[first + start]] += 1
                if abs(z) > best * (1.0 + 1e-12) or (z < 0.0 and abs(z) > best * (1.0 - 1e-12)):  # a dip wins a tie
                    best = abs(z)
                    out[0, s], out[1, s], out[2, s], out[3, s], out[4, s], out[5, s] = z, start, length, baseline, mean, 0.0
            length *= 2
        found_lens = False
        if n >= MIN_FOR_OWN_SCATTER:
            time = epoch_mjd[epoch[first:last]]
            strongest, lens_trials = _lens(time, terms, intrinsic, bank, sums, best, lens)
            trials += lens_trials
            found_lens = strongest > best
            if found_lens:
                _lens_core(time, f, e, lens, s, out)
        out[6, s], out[7, s], out[8, s] = trials, intrinsic, level
        out[15, s], out[16, s], out[17, s] = base_w[n], base_wf[n], base_n[n]
        if not found_lens:
            _extend(f, e, s, out)
