"""Rule dose."""

from doseledger.steps import run

run("dose", snakemake)
