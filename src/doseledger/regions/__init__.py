"""Regions as label maps: names and codes, transfer between grids, quality gate. Pure functions."""

from doseledger.regions.algebra import (
    REMAINDER,
    WHOLE_BODY,
    WHOLE_FIELD,
    RegionSpec,
    hard_labels,
    move_fractions,
    region_fractions,
    sums_of,
    volume_average,
)
from doseledger.regions.gate import dose_flags, mask_flags, pair_flags

__all__ = [
    "REMAINDER",
    "WHOLE_BODY",
    "WHOLE_FIELD",
    "RegionSpec",
    "dose_flags",
    "hard_labels",
    "mask_flags",
    "move_fractions",
    "pair_flags",
    "region_fractions",
    "sums_of",
    "volume_average",
]
