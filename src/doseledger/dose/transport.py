"""Loops of the photon Monte Carlo, compiled by Numba.

Photons fly from voxel to voxel by delta tracking (Woodcock 1965): steps are drawn for the largest attenuation of the
map, and a step that ends in less of it is a collision only with the ratio of the two as probability. Each end of a
step, collision or not, deposits what electrons would get there on average (energy transfer over largest attenuation):
the expected energy of a voxel is that of the collisions, with less scatter, above all where there is little matter.
Photons below the cut deposit their energy where they are.

Positions are in voxels, (z, y, x), lengths in cm, energies in keV.
"""

from __future__ import annotations

from math import cos, exp, log, pi, sin, sqrt
from typing import Any, Final

import numpy as np
from numba import njit

from doseledger.dose.attenuation import ELECTRON_KEV, HC_KEV_ANGSTROM, PAIR_THRESHOLD_KEV

#: Batches run in threads (``nogil``); no reordering of sums, so that the numbers are those of the source.
_OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "error_model": "numpy"}
_MEDIUM_BITS: Final = np.uint32(3)
#: Fractional part of the golden ratio: its multiples fill the interval evenly, whatever their number.
_GOLDEN: Final = 0.6180339887498949
_SHARE_OF_53_BITS: Final = 2.0**-53


@njit(inline="always", **_OPTIONS)
def _uniform(state):  # type: ignore[no-untyped-def]
    """A number in (0, 1): xoshiro256+ (Blackman and Vigna 2018)."""
    result = state[0] + state[3]
    shifted = state[1] << np.uint64(17)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = (state[3] << np.uint64(45)) | (state[3] >> np.uint64(19))
    return ((result >> np.uint64(11)) + 0.5) * _SHARE_OF_53_BITS


@njit(inline="always", **_OPTIONS)
def _turned(w, v, u, cosine, turn):  # type: ignore[no-untyped-def]
    """A direction turned by an angle, around itself by `turn`."""
    sine = sqrt(max(0.0, 1.0 - cosine * cosine))
    a, b = sine * cos(turn), sine * sin(turn)
    across2 = 1.0 - w * w
    if across2 < 1e-10:
        return (cosine if w > 0.0 else -cosine), b, a
    across = sqrt(across2)
    return w * cosine - across * a, v * cosine + (v * w * a + u * b) / across, u * cosine + (u * w * a - v * b) / across


@njit(**_OPTIONS)
def klein_nishina(energy, state):  # type: ignore[no-untyped-def]
    """Share of its energy that a photon keeps, and 1 - cos(theta), for scattering by a free electron at rest.

    Composition and rejection as in EGS (SLAC-265, section 2.7.1): the density in the share e,
    (1/e + e)(1 - e sin^2/(1 + e^2)), is drawn from 1/e and e.
    """
    alpha = energy / ELECTRON_KEV
    least = 1.0 / (1.0 + 2.0 * alpha)
    first = -log(least)
    share_of_first = first / (first + 0.5 * (1.0 - least * least))
    while True:
        if _uniform(state) < share_of_first:
            kept = exp(-first * _uniform(state))
        else:
            kept = sqrt(least * least + (1.0 - least * least) * _uniform(state))
        turned = (1.0 - kept) / (alpha * kept)
        sine2 = turned * (2.0 - turned)
        if _uniform(state) <= 1.0 - kept * sine2 / (1.0 + kept * kept):
            return kept, turned


@njit(**_OPTIONS)
def incoherent(energy, scattering, transfers_per_root, state):  # type: ignore[no-untyped-def]
    """As `klein_nishina` for bound electrons: accepted with the incoherent scattering function."""
    last = scattering.size - 1
    while True:
        kept, turned = klein_nishina(energy, state)
        place = sqrt(energy / HC_KEV_ANGSTROM * sqrt(0.5 * turned)) * transfers_per_root
        node = int(place)
        if node >= last:
            return kept, turned
        accepted = scattering[node] + (place - node) * (scattering[node + 1] - scattering[node])
        if _uniform(state) <= accepted:
            return kept, turned


@njit(**_OPTIONS)
def coherent(energy, transfer2, form_factor, state):  # type: ignore[no-untyped-def]
    """cos(theta) of coherent scattering: squared form factor over x^2, times (1 + cos^2)/2."""
    largest2 = (energy / HC_KEV_ANGSTROM) ** 2
    top = np.searchsorted(transfer2, largest2)
    if top > transfer2.size - 1:
        total = form_factor[-1]
    else:
        below = transfer2[top - 1]
        share = (largest2 - below) / (transfer2[top] - below)
        total = form_factor[top - 1] + share * (form_factor[top] - form_factor[top - 1])
    while True:
        wanted = _uniform(state) * total
        node = min(max(np.searchsorted(form_factor, wanted), 1), form_factor.size - 1)
        share = (wanted - form_factor[node - 1]) / (form_factor[node] - form_factor[node - 1])
        x2 = transfer2[node - 1] + share * (transfer2[node] - transfer2[node - 1])
        cosine = max(-1.0, 1.0 - 2.0 * x2 / largest2)
        if _uniform(state) <= 0.5 * (1.0 + cosine * cosine):
            return cosine


