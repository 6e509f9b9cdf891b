"""Rule cohort_page."""

from doseledger.steps import run

run("cohort_page", snakemake)
