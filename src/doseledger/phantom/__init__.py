"""Virtual patients and cameras: a multi-site cohort as DICOM and sheets, with its truth."""

from doseledger.phantom.study import simulate

__all__ = ["simulate"]
