"""Quality gate of outlines: flags, never silent changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from doseledger.geometry import Grid, Vector

#: Plausible volumes in mL (docs/theory.md, plausibility gates).
VOLUME_RANGE_ML: Final[dict[str, tuple[float, float]]] = {
    "kidney_left": (80.0, 250.0),
    "kidney_right": (80.0, 250.0),
    "spleen": (40.0, 1500.0),
    "liver": (600.0, 4500.0),
}
#: Reference masses of woman and man in g, wall and content of hollow organs: ICRP Publication 89,
#: Ann ICRP 32(3-4), 2002.
REFERENCE_MASS_G: Final[dict[str, tuple[float, float]]] = {
    "adrenal_gland_left": (6.5, 7.0),
    "adrenal_gland_right": (6.5, 7.0),
    "bowel": (1560.0, 1670.0),
    "brain": (1300.0, 1450.0),
    "colon": (680.0, 670.0),
    "heart": (620.0, 840.0),
    "pancreas": (120.0, 140.0),
    "salivary_glands": (70.0, 85.0),
    "stomach": (370.0, 400.0),
    "thyroid_gland": (17.0, 20.0),
}
#: Density that turns a reference mass into a volume, g/mL: soft tissue.
REFERENCE_DENSITY_G_PER_ML: Final = 1.05
#: A volume this many times outside the reference masses is implausible: adults differ by about a factor of two
#: from each other and filling adds to it, while a wrong label or a fragment is off by much more.
REFERENCE_FACTOR: Final = 3.0
#: Plausible mean CT numbers, HU. Bounds of the technique, not of health: parenchyma without fat (-50 and below)
#: and, with contrast agent, without bone; lungs between air and a full collapse; vertebrae denser than fat.
_PARENCHYMA_HU: Final = (-50.0, 300.0)
_LUNG_HU: Final = (-980.0, -300.0)
_VERTEBRA_HU: Final = (0.0, 800.0)
MEAN_HU_RANGE: Final[dict[str, tuple[float, float]]] = {
    **dict.fromkeys(("kidney_left", "kidney_right", "liver", "spleen", "pancreas", "heart"), _PARENCHYMA_HU),
    **dict.fromkeys(("lung_left", "lung_right", "lungs"), _LUNG_HU),
    **dict.fromkeys((f"vertebrae_L{n}" for n in range(1, 6)), _VERTEBRA_HU),
}
#: Organs whose mask is wall and content together: on CT the wall alone cannot be told.
HOLLOW: Final = frozenset({"small_bowel", "duodenum", "colon", "bowel", "stomach", "urinary_bladder", "gallbladder"})
#: Organs that are one body; others (bowel, lesions, marrow) may come in parts.
ONE_BODY: Final = frozenset(
    {"kidney_left", "kidney_right", "liver", "spleen", "pancreas", "heart", "urinary_bladder", "stomach"}
)
#: Smallest share of its voxels that the largest part of such an organ has.
LARGEST_PART_SHARE: Final = 0.95
#: Where the middle of one region lies of that of another.
ORDER: Final[tuple[tuple[str, Literal["right of", "below"], str], ...]] = (
    ("liver", "right of", "spleen"),
    ("kidney_right", "right of", "kidney_left"),
    ("lung_right", "right of", "lung_left"),
    *((kidney, "below", lung) for kidney in ("kidney_left", "kidney_right") for lung in ("lung_left", "lung_right")),
    ("liver", "below", "heart"),
    ("urinary_bladder", "below", "kidney_left"),
    ("urinary_bladder", "below", "kidney_right"),
    ("heart", "below", "thyroid_gland"),
    *((f"vertebrae_L{n + 1}", "below", f"vertebrae_L{n}") for n in range(1, 5)),
)
#: Smallest Dice overlap of an organ between two time points after the shift between them.
SMALLEST_DICE_BETWEEN_SCANS: Final = 0.7

#: Mask by a model that knows virtual patients only; whatever is made of it keeps the flag.
DEMO_WEIGHTS: Final = "demo_weights"
#: What the flags of regions say.
FLAG_MEANINGS: Final[dict[str, str]] = {
    DEMO_WEIGHTS: "by a model that was trained on virtual patients only",
    "region_not_found": "the model has a class for a region of the sheet and found no voxel of it",
    "empty": "the region has no voxels",
    "volume_implausible": "the volume lies outside the range of adults",
    "truncated": "the region touches the border of the field: a part of it may be missing",
    "wrong_side": "the middle of the region lies on the other side of the body than its laterality says",
    "wrong_order": "the region lies on the wrong side of, or above instead of below, another one",
    "fragmented": "an organ that is one body comes in parts",
    "hu_implausible": "the mean CT number does not belong to the tissue of the region",
    "outline_changed": "after the shift between two time points their outlines differ",
    "overlap": "the organ lost voxels to another one",
    "kidney_volumes_differ": "the volumes of the kidneys differ by more than a factor of two",
    "part_missing": "a region that is made of several lacks one of them",
    "wall_and_content": "wall and content together: the dose to the wall alone is another one",
    "threshold_volume": "the volume depends on the threshold that the region was found with",
    "no_ct": "mass and tissue were assumed: there is no CT",
    "dose_implausible": "the dose per activity is far from published means: most often a slip of units",
}
#: Left over right kidney, volume and dose.
PAIR_RATIO: Final = (0.5, 2.0)

#: Lowest and highest published mean of Gy/GBq (docs/theory.md, plausibility gates).
PUBLISHED_GY_PER_GBQ: Final[dict[tuple[str, str], tuple[float, float]]] = {
    ("Lu177-DOTATATE", "kidneys"): (0.38, 0.57),
    ("Lu177-DOTATATE", "kidney_left"): (0.38, 0.57),
    ("Lu177-DOTATATE", "kidney_right"): (0.38, 0.57),
    ("Lu177-DOTATATE", "liver"): (0.27, 0.27),
    ("Lu177-DOTATATE", "spleen"): (1.17, 1.17),
    ("Lu177-PSMA-617", "kidneys"): (0.53, 0.82),
    ("Lu177-PSMA-617", "kidney_left"): (0.53, 0.82),
    ("Lu177-PSMA-617", "kidney_right"): (0.53, 0.82),
}
#: A dose this many times outside the range is a matter of units. A GBq-for-cycle slip is 7.4 times.
UNIT_SLIP_FACTOR: Final = 5.0


def mask_flags(
    region: str,
    mask: NDArray[np.bool_],
    grid: Grid,
    *,
    laterality: str | None = None,
    midline_mm: float | None = None,
    hu: NDArray[np.floating[Any]] | None = None,
) -> list[str]:
    """All flags that one mask can have by itself; keys of `FLAG_MEANINGS`.

    All six faces of the field are its border.

    Parameters
    ----------
    laterality, midline_mm
        Side of the region, and LPS x of the patient's middle; the side is checked if both are given.
    hu
        CT numbers on `grid`; without them no tissue is checked.
    """
    if not mask.any():
        return ["empty"]
    low, high = volume_range_ml(region)
    centre_x_mm = centroid_mm(mask, grid)[0]
    checks = {
        "volume_implausible": not low <= np.count_nonzero(mask) * grid.voxel_volume_ml <= high,
        "truncated": touches_border(mask),
        "wrong_side": laterality is not None
        and midline_mm is not None
        and (centre_x_mm > midline_mm) != (laterality == "left"),
        "fragmented": region in ONE_BODY and largest_part_share(mask) < LARGEST_PART_SHARE,
    }
    if hu is not None and region in MEAN_HU_RANGE:
        low, high = MEAN_HU_RANGE[region]
        checks["hu_implausible"] = not low <= float(hu[mask].mean(dtype=np.float64)) <= high
    return [flag for flag, raised in checks.items() if raised]


def volume_range_ml(region: str) -> tuple[float, float]:
    """Plausible volumes of a region; zero to infinity where none are known.

    Examples
    --------
    >>> [round(v, 1) for v in volume_range_ml("pancreas")], volume_range_ml("liver"), volume_range_ml("lesion_1")
    ([38.1, 400.0], (600.0, 4500.0), (0.0, inf))
    """
    if region in VOLUME_RANGE_ML:
        return VOLUME_RANGE_ML[region]
    masses = REFERENCE_MASS_G.get(region)
    if masses is None:
        return 0.0, float("inf")
    return (
        min(masses) / REFERENCE_DENSITY_G_PER_ML / REFERENCE_FACTOR,
        max(masses) / REFERENCE_DENSITY_G_PER_ML * REFERENCE_FACTOR,
    )


def touches_border(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask has voxels on any of the six faces of the field."""
    return any(bool(mask.take(end, axis=axis).any()) for axis in range(3) for end in (0, -1))


