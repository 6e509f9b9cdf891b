"""Learning the kinetics of a population from cycles with several scans.

A log-normal hierarchical model. The logarithms x of the biological parameters (`priors`) of a curve are

    x = mean + effect of covariates + site + patient + cycle,

with normal deviations at each level. The activities A_j at the scans are normal around a g(t_j; x) with their standard
uncertainties u_j. The amplitude a is free in every cycle, with a flat prior of ln a: its integral is, up to a
constant, the likelihood at the best amplitude. So an absolute calibration cannot move the kinetics.

Expectation and maximisation (Dempster, Laird, Rubin 1977, doi 10.1111/j.2517-6161.1977.tb01600.x). The likelihood of a
cycle is far from normal in x: what early scans tell of uptake, fast phase and their shares is one curved valley.
Laplace's approximation loses its way there (it ended 50 below the truth in ln of the likelihood of 500 simulated
cycles). So each cycle is summed over nodes, and replaced by the normal factor that has the same mean and covariance
when multiplied with all that the other cycles say of it (expectation propagation, Minka 2001, arXiv 1301.2294). For
these factors the expectations over all levels are exact. The mean is integrated out with them (restricted maximum
likelihood), so that the covariances of few patients are not too small.

What the scans do not tell is held by a weak hyper-prior, which is the same for all: medians within a factor of
`exp(MEAN_SD)`, covariances worth `PSEUDO_NODES` observations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.kinetics.curves import check_samples
from doseledger.kinetics.log_shapes import LogShape
from doseledger.kinetics.nodes import Factors, chi2_of, powers
from doseledger.kinetics.priors import PARAMETERS, Covariates, RegionPrior, as_matrix

Array = NDArray[np.float64]
Index = NDArray[np.intp]

#: Medians of the hyper-prior: slow biological clearance with 70 h, a fast phase with 20 h less that starts with 0.4 of
#: the slow one, uptake with 2.5 h (as `UptakePrior`).
MEDIANS: Final = {
    "clearance_per_h": log(2.0) / 70.0,
    "fast_excess_per_h": log(2.0) / 20.0,
    "fast_over_slow": 0.4,
    "uptake_excess_per_h": log(2.0) / 2.5,
}
#: Standard deviation of ln of the medians in the hyper-prior.
MEAN_SD: Final = 1.0
#: Standard deviations of the hyper-prior between cycles of a patient, patients of a site, and sites.
LEVEL_SD: Final = (0.10, 0.30, 0.10)
#: The hyper-prior of each covariance counts as so many observations.
PSEUDO_NODES: Final = 3.0
#: An effect of a covariate is shrunk as by so many patients without one.
PSEUDO_PATIENTS: Final = 1.0
#: A parameter is not told by the data if the variance of its mean is more than this share of the hyper-prior's.
UNTOLD_SHARE: Final = 0.5
#: Iterations, and the change of mean and covariances (over the standard deviations) at which they end.
ITERATIONS: Final = 150
TOLERANCE: Final = 1e-3
FEWEST_PATIENTS: Final = 2


@dataclass(frozen=True)
class Cycle:
    """The activities of one region in one cycle; the two sides of a pair are two such cycles of one patient.

    Attributes
    ----------
    u_activity_mbq
        Random standard uncertainties; 5 % of each if not given.
    covariates
        Numbers of the patient by name.
    """

    patient: str
    site: str
    times_h: tuple[float, ...]
    activity_mbq: tuple[float, ...]
    half_life_h: float
    u_activity_mbq: tuple[float, ...] | None = None
    covariates: Mapping[str, float] = field(default_factory=dict)


def learn(
    cycles: Sequence[Cycle],
    *,
    radiopharmaceutical: str,
    region: str,
    model: str = "bi_uptake",
    covariates: Sequence[str] = (),
    source: str = "",
) -> RegionPrior:
    """The population's kinetics from cycles with at least two scans.

    Parameters
    ----------
    cycles
        In any order; the result does not depend on it.
    model
        A key of `priors.PARAMETERS`.
    covariates
        Names of the numbers in `Cycle.covariates` whose effect is estimated.
    source
        Put before the counts in the prior's own.

    Raises
    ------
    QuantityError
        No cycle has two scans with activity, fewer than two patients, activities or times that no fit takes, a
        covariate that a cycle lacks.
    UnknownNameError
        The model is not known.
    """
    batch = Batch.of(cycles, model, covariates)
    found = Levels.start(batch, hyper_prior(model))
    found.approach(batch)
    for _ in range(ITERATIONS):
        found.iterate(batch)
        if found.maximise(batch) < TOLERANCE:
            break
    effects = None
    if covariates:
        effects = Covariates(tuple(covariates), as_matrix(found.effects), tuple(batch.centres.tolist()))
    mean_covariance = 0.5 * (found.mean_covariance + found.mean_covariance.T)
    told = f"{batch.n_patients} patients of {batch.n_sites} sites"
    untold = untold_parameters(model, mean_covariance)
    if untold:
        told += f"; the scans do not tell {', '.join(untold)}"
    return RegionPrior(
        radiopharmaceutical=radiopharmaceutical,
        region=region,
        model=model,
        parameter_names=PARAMETERS[model],
        mean=tuple(found.mean.tolist()),
        covariance=as_matrix(sum(found.covariances, np.zeros_like(mean_covariance))),
        mean_covariance=as_matrix(mean_covariance),
        n_patients=batch.n_patients,
        n_cycles=batch.n_cycles,
        n_sites=batch.n_sites,
        source=f"{source}: {told}" if source else told,
        covariates=effects,
    )


def untold_parameters(model: str, mean_covariance: Array) -> tuple[str, ...]:
    """Parameters whose mean is hardly better known than before the data."""
    variances = np.diag(mean_covariance)
    names = PARAMETERS[model]
    return tuple(name for name, v in zip(names, variances, strict=True) if v > UNTOLD_SHARE * MEAN_SD**2)


@dataclass(frozen=True, eq=False)
class Start:
    """What is believed before the data: the mean, how well it is known, and the covariance of each level."""

    mean: Array
    mean_covariance: Array
    covariances: tuple[Array, Array, Array]


def hyper_prior(model: str) -> Start:
    """The weak belief that holds what the data do not tell."""
    mean = np.log([MEDIANS[name] for name in PARAMETERS[model]])
    identity = np.eye(mean.size)
    cycle, patient, site = (sd**2 * identity for sd in LEVEL_SD)
    return Start(mean, MEAN_SD**2 * identity, (cycle, patient, site))


@dataclass(frozen=True, eq=False)
class Batch:
    """Cycles as arrays, padded to the longest; a scan that is not there has no weight."""

    model: str
    times_h: Array
    data: Array
    inverse_u: Array
    slowest_per_h: Array
    patient_of: Index
    site_of: Index
    patients: tuple[tuple[str, str], ...]
    sites: tuple[str, ...]
    values: Array
    centres: Array

    @property
    def n_cycles(self) -> int:
        return self.times_h.shape[0]

    @property
    def n_patients(self) -> int:
        return len(self.patients)

    @property
    def n_sites(self) -> int:
        return len(self.sites)

    @classmethod
    def of(cls, cycles: Sequence[Cycle], model: str, covariates: Sequence[str] = ()) -> Batch:
        if model not in PARAMETERS:
            raise UnknownNameError("the prior's model is not known", value=model, expected=list(PARAMETERS))
        usable = [c for c in cycles if sum(a > 0 for a in c.activity_mbq) >= 2]
        # Sums of floating-point numbers depend on their order: the cycles are put into one.
        usable.sort(key=lambda c: (c.site, c.patient, c.times_h, c.activity_mbq))
        samples = [check_samples(c.times_h, c.activity_mbq, c.half_life_h, c.u_activity_mbq) for c in usable]
        patients = sorted({(c.site, c.patient) for c in usable})
        if len(patients) < FEWEST_PATIENTS:
            raise QuantityError("too few patients have two scans of the region", value=len(patients), expected=2)
        sites = sorted({site for site, _ in patients})
        size = max(s.times_h.size for s in samples)
        times, data, inverse_u = np.ones((3, len(usable), size))
        inverse_u[:] = 0.0
        for i, s in enumerate(samples):
            own = slice(0, s.times_h.size)
            times[i, own], inverse_u[i, own] = s.times_h, 1.0 / s.u_activity_mbq
            data[i, own] = s.activity_mbq / s.u_activity_mbq
        data[inverse_u == 0.0] = 0.0
        values = np.array([_covariates_of(usable, patient, covariates) for patient in patients])
        centres = values.mean(axis=0)
        return cls(
            model=model,
            times_h=times,
            data=data,
            inverse_u=inverse_u,
            slowest_per_h=np.array([s.decay_constant_per_h for s in samples]),
            patient_of=np.array([patients.index((c.site, c.patient)) for c in usable]),
            site_of=np.array([sites.index(site) for site, _ in patients]),
            patients=tuple(patients),
            sites=tuple(sites),
            values=values - centres,
            centres=centres,
        )

    def chi2(self, x: Array) -> Array:
        """Of each cycle ``(c,)`` at nodes ``(c, m, d)``, best amplitude put in; ``(c, m)``."""
        return chi2_of(LogShape(self.model, x, self.slowest_per_h[:, None]), self.times_h, self.data, self.inverse_u)


def _covariates_of(cycles: Sequence[Cycle], patient: tuple[str, str], names: Sequence[str]) -> list[float]:
    """Means over the patient's cycles."""
    own = [c for c in cycles if (c.site, c.patient) == patient]
    missing = sorted({name for name in names for c in own if name not in c.covariates})
    if missing:
        raise QuantityError("a patient lacks a covariate", value=(patient, missing))
    return [sum(c.covariates[name] for c in own) / len(own) for name in names]