@njit(inline="always", **_OPTIONS)
def _isotropic(state):  # type: ignore[no-untyped-def]
    w, turn = 2.0 * _uniform(state) - 1.0, 2.0 * pi * _uniform(state)
    across = sqrt(1.0 - w * w)
    return w, across * sin(turn), across * cos(turn)


@njit(inline="always", **_OPTIONS)
def collide(state, energy, w, v, u, medium, node, part, tables):  # type: ignore[no-untyped-def]
    """Energy and direction after a collision, and whether a second photon leaves the other way.

    The energy is zero where the photon ends. A pair ends as two photons of annihilation: where it was
    made, for positrons go some millimetres.
    """
    choice = _uniform(state)
    below, above = tables.shares[node, medium], tables.shares[node + 1, medium]
    if choice < below[0] + part * (above[0] - below[0]):
        kept, turned = incoherent(energy, tables.scattering[medium], tables.transfers_per_root, state)
        w, v, u = _turned(w, v, u, 1.0 - turned, 2.0 * pi * _uniform(state))
        return energy * kept, w, v, u, False
    if choice < below[1] + part * (above[1] - below[1]):
        cosine = coherent(energy, tables.transfer2, tables.form_factor[medium], state)
        w, v, u = _turned(w, v, u, cosine, 2.0 * pi * _uniform(state))
        return energy, w, v, u, False
    if choice < below[2] + part * (above[2] - below[2]) or energy <= PAIR_THRESHOLD_KEV:
        return 0.0, w, v, u, False
    w, v, u = _isotropic(state)
    return ELECTRON_KEV, w, v, u, True


@njit(inline="always", **_OPTIONS)
def _next_source_voxel(cumulative, wanted, low):  # type: ignore[no-untyped-def]
    """First voxel from `low` on whose cumulative activity is above `wanted`: gallop, then halve."""
    step, high = 1, low
    while high < cumulative.size - 1 and cumulative[high] <= wanted:
        low = high + 1
        high = min(high + step, cumulative.size - 1)
        step *= 2
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > wanted:
            high = middle
        else:
            low = middle + 1
    return low


@njit(**_OPTIONS)
def run_batch(  # type: ignore[no-untyped-def]
    state,
    histories,
    cumulative,
    line_kev,
    line_cumulative,
    density,
    voxel_cm,
    majorant,
    tables,
):
    """Photons of one batch: voxels and energies of their deposits, and the energy that left the map.

    Parameters
    ----------
    state
        Of the random stream, 4 x uint64; changed.
    cumulative
        Cumulative activity over the voxels in the order of the map.
    line_kev, line_cumulative
        Photon lines, and their cumulative yields over the sum of all.
    density
        g/mL, ``(z, y, x)`` float32, with the medium in the last two bits of each number.
    majorant
        Largest linear attenuation of the map at the nodes of the energy, 1/cm.
    tables
        An `doseledger.dose.attenuation.Attenuation`.

    Notes
    -----
    Source voxels are drawn in strata along the map, so that they come in order and fast, lines in
    strata over the yields. Deposits of one photon that follow each other in one voxel are one deposit:
    then the sum of their squares is the variance of their sum, for few of many photons reach a voxel.
    """
    nz, ny, nx = density.shape
    flat = density.reshape(-1)
    media = flat.view(np.uint32)
    per_z, per_y, per_x = 1.0 / voxel_cm[0], 1.0 / voxel_cm[1], 1.0 / voxel_cm[2]
    cut_kev = exp(tables.ln_cut)
    mass_attenuation, energy_transfer = tables.mass_attenuation, tables.energy_transfer
    total = np.nextafter(cumulative[-1], 0.0)
    voxel = np.empty(16 * histories, np.int64)
    deposit = np.empty(16 * histories, np.float64)
    n_deposits, escaped, source = 0, 0.0, 0
    line_shift = _uniform(state)
    for history in range(histories):
        wanted = min((history + _uniform(state)) / histories * cumulative[-1], total)
        source = _next_source_voxel(cumulative, wanted, source)
        iz, rest = source // (ny * nx), source % (ny * nx)
        z, y, x = iz + _uniform(state), rest // nx + _uniform(state), rest % nx + _uniform(state)
        share = (line_shift + history * _GOLDEN) % 1.0
        energy = line_kev[min(np.searchsorted(line_cumulative, share, side="right"), line_kev.size - 1)]
        w, v, u = _isotropic(state)
        first = n_deposits
        # The second photon of an annihilation waits here; neither of the two can make a pair again.
        waits, z2, y2, x2, w2, v2, u2 = False, z, y, x, w, v, u
        while True:
            place = (log(energy) - tables.ln_cut) * tables.nodes_per_ln
            node = min(int(place), majorant.size - 2)
            part = place - node
            free_path = 1.0 / (majorant[node] + part * (majorant[node + 1] - majorant[node]))
            index = -1
            while True:
                step = -log(_uniform(state)) * free_path
                z += w * step * per_z
                y += v * step * per_y
                x += u * step * per_x
                if z < 0.0 or y < 0.0 or x < 0.0 or z >= nz or y >= ny or x >= nx:
                    escaped += energy
                    energy = 0.0
                    break
                index = (int(z) * ny + int(y)) * nx + int(x)
                medium = media[index] & _MEDIUM_BITS
                collisions = flat[index] * free_path
                low, high = energy_transfer[node, medium], energy_transfer[node + 1, medium]
                given = energy * (low + part * (high - low)) * collisions
                if n_deposits > first and voxel[n_deposits - 1] == index:
                    deposit[n_deposits - 1] += given
                else:
                    if n_deposits == voxel.size:
                        voxel, deposit = _longer(voxel, deposit)
                    voxel[n_deposits], deposit[n_deposits] = index, given
                    n_deposits += 1
                low, high = mass_attenuation[node, medium], mass_attenuation[node + 1, medium]
                if _uniform(state) < (low + part * (high - low)) * collisions:
                    break
            if energy > 0.0:
                energy, w, v, u, pair = collide(state, energy, w, v, u, medium, node, part, tables)
                if pair:
                    waits, z2, y2, x2, w2, v2, u2 = True, z, y, x, -w, -v, -u
                elif 0.0 < energy < cut_kev:
                    deposit[n_deposits - 1] += energy
                    energy = 0.0
            if energy == 0.0:
                if not waits:
                    break
                waits, z, y, x, w, v, u, energy = False, z2, y2, x2, w2, v2, u2, ELECTRON_KEV
    return voxel[:n_deposits], deposit[:n_deposits], escaped