def centroid_mm(mask: NDArray[np.bool_], grid: Grid) -> Vector:
    """Middle of the voxels of a mask that is not empty, LPS (x, y, z)."""
    return grid.position_mm(np.argwhere(mask).mean(axis=0))


def largest_part_share(mask: NDArray[np.bool_]) -> float:
    """Share of the voxels in the largest connected part (faces, edges and corners connect); NaN if empty."""
    parts, _ = ndimage.label(mask, ndimage.generate_binary_structure(3, 3))
    sizes = np.bincount(parts.ravel())[1:]
    return float(sizes.max() / sizes.sum()) if sizes.size else float("nan")


def order_flags(centroids_mm: Mapping[str, Vector]) -> dict[str, list[str]]:
    """``wrong_order`` for both regions of each pair of `ORDER` that stands the other way round.

    Parameters
    ----------
    centroids_mm
        Middles by region, LPS (x, y, z): the patient's right is at smaller x, below at smaller z.

    Examples
    --------
    >>> order_flags({"liver": (60.0, 0.0, 0.0), "spleen": (-90.0, 0.0, 0.0), "heart": (0.0, 0.0, 90.0)})
    {'liver': ['wrong_order'], 'spleen': ['wrong_order']}
    """
    axes = {"right of": 0, "below": 2}
    wrong = [
        (a, b)
        for a, relation, b in ORDER
        if a in centroids_mm
        and b in centroids_mm
        and centroids_mm[a][axes[relation]] >= centroids_mm[b][axes[relation]]
    ]
    return {region: ["wrong_order"] for pair in wrong for region in pair}


