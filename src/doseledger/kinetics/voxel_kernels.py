"""Compiled fits of one and two exponentials in blocks of voxels, in single precision.

The scan times are the same in all voxels, so the shapes are tabulated once on a grid of rates: a voxel
needs a few products with the table to find its best node, and some steps from there. Every block has the
same length and is padded: whether a voxel is computed in the vectorised part of a loop can then not
depend on its place, and the numbers are the same for any number of threads. Nothing is compiled with
fast math: every operation is rounded as written, so that they are the same for any instruction set.
"""

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np

#: Voxels per block: the temporary arrays of a block stay in the processor's cache.
BLOCK: Final = 256
#: Safeguarded Newton steps from the best node; each one about doubles the digits.
STEPS: Final = 6
#: Damped Gauss-Newton steps in two rates.
PAIR_STEPS: Final = 24
#: Damping of the first of them, its factors after a step down and a step up, and its least value.
DAMPING: Final = (1e-2, 0.2, 8.0, 1e-6)
#: Share of its squared length that the second shape must keep beside the first: below, the two are one.
INDEPENDENT: Final = 1e-6

_F = np.float32


@nb.njit(inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x) to 2e-7 for x <= 0: plain arithmetic, which the compiler vectorises."""
    x = max(x, _F(-87.0))
    k = np.floor(x * _F(1.4426950) + _F(0.5))
    # ln 2 in two parts, so that the remainder keeps its digits.
    r = x - k * _F(0.693359375) + k * _F(2.12194440e-4)
    p = _F(0.008333334) + r * _F(0.0013888889)
    p = _F(1.0) + r * (_F(1.0) + r * (_F(0.5) + r * (_F(0.16666667) + r * (_F(0.041666668) + r * p))))
    return p * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)


@nb.njit(parallel=True, error_model="numpy", cache=True)
def fit_one(data, times, uptake, nodes, table, amplitude, rate):  # type: ignore[no-untyped-def]
    """Best a >= 0 and l of a (exp(-l t) - uptake) in every voxel, l between the first and last node.

    Parameters
    ----------
    data
        ``(t, n)``, float32.
    times, uptake
        ``(t,)``: scan times, and exp(-m t) at them (zeros without uptake).
    nodes, table
        Rates in ascending order, ``(k,)``, and the shapes at them, of unit length, ``(k, t)``.
    amplitude, rate
        ``(1, n)``, filled.
    """
    scans, count = data.shape
    last = nodes.size - 1
    for block in nb.prange((count + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        width = min(BLOCK, count - start)
        y = np.zeros((scans, BLOCK), _F)
        y[:, :width] = data[:, start : start + width]
        score, best = np.full(BLOCK, _F(-np.inf)), np.zeros(BLOCK, np.int32)
        for k in range(nodes.size):
            projection = np.zeros(BLOCK, _F)
            for t in range(scans):
                for v in range(BLOCK):
                    projection[v] += table[k, t] * y[t, v]
            for v in range(BLOCK):
                better = projection[v] > score[v]
                best[v] = np.int32(k) if better else best[v]
                score[v] = projection[v] if better else score[v]
        low, high, x = np.empty(BLOCK, _F), np.empty(BLOCK, _F), np.empty(BLOCK, _F)
        for v in range(BLOCK):
            low[v], x[v], high[v] = nodes[max(best[v] - 1, 0)], nodes[best[v]], nodes[min(best[v] + 1, last)]
        p, p1, p2 = np.empty(BLOCK, _F), np.empty(BLOCK, _F), np.empty(BLOCK, _F)
        q, q1, q2 = np.empty(BLOCK, _F), np.empty(BLOCK, _F), np.empty(BLOCK, _F)
        for _ in range(STEPS):
            # h = 2 ln p - ln q with p = y.b, q = b.b is the logarithm of what the shape explains.
            for v in range(BLOCK):
                p[v] = p1[v] = p2[v] = q[v] = q1[v] = q2[v] = _F(0.0)
            for t in range(scans):
                for v in range(BLOCK):
                    e = _exp(-x[v] * times[t])
                    b, d, c = e - uptake[t], -times[t] * e, times[t] * times[t] * e
                    p[v] += b * y[t, v]
                    p1[v] += d * y[t, v]
                    p2[v] += c * y[t, v]
                    q[v] += b * b
                    q1[v] += b * d
                    q2[v] += d * d + b * c
            for v in range(BLOCK):
                pr, qr = p1[v] / p[v], q1[v] / q[v]
                slope = pr - qr
                curvature = p2[v] / p[v] - pr * pr - q2[v] / q[v] + _F(2.0) * qr * qr
                low[v] = x[v] if slope > 0 else low[v]
                high[v] = high[v] if slope > 0 else x[v]
                step = x[v] - slope / curvature
                inside = (curvature < 0) and (step >= low[v]) and (step <= high[v])
                x[v] = step if inside else _F(0.5) * (low[v] + high[v])
        for v in range(BLOCK):
            p[v] = q[v] = _F(0.0)
        for t in range(scans):
            for v in range(BLOCK):
                b = _exp(-x[v] * times[t]) - uptake[t]
                p[v] += b * y[t, v]
                q[v] += b * b
        for v in range(width):
            rate[0, start + v] = x[v]
            amplitude[0, start + v] = max(p[v] / q[v], _F(0.0)) if score[v] > 0 else _F(0.0)


@nb.njit(inline="always", error_model="numpy")
def _best_pair(y, table, overlap, first, second):  # type: ignore[no-untyped-def]
    """Nodes of the pair that explains most of each voxel, with amplitudes that are not negative."""
    size, scans = table.shape
    projection, score = np.zeros((size, BLOCK), _F), np.zeros(BLOCK, _F)
    for k in range(size):
        for t in range(scans):
            for v in range(BLOCK):
                projection[k, v] += table[k, t] * y[t, v]
    for i in range(size - 1):
        for j in range(i + 1, size):
            rho = overlap[i, j]
            inverse = _F(1.0) / max(_F(1.0) - rho * rho, _F(INDEPENDENT))
            for v in range(BLOCK):
                si, sj = projection[i, v], projection[j, v]
                left, right = si - rho * sj, sj - rho * si
                single = max(max(si, sj), _F(0.0))
                both = si * si + right * right * inverse
                value = both if (left >= 0.0) and (right >= 0.0) else single * single
                better = value > score[v]
                score[v] = value if better else score[v]
                first[v] = np.int32(i) if better else first[v]
                second[v] = np.int32(j) if better else second[v]


@nb.njit(parallel=True, error_model="numpy", cache=True)
def fit_two(data, times, uptake, nodes, table, amplitude, rate):  # type: ignore[no-untyped-def]
    """Best a_i >= 0 and rates l_1, l_2 of sum_i a_i (exp(-l_i t) - uptake); arguments as for `fit_one`.

    `amplitude` and `rate` are ``(2, n)``, in no order. All pairs of nodes are tried; then both rates are
    refined by damped Gauss-Newton steps orthogonal to the shapes (variable projection, Kaufman 1975, doi
    10.1007/BF01932995). A step that leaves more than before is taken back and made shorter.
    """
    scans, count = data.shape
    lowest, highest = nodes[0], nodes[nodes.size - 1]
    overlap = table @ table.T
    for block in nb.prange((count + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        width = min(BLOCK, count - start)
        y = np.zeros((scans, BLOCK), _F)
        y[:, :width] = data[:, start : start + width]
        first, second = np.zeros(BLOCK, np.int32), np.ones(BLOCK, np.int32)
        _best_pair(y, table, overlap, first, second)
        # Of the point on trial: rates, amplitudes, shapes (the second one without its part along the first).
        x, a = np.empty((2, BLOCK), _F), np.empty((2, BLOCK), _F)
        b, s = np.empty((scans, BLOCK), _F), np.empty((scans, BLOCK), _F)
        q, along, length, p = np.empty(BLOCK, _F), np.empty(BLOCK, _F), np.empty(BLOCK, _F), np.empty((3, BLOCK), _F)
        f, g, r = np.empty((2, BLOCK), _F), np.empty((2, BLOCK), _F), np.empty((2, BLOCK), _F)
        j, rest, whole = np.empty((3, BLOCK), _F), np.empty(BLOCK, _F), np.empty(BLOCK, _F)
        # Of the best point so far: rates, amplitudes, normal equations of the step, what is left.
        best, held, slope = np.empty((2, BLOCK), _F), np.zeros((2, BLOCK), _F), np.zeros((2, BLOCK), _F)
        normal, left = np.zeros((3, BLOCK), _F), np.full(BLOCK, _F(np.inf))
        damping = np.full(BLOCK, _F(DAMPING[0]))
        for v in range(BLOCK):
            x[0, v] = best[0, v] = nodes[first[v]]
            x[1, v] = best[1, v] = nodes[second[v]]
        for _ in range(PAIR_STEPS + 1):
            q[:], along[:], length[:], whole[:], rest[:] = _F(0.0), _F(0.0), _F(0.0), _F(0.0), _F(0.0)
            p[:], f[:], g[:], r[:], j[:] = _F(0.0), _F(0.0), _F(0.0), _F(0.0), _F(0.0)
            for t in range(scans):
                for v in range(BLOCK):
                    b[t, v] = _exp(-x[0, v] * times[t]) - uptake[t]
                    s[t, v] = _exp(-x[1, v] * times[t]) - uptake[t]
                    q[v] += b[t, v] * b[t, v]
                    along[v] += b[t, v] * s[t, v]
                    p[0, v] += b[t, v] * y[t, v]
                    p[2, v] += s[t, v] * y[t, v]
                    whole[v] += s[t, v] * s[t, v]
            for v in range(BLOCK):
                along[v] = along[v] / q[v]
            for t in range(scans):
                for v in range(BLOCK):
                    s[t, v] -= along[v] * b[t, v]
                    length[v] += s[t, v] * s[t, v]
                    p[1, v] += s[t, v] * y[t, v]
            for v in range(BLOCK):
                length[v] = max(length[v], _F(INDEPENDENT) * whole[v])
                a2 = p[1, v] / length[v]
                a1 = p[0, v] / q[v] - along[v] * a2
                one, two = max(p[0, v], _F(0.0)), max(p[2, v], _F(0.0))
                single = one * one * whole[v] >= two * two * q[v]
                alone1 = one / q[v] if single else _F(0.0)
                alone2 = _F(0.0) if single else two / whole[v]
                positive = (a1 >= 0.0) and (a2 >= 0.0)
                a[0, v] = a1 if positive else alone1
                a[1, v] = a2 if positive else alone2
            for t in range(scans):
                for v in range(BLOCK):
                    shape = s[t, v] + along[v] * b[t, v]
                    left_over = y[t, v] - a[0, v] * b[t, v] - a[1, v] * shape
                    d1, d2 = -times[t] * (b[t, v] + uptake[t]), -times[t] * (shape + uptake[t])
                    rest[v] += left_over * left_over
                    f[0, v] += b[t, v] * d1
                    f[1, v] += b[t, v] * d2
                    g[0, v] += s[t, v] * d1
                    g[1, v] += s[t, v] * d2
                    r[0, v] += a[0, v] * d1 * left_over
                    r[1, v] += a[1, v] * d2 * left_over
            for v in range(BLOCK):
                active = _F(1.0) if a[1, v] > 0.0 else _F(0.0)
                f[0, v], f[1, v] = f[0, v] / q[v], f[1, v] / q[v]
                g[0, v], g[1, v] = active * g[0, v] / length[v], active * g[1, v] / length[v]
            for t in range(scans):
                for v in range(BLOCK):
                    shape = s[t, v] + along[v] * b[t, v]
                    d1, d2 = -times[t] * (b[t, v] + uptake[t]), -times[t] * (shape + uptake[t])
                    c1 = a[0, v] * (d1 - f[0, v] * b[t, v] - g[0, v] * s[t, v])
                    c2 = a[1, v] * (d2 - f[1, v] * b[t, v] - g[1, v] * s[t, v])
                    j[0, v] += c1 * c1
                    j[1, v] += c1 * c2
                    j[2, v] += c2 * c2
            for v in range(BLOCK):
                down = rest[v] <= left[v]
                left[v] = rest[v] if down else left[v]
                damping[v] = max(damping[v] * (_F(DAMPING[1]) if down else _F(DAMPING[2])), _F(DAMPING[3]))
                for k in range(2):
                    best[k, v] = x[k, v] if down else best[k, v]
                    held[k, v] = a[k, v] if down else held[k, v]
                    slope[k, v] = r[k, v] if down else slope[k, v]
                for k in range(3):
                    normal[k, v] = j[k, v] if down else normal[k, v]
                n1 = normal[0, v] * (_F(1.0) + damping[v]) + _F(1e-30)
                n2 = normal[2, v] * (_F(1.0) + damping[v]) + _F(1e-30)
                determinant = max(n1 * n2 - normal[1, v] * normal[1, v], _F(1e-7) * n1 * n2)
                x[0, v] = best[0, v] + (n2 * slope[0, v] - normal[1, v] * slope[1, v]) / determinant
                x[1, v] = best[1, v] + (n1 * slope[1, v] - normal[1, v] * slope[0, v]) / determinant
                x[0, v] = min(max(x[0, v], lowest), highest)
                x[1, v] = min(max(x[1, v], lowest), highest)
        for k in range(2):
            amplitude[k, start : start + width] = held[k, :width]
            rate[k, start : start + width] = best[k, :width]
