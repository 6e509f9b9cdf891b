"""Time-activity curves: from activities at scan times to time-integrated activity (TIA).

All clearance rates are at least the physical decay constant, by construction.
"""

from doseledger.kinetics.curves import DEFAULT_RELATIVE_UNCERTAINTY, CurveFit, UptakePrior
from doseledger.kinetics.cycles import Cycle
from doseledger.kinetics.federation import SiteSummary, merge_summaries, summarise
from doseledger.kinetics.fit import REGISTRY, ModelComparison, compare_models, fit_curve
from doseledger.kinetics.forms import exponentials
from doseledger.kinetics.population import learn
from doseledger.kinetics.predictive import POPULATION
from doseledger.kinetics.priors import Covariates, PopulationPrior, RegionPrior, class_of
from doseledger.kinetics.single import METHODS, KineticPrior, single_time_point
from doseledger.kinetics.voxelwise import VoxelFit, fit_voxels

__all__ = [
    "DEFAULT_RELATIVE_UNCERTAINTY",
    "METHODS",
    "POPULATION",
    "REGISTRY",
    "Covariates",
    "CurveFit",
    "Cycle",
    "KineticPrior",
    "ModelComparison",
    "PopulationPrior",
    "RegionPrior",
    "SiteSummary",
    "UptakePrior",
    "VoxelFit",
    "class_of",
    "compare_models",
    "exponentials",
    "fit_curve",
    "fit_voxels",
    "learn",
    "merge_summaries",
    "single_time_point",
    "summarise",
]
