"""Where regions come from: back ends that turn the time points of a cycle into label maps."""

from doseledger.segmentation.backends import REGISTRY, Options, ScanImages, check_model
from doseledger.segmentation.contours import label_map_from_contours
from doseledger.segmentation.labels import DrawnOn, LabelMap, Model

__all__ = [
    "REGISTRY",
    "DrawnOn",
    "LabelMap",
    "Model",
    "Options",
    "ScanImages",
    "check_model",
    "label_map_from_contours",
]
