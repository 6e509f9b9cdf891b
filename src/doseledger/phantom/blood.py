"""Blood samples of virtual patients, with the truth of both methods for red marrow.

Blood has three phases, more than the fitted curve. Neither method is *the* truth of the marrow: each has its own, what
it would say of exact activities and the patient's own share of red marrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from math import exp, log
from typing import Final

import numpy as np

from doseledger.dose.marrow import (
    FROM_BLOOD,
    FROM_IMAGE,
    KNOWN_NUCLIDES,
    red_marrow_mass_g,
    self_dose_gy,
    tia_from_blood,
    tia_from_image,
)
from doseledger.phantom.cycle import Cycle
from doseledger.phantom.design import Site
from doseledger.phantom.patients import stream
from doseledger.phantom.persons import log_normal
from doseledger.phantom.pharmaceuticals import POPULATION_HALF_LIFE_H
from doseledger.phantom.sheets import Row
from doseledger.phantom.torso import MARROW
from doseledger.phantom.truth import Curve

#: Volume that the activity would fill at once, mL per kg of body mass.
VOLUME_ML_PER_KG: Final = 120.0
#: Share and effective half-life (177Lu), h, of each phase.
PHASES: Final = ((0.70, 0.6), (0.25, 4.0), (0.05, 40.0))
#: Between patients, standard deviation of ln: of the volume, and of the slow biological half-life.
VOLUME_SD: Final = 0.20
SLOW_SD: Final = 0.25
#: Share of red marrow in the spongiosa of a patient: median, and standard deviation of ln.
FRACTION: Final = 0.60
FRACTION_SD: Final = 0.12
HAEMATOCRIT: Final = (0.33, 0.45)

#: Samples, hours after mid-infusion, and the spread of their times, min.
SAMPLE_TIMES_H: Final = (0.5, 1.0, 2.0, 4.0, 24.0, 96.0)
SAMPLE_SPREAD_MIN: Final = 4.0
#: What a sheet states, and the error of the counter that nobody knows.
U_CONCENTRATION_REL: Final = 0.03
U_CALIBRATION_REL: Final = 0.02
COUNTER_FACTOR: Final = 1.015
_KBQ_PER_MBQ: Final = 1.0e3
_MIN_PER_H: Final = 60.0


def takes_blood(site: Site) -> bool:
    """One site of a cohort takes samples."""
    return site.index == 0


@dataclass(frozen=True)
class Blood:
    """Blood of a patient in one cycle."""

    cycle: Cycle

    @cached_property
    def curve(self) -> Curve:
        """True activity of 1 mL, MBq."""
        rng = self.cycle.rng("blood")
        given_mbq = self.cycle.measured_mbq - self.cycle.residual_mbq
        infusion_h = self.cycle.injection.infusion_min / _MIN_PER_H
        decay = self.cycle.nuclide.decay_constant_per_h
        volume_ml = VOLUME_ML_PER_KG * self.cycle.patient.mass_kg * log_normal(rng, VOLUME_SD)
        at_zero = given_mbq * exp(-decay * infusion_h / 2.0) / volume_ml
        slowing = log_normal(rng, SLOW_SD)
        biological = [log(2.0) / half - log(2.0) / POPULATION_HALF_LIFE_H for _, half in PHASES]
        biological[-1] /= slowing
        return Curve(
            tuple(at_zero * share for share, _ in PHASES),
            tuple(decay + rate for rate in biological),
        )

    @cached_property
    def haematocrit(self) -> float:
        return round(float(self.cycle.rng("haematocrit").uniform(*HAEMATOCRIT)), 2)

    def sample_rows(self) -> Iterator[Row]:
        """Rows of ``blood_samples``: whole blood at the local time of the sample."""
        rng = self.cycle.rng("blood samples")
        for nominal_h in SAMPLE_TIMES_H:
            minutes = _MIN_PER_H * nominal_h + float(rng.uniform(-SAMPLE_SPREAD_MIN, SAMPLE_SPREAD_MIN))
            taken = (self.cycle.mid_infusion + timedelta(minutes=minutes)).replace(second=0, microsecond=0)
            time_h = (taken - self.cycle.mid_infusion) / timedelta(hours=1)
            noise = exp(U_CONCENTRATION_REL * float(np.clip(rng.standard_normal(), -3.0, 3.0)))
            yield {
                **self.cycle.key,
                "sample_time": taken.isoformat(),
                "concentration_kbq_per_ml": _KBQ_PER_MBQ * self.curve.activity_mbq(time_h) * COUNTER_FACTOR * noise,
                "decay_reference": "sample_time",
                "matrix": "blood",
                "u_concentration_rel": U_CONCENTRATION_REL,
                "u_calibration_rel": U_CALIBRATION_REL,
                "haematocrit": self.haematocrit,
            }


def marrow_truth_rows(cycle: Cycle) -> Iterator[Row]:
    """Rows of ``marrow_truth``: the dose by own electrons that each method would give with exact activities."""
    name = cycle.nuclide.name
    if name not in KNOWN_NUCLIDES:
        return
    marrow_g = red_marrow_mass_g(cycle.patient.sex, cycle.patient.mass_kg)
    fraction = FRACTION * log_normal(
        stream(cycle.seed, "red marrow", cycle.site.label, cycle.patient.label), FRACTION_SD
    )
    vertebra_ml = cycle.torso.volume_ml(MARROW)
    tia = {
        FROM_IMAGE: tia_from_image(cycle.curves[MARROW].tia_mbq_h, vertebra_ml, fraction=fraction, marrow_g=marrow_g)
    }
    if takes_blood(cycle.site):
        tia[FROM_BLOOD] = tia_from_blood(Blood(cycle).curve.tia_mbq_h, ratio=1.0, marrow_g=marrow_g)
    for method, tia_mbq_h in tia.items():
        yield {
            **cycle.key,
            "marrow_method": method,
            "mass_g": marrow_g,
            "marrow_factor": fraction if method == FROM_IMAGE else 1.0,
            "tia_mbq_h": tia_mbq_h,
            "dose_self_gy": self_dose_gy(tia_mbq_h, marrow_g, name),
        }
