"""CTs of virtual patients, with label maps in the class ids of TotalSegmentator's task ``total``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from totalsegmentator.map_to_binary import class_map

from doseledger.geometry import Grid
from doseledger.phantom.cycle import Scan, draw_cycle, draw_scans
from doseledger.phantom.design import Size, site_named
from doseledger.phantom.imaging import body_radius_mm, hounsfield
from doseledger.phantom.parts import Layer, Organ, Part
from doseledger.phantom.patients import draw_patient, stream
from doseledger.phantom.render import painted_layers
from doseledger.phantom.scanner import image_ct
from doseledger.phantom.shapes import Image
from doseledger.phantom.skeleton import VERTEBRAE
from doseledger.phantom.torso import BLADDER, MARROW, Torso
from doseledger.phantom.view import View

Labels = NDArray[np.uint8]
#: One name per layer of a part; nothing for layers that keep the label of the layer around them.
Names = tuple[str, ...]

#: Class ids of TotalSegmentator by name.
CLASS_IDS: Final[dict[str, int]] = {name: number for number, name in class_map["total"].items()}
#: Takes the label away.
_CLEAR: Final = "background"
#: Split into left and right.
_LUNGS: Final = "lungs"
#: What the network learns. Virtual lungs have no fissures: the class of the lower lobe stands for a whole lung.
LEFT_LUNG: Final = "lung_lower_lobe_left"
RIGHT_LUNG: Final = "lung_lower_lobe_right"
LEARNED: Final = ("spleen", "kidney_right", "kidney_left", "liver", LEFT_LUNG, RIGHT_LUNG)

#: Training fields are moved by up to this against the cohort's (x, y, z), so that every organ is cut in some, mm.
_FIELD_SHIFT_MM: Final = (15.0, 15.0, 70.0)
#: Share of the training patients from whom a kidney is taken, beside those who are drawn with one.
_KIDNEY_TAKEN: Final = 0.2
_SCAN_H: Final = 24.0


@dataclass(frozen=True)
class Case:
    """Which CT: seed and site of the patient, size of the voxels, and whether it is varied for training."""

    seed: int
    site: str
    size: Size
    varied: bool = False


@dataclass(frozen=True, eq=False)
class Phantom:
    """A CT in HU, its label map and where the body with its arms is, all ``(z, y, x)`` on `grid`."""

    case: Case
    grid: Grid
    hounsfield: Image
    labels: Labels
    body: NDArray[np.bool_]


def make_phantom(case: Case) -> Phantom:
    """The CT of a patient in the first cycle, with noise, table and room air, and its label map."""
    rng = stream(case.seed, "segmentation", case.site, case.size)
    scan = _scan(case)
    torso, view = scan.torso, scan.ct_view
    if case.varied:
        torso, view = _varied(rng, torso, view)
    image = image_ct(hounsfield(torso, view), rng, radius_mm=body_radius_mm(torso))
    return Phantom(case, view.grid, np.rint(image), label_map(torso, view), _body(torso, view))


def label_map(torso: Torso, view: View) -> Labels:
    """Class ids of task ``total``; a lesion belongs to the organ around it, as TotalSegmentator labels it."""
    labels = np.zeros(view.grid.shape, np.uint8)
    for part, names in zip(torso.parts, _part_names(torso), strict=True):
        _paint(labels, part, names, view)
    for organ in torso.organs.values():
        name = _organ_name(organ)
        if name is not None:
            whole = Part(organ.solid, (Layer(0.0, organ.tissue),), organ.breathing)
            _paint(labels, whole, (name,), view)
    return labels


def classes() -> tuple[int, ...]:
    """The class ids that the network learns, in ascending order."""
    return tuple(sorted(CLASS_IDS[name] for name in LEARNED))


def _scan(case: Case) -> Scan:
    site = site_named(case.site)
    cycle = draw_cycle(case.seed, case.size, site, draw_patient(case.seed, case.site, "P1"), 0, 1)
    return draw_scans(cycle, [_SCAN_H], refused=False)[0]


def _varied(rng: np.random.Generator, torso: Torso, view: View) -> tuple[Torso, View]:
    shift = rng.uniform(-1.0, 1.0, 3) * _FIELD_SHIFT_MM
    x, y, z = (float(a + b) for a, b in zip(view.grid.origin_mm, shift, strict=True))
    taken = f"kidney_{rng.choice(['left', 'right'])}" if rng.uniform() < _KIDNEY_TAKEN else ""
    if len(torso.kidney_sides) > 1:
        torso = replace(torso, organs={name: organ for name, organ in torso.organs.items() if name != taken})
    # A view keeps what it has computed for its grid: a new one is needed.
    return torso, View(replace(view.grid, origin_mm=(x, y, z)), view.pose, view.lift_mm)


def _organ_name(organ: Organ) -> str | None:
    """Salivary glands are no class of this task; marrow and lesions belong to what is around them."""
    if organ.name.startswith("lesion") or organ.name == MARROW:
        return None
    if organ.name.startswith(("parotid", "submandibular")):
        return _CLEAR
    return "urinary_bladder" if organ.name == BLADDER else organ.name


def _part_names(torso: Torso) -> list[Names]:
    """What TotalSegmentator calls the parts of a torso, in the order in which they are painted."""
    return [names for group in _groups(torso) for names in group]


def _body(torso: Torso, view: View) -> NDArray[np.bool_]:
    body = np.zeros(view.grid.shape, bool)
    for part in torso.parts[:3]:  # arms and trunk
        for block, share, _ in painted_layers(replace(part, layers=part.layers[:1]), view):
            body[block] |= share > 0.5
    return body


def _groups(torso: Torso) -> Iterator[list[Names]]:
    skip: Names = ()
    yield 5 * [skip]  # arms, skin and fat, wall, cavity
    for side in ("right", "left"):  # erector, gluteal muscles, psoas, square lumbar muscle, crus
        yield [(f"autochthon_{side}",), skip, skip, (f"iliopsoas_{side}",), skip, skip]
    yield [(_LUNGS,), ("heart",), ("trachea",)]
    yield 10 * [skip]  # bronchi and vessels of the lungs
    yield [("aorta",), ("aorta",), ("inferior_vena_cava",), skip, ("esophagus",), skip]
    yield 4 * [skip]  # iliac vessels
    yield [("small_bowel",), skip, ("colon",), *5 * [skip]]  # each with its gas
    yield [("prostate",) if torso.habitus.sex == "M" else skip]
    yield [("stomach",), skip, ("duodenum",), ("pancreas",), ("adrenal_gland_left",), ("adrenal_gland_right",)]
    yield [("gallbladder",)]
    yield [skip, ("thyroid_gland",), skip, skip]  # tongue, thyroid, carotids
    yield [skip, *((f"vertebrae_{name}",) for name in VERTEBRAE)]  # discs, then bodies
    yield [(f"vertebrae_{name}",) for name in VERTEBRAE for _ in range(5)]  # arches
    yield [("spinal_cord",)]
    yield 45 * [skip]  # ribs, cartilage and sternum
    for side in ("right", "left"):
        yield [*9 * [skip], (f"humerus_{side}",)]  # clavicle, scapula and its socket
    yield [("sacrum",)]
    for side in ("right", "left"):
        hip: Names = (f"hip_{side}",)
        yield [*29 * [hip], (_CLEAR,), (f"femur_{side}",), *3 * [hip]]  # cleared: the cartilage of the joint
    yield [("skull", "brain"), skip, skip]  # jaw and palate


def _paint(labels: Labels, part: Part, names: Names, view: View) -> None:
    moved = view.breathing(part.breathing)
    for name, (block, share, _) in zip(names, painted_layers(part, moved), strict=False):
        if name == _LUNGS:
            left, right = CLASS_IDS[LEFT_LUNG], CLASS_IDS[RIGHT_LUNG]
            label: Labels | int = np.where(moved.points(block).x > 0.0, left, right).astype(np.uint8)
        else:
            label = CLASS_IDS[name] if name in LEARNED else 0
        labels[block] = np.where(share > 0.5, label, labels[block])
