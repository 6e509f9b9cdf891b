"""Pages for people: what is in the tables, as figures and self-contained HTML. No science here."""

from doseledger.report.cohort_page import cohort_page
from doseledger.report.figures import CycleSlices
from doseledger.report.patient_page import patient_page

__all__ = ["CycleSlices", "cohort_page", "patient_page"]
