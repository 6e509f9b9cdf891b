"""Where regions come from: back ends that turn the time points of a cycle into label maps."""

from doseledger.segmentation.backends import REGISTRY, Options, ScanImages, check_model, check_scans
from doseledger.segmentation.contours import image_drawn_on, label_map_from_contours
from doseledger.segmentation.labels import DrawnOn, LabelMap, Model

__all__ = [
    "REGISTRY",
    "DrawnOn",
    "LabelMap",
    "Model",
    "Options",
    "ScanImages",
    "check_model",
    "check_scans",
    "image_drawn_on",
    "label_map_from_contours",
]
