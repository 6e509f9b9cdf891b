"""A virtual patient's body: parts, organs with a truth of their own, volumes and masses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter

from doseledger.geometry import Grid
from doseledger.phantom.bowel import bowel, lesser_pelvis
from doseledger.phantom.habitus import Habitus, Sex
from doseledger.phantom.lesions import Lesion, Place, draw_lesions
from doseledger.phantom.neck import salivary_glands, soft_parts
from doseledger.phantom.parts import Organ, Part
from doseledger.phantom.render import Painted, paint_organs
from doseledger.phantom.shapes import Image, vector
from doseledger.phantom.skeleton import LUMBAR, Spine, bones
from doseledger.phantom.surfaces import Oval, Union
from doseledger.phantom.table import Table
from doseledger.phantom.tissues import SPONGIOSA, URINE
from doseledger.phantom.trunk import Domes, chest, muscles, outer_layers, vessels
from doseledger.phantom.view import View
from doseledger.phantom.viscera import upper_abdomen
from doseledger.units import MM3_PER_ML

#: Sums of parts, and the parts that a patient may have.
SUMS: Final[dict[str, tuple[str, ...]]] = {"kidneys": ("kidney_left", "kidney_right")}
BLADDER: Final = "bladder"
MARROW: Final = "lumbar_marrow"

#: Voxels along the longest side of an organ when its volume is taken, and the finest voxel, mm.
_VOLUME_STEPS: Final = 64
_FINEST_MM: Final = 0.8
#: Urine right after voiding, mL.
RESIDUAL_URINE_ML: Final = 30.0
_TEXTURE_VOXELS: Final = 48
_MARROW_PATCHINESS: Final = 0.05
_ONE_KIDNEY_PROBABILITY: Final = 0.06
_CONTRAST_PROBABILITY: Final = 0.15


@dataclass(frozen=True, eq=False)
class Torso:
    """One patient at rest in one cycle.

    Attributes
    ----------
    parts
        Painted first, in this order.
    organs
        Organs and lesions with curves of their own, painted over the parts in this order: a lesion
        takes its place from the organ around it.
    on_top
        Seen by CT over everything else.
    lesions
        As drawn for the first cycle.
    texture
        A cube of smooth noise with standard deviation one, for how tissues differ from place to place.
    contrast
        Whether this patient's CTs are taken with contrast medium.
    """

    habitus: Habitus
    parts: tuple[Part, ...]
    organs: Mapping[str, Organ]
    on_top: tuple[Part, ...]
    lesions: tuple[Lesion, ...]
    table: Table
    texture: Image
    contrast: bool

    def with_lesions(self, volume_ml: Mapping[str, float]) -> Torso:
        """The same patient in another cycle, with lesions grown or shrunk about their centres."""
        changed = {lesion.name: lesion.organ(volume_ml[lesion.name]) for lesion in self.lesions}
        return replace(self, organs={**self.organs, **changed})

    def with_urine(self, volume_ml: float) -> Torso:
        """The same patient with this much urine in the bladder."""
        return replace(self, organs={**self.organs, BLADDER: _bladder(self.habitus, volume_ml)})

    @property
    def kidney_sides(self) -> tuple[str, ...]:
        return tuple(side for side in ("left", "right") if f"kidney_{side}" in self.organs)

    def volume_ml(self, region: str) -> float:
        """Volume of an organ without the lesions in it, or of a sum."""
        return sum(
            float(self._painted(part).share.sum(dtype=np.float64)) * self._voxel_ml(part)
            for part in self.members(region)
        )

    def mass_g(self, region: str) -> float:
        return sum(self.volume_ml(part) * self.organs[part].tissue.density_g_per_ml for part in self.members(region))

    def weighted_ml(self, organ: str) -> float:
        """Volume times activity per volume over that of the organ's main tissue."""
        return float(self._painted(organ).weight.sum(dtype=np.float64)) * self._voxel_ml(organ)

    def members(self, region: str) -> tuple[str, ...]:
        return tuple(part for part in SUMS.get(region, (region,)) if part in self.organs)

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions with a truth: kidneys first, then organs, lesions, and sums of what there is."""
        first = tuple(name for name in ("kidney_left", "kidney_right", "liver", "spleen") if name in self.organs)
        rest = tuple(name for name in self.organs if name not in first and name != BLADDER)
        return (*first, *rest, *(name for name in SUMS if self.members(name)))

    @cached_property
    def _fine(self) -> dict[str, Painted]:
        return {}

    def _painted(self, name: str) -> Painted:
        """An organ on a fine grid of its own, without what is painted over it."""
        if name not in self._fine:
            names = list(self.organs)
            own = self.organs[name]
            over = [self.organs[other] for other in names[names.index(name) + 1 :]]
            near = [other for other in over if other.solid.box.touches(own.solid.box)]
            self._fine[name] = paint_organs([own, *near], View(_grid_around(own)), samples=1)[0]
        return self._fine[name]

    def _voxel_ml(self, name: str) -> float:
        return _grid_around(self.organs[name]).voxel_volume_ml


def draw_torso(rng: np.random.Generator, *, sex: Sex, odds: Mapping[Place, float], with_neck: bool) -> Torso:
    """Draw a patient.

    Parameters
    ----------
    odds
        Probability of each place of a lesion.
    with_neck
        Whether the scanners see the salivary glands.
    """
    habitus = Habitus.drawn(rng, sex)
    spine = Spine.of(habitus)
    domes = Domes.drawn(rng, habitus)
    one_kidney, side = rng.uniform() < _ONE_KIDNEY_PROBABILITY, str(rng.choice(["left", "right"]))
    sides = (side,) if one_kidney else ("left", "right")
    upper = upper_abdomen(rng, habitus, spine, domes, sides)
    glands = salivary_glands(rng, habitus)
    lumbar = Union(tuple(spine.marrow(name) for name in LUMBAR))
    organs = {
        BLADDER: _bladder(habitus, RESIDUAL_URINE_ML),
        MARROW: Organ(MARROW, lumbar, SPONGIOSA, patchiness=_MARROW_PATCHINESS),
        **{gland.name: gland for gland in glands if with_neck},
        **{organ.name: organ for organ in (upper.spleen, upper.liver, *upper.kidneys)},
    }
    avoid = [organ.solid for organ in (upper.spleen, *upper.kidneys)]
    lesions = draw_lesions(rng, habitus, spine, upper.liver, avoid, dict(odds))
    organs |= {lesion.name: lesion.organ(lesion.volume_ml) for lesion in lesions}
    parts = (
        *outer_layers(habitus),
        *muscles(habitus, spine),
        *chest(rng, habitus, spine, domes),
        *vessels(habitus, spine),
        *bowel(rng, habitus),
        *lesser_pelvis(rng, habitus),
        *upper.parts,
        *soft_parts(habitus),
        *(replace(bone, faint=True) for bone in bones(habitus, spine)),
    )
    noise = rng.standard_normal((_TEXTURE_VOXELS,) * 3, dtype=np.float32)
    smooth = gaussian_filter(noise, 0.9, mode="wrap")
    return Torso(
        habitus=habitus,
        parts=parts,
        organs=organs,
        on_top=tuple(upper.on_top),
        lesions=lesions,
        table=Table.under(float(habitus.body.edge(0.0, 0.0)[1])),
        texture=smooth / smooth.std(),
        contrast=bool(rng.uniform() < _CONTRAST_PROBABILITY),
    )


def _bladder(habitus: Habitus, volume_ml: float) -> Organ:
    """A bladder that fills upwards from the floor of the pelvis."""
    half = np.array((1.15, 0.95, 0.92)) * (3.0 * volume_ml * MM3_PER_ML / (4.0 * np.pi * 1.005)) ** (1.0 / 3.0)
    floor = habitus.at(0.0, -22.0, -252.0)
    return Organ(BLADDER, Oval.at(floor + vector(0.0, 0.0, half[2]), half), URINE)


def _grid_around(organ: Organ) -> Grid:
    box = organ.solid.box
    size = box.high_mm - box.low_mm
    step = max(float(size.max()) / _VOLUME_STEPS, _FINEST_MM)
    z, y, x = (int(n) for n in np.ceil(size / step)[::-1] + 2)
    low = box.low_mm - 0.5 * step
    return Grid((z, y, x), (step, step, step), (float(low[0]), float(low[1]), float(low[2])))
