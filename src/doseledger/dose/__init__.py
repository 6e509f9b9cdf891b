"""Absorbed dose: several engines on one map of time-integrated activity."""

from doseledger.dose.density import density_from_hu
from doseledger.dose.engine import DEFAULT_ENGINE, REGISTRY, DoseMap, EnergyBalance, Engine, compute_dose
from doseledger.dose.interface import DoseProblem, EnergyMaps, MonteCarloOptions

__all__ = [
    "DEFAULT_ENGINE",
    "REGISTRY",
    "DoseMap",
    "DoseProblem",
    "EnergyBalance",
    "EnergyMaps",
    "Engine",
    "MonteCarloOptions",
    "compute_dose",
    "density_from_hu",
]
