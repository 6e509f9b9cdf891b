"""The prior that comes with the program, from published effective half-lives of 177Lu.

    python recipes/kinetics/published_prior.py src/doseledger/data/kinetic_prior.json

A curve of one phase with uptake per radiopharmaceutical and region. Half-lives become biological rates, spreads of ln
of the effective half-life T become those of ln of the biological rate k by d ln k = -(1 + l_phys/k) d ln T.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np

from doseledger.io.priors import write_prior
from doseledger.kinetics import PopulationPrior, RegionPrior, UptakePrior
from doseledger.kinetics.priors import PARAMETERS, as_matrix
from doseledger.nuclides import nuclide

SLOWEST_PER_H: Final = nuclide("Lu-177").decay_constant_per_h
MODEL: Final = "mono_uptake"
TEXTBOOK: Final = "textbook value [R]"
AAPM: Final = "normal organs under 177Lu-PSMA-617, 20 patients, AAPM 2026 paper 2620, median and range [S]"
#: A textbook value counts as so many patients.
TEXTBOOK_PATIENTS: Final = 10
#: Two-sided 95 % of a normal distribution, in standard deviations: what "a to b" means where no more is said.
WIDTH_95: Final = 3.92
#: Where no spread is given, that of the effective half-life's logarithm is taken as this.
NO_SPREAD: Final = 0.15
#: Sites, cameras and curve models differ: standard deviation of ln k that is added to how well the mean is known.
BETWEEN_SOURCES: Final = 0.10


@dataclass(frozen=True)
class Published:
    """An effective half-life and the standard deviation of its logarithm."""

    radiopharmaceutical: str
    region: str
    half_life_h: float
    ln_sd: float
    patients: int
    source: str


def width(low_h: float, high_h: float, sds: float) -> float:
    """Standard deviation of ln of a half-life whose range is so many standard deviations wide."""
    return log(high_h / low_h) / sds


# The expected range of 20 and of 38 normal numbers is 3.73 and 4.26 standard deviations (Tippett 1925,
# doi 10.1093/biomet/17.3-4.364); kidneys and parotid glands were counted on each side.
PUBLISHED: Final = (
    Published("Lu177-DOTATATE", "kidney", 51.0, width(40.0, 65.0, WIDTH_95), TEXTBOOK_PATIENTS, TEXTBOOK),
    Published("Lu177-DOTATATE", "liver", 65.0, NO_SPREAD, TEXTBOOK_PATIENTS, f"{TEXTBOOK}, spread assumed"),
    Published("Lu177-DOTATATE", "spleen", 68.0, NO_SPREAD, TEXTBOOK_PATIENTS, f"{TEXTBOOK}, spread assumed"),
    Published("Lu177-DOTATATE", "lesion", 80.0, width(50.0, 140.0, WIDTH_95), TEXTBOOK_PATIENTS, TEXTBOOK),
    Published("Lu177-PSMA-617", "kidney", 35.5, width(8.5, 152.0, 4.26), 20, AAPM),
    Published("Lu177-PSMA-617", "liver", 22.9, width(12.9, 63.4, 3.73), 20, AAPM),
    Published("Lu177-PSMA-617", "spleen", 16.8, width(9.3, 149.7, 3.73), 20, AAPM),
    Published("Lu177-PSMA-617", "parotid", 42.2, width(18.9, 160.8, 4.26), 20, AAPM),
    Published("Lu177-PSMA-617", "marrow", 32.0, width(5.9, 160.8, 3.73), 20, AAPM),
)


def entry(published: Published) -> RegionPrior:
    total = log(2.0) / published.half_life_h
    biological = total - SLOWEST_PER_H
    uptake = UptakePrior()
    ln_sd = np.array([published.ln_sd * total / biological, uptake.ln_sd])
    covariance = np.diag(ln_sd**2)
    return RegionPrior(
        radiopharmaceutical=published.radiopharmaceutical,
        region=published.region,
        model=MODEL,
        parameter_names=PARAMETERS[MODEL],
        mean=(log(biological), log(log(2.0) / uptake.half_life_h - total)),
        covariance=as_matrix(covariance),
        mean_covariance=as_matrix(covariance / published.patients + np.diag([BETWEEN_SOURCES**2, 0.0])),
        n_patients=published.patients,
        n_cycles=published.patients,
        n_sites=1,
        source=published.source,
    )


if __name__ == "__main__":
    prior = PopulationPrior("published half-lives of 177Lu", tuple(map(entry, PUBLISHED)))
    print(write_prior(sys.argv[1], prior))
