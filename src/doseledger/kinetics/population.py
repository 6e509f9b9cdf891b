"""Learning the kinetics of a population from cycles with several scans.

A log-normal hierarchical model. The logarithms x of the biological parameters (`priors`) of a curve are

    x = mean + effect of covariates + site + patient + cycle,

with normal deviations at each level. The activities A_j at the scans are normal around a g(t_j; x) with their standard
uncertainties u_j. The amplitude a is free in every cycle, with a flat prior of ln a: its integral is, up to a
constant, the likelihood at the best amplitude. So an absolute calibration cannot move the kinetics.

Expectation and maximisation (Dempster, Laird, Rubin 1977, doi 10.1111/j.2517-6161.1977.tb01600.x). The likelihood of a
cycle is far from normal in x: what early scans tell of uptake, fast phase and their shares is one curved valley.
Laplace's approximation loses its way there (it ended 50 below the truth in ln of the likelihood of 540 simulated
cycles). So each cycle is summed over nodes, and replaced by the normal factor that has the same mean and covariance
when multiplied with all that the other cycles say of it (expectation propagation, Minka 2001, arXiv 1301.2294). For
these factors the expectations over all levels are exact. The mean is integrated out with them (restricted maximum
likelihood), so that the covariances of few patients are not too small.

What the scans do not tell is held by a hyper-prior, which is the same for all: medians within factors of
`exp(MEAN_SD)`, covariances worth `PSEUDO_NODES` observations (`levels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.kinetics.cycles import Batch, Cycle
from doseledger.kinetics.levels import MEAN_SD, Levels, hyper_prior
from doseledger.kinetics.priors import PARAMETERS, Covariates, RegionPrior, as_levels, as_matrix

Array = NDArray[np.float64]

#: Iterations, and the change of mean and covariances (over the standard deviations) at which they end.
ITERATIONS: Final = 150
TOLERANCE: Final = 1e-3
#: The data do not tell a parameter of whose mean they have not halved the uncertainty; as a share of the variance.
UNTOLD_SHARE: Final = 0.25


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
        levels=as_levels(found.covariances),
    )


def untold_parameters(model: str, mean_covariance: Array) -> tuple[str, ...]:
    """Parameters whose mean is hardly better known than before the data."""
    told = zip(PARAMETERS[model], np.diag(mean_covariance), strict=True)
    return tuple(name for name, variance in told if variance > UNTOLD_SHARE * MEAN_SD[name] ** 2)
