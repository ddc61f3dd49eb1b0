"""Compiled loops of the imager over visibilities and pixels.

Import this module inside functions, because numba is slow to import.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def stokes_i(data, flag, weight, vis_out, weight_out):  # pragma: no cover (compiled)
    """Weighted mean of XX and YY of each visibility, without samples that are flagged, not finite or have no weight.

    ``data``, ``flag``, ``weight``: (nrow, nchan, 2). Results go to ``vis_out`` and ``weight_out`` (nrow, nchan); the
    weight (1/Jy^2) is the sum of the two. Returns the number of samples used.
    """
    used = 0
    for row in range(data.shape[0]):
        for channel in range(data.shape[1]):
            total = np.complex128(0.0)
            sum_weight = 0.0
            for polarization in range(2):
                value = data[row, channel, polarization]
                w = weight[row, channel, polarization]
                if (
                    not flag[row, channel, polarization]
                    and w > 0.0
                    and np.isfinite(w)
                    and np.isfinite(value.real)
                    and np.isfinite(value.imag)
                ):
                    total += w * value
                    sum_weight += w
                    used += 1
            if sum_weight > 0.0:
                vis_out[row, channel] = total / sum_weight
                weight_out[row, channel] = sum_weight
            else:
                vis_out[row, channel] = 0.0
                weight_out[row, channel] = 0.0
    return used


@numba.njit(cache=True, nogil=True)
def remove_gains(data, weight, antenna1, antenna2, interval, gain):  # pragma: no cover (compiled)
    """Divide ``data`` (nrow, nchan, 2) by ``g_1 conj(g_2)`` in place, and multiply the weights by its squared modulus.

    ``gain`` (ninterval, nant, 2), ``interval`` (nrow,).
    """
    for row in range(data.shape[0]):
        for polarization in range(2):
            product = gain[interval[row], antenna1[row], polarization] * np.conj(gain[interval[row], antenna2[row], polarization])
            power = product.real * product.real + product.imag * product.imag
            factor = np.complex64(np.conj(product) / power) if power > 0.0 else np.complex64(0.0)
            for channel in range(data.shape[1]):
                data[row, channel, polarization] *= factor
                weight[row, channel, polarization] *= power


@numba.njit(cache=True, nogil=True)
def correlate_with_model(data, flag, weight, rows, model, antenna1, antenna2, interval, r, q):  # pragma: no cover (compiled)
    """Add ``sum_channels w V conj(M)`` to ``r`` and ``sum_channels w |M|^2`` to ``q`` (ninterval, 2, nant, nant).

    The indices are [interval, polarization, antenna 1, antenna 2]. ``data``, ``flag``, ``weight``: (n, nchan, 2).
    ``rows`` (nrow,): their rows that correspond to those of ``model`` (nrow, nchan) and of ``antenna1``, ``antenna2``
    and ``interval`` (nrow,).
    """
    for k in range(rows.size):
        row = rows[k]
        for polarization in range(2):
            product, power = np.complex128(0.0), 0.0
            for channel in range(model.shape[1]):
                value, w = data[row, channel, polarization], weight[row, channel, polarization]
                if (
                    not flag[row, channel, polarization]
                    and w > 0.0
                    and np.isfinite(w)
                    and np.isfinite(value.real)
                    and np.isfinite(value.imag)
                ):
                    m = np.complex128(model[k, channel])
                    product += w * value * np.conj(m)
                    power += w * (m.real * m.real + m.imag * m.imag)
            r[interval[k], polarization, antenna1[k], antenna2[k]] += product
            q[interval[k], polarization, antenna1[k], antenna2[k]] += power


@numba.njit(cache=True, nogil=True)
def _cell(u, v, scale, half):  # pragma: no cover (compiled)
    """Cell (row, column) of a half-plane grid for a point folded to u >= 0; (-1, -1) outside the grid."""
    if u < 0.0:
        u, v = -u, -v
    column = int(np.floor(u * scale + 0.5))
    row = int(np.floor(v * scale + 0.5)) + half
    if column > half or row < 0 or row >= 2 * half:
        return -1, -1
    return row, column


@numba.njit(cache=True, nogil=True)
def add_density(uvw, frequency_over_c, weight, scale, density, shortest, longest):  # pragma: no cover (compiled)
    """Add weights to their uv cells; set the weight to zero outside the grid or the range of baseline lengths.

    ``uvw`` (nrow, 3) meters, ``weight`` (nrow, nchan), ``scale`` cells per wavelength, ``density`` (2 half, half + 1),
    ``shortest`` and ``longest`` in wavelengths. Returns the number of points outside the grid, which the pixels are too
    coarse to represent.
    """
    half = density.shape[1] - 1
    outside = 0
    for row in range(uvw.shape[0]):
        for channel in range(weight.shape[1]):
            w = weight[row, channel]
            if w > 0.0:
                f = frequency_over_c[channel]
                length2 = (uvw[row, 0] * uvw[row, 0] + uvw[row, 1] * uvw[row, 1]) * f * f
                if length2 < shortest * shortest or length2 > longest * longest:
                    weight[row, channel] = 0.0
                    continue
                i, j = _cell(uvw[row, 0] * f, uvw[row, 1] * f, scale, half)
                if i < 0:
                    weight[row, channel] = 0.0
                    outside += 1
                else:
                    density[i, j] += w
    return outside


@numba.njit(cache=True, nogil=True)
def robust_weights(
    uvw, frequency_over_c, weight, scale, density, constant, f2, taper, time_index, out, sums, per_time_channel
):  # pragma: no cover (compiled)
    """Imaging weights ``w / (constant + D f2) exp(-taper (u^2 + v^2))`` of each visibility, and their sums.

    ``out`` (nrow, nchan) receives the weights; ``sums`` the pair sum(w_img), sum(w_img^2 sigma^2) with sigma^2 = 1/w;
    ``per_time_channel`` (Ntimes, nchan) the sums of w_img.
    """
    half = density.shape[1] - 1
    for row in range(uvw.shape[0]):
        t = time_index[row]
        for channel in range(weight.shape[1]):
            w = np.float64(weight[row, channel])
            if w > 0.0:
                f = frequency_over_c[channel]
                i, j = _cell(uvw[row, 0] * f, uvw[row, 1] * f, scale, half)
                length2 = (uvw[row, 0] * uvw[row, 0] + uvw[row, 1] * uvw[row, 1]) * f * f
                imaging = w / (constant + density[i, j] * f2) * np.exp(-taper * length2)
                out[row, channel] = imaging
                sums[0] += imaging
                sums[1] += imaging * imaging / w
                per_time_channel[t, channel] += imaging
            else:
                out[row, channel] = 0.0


@numba.njit(cache=True, nogil=True, inline="always")
def _sinc(x):  # pragma: no cover (compiled)
    """``sin(pi x) / (pi x)``; for |x| <= 1 by its power series, with an error below 3e-7."""
    y = (np.pi * x) ** 2
    if y > np.pi**2:
        return np.sin(np.pi * x) / (np.pi * x)
    return 1 - y / 6 * (1 - y / 20 * (1 - y / 42 * (1 - y / 72 * (1 - y / 110 * (1 - y / 156 * (1 - y / 210 * (1 - y / 272)))))))


LANES = 32
"""Channels whose phasors are advanced together: the compiler vectorizes loops of this length."""

_LANE = np.arange(LANES, dtype=np.float32)
_S0, _S1, _S2, _S3, _S4, _S5 = (
    np.float32(c) for c in (6.2831849165, -41.341589233, 81.599943330, -76.614472531, 41.342882355, -12.471243535)
)
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(c) for c in (0.99999998906, -19.739204499, 64.939117460, -85.450139531, 60.167630951, -25.967599249, 6.5286581616)
)
"""Least-squares polynomials in x^2 of ``sin(2 pi x) / x`` and ``cos(2 pi x)`` for |x| <= 1/2: errors below 4e-7."""
_HALF = np.float32(0.5)


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _start_phasors(path, first, step, real, imaginary):  # pragma: no cover (compiled)
    """Write ``exp(2 pi i path (first + k step))`` of the first channels to ``real`` and ``imaginary`` (LANES,).

    Returns the phasor of a step of LANES channels. Whole turns are removed in double precision. The rest is accurate to
    4e-6, and needs no library function.
    """
    start, turn = path * first, path * step
    start -= np.floor(start + 0.5)
    turn -= np.floor(turn + 0.5)
    start4, turn4 = np.float32(start), np.float32(turn)
    for k in range(LANES):
        x = start4 + _LANE[k] * turn4
        x -= np.floor(x + _HALF)
        y = x * x
        imaginary[k] = x * (_S0 + y * (_S1 + y * (_S2 + y * (_S3 + y * (_S4 + y * _S5)))))
        real[k] = _C0 + y * (_C1 + y * (_C2 + y * (_C3 + y * (_C4 + y * (_C5 + y * _C6)))))
    turn *= LANES
    turn -= np.floor(turn + 0.5)
    y = turn * turn
    return (
        np.float32(_C0 + y * (_C1 + y * (_C2 + y * (_C3 + y * (_C4 + y * (_C5 + y * _C6)))))),
        np.float32(turn * (_S0 + y * (_S1 + y * (_S2 + y * (_S3 + y * (_S4 + y * _S5)))))),
    )


@numba.njit(cache=True, nogil=True, fastmath=True)
def subtract_points(uvw, rate, time_index, f_over_c, lmn, pointing, amplitude, band, channels, vis):  # pragma: no cover (compiled)
    """Subtract point sources from visibilities in place.

    ``uvw`` and ``rate`` (change of uvw during an integration): (nrow, 3) meters. ``lmn`` (3, nsrc) and ``pointing``
    (3, ntime): direction cosines (l, m, n - 1). ``amplitude``: (nsrc, ntime, nblock, LANES) Jy, padded with zero
    channels. ``band``: width of a correlator channel over c (0: no smearing). ``channels``: how many of them were
    averaged (see `common.smearing.Averaging`). ``vis``: (nrow, nchan) complex64. Channels are evenly spaced.
    """
    n_chan, n_block = f_over_c.size, amplitude.shape[2]
    first, last = f_over_c[0], f_over_c[n_chan - 1]
    step = (last - first) / max(n_chan - 1, 1)
    share = LANES / max(n_chan - 1, 1)
    real, imaginary = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    sum_real, sum_imaginary = np.empty((n_block, LANES), dtype=np.float32), np.empty((n_block, LANES), dtype=np.float32)
    for row in range(uvw.shape[0]):
        t = time_index[row]
        u, v, w = uvw[row]
        du, dv, dw = rate[row]
        fringe0 = du * pointing[0, t] + dv * pointing[1, t] + dw * pointing[2, t]
        path0 = u * pointing[0, t] + v * pointing[1, t] + w * pointing[2, t]
        sum_real[:] = 0
        sum_imaginary[:] = 0
        for source in range(lmn.shape[1]):
            east, north, depth = lmn[0, source], lmn[1, source], lmn[2, source]
            path = u * east + v * north + w * depth
            fringe = du * east + dv * north + dw * depth - fringe0
            loss = _sinc((path - path0) * band)
            if channels > 1:
                loss *= _sinc(path * band * channels) / _sinc(path * band)
            turn_real, turn_imaginary = _start_phasors(path, first, step, real, imaginary)
            # loss within an integration: a parabola through its values at the middle and the edges of the band
            low, high = loss * _sinc(fringe * first), loss * _sinc(fringe * last)
            middle = loss * _sinc(fringe * 0.5 * (first + last))
            bend, rise = 2 * (low - 2 * middle + high), 4 * middle - 3 * low - high
            for block in range(n_block):
                x = block * share
                start = np.float32(low + x * (rise + x * bend))
                x += share
                grow = (np.float32(low + x * (rise + x * bend)) - start) / np.float32(LANES)
                flux, to_real, to_imaginary = amplitude[source, t, block], sum_real[block], sum_imaginary[block]
                for k in range(LANES):
                    a = flux[k] * (start + grow * _LANE[k])
                    r, i = real[k], imaginary[k]
                    to_real[k] += a * r
                    to_imaginary[k] += a * i
                    real[k] = r * turn_real - i * turn_imaginary
                    imaginary[k] = r * turn_imaginary + i * turn_real
        for channel in range(n_chan):
            block, k = divmod(channel, LANES)
            vis[row, channel] -= np.complex64(complex(sum_real[block, k], sum_imaginary[block, k]))


@numba.njit(cache=True, nogil=True, fastmath=True)
def sum_at_points(uvw, f_over_c, lmn, weight, vis):  # pragma: no cover (compiled)
    """Dirty image at directions ``lmn`` (3, nsrc), and its slopes along l and m, shape (3, nsrc).

    The image is the sum of ``w Re(V exp(-2 pi i f/c (u l + v m + w (n - 1))))``.
    """
    n_chan = f_over_c.size
    n_block = (n_chan + LANES - 1) // LANES
    step = (f_over_c[n_chan - 1] - f_over_c[0]) / max(n_chan - 1, 1)
    total = np.zeros((3, lmn.shape[1]))
    real, imaginary = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    part, slope = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    vis_real, vis_imaginary = np.zeros((n_block, LANES), dtype=np.float32), np.zeros((n_block, LANES), dtype=np.float32)
    frequency = np.zeros((n_block, LANES), dtype=np.float32)
    for channel in range(n_chan):
        frequency[channel // LANES, channel % LANES] = f_over_c[channel]
    for row in range(uvw.shape[0]):
        u, v, w = uvw[row]
        for channel in range(n_chan):
            block, k = divmod(channel, LANES)
            vis_real[block, k] = weight[row, channel] * vis[row, channel].real
            vis_imaginary[block, k] = weight[row, channel] * vis[row, channel].imag
        for source in range(lmn.shape[1]):
            east, north, depth = lmn[0, source], lmn[1, source], lmn[2, source]
            turn_real, turn_imaginary = _start_phasors(u * east + v * north + w * depth, f_over_c[0], step, real, imaginary)
            part[:] = 0
            slope[:] = 0
            for block in range(n_block):
                from_real, from_imaginary, f = vis_real[block], vis_imaginary[block], frequency[block]
                for k in range(LANES):
                    r, i = real[k], imaginary[k]
                    part[k] += from_real[k] * r + from_imaginary[k] * i
                    slope[k] += f[k] * (from_imaginary[k] * r - from_real[k] * i)
                    real[k] = r * turn_real - i * turn_imaginary
                    imaginary[k] = r * turn_imaginary + i * turn_real
            value, change = 0.0, 0.0
            for k in range(LANES):
                value += part[k]
                change += slope[k]
            total[0, source] += value
            total[1, source] += 2 * np.pi * change * (u - w * east / (depth + 1))
            total[2, source] += 2 * np.pi * change * (v - w * north / (depth + 1))
    return total


@numba.njit(cache=True, nogil=True, fastmath=True)
def sums_of_rows(uvw, f_over_c, lmn, weight, vis, out):  # pragma: no cover (compiled)
    """Parts of `sum_at_points` from each row and from each half of the band, to ``out`` (nsrc, nrow, 2)."""
    n_chan = f_over_c.size
    n_block = (n_chan + LANES - 1) // LANES
    step = (f_over_c[n_chan - 1] - f_over_c[0]) / max(n_chan - 1, 1)
    real, imaginary = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    for row in range(uvw.shape[0]):
        u, v, w = uvw[row]
        for source in range(lmn.shape[1]):
            path = u * lmn[0, source] + v * lmn[1, source] + w * lmn[2, source]
            turn_real, turn_imaginary = _start_phasors(path, f_over_c[0], step, real, imaginary)
            low, high = np.float32(0), np.float32(0)
            for block in range(n_block):
                first = block * LANES
                for k in range(min(LANES, n_chan - first)):
                    channel = first + k
                    r, i = real[k], imaginary[k]
                    part = weight[row, channel] * (vis[row, channel].real * r + vis[row, channel].imag * i)
                    if 2 * channel < n_chan:
                        low += part
                    else:
                        high += part
                    real[k] = r * turn_real - i * turn_imaginary
                    imaginary[k] = r * turn_imaginary + i * turn_real
            out[source, row, 0], out[source, row, 1] = low, high


@numba.njit(cache=True, nogil=True, fastmath=True)
def condense_channels(rows, matrix, vis, weight, out):  # pragma: no cover (compiled)
    """Write ``sum_channels w V A`` of some rows to ``out`` (n, Nnodes).

    ``matrix`` A (nchan, Nnodes), ``vis`` and ``weight`` (nrow, nchan).
    """
    n_chan, n_node = matrix.shape
    real, imaginary = np.empty(n_node, dtype=np.float32), np.empty(n_node, dtype=np.float32)
    for i in range(rows.size):
        row = rows[i]
        real[:] = 0
        imaginary[:] = 0
        for channel in range(n_chan):
            w = weight[row, channel]
            if w != 0:
                a, b = w * vis[row, channel].real, w * vis[row, channel].imag
                for k in range(n_node):
                    real[k] += a * matrix[channel, k]
                    imaginary[k] += b * matrix[channel, k]
        for k in range(n_node):
            out[i, k] = complex(real[k], imaginary[k])


@numba.njit(cache=True, nogil=True, fastmath=True)
def expand_channels(rows, matrix, values, out):  # pragma: no cover (compiled)
    """Write ``sum_nodes A V`` to some rows of ``out`` (nrow, nchan).

    ``matrix`` A transposed (Nnodes, nchan), ``values`` V (n, Nnodes).
    """
    n_node, n_chan = matrix.shape
    real, imaginary = np.empty(n_chan, dtype=np.float32), np.empty(n_chan, dtype=np.float32)
    for i in range(rows.size):
        real[:] = 0
        imaginary[:] = 0
        for k in range(n_node):
            a, b = values[i, k].real, values[i, k].imag
            for channel in range(n_chan):
                real[channel] += a * matrix[k, channel]
                imaginary[channel] += b * matrix[k, channel]
        row = rows[i]
        for channel in range(n_chan):
            out[row, channel] = complex(real[channel], imaginary[channel])


@numba.njit(cache=True, nogil=True, fastmath=True)
def refine_pixels(coarse, taps, first, last, fine):  # pragma: no cover (compiled)
    """Interpolate rows ``first`` to ``last`` of an image with pixels of half the size; see `coarse_pixels`.

    ``coarse`` has margins of half as many pixels as there are ``taps``.
    """
    reach, size = taps.size // 2, fine.shape[1] // 2
    line = np.empty(coarse.shape[1], dtype=np.float32)
    between = np.empty(size, dtype=np.float32)
    for y in range(first, last):
        row = y // 2 + reach
        if y % 2 == 0:
            line[:] = coarse[row]
        else:
            line[:] = 0
            for j in range(taps.size):
                part, tap = coarse[row + j - reach + 1], taps[j]
                for x in range(line.size):
                    line[x] += tap * part[x]
        between[:] = 0
        for j in range(taps.size):
            tap, start = taps[j], j + 1
            for x in range(size):
                between[x] += tap * line[x + start]
        for x in range(size):
            fine[y, 2 * x], fine[y, 2 * x + 1] = line[x + reach], between[x]


@numba.njit(cache=True, nogil=True)
def coarsen_components(rows, columns, fluxes, taps, coarse):  # pragma: no cover (compiled)
    """Add components at pixels of a fine image to ``coarse``: the adjoint of `refine_pixels`."""
    reach = taps.size // 2
    for k in range(rows.size):
        y, x = rows[k] // 2 + reach, columns[k] // 2 + reach
        for i in range(taps.size if rows[k] % 2 else 1):
            north = y + i - reach + 1 if rows[k] % 2 else y
            flux = fluxes[k] * (taps[i] if rows[k] % 2 else np.float32(1))
            for j in range(taps.size if columns[k] % 2 else 1):
                west = x + j - reach + 1 if columns[k] % 2 else x
                coarse[north, west] += flux * (taps[j] if columns[k] % 2 else np.float32(1))


@numba.njit(cache=True, nogil=True)
def clean_pixels(rows, columns, values, psf, threshold, gain, most, components):  # pragma: no cover (compiled)
    """Run Hogbom CLEAN on a few pixels; return the number of iterations, or -1 if it diverges.

    ``values`` (the residual at the pixels) and ``components`` change in place. This is the inner loop of Clark (1980)
    with the whole PSF. The rest of the image does not matter, because the caller then computes the residual exactly.
    """
    size, center = psf.shape[0], psf.shape[0] // 2
    first = 0.0
    for iteration in range(most):
        best, peak = 0, -1.0
        for k in range(values.size):
            if abs(values[k]) > peak:
                best, peak = k, abs(values[k])
        first = peak if iteration == 0 else first
        if peak <= threshold:
            return iteration
        if peak > 2 * first:
            return -1
        component = gain * values[best]
        components[best] += component
        for k in range(values.size):
            y, x = rows[k] - rows[best] + center, columns[k] - columns[best] + center
            if 0 <= y < size and 0 <= x < size:
                values[k] -= component * psf[y, x]
    return most


@numba.njit(cache=True, nogil=True)
def clean_pixels_jointly(rows, columns, values, psfs, share, spectrum_of, threshold, gain, most, components):  # pragma: no cover (compiled)
    """Run `clean_pixels` on channels jointly: ``values``, ``components`` (Nchannel, Npixel), ``psfs`` (Nchannel, N, N).

    The peak is that of the mean with weights ``share``. ``spectrum_of`` (Nchannel, Nchannel) turns the residuals at the
    peak into the fluxes of the component.
    """
    size, center = psfs.shape[1], psfs.shape[1] // 2
    n_channel, n_pixel = values.shape
    component = np.empty(n_channel, dtype=values.dtype)
    first = 0.0
    for iteration in range(most):
        best, peak = 0, -1.0
        for k in range(n_pixel):
            mean = 0.0
            for c in range(n_channel):
                mean += share[c] * values[c, k]
            if abs(mean) > peak:
                best, peak = k, abs(mean)
        first = peak if iteration == 0 else first
        if peak <= threshold:
            return iteration
        if peak > 2 * first:
            return -1
        for c in range(n_channel):
            flux = 0.0
            for other in range(n_channel):
                flux += spectrum_of[c, other] * values[other, best]
            component[c] = gain * flux
            components[c, best] += component[c]
        for k in range(n_pixel):
            y, x = rows[k] - rows[best] + center, columns[k] - columns[best] + center
            if 0 <= y < size and 0 <= x < size:
                for c in range(n_channel):
                    values[c, k] -= component[c] * psfs[c, y, x]
    return most
