"""Rule population."""

from doseledger.steps import run

run("population", snakemake)
