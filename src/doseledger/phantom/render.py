"""Painting of virtual patients on any grid: CT numbers, densities, and where the activity is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid
from doseledger.phantom.parts import Layer, Organ, Part
from doseledger.phantom.shapes import Block, Image
from doseledger.phantom.tissues import AIR, AIR_G_PER_ML, AIR_HU, Tissue
from doseledger.phantom.view import Points, View, common, inside, voxel_mm, wave

#: Edge of a voxel of the texture cube, mm.
_TEXTURE_MM: Final = 3.6
#: What is thinner than this share of a voxel is not painted.
_SEEN_FROM: Final = 0.9
#: Wavelengths of uneven uptake inside an organ, mm, along x, y and z.
_PATCHES_MM: Final = ((61.0, 83.0, 97.0), (-47.0, 71.0, 58.0), (90.0, -52.0, 66.0))


@dataclass(frozen=True, eq=False)
class Painted:
    """An organ on a grid.

    Attributes
    ----------
    share
        Share of each voxel of the block in the organ and in nothing that is painted over it.
    weight
        The same times the activity per volume over that of the organ's main tissue.
    whole
        Whether all of the organ is inside the grid.
    """

    organ: Organ
    block: Block
    share: Image
    weight: Image
    whole: bool


def share_inside(distance_mm: Image, width_mm: float, depth_mm: float = 0.0) -> Image:
    """Share of each voxel beyond a depth under the surface, from the distance at its centre.

    A surface fills a voxel linearly: one half when it passes the centre, nothing or all half a voxel
    before and after. For a flat surface along the grid this is exact.
    """
    return np.asarray(np.clip(np.float32(0.5 - depth_mm / width_mm) - distance_mm * np.float32(1.0 / width_mm), 0, 1))


def paint_hounsfield(
    parts: Iterable[Part],
    organs: Iterable[Organ],
    on_top: Iterable[Part],
    view: View,
    texture: Image,
    *,
    contrast: bool,
) -> Image:
    """CT numbers without noise, HU ``(z, y, x)``."""
    image = np.full(view.grid.shape, AIR_HU, dtype=np.float32)
    as_parts = (part for organ in organs for part in _as_parts(organ))
    for part in (*parts, *as_parts, *on_top):
        moved = view.breathing(part.breathing)
        for block, share, tissue in painted_layers(part, moved):
            hu: Image | np.float32 = np.float32(tissue.seen_hu(contrast))
            if tissue.texture_hu > 0.0:
                hu = hu + np.float32(tissue.texture_hu) * texture_at(texture, moved.points(block))
            image[block] += share * (hu - image[block])
    return image


def paint_uptake(parts: Iterable[Part], view: View) -> Image:
    """Activity per volume over the mean of the body, of all that is no organ with a curve."""
    image = np.zeros(view.grid.shape, dtype=np.float32)
    for part in parts:
        if not (part.on_ct_only or part.faint):
            for block, share, tissue in painted_layers(part, view.breathing(part.breathing)):
                image[block] += share * (np.float32(tissue.uptake) - image[block])
    return image


def paint_matter(parts: Iterable[Part], organs: Iterable[Organ], view: View) -> tuple[Image, NDArray[np.uint8]]:
    """Density in g/mL and material index, ``(z, y, x)``; the material is that of most of the voxel."""
    density = np.full(view.grid.shape, AIR_G_PER_ML, dtype=np.float32)
    material = np.full(view.grid.shape, AIR, dtype=np.uint8)
    as_parts = (part for organ in organs for part in _as_parts(organ))
    for part in (*parts, *as_parts):
        if not part.on_ct_only:
            for block, share, tissue in painted_layers(part, view.breathing(part.breathing)):
                density[block] += share * (np.float32(tissue.density_g_per_ml) - density[block])
                material[block][share > 0.5] = tissue.material
    return density, material


def paint_organs(organs: Sequence[Organ], view: View, *, samples: int) -> list[Painted]:
    """Organs in the order of painting; each takes its place from those before it.

    Parameters
    ----------
    samples
        Points per voxel and axis at which surfaces are looked at.
    """
    painted: list[Painted] = []
    for organ in organs:
        new = _paint_organ(organ, view, samples)
        for old in painted:
            here = common(old.block, new.block)
            if min(part.stop - part.start for part in here) > 0:
                free = 1 - new.share[inside(new.block, here)]
                old.share[inside(old.block, here)] *= free
                old.weight[inside(old.block, here)] *= free
        painted.append(new)
    return painted


def texture_at(texture: Image, points: Points) -> Image:
    """The texture cube at points, repeated without end."""
    size = len(texture)
    x, y, z = (np.floor(p * np.float32(1.0 / _TEXTURE_MM)).astype(np.int32) % size for p in points)
    return np.asarray(texture[z, y, x])


def painted_layers(part: Part, moved: View) -> Iterator[tuple[Block, Image, Tissue]]:
    """Block, share and tissue of each layer of a part, from the outside in; nothing of what is too thin to be seen."""
    width = voxel_mm(moved.grid)
    if part.solid.thickness_mm < _SEEN_FROM * width:
        return
    block = moved.block(part.solid.box.grown(width))
    if min(side.stop - side.start for side in block) == 0:
        return
    distance = part.solid.distance(moved, block)
    for layer in part.layers:
        share = share_inside(distance, width, layer.depth_mm)
        if not share.any():
            return
        yield block, share, layer.tissue


def _as_parts(organ: Organ) -> list[Part]:
    whole = Part(organ.solid, (Layer(0.0, organ.tissue),), organ.breathing)
    return [whole, *(Part(zone.solid, (Layer(0.0, zone.tissue),), organ.breathing) for zone in organ.zones)]


def _paint_organ(organ: Organ, view: View, samples: int) -> Painted:
    moved = view.breathing(organ.breathing)
    box = organ.solid.box.grown(voxel_mm(view.grid))
    block = moved.block(box)
    fine = replace(moved, grid=_finer(view.grid, samples))
    fine_block = tuple(slice(part.start * samples, part.stop * samples) for part in block)
    share, weight = _share_and_weight(organ, fine, fine_block)  # type: ignore[arg-type]
    return Painted(organ, block, _pooled(share, samples), _pooled(weight, samples), moved.holds(box))


def _share_and_weight(organ: Organ, view: View, block: Block) -> tuple[Image, Image]:
    width = voxel_mm(view.grid)
    share = share_inside(organ.solid.distance(view, block), width)
    uptake = np.ones_like(share)
    points = view.points(block)
    if organ.patchiness > 0.0:
        strength = np.float32(organ.patchiness * np.sqrt(2.0 / len(_PATCHES_MM)))
        for number, lengths in enumerate(_PATCHES_MM):
            uptake += strength * wave(points, 2.0 * np.pi / np.array(lengths), float(number))
    for zone in organ.zones:
        part = share_inside(zone.solid.distance(view, block), width)
        uptake += part * (np.float32(zone.uptake) - uptake)
    return share, share * uptake


def _finer(grid: Grid, samples: int) -> Grid:
    """Each voxel split into `samples` along each axis."""
    z, y, x = grid.shape
    dz, dy, dx = grid.spacing_mm
    first = grid.position_mm(np.full(3, 0.5 / samples - 0.5))
    return Grid(
        (z * samples, y * samples, x * samples), (dz / samples, dy / samples, dx / samples), first, grid.direction
    )


def _pooled(values: Image, samples: int) -> Image:
    if samples == 1:
        return values
    z, y, x = (size // samples for size in values.shape)
    return np.asarray(values.reshape(z, samples, y, samples, x, samples).mean(axis=(1, 3, 5)))
