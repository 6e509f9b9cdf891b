"""Writes ``cycles.csv``: virtual doses per activity of 12 sites, unbalanced, for the comparison with lme4.

python tests/oracle/lme4/make_data.py
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

SEED = 20210
SITES = "ABCDEFGHIJKL"


def main() -> None:
    random = np.random.Generator(np.random.PCG64(SEED))
    with Path(__file__).with_name("cycles.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["site", "patient", "cycle", "preparation", "protocol", "gy_per_gbq"])
        for site in SITES:
            of_site = random.normal(0.0, 0.12)
            for patient in range(1, int(random.integers(6, 14)) + 1):
                of_patient = random.normal(0.0, 0.28)
                preparation = random.choice(["arginine_lysine", "amino_acid_mix"], p=[0.7, 0.3])
                for cycle in range(1, int(random.integers(1, 5)) + 1):
                    protocol = random.choice(["mtp", "2tp", "stp"], p=[0.6, 0.25, 0.15])
                    effect = of_site + of_patient - 0.03 * (cycle - 1) - 0.08 * (preparation == "amino_acid_mix")
                    value = 0.5 * np.exp(effect + 0.05 * (protocol == "stp") + random.normal(0.0, 0.11))
                    writer.writerow([site, f"{site}{patient}", cycle, preparation, protocol, f"{value:.6f}"])


if __name__ == "__main__":
    main()
