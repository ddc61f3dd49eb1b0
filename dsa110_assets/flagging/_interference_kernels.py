"""Compiled search for interference on a baseline: the sky filter, the clip, SumThreshold and the widening of flags.

Imported only when it runs. One baseline at a time stays in the processor's cache. Arrays are planes: (2 Npols, Ntimes,
Nchan) float32 with the real and imaginary part of each polarization, (Npols, Ntimes, Nchan) for amplitudes and masks.

SumThreshold is that of Offringa et al. (2010, MNRAS 405, 155) as AOFlagger applies it, its widening that of Offringa,
van de Gronde & Roerdink (2012, A&A 539, A95). AOFlagger itself is the referee in the tests.
"""

from __future__ import annotations

import numpy as np
from numba import njit

MASKS = 3
"""Maximum number of times that the sky filter's mask of outliers is renewed."""
SETTLED = 0.002
"""The sky's fit is done when the mask changes for a smaller fraction of the visibilities."""
STEPS = 5
CONVERGED = 1e-2
MASK_SIGMA = 5.0
FIRST_MASK_MADS = 12.0
ENOUGH_CHANNELS = 200
"""Medians of about this many channels are good enough (noise to 1 %)."""
LEVEL_CHANNELS = 4
"""The median amplitude is that of every fourth channel."""
RAYLEIGH_MEDIAN = 1.1774100225154747
"""Median of |z| for a complex Gaussian z whose parts have unit rms: sqrt(2 ln 2)."""
FIRST_THRESHOLD = 6.0 * 1.2
"""SumThreshold's limit for one sample, in units of the mode: AOFlagger's 6 times the base threshold of our strategy."""
THRESHOLD_BASE = 1.5
LONGEST = 256
WINSORIZED = 0.9
"""The mode is measured with the highest tenth of the samples set to the limit of this tenth."""
WINSORIZED_MODE = 1.0541
"""What this does to the mode of a Rayleigh distribution."""
SAMPLE = 256
"""Values of a sample that brackets an element by its rank, and how many ranks (of the sample) it may be off."""
SAMPLE_MARGIN = 24
ETA = 0.1
"""Fraction of unflagged samples that an interval may hold to be flagged as a whole (Offringa et al. 2012)."""


