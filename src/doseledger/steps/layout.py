"""Names of the files inside stage folders: BIDS-like, one place for writer and reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABELS = "labels.json"
ALIGNMENT = "alignment.json"
TIA_MAP = "tia_bq_h_per_ml.nii.gz"
RECOVERY = "recovery.json"
BLOOD_SAMPLES = "blood_samples.json"
#: By region, the prior that took part in its curve.
PRIORS = "priors.json"
UNCERTAINTY = "uncertainty.json"
PAGE = "index.html"
#: SPECT of a time point on the grid of the reference, and the displacements between the two.
ALIGNED_SPECT = "space-reference_spect.nii.gz"
DISPLACEMENT = "reference_to_time_point_displacement.nii.gz"

#: `registered` of a time point in ALIGNMENT that could not be.
FAILED = "failed"


def scan_file(key: Mapping[str, Any], time_point: int, what: str) -> str:
    """``sub-P1_ses-c1_run-2_spect.nii.gz``"""
    return f"sub-{key['patient']}_ses-c{key['cycle']}_run-{time_point}_{what}"


def dose_file(engine: str) -> str:
    return f"dose_gy_{engine}.nii.gz"


def dose_sd_file(engine: str) -> str:
    return f"dose_relative_sd_{engine}.nii.gz"
