"""Registration of time points: arrays and grids in, a transform with its quality out."""

from doseledger.registration.evaluation import dice
from doseledger.registration.rigid import METRICS, REGISTRY, Metric, RigidTransform, register_rigid, resample

__all__ = ["METRICS", "REGISTRY", "Metric", "RigidTransform", "dice", "register_rigid", "resample"]
