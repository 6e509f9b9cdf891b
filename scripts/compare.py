"""Rule compare."""

from doseledger.steps import run

run("compare", snakemake)
