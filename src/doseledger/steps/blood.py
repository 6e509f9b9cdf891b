"""Blood samples in the stages: their curve, and what the dose of red marrow must know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp
from pathlib import Path
from typing import Any, Final

from doseledger.cohort import Row
from doseledger.io.nifti import read_sidecar
from doseledger.kinetics import CurveFit, ModelComparison, compare_models, exponentials
from doseledger.steps.layout import BLOOD_SAMPLES
from doseledger.units import BQ_PER_MBQ

#: Curve of blood after an injection; with too few samples for it one exponential.
MODEL: Final = "bi"
FALLBACK: Final = "mono"
#: Value of the column ``curve_source``.
CURVE_SOURCE: Final = "blood_samples"
#: Share of the TIA before the first sample above which the curve is flagged.
BEFORE_FIRST_FLAG: Final = 0.20


@dataclass(frozen=True)
class BloodFacts:
    """What holds for all blood samples of a cycle."""

    n_samples: int
    u_calibration_rel: float
    haematocrit: float | None
    matrix: str


def blood_curve(samples: Sequence[Row], half_life_h: float, model: str | None) -> ModelComparison:
    """Fit of the activity of 1 mL of blood, MBq; the chosen model always has a curve."""

    def compare(name: str) -> ModelComparison:
        return compare_models(
            [s["time_h"] for s in samples],
            [s["activity_mbq"] for s in samples],
            half_life_h=half_life_h,
            u_activity_mbq=[s["u_concentration_rel"] * s["activity_mbq"] for s in samples],
            model=name,
        )

    wanted = compare(model or MODEL)
    return wanted if wanted.chosen.has_curve else compare(FALLBACK)


def blood_flags(fit: CurveFit, samples: Sequence[Row], model: str | None) -> list[str]:
    """What a reader must know of the curve beside what is said of every curve."""
    flags = [] if fit.model == (model or MODEL) else ["too_few_scans_for_model"]
    if share_before(fit, samples[0]["time_h"]) > BEFORE_FIRST_FLAG:
        flags.append("extrapolated_to_injection")
    return flags


def share_before(fit: CurveFit, time_h: float) -> float:
    """Share of the TIA before a time: (1/TIA) sum_i a_i/l_i (1 - exp(-l_i t)); 0 for a curve without exponentials."""
    amplitudes, rates = exponentials(fit.parameter_names, fit.parameters)
    before = sum(a / rate * (1.0 - exp(-rate * time_h)) for a, rate in zip(amplitudes, rates, strict=True))
    return before / fit.tia_mbq_h


def blood_sample_rows(samples: Sequence[Row]) -> list[dict[str, Any]]:
    """Columns of ``blood_sample``."""
    kept = ("time_h", "u_concentration_rel", "u_calibration_rel", "matrix", "haematocrit")
    return [
        {"sample": number, "concentration_bq_per_ml": sample["activity_mbq"] * BQ_PER_MBQ}
        | {column: sample[column] for column in kept}
        for number, sample in enumerate(samples, start=1)
    ]


def facts_sidecar(samples: Sequence[Row]) -> dict[str, Any]:
    first = samples[0]
    return asdict(BloodFacts(len(samples), first["u_calibration_rel"], first["haematocrit"], first["matrix"]))


def blood_facts(kinetics: Path) -> BloodFacts | None:
    """Of a finished kinetics stage; None without samples."""
    path = kinetics / BLOOD_SAMPLES
    return BloodFacts(**read_sidecar(path)) if path.exists() else None
