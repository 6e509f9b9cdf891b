"""Which sections of a scan the contact sheet shows, as grey pixels with outlines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from scipy import ndimage

from doseledger.errors import UnknownNameError
from doseledger.geometry import Grid, Vector
from doseledger.report import words
from doseledger.report.figures import BQ_PER_KBQ
from doseledger.report.sections import (
    AXIAL,
    CORONAL,
    DOWN_ACROSS,
    SAGITTAL,
    Box,
    FoundRegion,
    Index,
    ScanPanel,
    Upright,
    body_box,
    find_regions,
    finite,
    labels_at,
    pixels,
    sampled,
    section_box,
)

KIDNEYS: Final = ("kidneys", "kidney_left", "kidney_right")
#: Soft-tissue window, HU: level 40, width 400.
_CT_WINDOW_HU: Final = (-160.0, 240.0)
#: White in pictures of activity is this percentile: one hot voxel hides nothing.
_TOP_PERCENTILE: Final = 99.8
#: Grey is activity to this power: organs show beside much hotter lesions.
_GAMMA: Final = 0.6
#: Steps of 6 HU in the window: finer ones hold noise alone, which makes up most of the file.
_GREY_LEVELS: Final = 64
#: Of a slice: the middle of an even number of slices is half-way, which rounding errors must not decide.
_HALF_WAY: Final = 1.0e-6
_LETTERS: Final = {AXIAL: ("R", "L", "A"), CORONAL: ("R", "L", "H"), SAGITTAL: ("A", "P", "H")}
_PLANES: Final = {AXIAL: "Axial", CORONAL: "Coronal", SAGITTAL: "Sagittal"}


@dataclass(frozen=True, eq=False)
class Outline:
    """One region in a picture; positions ``(n, 2)`` of x and y are in pixels from the upper left corner.

    `middle` is where the region is widest, `radius` the distance from there to its edge.
    """

    lines: list[Index]
    middle: Index
    radius: float


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a scan.

    Attributes
    ----------
    grey
        Grey values ``(row, column)``, uint8.
    outlines
        By label.
    letters
        What is to the left, to the right and above.
    """

    caption: str
    grey: NDArray[np.uint8]
    outlines: dict[int, Outline]
    letters: tuple[str, str, str]
    px_per_mm: float


@dataclass(frozen=True)
class Plane:
    """A section normal to an axis of the upright volume, through a point (LPS, mm)."""

    axis: int
    name: str
    through_mm: Vector

    def slice_of(self, grid: Grid) -> float:
        """The nearest slice of an image: between two slices an outline would stand on neither."""
        place = float(grid.index(np.array([self.through_mm]))[0, self.axis])
        return float(np.clip(np.floor(place + 0.5 + _HALF_WAY), 0, grid.shape[self.axis] - 1))


