"""Registration of time points: arrays and grids in, a transform with its quality out."""

from collections.abc import Callable
from typing import Final

from doseledger.registration.demons import register_demons
from doseledger.registration.evaluation import centroid_distance_mm, dice
from doseledger.registration.rigid import METRICS, Metric, register_rigid
from doseledger.registration.spect_shift import spect_shift_mm
from doseledger.registration.transform import Displacement, Transform, resample, resample_activity

#: Registration methods; the keys are the values of config.
REGISTRY: Final[dict[str, Callable[..., Transform]]] = {"rigid": register_rigid, "demons": register_demons}

__all__ = [
    "METRICS",
    "REGISTRY",
    "Displacement",
    "Metric",
    "Transform",
    "centroid_distance_mm",
    "dice",
    "register_demons",
    "register_rigid",
    "resample",
    "resample_activity",
    "spect_shift_mm",
]
