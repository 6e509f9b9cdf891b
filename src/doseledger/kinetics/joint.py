"""One curve model for all cycles of a radiopharmaceutical and region, chosen on all of them together.

With four scans a cycle cannot choose: AICc of a model with three parameters is infinite there. Many cycles can, if
what one of them cannot tell is the same for all. After Hardiansyah et al. 2021 (doi 10.1186/s40658-021-00427-x), who
share parameters between patients and weigh models by Akaike weights of the whole population: each cycle keeps its own
amplitude and terminal rate, and all of them have one uptake rate m, one fast rate l_2 and one share s of it,

    A_j(t) = a_j [ (1 - s) exp(-l_j t) + s exp(-l_2 t) - exp(-m t) ],

without the terms that a model lacks. With J cycles, N scans in all and K = 2 J + (shared rates and shares) + 1
parameters, the last one the common scale of the noise,

    AICc = N ln(chi2 / N) + 2 K + 2 K (K + 1) / (N - K - 1)

(Burnham and Anderson 2002, doi 10.1007/b97636, section 2.4), which is defined from three scans per cycle on. The scale
is fitted, so that it does not matter how well the stated uncertainty is known, and the last term corrects for what so
many own parameters take from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from doseledger.errors import QuantityError
from doseledger.kinetics.curves import Samples
from doseledger.kinetics.fit import akaike_weights
from doseledger.kinetics.forms import FORMS

#: Scans that a cycle needs to have a say: with two, every model meets them.
LEAST_SCANS: Final = 3
#: Excess of the terminal rate over physical decay, 1/h: nodes of the search, beside physical decay itself.
EXCESS_PER_H: Final = np.geomspace(1e-5, 1.0, 24)
#: Golden sections of the bracket around the best node.
REFINEMENTS: Final = 16
#: Half-lives at which searches for shared rates begin, h: of uptake, of the fast clearance; and shares of that.
UPTAKE_STARTS_H: Final = (0.8, 2.5)
FAST_STARTS_H: Final = (6.0, 16.0)
SHARE_STARTS: Final = (0.3,)
#: Shared half-lives are looked for between these, h.
SHARED_H: Final = (0.05, 80.0)
#: chi2/N of curves that meet their scans exactly: rounding, not a better fit.
SMALLEST_MISFIT: Final = 1e-12
#: Spread of the uptake half-life between cycles, standard deviation of ln: what is looked at.
SPREADS: Final = np.linspace(0.1, 1.5, 29)
UPTAKE_NODES_H: Final = np.geomspace(0.1, 20.0, 41)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JointFit:
    """A curve model with shared rates, fitted to many cycles.

    Attributes
    ----------
    uptake_half_life_h, fast_half_life_h, fast_share
        Shared by all cycles; None where the model has none.
    chi2
        Of all cycles.
    parameters
        K, the scale of the noise included.
    noise_rel
        Scale of the noise over the uncertainties given, by the degrees of freedom left.
    aicc
        None where it is not defined.
    """

    model: str
    uptake_half_life_h: float | None
    fast_half_life_h: float | None
    fast_share: float | None
    chi2: float
    parameters: int
    noise_rel: float
    aicc: float | None


@dataclass(frozen=True)
class JointComparison:
    """Every model on all cycles, with Akaike weights; empty where AICc is not defined."""

    n_cycles: int
    n_scans: int
    fits: dict[str, JointFit]
    weights: dict[str, float]


def compare_jointly(cycles: Sequence[Samples]) -> JointComparison:
    """Fit every model of sums of exponentials to all cycles that have scans enough.

    Raises
    ------
    QuantityError
        No cycle has three scans or more.
    """
    many = _Many([c for c in cycles if c.times_h.size >= LEAST_SCANS])
    fits = {name: _fit(many, name) for name in FORMS}
    weights = akaike_weights({name: fit.aicc for name, fit in fits.items() if fit.aicc is not None})
    return JointComparison(many.cycles, many.scans, fits, weights)


def uptake_spread(cycles: Sequence[Samples], fit: JointFit) -> tuple[float, float]:
    """Median (h) and standard deviation of ln of the uptake half-life between cycles, of highest likelihood.

    Each cycle's likelihood is exp(-chi2_j(m)/2) over the fitted scale of the noise, its amplitude and terminal rate
    free, and is averaged over a log-normal distribution of m on a grid.

    Parameters
    ----------
    fit
        Of ``mono_uptake``.
    """
    many = _Many([c for c in cycles if c.times_h.size >= LEAST_SCANS])
    rates = log(2.0) / UPTAKE_NODES_H
    chi2 = np.array([many.profile(uptake=rate) for rate in rates])
    scale = max(fit.noise_rel, SMALLEST_MISFIT) ** 2
    relative = -0.5 * (chi2 - chi2.min(axis=0)) / scale
    nodes = np.log(UPTAKE_NODES_H)
    best, found = -inf, (float(fit.uptake_half_life_h or UPTAKE_NODES_H[0]), float(SPREADS[0]))
    for centre in nodes:
        for sd in SPREADS:
            ln_weights = -0.5 * ((nodes - centre) / sd) ** 2
            ln_weights -= np.log(np.exp(ln_weights).sum())
            likelihood = float(np.log(np.exp(relative + ln_weights[:, None]).sum(axis=0)).sum())
            if likelihood > best:
                best, found = likelihood, (exp(float(centre)), float(sd))
    return found


class _Many:
    """Scans of all cycles side by side, ``(cycles, scans)``; where a cycle has fewer, the weight is zero."""

    def __init__(self, samples: Sequence[Samples]) -> None:
        if not samples:
            raise QuantityError("no cycle has enough scans to choose a model", value=0, expected=LEAST_SCANS)
        self.cycles = len(samples)
        self.scans = sum(s.times_h.size for s in samples)
        shape = (self.cycles, max(s.times_h.size for s in samples))
        self.times, self.weight, self.data = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for row, s in enumerate(samples):
            part = (row, slice(s.times_h.size))
            self.times[part], self.weight[part] = s.times_h, 1.0 / s.u_activity_mbq
            self.data[part] = s.activity_mbq / s.u_activity_mbq
        self.slowest = np.array([s.decay_constant_per_h for s in samples])
        self.power = np.square(self.data).sum(axis=1)

    def profile(self, *, uptake: float | None = None, fast: float | None = None, share: float = 0.0) -> Array:
        """chi2 of each cycle for given shared rates (1/h) and share, least over its amplitude and terminal rate."""
        known = np.zeros_like(self.times)
        if fast is not None:
            known += share * np.exp(-fast * self.times)
        if uptake is not None:
            known -= np.exp(-uptake * self.times)
        top = min(rate for rate in (uptake, fast, inf) if rate is not None)
        nodes = np.log(np.concatenate([[EXCESS_PER_H[0] * 1e-3], EXCESS_PER_H]))

        def chi2(ln_excess: Array) -> Array:
            rate = self.slowest + np.exp(ln_excess)
            shape = ((1.0 - share) * np.exp(-rate[:, None] * self.times) + known) * self.weight
            square = np.square(shape).sum(axis=1)
            along = np.maximum((shape * self.data).sum(axis=1), 0.0)
            found = self.power - np.divide(along**2, square, out=np.zeros_like(along), where=square > 0.0)
            # The terminal phase is the slowest one, or it would be another model.
            return np.asarray(np.where(rate < top, found, self.power))

        values = np.array([chi2(np.full(self.cycles, node)) for node in nodes])
        best = values.argmin(axis=0)
        low, high = nodes[np.maximum(best - 1, 0)], nodes[np.minimum(best + 1, nodes.size - 1)]
        least = values.min(axis=0)
        golden = 0.5 * (5.0**0.5 - 1.0)
        for _ in range(REFINEMENTS):
            left, right = high - golden * (high - low), low + golden * (high - low)
            at_left, at_right = chi2(left), chi2(right)
            least = np.minimum(least, np.minimum(at_left, at_right))
            down = at_left < at_right
            low, high = np.where(down, low, left), np.where(down, right, high)
        return np.asarray(np.maximum(least, 0.0))


def _fit(many: _Many, name: str) -> JointFit:
    form = FORMS[name]
    names = [*(["uptake"] if form.uptake else []), *(["fast", "share"] if form.clearances == 2 else [])]

    def shared(x: Array) -> dict[str, float]:
        low, high = SHARED_H
        found = dict(zip(names, x.tolist(), strict=True))
        rates = {k: log(2.0) / min(max(exp(v), low), high) for k, v in found.items() if k != "share"}
        return rates | ({"share": 1.0 / (1.0 + exp(-found["share"]))} if "share" in found else {})

    def total(x: Array) -> float:
        return float(many.profile(**shared(x)).sum())

    starts = [[]] if not names else [[*u, *f] for u in _uptakes(form.uptake) for f in _fasts(form.clearances)]
    least, best = inf, np.array([])
    for start in starts:
        point = np.array(start)
        if names:
            found = minimize(total, point, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-3, "maxfev": 250})
            point = found.x
        value = total(point)
        if value < least:
            least, best = value, point
    own = shared(best)
    n, k = many.scans, 2 * many.cycles + len(names) + 1
    misfit = max(least / n, SMALLEST_MISFIT)
    return JointFit(
        model=name,
        uptake_half_life_h=log(2.0) / own["uptake"] if "uptake" in own else None,
        fast_half_life_h=log(2.0) / own["fast"] if "fast" in own else None,
        fast_share=own.get("share"),
        chi2=least,
        parameters=k,
        noise_rel=(least / max(n - k + 1, 1)) ** 0.5,
        aicc=n * log(misfit) + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else None,
    )


def _uptakes(wanted: bool) -> list[list[float]]:
    return [[log(h)] for h in UPTAKE_STARTS_H] if wanted else [[]]


def _fasts(clearances: int) -> list[list[float]]:
    if clearances == 1:
        return [[]]
    return [[log(h), log(s / (1.0 - s))] for h in FAST_STARTS_H for s in SHARE_STARTS]
