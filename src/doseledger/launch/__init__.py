"""Starting a cohort: one run per results folder, after what an earlier one left is cleared away."""

from doseledger.launch.cohort_run import Ending, run_cohort

__all__ = ["Ending", "run_cohort"]
