"""Rule ingest."""

from doseledger.steps import run

run("ingest", snakemake)
