"""Time-activity curves: from activities at scan times to time-integrated activity (TIA).

All clearance rates are at least the physical decay constant, by construction.
"""

from doseledger.kinetics.curves import DEFAULT_RELATIVE_UNCERTAINTY, CurveFit, UptakePrior
from doseledger.kinetics.fit import REGISTRY, ModelComparison, compare_models, fit_curve, fit_excretion
from doseledger.kinetics.forms import exponentials
from doseledger.kinetics.single import METHODS, KineticPrior, single_time_point
from doseledger.kinetics.voxelwise import VoxelFit, fit_voxels

__all__ = [
    "DEFAULT_RELATIVE_UNCERTAINTY",
    "METHODS",
    "REGISTRY",
    "CurveFit",
    "KineticPrior",
    "ModelComparison",
    "UptakePrior",
    "VoxelFit",
    "compare_models",
    "exponentials",
    "fit_curve",
    "fit_excretion",
    "fit_voxels",
    "single_time_point",
]
