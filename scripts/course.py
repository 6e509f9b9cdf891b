"""Rule course."""

from doseledger.steps import run

run("course", snakemake)
