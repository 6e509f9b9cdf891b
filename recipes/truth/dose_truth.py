"""True absorbed doses of a virtual cohort: ``dose_truth.py COHORT.yaml --out TABLE.csv --record FILE.json``.

For every patient-cycle the true time-integrated activity goes through coupled electron-photon Monte Carlo on voxels
of 2.4 mm. The table is keyed by the cohort's seed; a JSON file says what went in. README.md has the method.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from radiation import Emission, emission_of
from region_maps import VOXEL_MM, RegionMaps, region_maps
from transport import ENGINE, MEDIA, Absorbed, Floats, Job, run, step_ratio

from doseledger.phantom import design
from doseledger.phantom.cycle import Cycle, draw_cycle
from doseledger.phantom.patients import draw_patient
from doseledger.phantom.torso import SUMS
from doseledger.phantom.truth_rows import organ_truth_sha256
from doseledger.units import BQ_PER_MBQ, G_PER_KG, J_PER_KEV, SECONDS_PER_HOUR

#: Raised when the method changes: numbers of different versions are not the same truth.
RECIPE_VERSION: Final = 1
COLUMNS: Final = (
    "seed",
    "site",
    "patient",
    "cycle",
    "region",
    "absorbed_dose_gy",
    "u_mc_rel",
    "histories",
    "engine",
    "organ_truth_sha256",
)
BATCHES: Final = 8
#: Of each of two kinds of electrons, and photons: 40 s on one core; kidneys and lesions of 30 g within 0.1 %.
ELECTRONS: Final = 200_000
PHOTONS: Final = 2_000_000

Row = dict[str, object]


@dataclass(frozen=True)
class Cohort:
    """What the file COHORT.yaml says; the arguments of `doseledger.phantom.simulate`."""

    seed: int
    sites: int
    patients: int
    cycles: int
    size: design.Size

    def draw(self) -> Iterator[Cycle]:
        design.check_design(self.sites, self.patients, self.cycles, self.size)
        for site in design.sites_of(self.sites):
            for index in range(self.patients):
                patient = draw_patient(self.seed, site.label, design.patient_label(index))
                for number in range(1, self.cycles + 1):
                    yield draw_cycle(self.seed, self.size, site, patient, index, number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path, help="seed, sites, patients, cycles and size of the cohort")
    parser.add_argument("--out", type=Path, required=True, help="table to write")
    parser.add_argument("--record", type=Path, required=True, help="JSON file to write: what went in")
    parser.add_argument("--engine-python", type=Path, default=Path(".venv/ompmc/bin/python"))
    parser.add_argument("--electrons", type=int, default=ELECTRONS, help="histories of each kind of electron")
    parser.add_argument("--photons", type=int, default=PHOTONS)
    parser.add_argument("--jobs", type=int, default=1, help="patient-cycles at a time; the numbers do not depend on it")
    parser.add_argument("--first", type=int, help="only this many patient-cycles")
    arguments = parser.parse_args()
    cohort = Cohort(**yaml.safe_load(arguments.cohort.read_text(encoding="utf-8")))
    histories = {"electron": arguments.electrons, "photon": arguments.photons}
    cycles = list(cohort.draw())[: arguments.first]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(pool.map(lambda cycle: dose_of(cycle, histories, arguments.engine_python), cycles))
    write_table(arguments.out, [row for rows, _ in results for row in rows])
    record = {
        "recipe_version": RECIPE_VERSION,
        "engine": ENGINE,
        "media": MEDIA,
        "voxel_mm": VOXEL_MM,
        "batches": BATCHES,
        "histories": histories,
        "cohort": vars(cohort),
        "cycles": [facts for _, facts in results],
    }
    text = json.dumps(record, indent=2, default=list)
    arguments.record.write_text(text + "\n", encoding="utf-8")


def dose_of(cycle: Cycle, histories: dict[str, int], engine_python: Path) -> tuple[list[Row], dict[str, Any]]:
    """Rows of the table for one patient-cycle, and what went into them."""
    maps, emission = region_maps(cycle), emission_of(cycle.nuclide.name)
    seed = seed_of(cycle)
    job = Job(
        edges_mm=maps.edges_mm,
        density_g_per_ml=maps.density_g_per_ml,
        material=maps.medium,
        source=maps.decays,
        labels=maps.labels,
        emission=emission,
        histories=histories,
        batches=BATCHES,
        seed=seed,
    )
    absorbed = run(job, engine_python)
    energy_j = region_energy_j(maps, absorbed, emission)
    print(
        f"site {cycle.site.label} patient {cycle.patient.label} cycle {cycle.number}: "
        f"{absorbed.closure:.4f} of the emitted energy absorbed in the field",
        flush=True,
    )
    parts = {region: (energy_j[:, index], float(maps.mass_g[index])) for index, region in enumerate(maps.regions)}
    for total in SUMS:
        members = cycle.torso.members(total)
        parts[total] = (
            np.sum([parts[part][0] for part in members], axis=0),
            sum(parts[part][1] for part in members),
        )
    rows = [_row(cycle, region, *part, absorbed.histories) for region, part in parts.items()]
    facts = {
        **cycle.key,
        "engine_seed": seed,
        "energy_absorbed_rel": round(absorbed.closure, 5),
        "organ_truth_sha256": organ_truth_sha256(cycle),
        "maps_sha256": maps.fingerprint,
    }
    return rows, facts


def region_energy_j(maps: RegionMaps, absorbed: Absorbed, emission: Emission) -> Floats:
    """Energy absorbed by each region, J ``(batch, region)``, scaled from its voxels to its true volume."""
    decays_mbq_h = np.bincount(maps.labels.ravel(), maps.decays.ravel())
    total_mbq_h = float(decays_mbq_h.sum())
    ratio = np.ones(decays_mbq_h.size)
    for number in range(1, ratio.size):
        ratio[number] = step_ratio(maps.labels == number)
    energy_kev = absorbed.energy_kev(decays_mbq_h / total_mbq_h, ratio)[:, 1:]
    joule = J_PER_KEV * BQ_PER_MBQ * SECONDS_PER_HOUR * total_mbq_h
    return np.asarray(energy_kev * joule * maps.volume_ml / maps.voxel_ml)


def seed_of(cycle: Cycle) -> int:
    """Seed of one patient-cycle, the same in a larger cohort."""
    text = "/".join(str(part) for part in (cycle.seed, *cycle.key.values(), "dose"))
    return int.from_bytes(sha256(text.encode()).digest()[:6], "big")


def write_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _row(cycle: Cycle, region: str, energy_j: Floats, mass_g: float, histories: int) -> Row:
    mean_j = float(energy_j.mean())
    return {
        "seed": cycle.seed,
        **cycle.key,
        "region": region,
        "absorbed_dose_gy": f"{mean_j / (mass_g / G_PER_KG):.6g}",
        "u_mc_rel": f"{float(energy_j.std(ddof=1)) / np.sqrt(energy_j.size) / mean_j:.2g}",
        "histories": histories,
        "engine": ENGINE,
        "organ_truth_sha256": organ_truth_sha256(cycle),
    }


if __name__ == "__main__":
    main()
