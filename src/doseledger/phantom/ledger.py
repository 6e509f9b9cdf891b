"""Virtual ledgers without images: tables of many sites from a hierarchical model, with a planted effect.

For what can be learnt from tables alone: how often the comparison of sites finds an effect, and what
a large ledger costs. Scatter between patients is that of published cohorts (docs/comparison.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from doseledger.io.tables import SCHEMAS, sort_keys, write_table
from doseledger.nuclides import nuclide

Effect = Literal["none", "sensitivity", "recovery", "lesion_policy", "undeclared_policy", "unit", "decay"]
Tables = dict[str, pa.Table]


@dataclass(frozen=True)
class Organ:
    """Median Gy/GBq and half-life (h), share of activity that a poor camera loses, and what lesions add."""

    gy_per_gbq: float
    half_life_h: float
    recovery_loss: float
    lesion_gain: float


#: 177Lu-DOTATATE, docs/theory.md; the gain of the liver is a published one, the loss that of virtual images
#: whose spheres show three quarters (docs/comparison.md).
ORGANS: Final[dict[str, Organ]] = {
    "kidney_left": Organ(0.50, 51.6, 0.05, 0.0),
    "kidney_right": Organ(0.49, 51.6, 0.05, 0.0),
    "liver": Organ(0.27, 65.0, 0.01, 0.36),
    "spleen": Organ(1.17, 68.0, 0.06, 0.0),
}
#: Standard deviations of ln: of patients (common to the organs, and of each), of cycles, of one scan instead of more.
SD_COMMON: Final = 0.20
SD_ORGAN: Final = 0.20
SD_CYCLE: Final = 0.12
SD_SINGLE_SCAN: Final = 0.15
SD_HALF_LIFE: Final = 0.18
SD_HALF_LIFE_CYCLE: Final = 0.06
CYCLE_TREND: Final = -0.02
SENSITIVITY_REL: Final = 0.08
RECOVERY_OF_POOR_CAMERA: Final = 0.75
U_CALIBRATION: Final = 0.02
U_BODY: Final = 0.02
#: Cameras differ in recovery by so much after all.
SD_RECOVERY: Final = 0.05
SPHERES_ML: Final = (0.524, 1.150, 2.572, 5.575, 11.494, 26.522)
_DROPOUT: Final = 0.1
_ACTIVITY_MBQ: Final = (7400.0, 300.0)


def site_names(count: int) -> list[str]:
    return [f"S{number:02d}" for number in range(1, count + 1)]


def simulate_ledger(
    *,
    sites: int,
    patients: int,
    cycles: int,
    seed: int,
    effect: Effect = "none",
    organs: Sequence[str] = tuple(ORGANS),
    analyses: int = 1,
) -> Tables:
    """Tables ``administration``, ``organ_dose`` and ``phantom_qc``; the last site has the effect.

    ln(Gy/GBq) = ln(median) + patient + patient x organ + cycle + protocol. Half-lives are log-normal. Each
    patient has up to `cycles` cycles (10 % leave before each next one).

    Parameters
    ----------
    effect
        ``sensitivity``: doses and phantom 8 % high; ``recovery``: spheres at 0.75 of other cameras', kidneys
        5 % low; ``lesion_policy``: lesions count as liver (+36 %), declared or not (``undeclared_policy``);
        ``unit``: Gy per cycle in the column of Gy/GBq; ``decay``: activities left corrected to the injection,
        so that the curve clears slower by one rate of physical decay, but never slower than that.
    analyses
        Rows per cycle and region; those beyond the first are other engines.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    names = site_names(sites)
    n_people = sites * patients
    given = 1 + np.minimum(random.geometric(_DROPOUT, n_people) - 1, cycles - 1)
    person = np.repeat(np.arange(n_people), given)
    cycle = np.concatenate([np.arange(1, count + 1) for count in given])
    n = len(person)
    off = person // patients == sites - 1
    keys: dict[str, Any] = {
        "site": np.array(names)[person // patients],
        "patient": np.char.add("P", (person % patients + 1).astype(str)),
        "cycle": cycle,
    }
    protocol = random.choice(["mtp", "2tp", "stp"], n, p=[0.75, 0.15, 0.10])
    preparation = random.choice(["arginine_lysine", "amino_acid_mix"], n_people, p=[0.7, 0.3])[person]
    administered = random.normal(*_ACTIVITY_MBQ, n)
    common = random.normal(0.0, SD_COMMON, n_people)[person]
    origin = {"data_origin": np.full(n, "virtual")}
    rows: list[pa.Table] = []
    for organ in organs:
        ln_dose = common + random.normal(0.0, SD_ORGAN, n_people)[person] + random.normal(0.0, SD_CYCLE, n)
        ln_dose += CYCLE_TREND * (cycle - 1) + np.where(protocol == "stp", random.normal(0.0, SD_SINGLE_SCAN, n), 0.0)
        ln_half_life = random.normal(0.0, SD_HALF_LIFE, n_people)[person] + random.normal(0.0, SD_HALF_LIFE_CYCLE, n)
        dose = ORGANS[organ].gy_per_gbq * np.exp(ln_dose)
        half_life_h = np.minimum(ORGANS[organ].half_life_h * np.exp(ln_half_life), _physical_h())
        dose, half_life_h = _with_effect(effect, ORGANS[organ], dose, half_life_h, administered, off)
        policy = np.where(off & (effect == "lesion_policy"), "included", "excluded")
        columns = {
            **keys,
            **origin,
            "region": np.full(n, organ),
            "administered_mbq": administered,
            "protocol": protocol,
            "lesion_policy": policy,
            "region_source": np.full(n, "totalsegmentator"),
            "partial_volume_method": np.full(n, "gtm"),
            "curve_model": np.full(n, "mono"),
            "effective_half_life_h": half_life_h,
        }
        for analysis in range(analyses):
            other = dose * (1.0 if analysis == 0 else np.exp(random.normal(-0.02, 0.02, n)))
            rows.append(
                _table(
                    "organ_dose",
                    {
                        **columns,
                        "analysis_id": np.full(n, f"{analysis:016d}"),
                        "is_primary": np.full(n, analysis == 0),
                        "dose_engine": np.full(n, "pmc" if analysis == 0 else f"engine{analysis}"),
                        "dose_gy_per_gbq": other,
                        "absorbed_dose_gy": other * administered / 1000.0,
                        "flags": pa.array([[]] * n, pa.list_(pa.string())),
                    },
                )
            )
    administration = {
        **keys,
        **origin,
        "radiopharmaceutical": np.full(n, "Lu177-DOTATATE"),
        "nuclide": np.full(n, "Lu-177"),
        "administered_mbq": administered,
        "preparation": preparation,
        "imaged": np.full(n, True),
    }
    return {
        "administration": _table("administration", administration),
        "organ_dose": pa.concat_tables(rows),
        "phantom_qc": _phantoms(names, effect, random),
    }


def _physical_h() -> float:
    return nuclide("Lu-177").half_life_h


def _with_effect(
    effect: Effect,
    organ: Organ,
    dose: NDArray[np.float64],
    half_life_h: NDArray[np.float64],
    administered: NDArray[np.float64],
    off: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    factor = np.ones(len(dose))
    if effect == "sensitivity":
        factor += SENSITIVITY_REL
    elif effect == "recovery":
        factor -= organ.recovery_loss
    elif effect in ("lesion_policy", "undeclared_policy"):
        factor += organ.lesion_gain
    elif effect == "unit":
        factor = administered / 1000.0
    elif effect == "decay":
        # Rates in units of that of physical decay.
        rate = _physical_h() / half_life_h
        seen = np.maximum(rate - 1.0, 1.0)
        half_life_h = np.where(off, _physical_h() / seen, half_life_h)
        factor = rate / seen
    return np.where(off, dose * factor, dose), half_life_h


def _phantoms(names: Sequence[str], effect: Effect, random: np.random.Generator) -> pa.Table:
    count = len(names)
    last = np.arange(count) == count - 1
    calibration = np.exp(random.normal(0.0, U_CALIBRATION, count))
    calibration *= np.where(last & (effect == "sensitivity"), 1.0 + SENSITIVITY_REL, 1.0)
    scale = np.exp(random.normal(0.0, SD_RECOVERY, count))
    scale *= np.where(last & (effect == "recovery"), RECOVERY_OF_POOR_CAMERA, 1.0)
    volumes = np.array(SPHERES_ML)
    recoveries = scale[:, None] / (1.0 + 1.2 / volumes) * np.exp(random.normal(0.0, U_BODY, (count, len(volumes))))
    both = np.arange(2 * count) % count
    cylinder = np.arange(2 * count) < count
    reals = pa.list_(pa.float64())
    none: list[float] = []
    return _table(
        "phantom_qc",
        {
            "site": np.array(names)[both],
            "camera": np.full(2 * count, "cam"),
            "phantom": np.where(cylinder, "cylinder", "nema"),
            "days_after_first": np.zeros(2 * count, dtype=int),
            "calibration_ratio": pa.array([*calibration.tolist(), *([None] * count)], pa.float64()),
            "u_sensitivity_rel": pa.array([U_CALIBRATION if c else None for c in cylinder]),
            "body_volumes_ml": pa.array([none if c else volumes.tolist() for c in cylinder], reals),
            "body_recoveries": pa.array(
                [none if c else recoveries[i].tolist() for i, c in zip(both, cylinder, strict=True)], reals
            ),
            "body_u_recoveries_rel": pa.array([none if c else [U_BODY] * len(volumes) for c in cylinder], reals),
            "data_origin": np.full(2 * count, "virtual"),
        },
    )  # fmt: skip


def _table(name: str, columns: dict[str, Any]) -> pa.Table:
    """Columns as a table of the ledger; the others are null."""
    schema = SCHEMAS[name]
    count = len(next(iter(columns.values())))
    arrays = [
        pa.array(columns[field.name], type=field.type) if field.name in columns else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def write_ledger(folder: Path, tables: Tables) -> None:
    """Write tables as `compact` and `doseledger merge` do: ``<table>/site=S/part-0.parquet``."""
    for name, data in tables.items():
        for site in sorted(pc.unique(data["site"]).to_pylist()):
            part = data.filter(pc.equal(data["site"], site))
            target = folder / name / f"site={site}"
            target.mkdir(parents=True, exist_ok=True)
            write_table(target / "part-0.parquet", part.sort_by(sort_keys(part.schema)))