@njit(**_OPTIONS)
def _longer(voxel, deposit):  # type: ignore[no-untyped-def]
    return np.concatenate((voxel, np.empty_like(voxel))), np.concatenate((deposit, np.empty_like(deposit)))


@njit(**_OPTIONS)
def score(voxel, deposit, sums):  # type: ignore[no-untyped-def]
    """Add deposits and their squares to ``sums``, ``(voxel, 2)``, in order."""
    for i in range(voxel.size):
        sums[voxel[i], 0] += deposit[i]
        sums[voxel[i], 1] += deposit[i] * deposit[i]


@njit(**_OPTIONS)
def relative_sd_of_hot_voxels(certain, sums, scale, density, scored, share_of_maximum):  # type: ignore[no-untyped-def]
    """Relative sd of the total energy, root mean square over the voxels above a share of the largest dose.

    ``certain`` is the energy that is not sampled. Voxels where ``scored`` is 0 do not count.
    """
    largest = 0.0
    for i in range(certain.size):
        if scored[i]:
            largest = max(largest, (certain[i] + scale * sums[i, 0]) / density[i])
    square, count = 0.0, 0
    for i in range(certain.size):
        if scored[i]:
            energy = certain[i] + scale * sums[i, 0]
            if energy > 0.0 and energy / density[i] > share_of_maximum * largest:
                square += scale * scale * sums[i, 1] / (energy * energy)
                count += 1
    return sqrt(square / count) if count > 0 else 0.0


@njit(fastmath={"contract"}, **_OPTIONS)
def spread(source, kernel, result):  # type: ignore[no-untyped-def]
    """Add the convolution of a map with a kernel of odd shape to ``result``; what leaves the map is lost.

    Row by row, and rows without activity cost nothing: quicker than Fourier transforms for the few voxels that
    electrons reach.
    """
    nz, ny, nx = source.shape
    kz, ky, kx = kernel.shape
    for z in range(nz):
        for y in range(ny):
            row = source[z, y]
            first, last = 0, nx
            while first < nx and row[first] == 0.0:
                first += 1
            while last > first and row[last - 1] == 0.0:
                last -= 1
            if first == last:
                continue
            for i in range(max(0, kz // 2 - z), min(kz, nz + kz // 2 - z)):
                for j in range(max(0, ky // 2 - y), min(ky, ny + ky // 2 - y)):
                    target = result[z + i - kz // 2, y + j - ky // 2]
                    for k in range(kx):
                        share, shift = kernel[i, j, k], k - kx // 2
                        for x in range(max(first, -shift), min(last, nx - shift)):
                            target[x + shift] += share * row[x]