@njit(cache=True, nogil=True, error_model="numpy")
def _select(values, n, rank):
    """Return the element of this rank among the first n of a scratch array; reorders them (Hoare's quickselect)."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return values[rank]


@njit(cache=True, nogil=True, error_model="numpy")
def _at_rank(values, n, rank):
    """Return the element of this rank among the first n of an array, and the one before it (itself for rank 0).

    A sample of the values tells between which two limits the element lies; only what is between them is sorted out
    (Floyd & Rivest 1975, Comm. ACM 18, 165). Reorders the array if that fails or is not worth while.
    """
    if n >= SAMPLE * 4:
        sample, step = np.empty(SAMPLE, np.float32), n // SAMPLE
        for i in range(SAMPLE):
            sample[i] = values[i * step]
        middle = rank * SAMPLE // n
        high = _select(sample, SAMPLE, min(middle + SAMPLE_MARGIN, SAMPLE - 1))
        low = _select(sample, SAMPLE, max(middle - SAMPLE_MARGIN, 0))
        between, below, inside = np.empty(n + 1, np.float32), 0, 0
        for i in range(n):
            value = values[i]
            between[inside] = value
            inside += (value >= low) & (value <= high)
            below += value < low
        if below < rank < below + inside:
            found = _select(between, inside, rank - below)
            before = between[0]
            for i in range(rank - below):
                before = max(before, between[i])
            return found, before
    found = _select(values, n, rank)
    before = values[0]
    for i in range(rank):
        before = max(before, values[i])
    return found, before


@njit(cache=True, nogil=True, error_model="numpy")
def _median(values, n):
    """Median of the first n elements of a scratch array; may reorder them."""
    upper, lower = _at_rank(values, n, n // 2)
    return upper if n % 2 else np.float32(0.5) * (lower + upper)


@njit(cache=True, nogil=True, error_model="numpy")
def _gather(plane, mask, every, out):
    """Copy the unmasked values of every n-th channel into ``out``; return their number."""
    n = 0
    for t in range(plane.shape[0]):
        for k in range(0, plane.shape[1], every):
            out[n] = plane[t, k]
            n += mask[t, k] == 0
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def _analyze(filled, in_time, in_frequency, short, coefficients):
    """Coefficients (2 Npols Kt, Kf) of dense planes."""
    count = in_time.shape[1]
    for q in range(filled.shape[0]):
        np.dot(in_time.T, filled[q], short[q * count : (q + 1) * count])
    np.dot(short, in_frequency, coefficients)


@njit(cache=True, nogil=True, error_model="numpy")
def _synthesize(coefficients, in_time, in_frequency, short, model):
    """Planes of these coefficients."""
    count = in_time.shape[1]
    np.dot(coefficients, in_frequency.T, short)
    for q in range(model.shape[0]):
        np.dot(in_time, short[q * count : (q + 1) * count], model[q])


@njit(cache=True, nogil=True, error_model="numpy")
def _samples(mask, sample_t, sample_p, sample_c, channel_of, channels):
    """List the masked samples: time, polarization, and number of their channel among ``channels``, the masked ones."""
    n_pol, n_times, n_chan = mask.shape
    used = 0
    for k in range(n_chan):
        channel_of[k] = -1
    for p in range(n_pol):
        for t in range(n_times):
            for k in range(n_chan):
                if mask[p, t, k] != 0 and channel_of[k] < 0:
                    channel_of[k] = 0
    for k in range(n_chan):
        if channel_of[k] == 0:
            channel_of[k] = used
            channels[used] = k
            used += 1
    n = 0
    for p in range(n_pol):
        for t in range(n_times):
            for k in range(n_chan):
                if mask[p, t, k] != 0:
                    sample_p[n], sample_t[n], sample_c[n] = p, t, channel_of[k]
                    n += 1
    return n, used


@njit(cache=True, nogil=True, error_model="numpy")
def _rows(matrix, numbers, count):
    """Copy the first ``count`` listed rows."""
    rows = np.empty((count, matrix.shape[1]), np.float32)
    for i in range(count):
        for j in range(matrix.shape[1]):
            rows[i, j] = matrix[numbers[i], j]
    return rows


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _analyze_samples(n, values, sample_t, sample_p, sample_c, in_time, some_frequency, columns, coefficients):
    """Coefficients of planes that are zero but for listed samples; ``values`` (Nsamples, 2)."""
    count = in_time.shape[1]
    # columns: (Nused, 2 Npols Kt), each sample adds to a contiguous stretch
    columns[:] = 0.0
    for i in range(n):
        start = 2 * sample_p[i] * count
        column, sequence = columns[sample_c[i]], in_time[sample_t[i]]
        re, im = values[i, 0], values[i, 1]
        for j in range(count):
            column[start + j] += re * sequence[j]
        for j in range(count):
            column[start + count + j] += im * sequence[j]
    np.dot(columns.T, some_frequency, coefficients)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _synthesize_samples(n, values, sample_t, sample_p, sample_c, in_time, some_frequency, columns, coefficients):
    """Write the values that these coefficients have at listed samples into ``values`` (Nsamples, 2)."""
    count = in_time.shape[1]
    np.dot(some_frequency, coefficients.T, columns)
    for i in range(n):
        start = 2 * sample_p[i] * count
        column, sequence = columns[sample_c[i]], in_time[sample_t[i]]
        re = im = np.float32(0.0)
        for j in range(count):
            re += column[start + j] * sequence[j]
        for j in range(count):
            im += column[start + count + j] * sequence[j]
        values[i, 0], values[i, 1] = re, im


@njit(cache=True, nogil=True, error_model="numpy")
def _add(values, factor, more):
    """Add a multiple of a matrix to another (an array expression would take numba a second to compile)."""
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            values[i, j] += factor * more[i, j]


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(filled, mask, in_time, in_frequency, coefficients):  # noqa: PLR0912
    """Fit the sky by least squares to the unmasked visibilities: find the masked values that the fit itself returns.

    Solves ``(1 - M P M) f = M P (1 - M) v`` by conjugate gradients, starting from ``filled``; P is the projection, M
    the mask. Steps are zero outside the mask, so each costs as much as the mask has channels. Changes ``filled`` and
    its ``coefficients``.
    """
    n_pol, n_times, n_chan = mask.shape
    total = 0
    for p in range(n_pol):
        for t in range(n_times):
            for k in range(n_chan):
                total += mask[p, t, k]
    if total == 0:
        return
    sample_t, sample_p, sample_c = np.empty(total, np.int32), np.empty(total, np.int32), np.empty(total, np.int32)
    channels = np.empty(n_chan, np.int32)
    n, used = _samples(mask, sample_t, sample_p, sample_c, np.empty(n_chan, np.int32), channels)
    some_frequency = _rows(in_frequency, channels, used)
    columns = np.empty((used, coefficients.shape[0]), np.float32)
    change_coefficients = np.empty_like(coefficients)
    rest, projected = np.empty((n, 2), np.float32), np.empty((n, 2), np.float32)
    _synthesize_samples(n, rest, sample_t, sample_p, sample_c, in_time, some_frequency, columns, coefficients)
    power = 0.0
    for i in range(n):
        for c in range(2):
            rest[i, c] -= filled[2 * sample_p[i] + c, sample_t[i], channels[sample_c[i]]]
            power += np.float64(rest[i, c]) * rest[i, c]
    step, first = np.empty_like(rest), power
    for i in range(n):
        for c in range(2):
            step[i, c] = rest[i, c]
    for _ in range(STEPS):
        if power <= CONVERGED * first or power == 0.0:
            break
        _analyze_samples(n, step, sample_t, sample_p, sample_c, in_time, some_frequency, columns, change_coefficients)
        _synthesize_samples(n, projected, sample_t, sample_p, sample_c, in_time, some_frequency, columns, change_coefficients)
        curvature = 0.0
        for i in range(n):
            for c in range(2):
                projected[i, c] = step[i, c] - projected[i, c]
                curvature += np.float64(step[i, c]) * projected[i, c]
        length = np.float32(power / curvature)
        last, power = power, 0.0
        for i in range(n):
            for c in range(2):
                filled[2 * sample_p[i] + c, sample_t[i], channels[sample_c[i]]] += length * step[i, c]
                rest[i, c] -= length * projected[i, c]
                power += np.float64(rest[i, c]) * rest[i, c]
        _add(coefficients, length, change_coefficients)
        ratio = np.float32(power / last)
        for i in range(n):
            for c in range(2):
                step[i, c] = rest[i, c] + ratio * step[i, c]


@njit(cache=True, nogil=True, error_model="numpy")
def _refill(filled, model, vis, before, mask, in_time, in_frequency, coefficients):
    """Take the model where the new mask is, the visibilities elsewhere; keep the coefficients up to date."""
    n_pol, n_times, n_chan = mask.shape
    either, total = np.empty_like(mask), 0
    for p in range(n_pol):
        for t in range(n_times):
            for k in range(n_chan):
                either[p, t, k] = before[p, t, k] | mask[p, t, k]
                total += either[p, t, k]
    sample_t, sample_p, sample_c = np.empty(total, np.int32), np.empty(total, np.int32), np.empty(total, np.int32)
    channels = np.empty(n_chan, np.int32)
    n, used = _samples(either, sample_t, sample_p, sample_c, np.empty(n_chan, np.int32), channels)
    change = np.empty((n, 2), np.float32)
    for i in range(n):
        p, t, k = sample_p[i], sample_t[i], channels[sample_c[i]]
        for c in range(2):
            q = 2 * p + c
            new = model[q, t, k] if mask[p, t, k] != 0 else vis[q, t, k]
            change[i, c] = new - filled[q, t, k]
            filled[q, t, k] = new
    some_frequency = _rows(in_frequency, channels, used)
    columns = np.empty((used, coefficients.shape[0]), np.float32)
    more = np.empty_like(coefficients)
    _analyze_samples(n, change, sample_t, sample_p, sample_c, in_time, some_frequency, columns, more)
    _add(coefficients, np.float32(1.0), more)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _amplitude(vis, model, root_weight, size):
    """Amplitude of the weighted difference of planes."""
    weighted = root_weight.size > 0
    for p in range(size.shape[0]):
        for t in range(size.shape[1]):
            re, im, model_re, model_im = vis[2 * p, t], vis[2 * p + 1, t], model[2 * p, t], model[2 * p + 1, t]
            out = size[p, t]
            for k in range(size.shape[2]):
                x, y = re[k] - model_re[k], im[k] - model_im[k]
                out[k] = np.sqrt(x * x + y * y)
            if weighted:
                factor = root_weight[p, t]
                for k in range(size.shape[2]):
                    out[k] *= factor[k]


@njit(cache=True, nogil=True, error_model="numpy")
def subtract_sky(vis, bad, in_time, in_frequency, root_weight, size, sigma):  # noqa: PLR0912
    """Fit the sky to the good visibilities of one baseline, without outliers, and subtract it.

    Args:
        vis: (2 Npols, Ntimes, Nchan) float32.
        bad: (Npols, Ntimes, Nchan) uint8; these visibilities are not used.
        in_time, in_frequency: from `sky_basis`.
        root_weight: shape of ``bad``, float32; noise over that of each visibility, so that a partial integration, which
            is noisier, is not taken for interference. Of size 0 if all are complete.
        size: shape of ``bad``, float32; gets the amplitude of ``vis`` minus the sky, times ``root_weight``.
        sigma: (Npols,) float64; gets the robust rms of its real part.
    """
    n_pol, n_times, n_chan = bad.shape
    thin = max(1, n_chan // ENOUGH_CHANNELS)
    scratch = np.empty(n_times * n_chan + 1, np.float32)
    mask = bad.copy()
    model = np.zeros_like(vis)
    _amplitude(vis, model, root_weight[:0], size)
    for p in range(n_pol):
        n = _gather(size[p], bad[p], thin, scratch)
        if n > 0:
            middle = _median(scratch, n)
            for i in range(n):
                scratch[i] = abs(scratch[i] - middle)
            limit = middle + FIRST_MASK_MADS * _median(scratch, n)
            for t in range(n_times):
                for k in range(n_chan):
                    mask[p, t, k] |= size[p, t, k] > limit
    filled = vis.copy()
    for p in range(n_pol):
        for t in range(n_times):
            for k in range(n_chan):
                if mask[p, t, k] != 0:
                    filled[2 * p, t, k] = filled[2 * p + 1, t, k] = 0.0
    short = np.empty((2 * n_pol * in_time.shape[1], n_chan), np.float32)
    coefficients = np.empty((short.shape[0], in_frequency.shape[1]), np.float32)
    _analyze(filled, in_time, in_frequency, short, coefficients)
    for turn in range(MASKS):
        _fill(filled, mask, in_time, in_frequency, coefficients)
        _synthesize(coefficients, in_time, in_frequency, short, model)
        _amplitude(vis, model, root_weight, size)
        before, mask = mask, np.empty_like(mask)
        changed = 0
        for p in range(n_pol):
            n = _gather(size[p], before[p], thin, scratch)
            sigma[p] = _median(scratch, n) / RAYLEIGH_MEDIAN if n > 0 else 0.0
            limit = np.float32(MASK_SIGMA * sigma[p])
            for t in range(n_times):
                for k in range(n_chan):
                    mask[p, t, k] = bad[p, t, k] | (size[p, t, k] > limit)
                    changed += mask[p, t, k] != before[p, t, k]
        if changed < SETTLED * mask.size or turn == MASKS - 1:
            break
        _refill(filled, model, vis, before, mask, in_time, in_frequency, coefficients)


@njit(cache=True, nogil=True, error_model="numpy")
def _mode(plane, missing, scratch):
    """Mode of a Rayleigh distribution from winsorized samples: sqrt(<x^2> / 2)."""
    n = _gather(plane, missing, 1, scratch)
    if n == 0:
        return 0.0
    high, _ = _at_rank(scratch, n, int(np.floor(WINSORIZED * n)))
    total = 0.0
    for i in range(n):
        value = min(scratch[i], high)
        total += value * value
    return np.sqrt(total / (2.0 * n)) * WINSORIZED_MODE


@njit(cache=True, nogil=True, error_model="numpy")
def _totals(values, flags, sums, counts):
    """Running sums and numbers of unflagged values along the first axis, from 0."""
    sums[0] = 0.0
    counts[0] = 0.0
    for i in range(values.shape[0]):
        for k in range(values.shape[1]):
            good = np.float32(flags[i, k] == 0)
            sums[i + 1, k] = sums[i, k] + good * values[i, k]
            counts[i + 1, k] = counts[i, k] + good


@njit(cache=True, nogil=True, error_model="numpy")
def _pass(values, flags, numbers, length, threshold, sums, counts):
    """One pass of SumThreshold along the first axis; returns whether it flagged anything.

    ``numbers``: of samples in each column, the others do not exist. Flags all windows of ``length`` samples whose
    unflagged ones have a mean beyond the threshold. ``sums`` and ``counts`` belong to the flags before the pass.
    """
    size, width = values.shape
    any_found = False
    over = np.empty(width, np.uint8)
    for i in range(size - length + 1):
        found = 0
        for k in range(width):
            total = abs(sums[i + length, k] - sums[i, k])
            over[k] = (total > threshold * (counts[i + length, k] - counts[i, k])) & (i + length <= numbers[k])
            found += over[k]
        if found > 0:
            for k in range(width):
                # totals of one sample leave rounding errors where nothing is left to count
                if over[k] and counts[i + length, k] > counts[i, k]:
                    for j in range(i, i + length):
                        any_found |= flags[j, k] == 0
                        flags[j, k] = 1
    return any_found


@njit(cache=True, nogil=True, error_model="numpy")
def _pack(plane, missing, values, place, numbers):
    """Move the existing samples of each column to the start; ``place`` is the row that each sample got, or -1."""
    numbers[:] = 0
    for i in range(plane.shape[0]):
        for k in range(plane.shape[1]):
            if missing[i, k]:
                place[i, k] = -1
            else:
                place[i, k] = numbers[k]
                values[numbers[k], k] = plane[i, k]
                numbers[k] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _share(flags, place, other_flags, other_place):
    """Copy flags from one packed arrangement into the other, which has the axes exchanged."""
    for i in range(place.shape[0]):
        for k in range(place.shape[1]):
            if place[i, k] >= 0 and flags[place[i, k], k]:
                other_flags[other_place[k, i], i] = 1


@njit(cache=True, nogil=True, error_model="numpy")
def sum_threshold(plane, missing, found):
    """Add to ``found`` what SumThreshold finds in one plane (Ntimes, Nchan) of amplitudes minus their median.

    Windows have 1, 2, 4 ... 256 samples, in time and then in frequency. ``missing`` samples do not exist: windows reach
    across them.
    """
    n_times, n_chan = plane.shape
    limit = np.float32(_mode(plane, missing, np.empty(plane.size + 1, np.float32)))
    if limit == 0.0:
        return
    in_time, in_channel = np.zeros((n_times, n_chan), np.float32), np.zeros((n_chan, n_times), np.float32)
    time_flags, channel_flags = np.zeros((n_times, n_chan), np.uint8), np.zeros((n_chan, n_times), np.uint8)
    time_place, channel_place = np.empty((n_times, n_chan), np.int32), np.empty((n_chan, n_times), np.int32)
    times, channels = np.empty(n_chan, np.int32), np.empty(n_times, np.int32)
    _pack(plane, missing, in_time, time_place, times)
    _pack(np.ascontiguousarray(plane.T), np.ascontiguousarray(missing.T), in_channel, channel_place, channels)
    time_sums, channel_sums = np.empty((n_times + 1, n_chan), np.float32), np.empty((n_chan + 1, n_times), np.float32)
    time_counts, channel_counts = np.empty_like(time_sums), np.empty_like(channel_sums)
    _totals(in_time, time_flags, time_sums, time_counts)
    _totals(in_channel, channel_flags, channel_sums, channel_counts)
    length, doublings = 1, 0
    while length <= LONGEST:
        threshold = np.float32(FIRST_THRESHOLD * THRESHOLD_BASE**doublings / length * limit)
        if length <= n_times and _pass(in_time, time_flags, times, length, threshold, time_sums, time_counts):
            _share(time_flags, time_place, channel_flags, channel_place)
            _totals(in_time, time_flags, time_sums, time_counts)
            _totals(in_channel, channel_flags, channel_sums, channel_counts)
        if length <= n_chan and _pass(in_channel, channel_flags, channels, length, threshold, channel_sums, channel_counts):
            _share(channel_flags, channel_place, time_flags, time_place)
            _totals(in_time, time_flags, time_sums, time_counts)
            _totals(in_channel, channel_flags, channel_sums, channel_counts)
        length, doublings = 2 * length, doublings + 1
    for t in range(n_times):
        for k in range(n_chan):
            if time_place[t, k] >= 0:
                found[t, k] |= time_flags[time_place[t, k], k]


@njit(cache=True, nogil=True, error_model="numpy")
def _extend_line(flags, missing, eta, low, wide):
    """Apply the operator to one line (eq. 9 to 12): flag a sample if some interval around it has a sum >= 0."""
    n = flags.size
    total, lowest = 0.0, 0.0
    for i in range(n):
        lowest = min(lowest, total)
        low[i] = lowest  # the lowest sum before sample i
        if not missing[i]:
            total += eta if flags[i] else eta - 1.0
    highest = -np.inf
    for i in range(n - 1, -1, -1):
        highest = max(highest, total)  # the highest sum after sample i
        if highest >= low[i] - 1e-9:
            wide[i] = 1
        if not missing[i]:
            total -= eta if flags[i] else eta - 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def extend(flags, missing, eta):
    """Widen flags in time and in frequency by the scale-invariant rank operator of Offringa et al. (2012).

    Interference fades out below any threshold. The operator flags each interval if at least a fraction ``1 - eta`` of
    it is flagged. Long features grow a lot, single samples not at all.

    Args:
        flags: (Ntimes, Nchan) uint8.
        missing: same shape; samples without data, which neither stop nor support an interval.
        eta: fraction of unflagged samples that an interval may hold.

    Returns:
        Same shape: the flags and the additions in both directions; never ``missing``.
    """
    n_times, n_chan = flags.shape
    wide = flags.copy()
    low = np.empty(max(n_times, n_chan))
    for t in range(n_times):
        if flags[t].any():
            _extend_line(flags[t], missing[t], eta, low, wide[t])
    across, missing_across, wide_across = flags.T.copy(), missing.T.copy(), np.zeros((n_chan, n_times), np.uint8)
    for k in range(n_chan):
        if across[k].any():
            _extend_line(across[k], missing_across[k], eta, low, wide_across[k])
    for t in range(n_times):
        for k in range(n_chan):
            wide[t, k] = (wide[t, k] | wide_across[k, t]) & (missing[t, k] == 0)
    return wide


@njit(cache=True, nogil=True, error_model="numpy")
def load(b, gain_1, gain_2, vis, reasons, planes, bad, missing, amplitudes):
    """Copy a baseline into planes, divided by its receptors' gains, and measure its amplitude.

    Args:
        b: the baseline.
        gain_1, gain_2: (Nchan, Npols) float32, of its antennas.
        vis: (Ntimes, Nbls, Nchan, 2 Npols) float32.
        reasons: (Ntimes, Nbls, Nchan, Npols) uint8.
        planes, bad: of the baseline, to be filled.
        missing: (Ntimes, Nchan) uint8; 1 where all polarizations are bad.
        amplitudes: (Npols,) float64; median amplitude of each polarization, NaN where nothing is good.
    """
    n_times, _, n_chan, n_pol = reasons.shape
    factor = np.empty((n_pol, n_chan), np.float32)
    for k in range(n_chan):
        for p in range(n_pol):
            factor[p, k] = np.float32(1.0) / (gain_1[k, p] * gain_2[k, p])
    for t in range(n_times):
        row, codes = vis[t, b], reasons[t, b]
        for k in range(n_chan):
            missing[t, k] = 1
            for p in range(n_pol):
                planes[2 * p, t, k] = row[k, 2 * p] * factor[p, k]
                planes[2 * p + 1, t, k] = row[k, 2 * p + 1] * factor[p, k]
                bad[p, t, k] = codes[k, p] != 0
                missing[t, k] &= bad[p, t, k]
    scratch = np.empty(n_times * n_chan + 1, np.float32)
    for p in range(n_pol):
        n = 0
        for t in range(n_times):
            for k in range(0, n_chan, LEVEL_CHANNELS):
                if not bad[p, t, k]:
                    scratch[n] = np.sqrt(planes[2 * p, t, k] ** 2 + planes[2 * p + 1, t, k] ** 2)
                    n += 1
        amplitudes[p] = _median(scratch, n) if n > 0 else np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def mark(b, size, sigma, bad, missing, clip, clip_code, rfi_code, reasons):  # noqa: PLR0912
    """Clip a baseline's residual, run SumThreshold on the rest, widen the flags of both, and mark ``reasons``.

    The clip goes first, and SumThreshold gets none of what the clip flagged, because it spreads a burst of 7 to 50
    sigma in one integration over all of them.

    Args:
        b: the baseline.
        size, sigma: from `subtract_sky`; ``size`` is overwritten.
        bad, missing: from `load`.
        clip: limit of amplitudes, in units of the noise's rms.
        clip_code, rfi_code: values for ``reasons``.
        reasons: (Ntimes, Nbls, Nchan, Npols) uint8.
    """
    n_pol, n_times, n_chan = bad.shape
    clipped, found, unused = np.zeros_like(missing), missing.copy(), np.empty_like(missing)
    for p in range(n_pol):
        limit = np.float32(clip * sigma[p])
        for t in range(n_times):
            for k in range(n_chan):
                clipped[t, k] |= (size[p, t, k] > limit) & (bad[p, t, k] == 0)
                found[t, k] |= clipped[t, k]
    for p in range(n_pol):
        middle = np.float32(RAYLEIGH_MEDIAN * sigma[p])
        for t in range(n_times):
            for k in range(n_chan):
                size[p, t, k] = np.float32(0.0) if bad[p, t, k] else size[p, t, k] - middle
                unused[t, k] = found[t, k]  # what one polarization flags is missing in the next
        sum_threshold(size[p], unused, found)
    for t in range(n_times):
        for k in range(n_chan):
            found[t, k] &= missing[t, k] == 0
    wide = extend(found, missing, ETA)
    for t in range(n_times):
        row = reasons[t, b]
        for k in range(n_chan):
            if wide[t, k]:
                for p in range(n_pol):
                    if row[k, p] == 0:
                        row[k, p] = clip_code if clipped[t, k] else rfi_code
