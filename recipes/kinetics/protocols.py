"""What fewer scans cost on 60 virtual patients, whose curves have more phases than any model that is fitted.

    python recipes/kinetics/protocols.py OUT.html

Activities alone, without images: patients, cycles and true curves are those of ``doseledger simulate``, seen at five
scans with 5 % of noise. Half of the patients get 177Lu-DOTATATE (site A), half 177Lu-PSMA-617 (site C), two cycles
each. Prints the tables of docs/protocols.md; all numbers are in the files beside the page.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.kinetics import fit_curve
from doseledger.kinetics.own_cycle import EarlierCurve
from doseledger.phantom.cycle import draw_cycle
from doseledger.phantom.design import patient_label, site_named
from doseledger.phantom.patients import draw_patient, stream
from doseledger.steps.protocol_tables import write_all
from doseledger.steps.protocols import FULL, ONE_SCAN, TWO_SCANS, FullCycle, Summary, samples_of, study

SEED: Final = 16
PATIENTS: Final = 30
CYCLES: Final = 2
SITES: Final = ("A", "C")
TIMES_H: Final = (4.0, 24.0, 48.0, 96.0, 168.0)
NOISE_REL: Final = 0.05
#: Regions of the study; others add minutes and nothing new.
REGIONS: Final = ("kidney_left", "kidney_right", "liver", "lesion_1")


def cycles(regions: Collection[str] = REGIONS) -> list[FullCycle]:
    found = []
    for letter in SITES:
        site = site_named(letter)
        for index in range(PATIENTS):
            patient = draw_patient(SEED, letter, patient_label(index))
            for number in range(1, CYCLES + 1):
                cycle = draw_cycle(SEED, "micro", site, patient, index, number)
                rng = stream(SEED, "protocols", letter, patient.label, number)
                times = np.array(TIMES_H) + np.clip(0.1 * np.array(TIMES_H), 0.0, 2.0) * rng.uniform(-1.0, 1.0, 5)
                for organ, curve in cycle.curves.items():
                    if organ not in regions:
                        continue
                    true = np.array([curve.activity_mbq(t) for t in times])
                    seen = true * (1.0 + NOISE_REL * rng.standard_normal(times.size))
                    half_life_h = cycle.nuclide.half_life_h
                    samples = samples_of(times.tolist(), seen.tolist(), half_life_h, NOISE_REL)
                    fit = fit_curve(times, seen, half_life_h=half_life_h, u_activity_mbq=samples.u_activity_mbq)
                    full = EarlierCurve(
                        number, fit.parameter_names, fit.parameters, fit.covariance, fit.effective_half_life_h
                    )
                    found.append(
                        FullCycle(
                            site=letter,
                            patient=patient.label,
                            cycle=number,
                            region=organ,
                            radiopharmaceutical=patient.pharmaceutical.name,
                            half_life_h=half_life_h,
                            administered_mbq=cycle.measured_mbq - cycle.residual_mbq,
                            samples=samples,
                            curve=full,
                            tia_mbq_h=fit.tia_mbq_h,
                            true_tia_mbq_h=curve.tia_mbq_h,
                        )
                    )
    return found


def tables(summaries: list[Summary], methods: tuple[str, ...], scans: int) -> str:
    """Against the truth: one line per schedule, in each cell median error / rms of ln / share beyond 20 %, all in %."""
    found = {(s.radiopharmaceutical, s.region, s.schedule, s.method): s for s in summaries if s.against == "truth"}
    keys = dict.fromkeys(key[:3] for key in found if key[2] != FULL and key[2].count("+") == scans - 1)
    lines = [f"| radiopharmaceutical | region | scans | {' | '.join(methods)} |", "|" + "---|" * (3 + len(methods))]
    for key in keys:
        cells = [_cell(found.get((*key, method))) for method in methods]
        lines.append(f"| {' | '.join((*key, *cells))} |")
    return "\n".join(lines)


def _cell(s: Summary | None) -> str:
    if s is None:
        return "n/a"
    return f"{100.0 * (s.median_ratio - 1.0):+.0f} / {100.0 * s.rms_ln:.0f} / {100.0 * s.beyond_20:.0f}"


def main() -> None:
    own = cycles()
    summaries = study(own)
    for methods, scans in ((ONE_SCAN, 1), (TWO_SCANS, 2)):
        print(tables(summaries, methods, scans), end="\n\n")
    for s in summaries:
        if s.method == FULL:
            worst = f"worst {100.0 * (s.worst_ratio - 1.0):+.0f}"
            print(f"all scans, {s.radiopharmaceutical}, {s.region}: {_cell(s)}, {worst}")
    write_all(summaries, Path(sys.argv[1]), cohort="60 virtual patients", origins=["virtual"], cycles=len(own))


if __name__ == "__main__":
    main()
