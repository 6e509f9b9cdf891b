"""Rule align."""

from doseledger.steps import run

run("align", snakemake)
