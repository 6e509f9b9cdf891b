"""Rule kinetics."""

from doseledger.steps import run

run("kinetics", snakemake)
