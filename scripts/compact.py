"""Rule compact."""

from doseledger.steps import run

run("compact", snakemake)
