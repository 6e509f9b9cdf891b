"""The command ``doseledger``. Commands print what they find; the work is done elsewhere."""

from doseledger.cli import inputs, kinetics, results, sites, workflow
from doseledger.cli.app import app

__all__ = ["app", "inputs", "kinetics", "results", "sites", "workflow"]
