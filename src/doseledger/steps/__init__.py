"""One module per rule, and the wrapper that keeps the stage contract.

A rule's script makes one call: ``run("ingest", snakemake)``. The module of the stage is imported
then, so that a job loads only what it needs.
"""

from doseledger.steps.stage import run

__all__ = ["run"]
