"""Where regions come from: back ends that turn a time point into a label map."""

from doseledger.segmentation.contours import LabelMap, label_map_from_contours

#: Back ends; the keys are the values of config and of the column ``region_source``.
REGISTRY = {"contours": label_map_from_contours}

__all__ = ["REGISTRY", "LabelMap", "label_map_from_contours"]
