"""The hierarchy of a population: a mean, sites, patients and cycles, with normal deviations at each level.

Each cycle speaks by a normal factor exp(-x'Px/2 + q'x). For given factors and covariances the expectations over all
nodes are exact: precisions are passed up, deviations come down.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.kinetics.cycles import Batch
from doseledger.kinetics.nodes import Factors, powers
from doseledger.kinetics.priors import PARAMETERS

Array = NDArray[np.float64]
Index = NDArray[np.intp]

#: Medians of the hyper-prior: slow biological clearance with 70 h, a fast phase that is faster by a rate of 20 h
#: and starts with 0.4 of the slow one, uptake with 2.5 h (as `UptakePrior`).
MEDIANS: Final = {
    "clearance_per_h": log(2.0) / 70.0,
    "fast_excess_per_h": log(2.0) / 20.0,
    "fast_over_slow": 0.4,
    "uptake_excess_per_h": log(2.0) / 2.5,
}
#: Standard deviation of ln of the medians in the hyper-prior. Four or five scans tell the slow phase and hardly ever a
#: fast one: along the valley in which a slower fast phase with a larger share gives the same activities, the data have
#: no information, and a wide hyper-prior leaves the mean to wander (decision 25).
MEAN_SD: Final = {
    "clearance_per_h": 1.0,
    "fast_excess_per_h": 0.35,
    "fast_over_slow": 0.5,
    "uptake_excess_per_h": 0.7,
}
#: Standard deviations of the hyper-prior between cycles of a patient, patients of a site, and sites.
LEVEL_SD: Final = (0.10, 0.30, 0.10)
#: The hyper-prior of each covariance counts as so many observations.
PSEUDO_NODES: Final = 3.0
#: An effect of a covariate is shrunk as by so many patients without one.
PSEUDO_PATIENTS: Final = 1.0


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
    return Start(mean, np.diag([MEAN_SD[name] ** 2 for name in PARAMETERS[model]]), (cycle, patient, site))


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
            start_precision=np.asarray(np.linalg.inv(before.mean_covariance)),
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
        deviations: list[Array] = []
        doubts: list[Array] = []
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
    return np.asarray(0.5 * (pooled + pooled.T))


def _regression(deviation: Array, values: Array) -> Array:
    """Effects of covariates on the patients, ``(d, q)``, shrunk."""
    squares = values.T @ values
    ridge = PSEUDO_PATIENTS * np.diag(np.diag(squares) / values.shape[0])
    return np.asarray(np.linalg.solve(squares + ridge + 1e-12 * np.eye(len(squares)), values.T @ deviation).T)
