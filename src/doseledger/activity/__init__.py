"""From images to activity: sensitivity, dead time, and what blur does to the activity inside an outline."""

from doseledger.activity.calibration import Calibration, counts_to_bq_per_ml
from doseledger.activity.clock import clocks_moved, elapsed_h, utc_offset_h
from doseledger.activity.dead_time import non_paralysable_factor, paralysable_factor, paralysable_observed_cps
from doseledger.activity.recovery import self_recovery

__all__ = [
    "Calibration",
    "clocks_moved",
    "counts_to_bq_per_ml",
    "elapsed_h",
    "non_paralysable_factor",
    "paralysable_factor",
    "paralysable_observed_cps",
    "self_recovery",
    "utc_offset_h",
]
