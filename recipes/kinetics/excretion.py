"""Curves of what is excreted: ``python recipes/kinetics/excretion.py [PAGE] [--work WORK]``

The remainder of the body, the whole field and lumbar marrow of virtual patients, whose integrals are known, by the
curve that organs have and by the one with a fast phase. PAGE gets the tables between its marks. WORK, of
``recipes/interval_coverage.py``, adds activities measured in images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from doseledger.kinetics import fit_curve, fit_excretion
from doseledger.phantom import design
from doseledger.phantom.activity import activity_map
from doseledger.phantom.cycle import Cycle, Scan, draw_cycle, draw_scans
from doseledger.phantom.patients import draw_patient
from doseledger.phantom.torso import BLADDER, MARROW
from doseledger.phantom.truth import REST
from doseledger.units import BQ_PER_MBQ

START, END = "<!-- tables of recipes/kinetics/excretion.py -->", "<!-- end of excretion -->"
SEEDS: Final = (21, 22)
PATIENTS: Final = 6
#: DOTATATE in a short field without bladder, PSMA-617 in a long one.
SITES: Final = ("A", "C")
TIMES_H: Final = (4.0, 24.0, 96.0, 168.0)
SCHEDULES: Final = {"4, 24, 96, 168 h": (0, 1, 2, 3), "4, 24, 96 h": (0, 1, 2), "4, 24, 168 h": (0, 1, 3)}
U_REL: Final = 0.05
DRAWS: Final = 4
NOISE_SEED: Final = 4

Array = np.ndarray


@dataclass(frozen=True)
class Truth:
    """Activities at the scans, and the integral."""

    activity_mbq: Array
    tia_mbq_h: float


def truths(cycle: Cycle, scans: list[Scan]) -> dict[str, Truth]:
    """What the field holds of the cycle; urine in the bladder is left out, it comes and goes."""
    organs = [name for name in cycle.curves if name != REST]
    times = [scan.time_h for scan in scans]
    in_organs = np.array([sum(cycle.curves[name].activity_mbq(t) for name in organs) for t in times])
    share = rest_share(scans[0])
    rest = share * np.array([cycle.curves[REST].activity_mbq(t) for t in times])
    rest_mbq_h = share * cycle.curves[REST].tia_mbq_h
    marrow = cycle.curves[MARROW]
    return {
        "remainder": Truth(rest, rest_mbq_h),
        "whole field": Truth(rest + in_organs, rest_mbq_h + sum(cycle.curves[name].tia_mbq_h for name in organs)),
        "lumbar marrow": Truth(np.array([marrow.activity_mbq(t) for t in times]), marrow.tia_mbq_h),
    }


def rest_share(scan: Scan) -> float:
    """Share of the rest of the body that the field shows."""
    rest_bq = float(_without_organs(scan).sum(dtype=np.float64)) * scan.spect_view.grid.voxel_volume_ml
    return rest_bq / BQ_PER_MBQ / scan.cycle.curves[REST].activity_mbq(scan.time_h)


def _without_organs(scan: Scan) -> Array:
    cycle = scan.cycle
    nothing = dict.fromkeys((*cycle.curves, BLADDER), 0.0)
    return activity_map(scan.torso, scan.spect_view, nothing, cycle.rest_bq_per_ml(scan.time_h))


def errors() -> dict[tuple[str, str, str], Array]:
    """ln TIA over the truth, ``(draws, 2)``: one phase, two phases."""
    rng = np.random.Generator(np.random.PCG64(NOISE_SEED))
    found: dict[tuple[str, str, str], list[list[float]]] = {}
    for seed in SEEDS:
        for label in SITES:
            site = design.site_named(label)
            for index in range(PATIENTS):
                patient = draw_patient(seed, label, design.patient_label(index))
                cycle = draw_cycle(seed, "demo", site, patient, index, 1)
                scans = draw_scans(cycle, TIMES_H, refused=False)
                for region, truth in truths(cycle, scans).items():
                    for schedule, kept in SCHEDULES.items():
                        times = [scans[k].time_h for k in kept]
                        clean = truth.activity_mbq[list(kept)]
                        for _ in range(DRAWS):
                            seen = clean * (1.0 + U_REL * rng.standard_normal(clean.size))
                            key = (cycle.patient.pharmaceutical.name, region, schedule)
                            fits = both_mbq_h(times, seen, cycle.nuclide.half_life_h)
                            found.setdefault(key, []).append([float(np.log(tia / truth.tia_mbq_h)) for tia in fits])
    return {key: np.array(values) for key, values in found.items()}


def both_mbq_h(times_h: list[float], activity: Array, half_life_h: float) -> tuple[float, float]:
    """TIA by the curve that organs have, and by the one with a fast phase."""
    one, two = (
        fit(times_h, activity, half_life_h=half_life_h, u_activity_mbq=U_REL * activity)
        for fit in (fit_curve, fit_excretion)
    )
    return one.tia_mbq_h, two.tia_mbq_h


def table(found: dict[tuple[str, str, str], Array]) -> Iterator[str]:
    yield "| radiopharmaceutical | region | scans | n | one phase: median, rms of ln | two phases: median, rms of ln |"
    yield f"|{'---|' * 6}"
    for (name, region, schedule), values in found.items():
        cells = [f"{np.median(v):+.3f}, {np.sqrt(np.mean(v**2)):.3f}" for v in values.T]
        yield f"| {name} | {region} | {schedule} | {len(values)} | {cells[0]} | {cells[1]} |"
    for region in dict.fromkeys(region for _, region, _ in found):
        own = np.concatenate([values for key, values in found.items() if key[1] == region])
        cells = [f"{np.median(v):+.3f}, {np.sqrt(np.mean(v**2)):.3f}" for v in own.T]
        yield f"| **all** | {region} | | {len(own)} | {cells[0]} | **{cells[1]}** |"


def measured_table(work: Path) -> Iterator[str]:
    """The same of activities that the stages measured in images of site A, whose calibration is right.

    The measured remainder holds what blur carried out of the organs. So it has no truth of its own; with the organs as
    measured it must make up the whole field.
    """
    site = design.site_named("A")
    whole, closed = [], []
    for folder in sorted(work.glob("seed-*")):
        seen, curves = (pd.read_csv(folder / f"{name}.csv") for name in ("region_activity", "curve"))
        curves = curves[curves["chosen"] & ~curves["region"].isin(["whole_field", "remainder"])]
        for (label, number), own in seen[seen["site"] == "A"].groupby(["patient", "cycle"]):
            index, seed = int(label.removeprefix("P")) - 1, int(folder.name.removeprefix("seed-"))
            cycle = draw_cycle(seed, "demo", site, draw_patient(seed, "A", label), index, int(number))
            scans = draw_scans(cycle, site.nominal_times_h(index, int(number)), refused=False)
            true_mbq_h = truths(cycle, scans)["whole field"].tia_mbq_h
            organs = curves[(curves["site"] == "A") & (curves["patient"] == label) & (curves["cycle"] == number)]
            for region, found, beside in (
                ("whole_field", whole, 0.0),
                ("remainder", closed, float(organs["tia_mbq_h"].sum())),
            ):
                rows = own[own["region"] == region].sort_values("time_h")
                fits = both_mbq_h(rows["time_h"].tolist(), rows["activity_mbq"].to_numpy(), cycle.nuclide.half_life_h)
                found.append([float(np.log((tia + beside) / true_mbq_h)) for tia in fits])
    yield "| measured in images, site A | n | one phase: median, rms of ln | two phases: median, rms of ln |"
    yield f"|{'---|' * 4}"
    for name, found in (("whole field", whole), ("organs as measured and remainder, over the whole field", closed)):
        cells = [f"{np.median(v):+.3f}, {np.sqrt(np.mean(v**2)):.3f}" for v in np.array(found).T]
        yield f"| {name} | {len(found)} | {cells[0]} | {cells[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, nargs="?")
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    lines = list(table(errors()))
    if arguments.work:
        lines += ["", *measured_table(arguments.work)]
    print("\n".join(lines))
    if arguments.page:
        text = arguments.page.read_text(encoding="utf-8")
        before, after = text.split(START)[0], text.split(END)[1]
        arguments.page.write_text(f"{before}{START}\n\n" + "\n".join(lines) + f"\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