@dataclass
class Levels:
    """Mean, effects and covariances, and the normal factor exp(-x'Px/2 + q'x) of each cycle.

    Attributes
    ----------
    start_mean, start_precision
        Belief before the data.
    covariances
        Between cycles of a patient, patients of a site, and sites.
    deviations, doubts
        Of each node of each level from what is above it: expectation, and covariance of its uncertainty.
    maximised_mean
        The mean when the covariances were last renewed.
    """

    start_mean: Array
    start_precision: Array
    mean: Array
    mean_covariance: Array
    covariances: list[Array]
    effects: Array
    p: Array
    q: Array
    deviations: list[Array]
    doubts: list[Array]
    maximised_mean: Array

    @classmethod
    def start(cls, batch: Batch, before: Start) -> Levels:
        size = before.mean.size
        return cls(
            start_mean=before.mean,
            start_precision=np.linalg.inv(before.mean_covariance),
            mean=before.mean,
            mean_covariance=before.mean_covariance,
            covariances=list(before.covariances),
            effects=np.zeros((size, batch.values.shape[1])),
            p=np.zeros((batch.n_cycles, size, size)),
            q=np.zeros((batch.n_cycles, size)),
            deviations=[],
            doubts=[],
            maximised_mean=before.mean,
        )

    def approach(self, batch: Batch) -> None:
        """Factors of the whole likelihood, in steps, with the covariances as they are."""
        for power in powers(batch.n_cycles):
            self.iterate(batch, power)

    def iterate(self, batch: Batch, power: float = 1.0) -> None:
        """Expectations over all levels, and new factors of a power of the likelihood."""
        parents = (batch.patient_of, batch.site_of, np.zeros(batch.n_sites, np.intp))
        offsets = (None, batch.values @ self.effects.T, None)
        # Up: what the cycles say of their patients, those of their sites, and these of the mean.
        levels = [(self.p, self.q)]
        for covariance, parent, offset in zip(self.covariances, parents, offsets, strict=True):
            levels.append(passed_on(*levels[-1], covariance, parent, offset))
        self.mean_covariance = np.linalg.inv(levels[-1][0][0] + self.start_precision)
        self.mean = self.mean_covariance @ (levels[-1][1][0] + self.start_precision @ self.start_mean)
        # Down: values of sites, patients and cycles.
        value, spread = self.mean[None], self.mean_covariance[None]
        deviations, doubts = [], []
        for level in (2, 1, 0):
            centre, above = value[parents[level]], spread[parents[level]]
            shift = offsets[level]
            if shift is not None:
                centre = centre + shift
            deviation, doubt, spread = moments(*levels[level], self.covariances[level], centre, above)
            value = centre + deviation
            deviations.insert(0, deviation)
            doubts.insert(0, doubt)
        self.deviations, self.doubts = deviations, doubts
        self.p, self.q = Factors(value, spread, self.p, self.q).renewed(batch.chi2, power)

    def maximise(self, batch: Batch) -> float:
        """Covariances and effects from the expectations; the largest change over the standard deviations."""
        before = np.sum(self.covariances, axis=0)
        if batch.values.shape[1]:
            offset = batch.values @ self.effects.T
            self.effects = _regression(self.deviations[1] + offset, batch.values)
        parts = zip(self.deviations, self.doubts, LEVEL_SD, strict=True)
        self.covariances = [pooled(deviation, doubt, sd) for deviation, doubt, sd in parts]
        total = np.sum(self.covariances, axis=0)
        scale = np.sqrt(np.diag(total))
        moved = np.abs((self.mean - self.maximised_mean) / scale).max()
        self.maximised_mean = self.mean
        return float(max(moved, np.abs((total - before) / np.outer(scale, scale)).max()))


