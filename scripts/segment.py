"""Rule segment."""

from doseledger.steps import run

run("segment", snakemake)