def dice_after_shift(
    first: NDArray[np.bool_], first_grid: Grid, second: NDArray[np.bool_], second_grid: Grid, shift_mm: Vector
) -> float:
    """Dice overlap of one region at two time points, in volumes; NaN if both are empty.

    Parameters
    ----------
    shift_mm
        Rigid shift LPS (x, y, z) from positions of the first to those of the second time point.
    """
    volume_ml = np.count_nonzero(first) * first_grid.voxel_volume_ml
    volume_ml += np.count_nonzero(second) * second_grid.voxel_volume_ml
    to_lps = second_grid.index_to_lps
    positions = np.argwhere(second) @ to_lps[:3, :3].T + to_lps[:3, 3] - np.asarray(shift_mm)
    index = np.rint(first_grid.index(positions)).astype(np.int64)
    inside = np.all((index >= 0) & (index < first_grid.shape), axis=1)
    common_ml = np.count_nonzero(first[tuple(index[inside].T)]) * second_grid.voxel_volume_ml
    return 2.0 * common_ml / volume_ml if volume_ml else float("nan")


def change_flags(dice: float) -> list[str]:
    """Flag an outline that another time point does not confirm; a region that is empty in both has none."""
    return ["outline_changed"] if dice < SMALLEST_DICE_BETWEEN_SCANS else []


def pair_flags(left: float, right: float, flag: str) -> list[str]:
    """`flag` if a left-right pair (kidneys) differs by more than a factor of two."""
    low, high = PAIR_RATIO
    return [] if right > 0 and low <= left / right <= high else [flag]


def dose_flags(radiopharmaceutical: str, region: str, dose_gy_per_gbq: float) -> list[str]:
    """Flag a dose per activity far from published means: most often a slip of units."""
    published = PUBLISHED_GY_PER_GBQ.get((radiopharmaceutical, region))
    if published is None:
        return []
    low, high = published[0] / UNIT_SLIP_FACTOR, published[1] * UNIT_SLIP_FACTOR
    return [] if low <= dose_gy_per_gbq <= high else ["dose_implausible"]
