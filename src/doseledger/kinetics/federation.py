"""Learning from sites that keep their patients: each exports sums, and the sums are merged into a prior.

A site replaces each patient by a normal factor of the patient's own parameters (`population`), around a reference that
all sites share: a mean, and the covariances between cycles C, patients O and sites. S_p is the precision and
s_p = S_p (x_p - reference) the weighted deviation with which patient p speaks of the site's mean, C and O put in. With
the site's own deviation e from the reference, as it sees it itself, these leave the site:

    P = sum S_p,   q = sum s_p,   e,   Z = sum (s_p - S_p e)(s_p - S_p e)',
    K = sum of the precisions of its cycles,   V = sum of the expected squares of the cycles' deviations.

If the covariance between patients is O + D and the site's mean deviates by f, then

    E[sum (s_p - S_p f)(s_p - S_p f)'] = P + sum S_p D S_p,

which gives D from the sums of all sites, with the mean of S_p in place of each (f - e is small), and f from P and q.
The covariance between cycles follows from V in the same way. D vanishes where the reference is right, which is where
the patients together would have led (`population.learn`): each round of summaries around the merged prior comes nearer
to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import QuantityError
from doseledger.kinetics.cycles import Batch, Cycle, usable
from doseledger.kinetics.levels import LEVEL_SD, PSEUDO_NODES, Levels, Start, hyper_prior, moments, passed_on, pooled
from doseledger.kinetics.population import untold_parameters
from doseledger.kinetics.priors import (
    PARAMETERS,
    LevelMatrices,
    Matrix,
    RegionPrior,
    as_levels,
    as_matrix,
    check_covariance,
)

Array = NDArray[np.float64]

#: Fewer patients of a site say nothing: their sums would be too near to persons.
MINIMUM_PATIENTS: Final = 5
#: Iterations at a site after its factors have been approached.
ROUNDS: Final = 8
#: Iterations of the merger, and the change over the standard deviations at which they end.
ITERATIONS: Final = 500
TOLERANCE: Final = 1e-7
#: Covariances between patients and between cycles keep at least these shares of the reference's in every direction.
SMALLEST_SHARE, SMALLEST_CYCLE_SHARE = 0.01, 0.5
#: Share of a step of the covariances that is taken once there has been a round: whole steps swing.
LATER_STEP: Final = 0.6


@dataclass(frozen=True)
class SiteSummary:
    """What a site tells of one region: sums over its patients, no row of any of them.

    Attributes
    ----------
    reference_mean, reference_levels
        Around which the sums were made: mean, and covariances between cycles, patients and sites.
    deviation, precision, weighted, scatter
        e, P, q and Z of the module.
    cycle_precision, cycle_squares
        K and V of the module.

    Raises
    ------
    QuantityError
        Sizes do not match, a value is not finite, a sum of squares is negative, too few patients.
    """

    radiopharmaceutical: str
    region: str
    site: str
    model: str
    reference_mean: tuple[float, ...]
    reference_levels: LevelMatrices
    deviation: tuple[float, ...]
    precision: Matrix
    weighted: tuple[float, ...]
    scatter: Matrix
    cycle_precision: Matrix
    cycle_squares: Matrix
    n_patients: int
    n_cycles: int

    def __post_init__(self) -> None:
        size = len(PARAMETERS.get(self.model, ()))
        vectors = (self.reference_mean, self.deviation, self.weighted)
        if size == 0 or any(len(vector) != size for vector in vectors):
            raise QuantityError("the summary does not fit its model", value=self.model, expected=list(PARAMETERS))
        if not np.all(np.isfinite(vectors)):
            raise QuantityError("the summary is not finite", value=vectors)
        for matrix in self.reference_levels:
            check_covariance("the summary's reference", matrix, size)
        for name in ("precision", "scatter", "cycle_precision", "cycle_squares"):
            check_covariance(f"the summary's {name}", getattr(self, name), size)
        if self.n_patients < MINIMUM_PATIENTS:
            raise QuantityError("the summary is of too few patients", value=self.n_patients, expected=MINIMUM_PATIENTS)


def summarise(
    cycles: Sequence[Cycle],
    *,
    radiopharmaceutical: str,
    region: str,
    model: str = "bi_uptake",
    reference: RegionPrior | None = None,
    minimum_patients: int = MINIMUM_PATIENTS,
) -> SiteSummary | None:
    """The sums of one site; None if fewer patients than `minimum_patients` have two scans of the region.

    Parameters
    ----------
    reference
        The prior that all sites have; the hyper-prior of `population` if there is none yet.

    Raises
    ------
    QuantityError
        The cycles are of several sites, the reference is of another model, or the cycles are none that `learn` takes.
    """
    sites = sorted({cycle.site for cycle in cycles})
    if len(sites) > 1:
        raise QuantityError("a summary is of one site", value=sites)
    if reference is not None and reference.model != model:
        raise QuantityError("the reference is of another model", value=reference.model, expected=model)
    if len({cycle.patient for cycle in usable(cycles)}) < max(minimum_patients, MINIMUM_PATIENTS):
        return None
    batch = Batch.of(cycles, model)
    before = _around(reference, model)
    levels = Levels.start(batch, before)
    levels.approach(batch)
    for _ in range(ROUNDS):
        levels.iterate(batch)
    between_cycles, between_patients, _ = before.covariances
    identity = np.eye(before.mean.size)
    own_p, own_q = passed_on(levels.p, levels.q, between_cycles, batch.patient_of, None)
    shrink = np.linalg.inv(identity + own_p @ between_patients)
    precision = _symmetric(shrink @ own_p)
    weighted = np.einsum("nde,ne->nd", shrink, own_q) - precision @ before.mean
    deviation = levels.mean + levels.deviations[2][0] - before.mean
    around = weighted - precision @ deviation
    cycle_precision = np.linalg.inv(identity + levels.p @ between_cycles) @ levels.p
    cycle_squares = levels.deviations[0].T @ levels.deviations[0] + levels.doubts[0].sum(axis=0)
    return SiteSummary(
        radiopharmaceutical=radiopharmaceutical,
        region=region,
        site=sites[0],
        model=model,
        reference_mean=tuple(before.mean.tolist()),
        reference_levels=as_levels(before.covariances),
        deviation=tuple(deviation.tolist()),
        precision=as_matrix(precision.sum(axis=0)),
        weighted=tuple(weighted.sum(axis=0).tolist()),
        scatter=as_matrix(_symmetric(around.T @ around)),
        cycle_precision=as_matrix(_symmetric(cycle_precision.sum(axis=0))),
        cycle_squares=as_matrix(_symmetric(cycle_squares)),
        n_patients=batch.n_patients,
        n_cycles=batch.n_cycles,
    )


def merge_summaries(summaries: Sequence[SiteSummary], *, source: str = "") -> RegionPrior:
    """The prior of all sites; it does not depend on their order.

    Raises
    ------
    QuantityError
        There is no summary, a site is there twice, or the summaries are of different regions, models or references.
    """
    ordered = sorted(summaries, key=lambda summary: summary.site)
    if not ordered:
        raise QuantityError("there is no summary to merge", value=0)
    if len({summary.site for summary in ordered}) < len(ordered):
        raise QuantityError("a site is there twice", value=[summary.site for summary in ordered])
    kinds = {(s.radiopharmaceutical, s.region, s.model, s.reference_mean, s.reference_levels) for s in ordered}
    if len(kinds) > 1:
        raise QuantityError("the summaries are not of one region, model and reference", value=sorted(map(str, kinds)))
    first = ordered[0]
    found = _merged(ordered)
    told = f"summaries of {sum(s.n_patients for s in ordered)} patients of {len(ordered)} sites"
    untold = untold_parameters(first.model, found.mean_covariance)
    if untold:
        told += f"; the scans do not tell {', '.join(untold)}"
    return RegionPrior(
        radiopharmaceutical=first.radiopharmaceutical,
        region=first.region,
        model=first.model,
        parameter_names=PARAMETERS[first.model],
        mean=tuple(found.mean.tolist()),
        covariance=as_matrix(_symmetric(np.sum(found.covariances, axis=0))),
        mean_covariance=as_matrix(_symmetric(found.mean_covariance)),
        n_patients=sum(s.n_patients for s in ordered),
        n_cycles=sum(s.n_cycles for s in ordered),
        n_sites=len(ordered),
        source=f"{source}: {told}" if source else told,
        levels=as_levels(found.covariances),
    )


def _merged(summaries: Sequence[SiteSummary]) -> Start:
    """Mean, its covariance, and the covariance of each level."""
    hyper = hyper_prior(summaries[0].model)
    reference = np.array(summaries[0].reference_mean)
    cycle, old, between = (np.array(matrix) for matrix in summaries[0].reference_levels)
    step = 1.0 if np.array_equal(reference, hyper.mean) else LATER_STEP
    counts = np.array([s.n_patients for s in summaries])
    each = np.array([s.precision for s in summaries]) / counts[:, None, None]
    weighted = np.array([s.weighted for s in summaries])
    scatter = np.array([s.scatter for s in summaries])
    deviations = np.array([s.deviation for s in summaries])
    # Of the sum of squares Z, around each site's own deviation e.
    around = weighted - counts[:, None] * np.einsum("sij,sj->si", each, deviations)
    size, nobody = reference.size, np.zeros(len(summaries), np.intp)
    identity, start_precision = np.eye(size), np.linalg.inv(hyper.mean_covariance)
    cycle_change = step * _cycle_change(summaries, cycle, hyper.covariances[0])
    # Of patients with one cycle nobody can tell the two levels apart: their sum is what is seen.
    inside = counts.sum() / sum(s.n_cycles for s in summaries) * cycle_change
    # The hyper-prior counts as pseudo-patients that are seen exactly.
    exact = np.linalg.inv(old)
    left = _squared(counts, each) + PSEUDO_NODES * np.kron(exact, exact)
    pseudo = PSEUDO_NODES * exact @ (hyper.covariances[1] - old) @ exact
    pseudo -= np.einsum("s,sij,jk,skl->il", counts, each, inside, each)
    change, mean, mean_covariance = np.zeros((size, size)), reference, hyper.mean_covariance
    for _ in range(ITERATIONS):
        # With other covariances, each speaks of the mean with another precision.
        shrink = np.linalg.inv(identity + each @ (change + inside))
        p = counts[:, None, None] * (shrink @ each)
        q = np.einsum("sij,sj->si", shrink, weighted)
        top_p, top_q = passed_on(p, q, between, nobody, None)
        mean_covariance = np.linalg.inv(top_p[0] + start_precision)
        off = mean_covariance @ (top_q[0] + start_precision @ (hyper.mean - reference))
        deviation, doubt, spread = moments(p, q, between, off[None], mean_covariance[None])
        # Around the site's mean as all sites see it; where this is uncertain, it has taken up some of the scatter.
        drift = np.einsum("sij,sj->si", each, off + deviation - deviations)
        cross = around[:, :, None] * drift[:, None, :]
        seen = scatter - cross - np.swapaxes(cross, -1, -2)
        seen += counts[:, None, None] * (drift[:, :, None] * drift[:, None, :] + each @ spread @ each - each)
        new = _bounded(step * _solved(left, seen.sum(axis=0) + pseudo), old)
        renewed = pooled(deviation, doubt, LEVEL_SD[2])
        scale = np.sqrt(np.diag(old + new + renewed))
        moved = np.abs((new + renewed - change - between) / np.outer(scale, scale)).max()
        moved = max(moved, np.abs((reference + off - mean) / scale).max())
        mean, change, between = reference + off, new, renewed
        if moved < TOLERANCE:
            break
    return Start(mean, mean_covariance, (cycle + cycle_change, old + change, between))


def _cycle_change(summaries: Sequence[SiteSummary], cycle: Array, hyper: Array) -> Array:
    """What the covariance between cycles of a patient lacks: only second cycles tell."""
    n_cycles = np.array([s.n_cycles for s in summaries])
    again = n_cycles - np.array([s.n_patients for s in summaries])
    each = np.array([s.cycle_precision for s in summaries]) / n_cycles[:, None, None]
    exact = np.linalg.inv(cycle)
    squares = np.sum([s.cycle_squares for s in summaries], axis=0)
    lacking = exact @ (squares - n_cycles.sum() * cycle + PSEUDO_NODES * (hyper - cycle)) @ exact
    left = _squared(again, each) + PSEUDO_NODES * np.kron(exact, exact)
    return _bounded(_solved(left, lacking), cycle, SMALLEST_CYCLE_SHARE)


def _squared(counts: NDArray[np.intp], each: Array) -> Array:
    """The map from D to the sum of S D S over sites, as a matrix."""
    size = each.shape[-1]
    return np.asarray(np.einsum("s,sij,skl->ikjl", counts, each, each).reshape(size**2, size**2))


def _solved(left: Array, right: Array) -> Array:
    return np.asarray(np.linalg.solve(left, right.ravel()).reshape(right.shape))


def _around(reference: RegionPrior | None, model: str) -> Start:
    """The reference as a start; one that was not learnt has the hyper-prior's levels, patients what these leave."""
    hyper = hyper_prior(model)
    if reference is None:
        return hyper
    mean_covariance = np.array(reference.mean_covariance) + 1e-9 * np.eye(reference.mu.size)
    if reference.levels is not None:
        cycle, patients, site = (np.array(matrix) for matrix in reference.levels)
        return Start(reference.mu, mean_covariance, (cycle, patients, site))
    cycle, _, site = hyper.covariances
    total = np.array(reference.covariance)
    patients = total + _bounded(-cycle - site, total, share=0.25)
    return Start(reference.mu, mean_covariance, (cycle, patients, site))


def _bounded(change: Array, covariance: Array, share: float = SMALLEST_SHARE) -> Array:
    """The change, such that at least a share of the covariance is left in every direction."""
    root = np.linalg.cholesky(covariance)
    relative = np.linalg.solve(root, np.linalg.solve(root, _symmetric(change)).T)
    values, vectors = np.linalg.eigh(_symmetric(relative))
    back = root @ vectors
    return _symmetric((back * np.maximum(values, share - 1.0)) @ back.T)


def _symmetric(matrix: Array) -> Array:
    return np.asarray(0.5 * (matrix + np.swapaxes(matrix, -1, -2)))
