"""Kernels of voxels and spheres against published numbers: one row of kernels.csv, one number.

The tolerance of a row is relative. The one public number that is wrong is shown to be so by itself.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import product
from math import pi
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from doseledger.dose.kernels import sphere_s_value, voxel_kernel
from doseledger.dose.organ import organ_s_value, self_energy_kev
from doseledger.nuclides import nuclide
from doseledger.units import BQ_PER_MBQ, J_PER_KEV, SECONDS_PER_HOUR

TISSUE_G_PER_ML: Final = 1.04
#: Neighbours by their distance in voxels.
NEIGHBOURS: Final = {
    "self": (0, 0, 0),
    "face": (0, 0, 1),
    "edge": (0, 1, 1),
    "next_but_one": (0, 0, 2),
    "third": (0, 0, 3),
    "fifth": (0, 0, 5),
}


def _rows() -> list[dict[str, str]]:
    with (Path(__file__).parent / "kernels.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _voxel(name: str, spacing_mm: float, neighbour: str) -> Callable[[], float]:
    """Dose in mGy/(MBq s)."""
    place = tuple(5 + step for step in NEIGHBOURS[neighbour])
    return lambda: float(voxel_kernel(name, spacing_mm, half_width=5)[place])


def _sphere(mass_g: float, **options: float | bool) -> Callable[[], float]:
    """Dose in mGy/(MBq s)."""
    return lambda: sphere_s_value("Lu-177", mass_g, **options) * 1e3 / SECONDS_PER_HOUR  # type: ignore[arg-type]


def _ball(radius_mm: float) -> Callable[[], float]:
    mass_g = 1.03 * 4.0 / 3.0 * pi * (radius_mm / 10.0) ** 3
    return _sphere(mass_g, density_g_per_ml=1.03, photons=True)


COMPUTE: Final[dict[str, Callable[[], float]]] = {
    **{f"lu177_voxel_{n}": _voxel("Lu-177", 4.8, n) for n in NEIGHBOURS},
    **{f"lu177_voxel_{n}_validation": _voxel("Lu-177", 4.8, n) for n in NEIGHBOURS},
    **{f"lu177_small_voxel_{n}": _voxel("Lu-177", 2.21, n) for n in NEIGHBOURS},
    **{f"y90_voxel_{n}": _voxel("Y-90", 4.8, n) for n in NEIGHBOURS},
    **{f"lu177_sphere_{m}_g": _sphere(float(m)) for m in (1, 10, 100)},
    **{f"lu177_sphere_radius_{r}_mm": _ball(float(r)) for r in (1, 2, 6, 10, 15, 30, 60)},
    "lu177_organ_kidney": lambda: self_energy_kev("kidney_left", "Lu-177", 155.0)[0],
    "lu177_organ_spleen": lambda: self_energy_kev("spleen", "Lu-177", 150.0)[0],
    "lu177_organ_liver": lambda: self_energy_kev("liver", "Lu-177", 1800.0)[0],
    "lu177_organ_marrow": lambda: self_energy_kev("red_marrow", "Lu-177", 1170.0)[0],
    # A decay in either kidney with equal chance: the mean of both gets half of what its own gives.
    "lu177_kidneys_s_value": lambda: organ_s_value("kidney_left", "Lu-177", 155.0) / 2.0 * 1e3 / SECONDS_PER_HOUR,
}


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row["name"])
def test_the_number_is_met(row: dict[str, str]) -> None:
    assert COMPUTE[row["name"]]() == pytest.approx(float(row["value"]), rel=float(row["tolerance"])), row["source"]


# The self voxel of the public 177Lu table ----------------------------------------------------------

#: The whole table of 2.21 mm in mGy/(MBq s), by the digits of the sorted neighbour (doi 10.1088/0031-9155/57/2/517).
PUBLIC_2_21_MM: Final = """
000 1.66E+00 001 4.83E-02 002 7.70E-05 003 3.24E-05 004 1.81E-05 005 1.18E-05 011 2.52E-03 012 6.04E-05 013 2.91E-05
014 1.71E-05 015 1.13E-05 022 3.66E-05 023 2.24E-05 024 1.46E-05 025 1.01E-05 033 1.62E-05 034 1.18E-05 035 8.72E-06
044 9.36E-06 045 7.28E-06 055 6.00E-06 111 2.50E-04 112 4.96E-05 113 2.65E-05 114 1.62E-05 115 1.09E-05 122 3.24E-05
123 2.08E-05 124 1.40E-05 125 9.87E-06 133 1.54E-05 134 1.14E-05 135 8.46E-06 144 8.98E-06 145 7.12E-06 155 5.88E-06
222 2.42E-05 223 1.73E-05 224 1.23E-05 225 8.98E-06 233 1.34E-05 234 1.02E-05 235 7.82E-06 244 8.28E-06 245 6.67E-06
255 5.55E-06 333 1.09E-05 334 8.79E-06 335 6.94E-06 344 7.33E-06 345 6.02E-06 355 5.13E-06 444 6.30E-06 445 5.27E-06
455 4.61E-06 555 3.98E-06
"""


def _public_table() -> np.ndarray:
    """The table on its full grid, energies in keV per decay."""
    words = PUBLIC_2_21_MM.split()
    dose = dict(zip(words[::2], map(float, words[1::2]), strict=True))
    mass_kg = (2.21 / 10.0) ** 3 * TISSUE_G_PER_ML / 1e3
    grid = np.zeros((11, 11, 11))
    for place in product(range(-5, 6), repeat=3):
        key = "".join(sorted(str(abs(step)) for step in place))
        grid[tuple(5 + step for step in place)] = dose[key] / 1e3 * mass_kg / (J_PER_KEV * BQ_PER_MBQ)
    return grid


def test_the_public_table_loses_electrons_and_ours_does_not() -> None:
    """Within 11 mm all electrons of 177Lu stop but for their bremsstrahlung, and some photons too."""
    electrons_kev = nuclide("Lu-177").electron_kev
    public = _public_table()
    mass_kg = (2.21 / 10.0) ** 3 * TISSUE_G_PER_ML / 1e3
    ours = voxel_kernel("Lu-177", 2.21, half_width=5) / 1e3 * mass_kg / (J_PER_KEV * BQ_PER_MBQ)
    assert ours.sum() > electrons_kev
    assert public.sum() < 0.95 * electrons_kev
    # All of the difference is in the self voxel: 7.8 % of it.
    assert public[5, 5, 5] / ours[5, 5, 5] == pytest.approx(0.922, abs=0.01)
    others = public.sum() - public[5, 5, 5]
    assert others == pytest.approx(ours.sum() - ours[5, 5, 5], rel=0.01)