class ScanView:
    """A scan made ready for drawing: what is in it and which sections show it.

    Parameters
    ----------
    panel
        The scan; its arrays are kept, not copied.
    names
        Region name of each label.

    Attributes
    ----------
    found
        The regions that have voxels, by name.
    planes
        Which sections are shown, in this order; None where there is nothing to show.

    Raises
    ------
    UnknownNameError
        The label map holds a label without a name.
    """

    def __init__(self, panel: ScanPanel, names: Mapping[int, str]) -> None:
        self.panel = panel
        self._labels = Upright.of(panel.labels, panel.labels_grid)
        by_label = find_regions(self._labels)
        unnamed = sorted(set(by_label) - set(names))
        if unnamed:
            what = f"the label map of scan {panel.time_point} holds labels without a region"
            raise UnknownNameError(what, value=unnamed, expected=dict(names))
        self._by_label = by_label
        self.found = {names[label]: region for label, region in by_label.items()}
        self._image = _background(panel, self._labels)
        self._box = section_box(
            body_box(self._image, activity=panel.hu is None), self._image.grid, self._labels.grid, by_label.values()
        )
        self._maximum = _maximum_projection(panel, self._image.grid, self._box)
        self.planes = _planes(self.found, self._image.grid, self._box)

    def sizes_mm(self) -> list[tuple[float, float] | None]:
        """Height and width of each section; None where there is none."""
        return [None if plane is None else self._size_mm(plane) for plane in self.planes]

    def projection_size_mm(self) -> tuple[float, float]:
        """Height and width of the SPECT projection; zero without SPECT."""
        if self._maximum is None:
            return 0.0, 0.0
        image, box = self._maximum
        return box.size_mm(image.grid, 0), box.size_mm(image.grid, 2)

    def pictures(self, px_per_mm: float, projection_px_per_mm: float) -> list[Picture | None]:
        """The sections, in the order of `planes`, and the SPECT projection."""
        sections = [None if plane is None else self._section(plane, px_per_mm) for plane in self.planes]
        return [*sections, self._projection(projection_px_per_mm)]

    def _size_mm(self, plane: Plane) -> tuple[float, float]:
        down, across = DOWN_ACROSS[plane.axis]
        return self._box.size_mm(self._image.grid, down), self._box.size_mm(self._image.grid, across)

    def _section(self, plane: Plane, px_per_mm: float) -> Picture:
        grid = self._image.grid
        points = pixels(self._box, plane.axis, plane.slice_of(grid), _shape(self._size_mm(plane), px_per_mm))
        labels = labels_at(self._labels, points, grid)
        return Picture(
            caption=f"{_PLANES[plane.axis]}, {plane.name}",
            grey=self._grey(sampled(self._image, points)),
            # A pixel's centre is half a pixel from its corner, where positions in a picture start.
            outlines={int(n): _outline(labels == n, lambda at: at + 0.5) for n in np.unique(labels[labels > 0])},
            letters=_LETTERS[plane.axis],
            px_per_mm=px_per_mm,
        )

    def _grey(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        if self.panel.hu is None:
            return _activity_grey(values, _top(values))
        low, high = _CT_WINDOW_HU
        return _grey(np.clip((values - low) / (high - low), 0.0, 1.0))

    def _projection(self, px_per_mm: float) -> Picture | None:
        if self._maximum is None:
            return None
        image, box = self._maximum
        shape = _shape(self.projection_size_mm(), px_per_mm)
        values = sampled(image, pixels(box, CORONAL, 0.0, shape))
        top = _top(values)

        def place_shadow(region: FoundRegion) -> Outline:
            depth = float(self._labels.grid.index(np.array([region.centroid_mm]))[0, 1])

            def to_picture(at: Index) -> Index:
                index = np.column_stack(
                    [at[:, 1] + region.first[0], np.full(len(at), depth), at[:, 0] + region.first[2]]
                )
                seen = image.grid.index(_positions_mm(self._labels.grid, index))
                x = (seen[:, 2] - box.low[2]) / (box.high[2] - box.low[2]) * shape[1]
                y = (box.high[0] - seen[:, 0]) / (box.high[0] - box.low[0]) * shape[0]
                return np.column_stack([x, y])

            return _outline(region.shadow, to_picture)

        outlines = {label: place_shadow(region) for label, region in self._by_label.items()}
        caption = f"SPECT maximum; white: {words.significant(top / BQ_PER_KBQ)} kBq/mL"
        return Picture(caption, _activity_grey(values, top), outlines, _LETTERS[CORONAL], px_per_mm)


def _background(panel: ScanPanel, labels: Upright) -> Upright:
    """What sections show: CT, else SPECT, else nothing but the outlines."""
    if panel.hu is not None and panel.ct_grid is not None:
        return Upright.of(panel.hu, panel.ct_grid)
    if panel.spect_bq_per_ml is not None and panel.spect_grid is not None:
        return Upright.of(panel.spect_bq_per_ml, panel.spect_grid)
    # A volume of zeros that takes no memory.
    return Upright(np.broadcast_to(np.float32(0.0), labels.grid.shape), labels.grid)


def _maximum_projection(panel: ScanPanel, section_grid: Grid, section: Box) -> tuple[Upright, Box] | None:
    """Largest activity along the line of sight, as a volume of one coronal slice, and what of it is shown.

    All of its height: activity above and below the CT or the regions must be seen.
    """
    if panel.spect_bq_per_ml is None or panel.spect_grid is None:
        return None
    spect = Upright.of(panel.spect_bq_per_ml, panel.spect_grid)
    corners = np.array([np.where(corner, section.high, section.low) for corner in np.ndindex(2, 2, 2)])
    across = spect.grid.index(_positions_mm(section_grid, corners))[:, 2]
    active = body_box(spect, activity=True)
    rows, _, columns = spect.grid.shape
    low = max(min(float(across.min()), active.low[2]), -0.5)
    high = min(max(float(across.max()), active.high[2]), columns - 0.5)
    image = Upright(finite(spect.values.max(axis=1))[:, None, :], spect.grid)
    return image, Box((-0.5, -0.5, low), (rows - 0.5, 0.5, high))


def _planes(found: Mapping[str, FoundRegion], grid: Grid, box: Box) -> list[Plane | None]:
    """Coronal and axial through the kidneys, axial through the liver, sagittal through the largest lesion.

    Where these are missing: through all regions, the second largest and the largest one; without any region
    through the middle of what is shown. A slice is not shown twice.
    """
    if not found:
        middle = grid.position_mm((np.asarray(box.low) + np.asarray(box.high)) / 2.0)
        name = "middle"
        return [Plane(CORONAL, name, middle), Plane(AXIAL, name, middle), None, Plane(SAGITTAL, name, middle)]
    by_size = sorted(found, key=lambda name: (-found[name].volume_ml, name))
    kidneys = [name for name in KIDNEYS if name in found]
    first = kidneys or list(found)
    first_name = ("kidneys" if len(kidneys) != 1 else _named(kidneys[0])) if kidneys else "all regions"
    middle = _middle_mm(found[name] for name in first)
    others = [name for name in by_size if name not in kidneys] if kidneys else by_size[1:]
    second = "liver" if "liver" in others or (not kidneys and len(found) > 1 and "liver" in found) else None
    second = second or (others[0] if others else None)
    lesions = [name for name in by_size if name.startswith("lesion")]
    third = (lesions or by_size)[0]
    axial = Plane(AXIAL, first_name, middle)
    other = None if second is None else Plane(AXIAL, _named(second), found[second].centroid_mm)
    return [
        Plane(CORONAL, first_name, middle),
        axial,
        None if other is None or other.slice_of(grid) == axial.slice_of(grid) else other,
        Plane(SAGITTAL, _named(third), found[third].centroid_mm),
    ]


def _middle_mm(regions: Iterable[FoundRegion]) -> Vector:
    items = list(regions)
    x, y, z = np.average([item.centroid_mm for item in items], axis=0, weights=[item.volume_ml for item in items])
    return (float(x), float(y), float(z))


def _named(region: str) -> str:
    return words.region(region).lower()


def _positions_mm(grid: Grid, index: Index) -> Index:
    to_lps = grid.index_to_lps
    return np.asarray(index @ to_lps[:3, :3].T + to_lps[:3, 3])


def _shape(size_mm: tuple[float, float], px_per_mm: float) -> tuple[int, int]:
    return max(1, round(size_mm[0] * px_per_mm)), max(1, round(size_mm[1] * px_per_mm))


def _top(values: NDArray[np.float64]) -> float:
    """White of a picture of activity; an empty picture is black."""
    top = float(np.percentile(values, _TOP_PERCENTILE))
    return top if top > 0 else max(float(values.max()), 0.0)


def _activity_grey(values: NDArray[np.float64], top: float) -> NDArray[np.uint8]:
    scaled = np.clip(values / top, 0.0, 1.0) if top > 0 else np.zeros_like(values)
    return _grey(scaled**_GAMMA)


def _grey(brightness: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Grey values of a brightness from 0 to 1."""
    steps = np.rint(brightness * (_GREY_LEVELS - 1))
    return np.rint(steps * (255.0 / (_GREY_LEVELS - 1))).astype(np.uint8)


def _outline(mask: NDArray[np.bool_], to_picture: Callable[[Index], Index]) -> Outline:
    """The outline of a mask; `to_picture` turns positions of x and y in its pixels into those of the picture."""
    # Without a frame of zeros lines would not close at the edge.
    framed = np.pad(mask, 1)
    lines = [to_picture(np.asarray(line) - 1.0) for line in contour_generator(z=framed.astype(float)).lines(0.5)]
    row, column = np.unravel_index(np.argmax(ndimage.distance_transform_edt(framed)), framed.shape)
    middle = to_picture(np.array([[column - 1.0, row - 1.0]]))[0]
    return Outline(lines, middle, float(np.min(np.hypot(*(np.concatenate(lines) - middle).T))))