def passed_on(p: Array, q: Array, covariance: Array, parent: Index, offset: Array | None) -> tuple[Array, Array]:
    """Precision and weighted value of the nodes above, their children's deviations integrated out."""
    if offset is not None:
        q = q - np.einsum("nde,ne->nd", p, offset)
    shrink = np.linalg.inv(np.eye(covariance.shape[0]) + p @ covariance)
    count = int(parent.max()) + 1
    above_p, above_q = np.zeros((count, *p.shape[1:])), np.zeros((count, q.shape[1]))
    np.add.at(above_p, parent, shrink @ p)
    np.add.at(above_q, parent, np.einsum("nde,ne->nd", shrink, q))
    return above_p, above_q


def moments(p: Array, q: Array, covariance: Array, centre: Array, above: Array) -> tuple[Array, Array, Array]:
    """Of nodes with factors p and q around parents with mean `centre` and covariance `above`.

    Returns
    -------
    deviation, doubt
        Expected deviation from the parent, and its covariance; ``(n, d)`` and ``(n, d, d)``.
    spread
        Covariance of the node itself.
    """
    identity = np.eye(covariance.shape[0])
    within = covariance @ np.linalg.inv(identity + p @ covariance)
    carried = within @ p
    kept = identity - carried
    deviation = np.einsum("nde,ne->nd", within, q - np.einsum("nde,ne->nd", p, centre))
    doubt = within + carried @ above @ np.swapaxes(carried, -1, -2)
    return deviation, doubt, within + kept @ above @ np.swapaxes(kept, -1, -2)


def pooled(deviation: Array, doubt: Array, sd: float) -> Array:
    """Covariance of a level from expected squares, with the hyper-prior's pseudo-observations."""
    squares = deviation.T @ deviation + doubt.sum(axis=0)
    pooled = (squares + PSEUDO_NODES * sd**2 * np.eye(squares.shape[0])) / (deviation.shape[0] + PSEUDO_NODES)
    return 0.5 * (pooled + pooled.T)


def _regression(deviation: Array, values: Array) -> Array:
    """Effects of covariates on the patients, ``(d, q)``, shrunk."""
    squares = values.T @ values
    ridge = PSEUDO_PATIENTS * np.diag(np.diag(squares) / values.shape[0])
    return np.asarray(np.linalg.solve(squares + ridge + 1e-12 * np.eye(len(squares)), values.T @ deviation).T)
