"""Small tables of published constants; SOURCE.md names where each comes from."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray


@cache
def columns(name: str) -> tuple[NDArray[np.float64], ...]:
    """Columns of a purely numeric CSV table of this folder, without its header."""
    with (files(__name__) / f"{name}.csv").open(encoding="utf-8") as stream:
        data = np.loadtxt(stream, delimiter=",", skiprows=1, ndmin=2)
    return tuple(data.T)


@cache
def records(name: str) -> tuple[dict[str, str], ...]:
    """Rows of a CSV table of this folder, as text by column."""
    with (files(__name__) / f"{name}.csv").open(encoding="utf-8") as stream:
        return tuple(csv.DictReader(stream))
