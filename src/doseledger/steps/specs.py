"""Regions of a cohort, from the sheet and from a finished segment stage."""

from __future__ import annotations

from pathlib import Path

from doseledger.cohort import Row
from doseledger.io.nifti import read_sidecar
from doseledger.regions import RegionSpec
from doseledger.regions.gate import DEMO_WEIGHTS
from doseledger.steps.layout import LABELS


def region_specs(rows: list[Row]) -> dict[str, RegionSpec]:
    """Regions by their names in structure sets and models; several names may mean one region."""
    order = list(dict.fromkeys(row["region"] for row in rows))
    return {row["source_name"]: RegionSpec.from_row(order.index(row["region"]) + 1, row) for row in rows}


def in_order(specs: dict[str, RegionSpec]) -> list[RegionSpec]:
    """Every region once, in the order of the labels."""
    return sorted({spec.label: spec for spec in specs.values()}.values(), key=lambda spec: spec.label)


def read_specs(folder: Path) -> list[RegionSpec]:
    """Regions of a finished segment stage, in order of their labels."""
    return [RegionSpec(**entry) for entry in read_sidecar(folder / LABELS)["regions"]]


def demo_marks(folder: Path) -> list[str]:
    """Flags of what is made of the masks of a finished segment stage: those of demo weights stay marked."""
    return [DEMO_WEIGHTS] if read_sidecar(folder / LABELS)["demo_weights"] else []
