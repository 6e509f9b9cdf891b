"""Dice of the demo weights on unseen virtual patients, by the real TotalSegmentator: ``dice.py --out dice.csv``."""

from __future__ import annotations

import argparse
import csv
import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from phantoms import CLASS_IDS, Case, Phantom, classes, make_phantom
from scipy.ndimage import distance_transform_edt

from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, write_image
from doseledger.phantom.patients import draw_patient
from doseledger.segmentation.demo_weights import MODES, SPACING_MM, demo_record, unpack_demo_weights
from doseledger.segmentation.protocol import Mode
from doseledger.segmentation.totalsegmentator import Request, segment_cts

_LOG: Final = logging.getLogger(__name__)

#: Seeds of the patients: neither those of cohorts and tests (small) nor those of training (from 10000).
FIRST_SEED: Final = 20_000
COLUMNS: Final = ("mode", "sha256", "organ", "field", "n", "mean", "min", "absent_ml", "other_side_ml", "outside_ml")
#: Less of an organ in the field has no meaningful Dice, mL.
LEAST_ML: Final = 1.0
#: Kind of field of the rows over all patients.
ALL: Final = "all"
LUNGS: Final = "lungs"
_LUNG_IDS: Final = tuple(number for name, number in CLASS_IDS.items() if name.startswith("lung_"))
_MIRROR: Final = {"left": "right", "right": "left"}

Mask = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=3, help="per kind of field")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cases = test_cases(arguments.patients)
    rows: list[dict[str, object]] = []
    for mode in MODES:
        with tempfile.TemporaryDirectory() as name:
            found = segmented(Path(name), cases, mode)
        weights = {"mode": mode, "sha256": demo_record()["sha256"]}
        rows += [weights | row for row in table(cases, found, organs_of(mode))]
    with arguments.out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_cases(patients: int) -> dict[str, Case]:
    """Cases by a key that begins with the kind of field; one short field is that of a patient with one kidney."""
    seeds = range(FIRST_SEED, FIRST_SEED + patients)
    single = next(
        s for s in range(FIRST_SEED, 2 * FIRST_SEED) if len(draw_patient(s, "A", "P1").torso.kidney_sides) == 1
    )
    cases = {f"short_{seed}": Case(seed, "AB"[seed % 2], "demo") for seed in (*seeds[:-1], single)}
    cases |= {f"long_{seed}": Case(seed, "C", "demo") for seed in seeds}
    # Fields of the cohort, moved along the patient: their ends cut organs.
    return cases | {f"cut_{seed + patients}": Case(seed + patients, "A", "demo", varied=True) for seed in seeds}


def segmented(folder: Path, cases: Mapping[str, Case], mode: Mode) -> dict[str, NDArray[np.uint8]]:
    """Label maps of the cases by TotalSegmentator."""
    cts = {}
    for key, case in cases.items():
        phantom = make_phantom(case)
        cts[key] = folder / f"ct-{key}.nii.gz"
        write_image(cts[key], phantom.hounsfield, phantom.grid, dtype="int16")
    # At 3 mm the outputs of all 118 classes need gigabytes: there, as one would, only on a crop.
    subset = organs_of(mode) if mode == "fast" else ()
    weights = unpack_demo_weights(folder / "weights")
    result = segment_cts(Request(cts, folder / "labels", weights, data_origin="virtual", mode=mode, roi_subset=subset))
    for key in cases:
        _LOG.info("%s: %.1f CPU-s, %.0f MiB", key, result.cpu_s[key], result.peak_memory_mib[key])
    return {key: read_image(path)[0] for key, path in result.labels.items()}


def organs_of(mode: Mode) -> tuple[str, ...]:
    """What the table is about: at 3 mm the organs of the demo, on whose crop the network runs; else also lungs."""
    names = {number: name for name, number in CLASS_IDS.items()}
    learned = tuple(names[number] for number in classes())
    organs = tuple(name for name in learned if not name.startswith("lung_"))
    return organs if mode == "fast" else (*organs, LUNGS)


def table(
    cases: Mapping[str, Case], found: Mapping[str, NDArray[np.uint8]], organs: Sequence[str]
) -> Iterator[dict[str, object]]:
    """One row per organ and kind of field, and one per organ for all.

    ``absent_ml``: the most that was found of it where the field has none. ``other_side_ml``: the most of it on the
    organ of the other side. ``outside_ml``: the most of it outside the body, by more than one voxel of the network.
    """
    scores: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for key, case in cases.items():
        phantom = make_phantom(case)
        outside = distance_transform_edt(~phantom.body, sampling=phantom.grid.spacing_mm) > SPACING_MM
        for organ in organs:
            score = _score(organ, phantom, found[key], outside)
            scores[organ, key.split("_")[0]].append(score)
            scores[organ, ALL].append(score)
    for (organ, field), results in scores.items():
        dice = [result["dice"] for result in results if not np.isnan(result["dice"])]
        yield {
            "organ": organ,
            "field": field,
            "n": len(dice),
            "mean": f"{np.mean(dice):.3f}" if dice else "",
            "min": f"{min(dice):.3f}" if dice else "",
            **{name: f"{max(r[name] for r in results):.2f}" for name in ("absent_ml", "other_side_ml", "outside_ml")},
        }


def _score(organ: str, phantom: Phantom, found: NDArray[np.uint8], outside: Mask) -> dict[str, float]:
    true, seen = _mask(phantom.labels, organ), _mask(found, organ)
    true_ml, seen_ml = _ml(true, phantom.grid), _ml(seen, phantom.grid)
    other = np.isin(phantom.labels, _other_side(organ))
    return {
        "dice": 2.0 * _ml(true & seen, phantom.grid) / (true_ml + seen_ml) if true_ml >= LEAST_ML else float("nan"),
        "absent_ml": seen_ml if true_ml == 0.0 else 0.0,
        "other_side_ml": _ml(seen & other, phantom.grid),
        "outside_ml": _ml(seen & outside, phantom.grid),
    }


def _other_side(organ: str) -> list[int]:
    """The same organ, or all lobes of the lung, on the other side; nothing for what is not a pair."""
    name, _, side = organ.rpartition("_")
    if side not in _MIRROR:
        return []
    stem = "lung_" if name.startswith("lung_") else name
    return [number for other, number in CLASS_IDS.items() if other.startswith(stem) and other.endswith(_MIRROR[side])]


def _mask(labels: NDArray[np.uint8], organ: str) -> Mask:
    return np.isin(labels, _LUNG_IDS) if organ == LUNGS else labels == CLASS_IDS[organ]


def _ml(mask: Mask, grid: Grid) -> float:
    return float(mask.sum()) * grid.voxel_volume_ml


if __name__ == "__main__":
    main()
