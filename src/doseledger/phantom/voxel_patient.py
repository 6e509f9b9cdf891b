"""A virtual patient with the anatomy of a real one: CT and organ outlines of a patient treated with 177Lu-DOTATATE.

The voxel maps are not part of doseledger (licence MIT, https://github.com/BenAuer2021/Phantoms-For-Nuclear-Medicine-
Imaging-Simulation, folder ``patient_LuDOTATATE_phantoms``). What is real and what is chosen:

* real: the CT, and the regions. They were outlined at the Christie NHS Foundation Trust; nothing here is thresholded.
  The "source" map holds no measured activity. It holds a code in each region and CT numbers everywhere else.
* from the same publication: the share of each region in 235 MBq, the authors' example for their simulations. Taken here
  as the activity `REFERENCE_TIME_H` after mid-infusion.
* chosen: administered activity, half-lives, activity in the rest of the body, and all times. The patient does not move
  and does not breathe.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import exp, log, pi, sqrt
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes
from scipy.ndimage import label as connected_components

from doseledger.dose import density_from_hu
from doseledger.errors import GeometryError, QuantityError
from doseledger.geometry import Grid, Vector
from doseledger.phantom.interfile import read_interfile
from doseledger.phantom.shapes import Bools, Floats, Image
from doseledger.phantom.truth import Curve
from doseledger.units import BQ_PER_MBQ

#: Headers of the two maps.
SOURCE_HEADER: Final = "patient15_LuDOTATATE_src.h33"
ATTENUATION_HEADER: Final = "patient15_LuDOTATATE_attn.h33"


@dataclass(frozen=True)
class CodedRegion:
    """A region of the source map.

    Attributes
    ----------
    code
        Its value in the map.
    voxels
        How many voxels have it, as published: a check of the file.
    gamma_bq_per_voxel
        The authors' example of 235 MBq in all, as gamma rays per second and voxel.
    half_life_h
        Chosen effective half-life.
    """

    code: int
    voxels: int
    gamma_bq_per_voxel: float
    half_life_h: float

    @property
    def activity_mbq(self) -> float:
        """At `REFERENCE_TIME_H`."""
        return self.voxels * self.gamma_bq_per_voxel / GAMMAS_PER_DECAY / BQ_PER_MBQ


#: Published table of the source map; half-lives typical of 177Lu-DOTATATE.
REGIONS: Final[dict[str, CodedRegion]] = {
    "liver": CodedRegion(15000, 15381, 1167.645, 65.0),
    "spleen": CodedRegion(16000, 1535, 3847.511, 68.0),
    "kidney_left": CodedRegion(17000, 2052, 2625.665, 51.0),
    "kidney_right": CodedRegion(18000, 2493, 2576.813, 51.0),
    "lesion_1": CodedRegion(19000, 93, 28595.65, 80.0),
    "lesion_2": CodedRegion(20000, 55, 25746.21, 80.0),
    "lesion_3": CodedRegion(21000, 90, 9210.026667, 80.0),
}
#: Gamma rays per decay that the authors' example counts with.
GAMMAS_PER_DECAY: Final = 0.172688
REFERENCE_TIME_H: Final = 24.0
#: Rest of the body: concentration at the reference time, and half-life.
REST_BQ_PER_ML: Final = 3.0e3
REST_HALF_LIFE_H: Final = 36.0

#: The attenuation map holds CT numbers plus 1000, and this value where the authors outlined the table.
_HU_OFFSET: Final = 1000
_TABLE_VALUE: Final = 3000
#: What the table becomes: carbon fibre and foam in the same voxel.
_TABLE_HU: Final = -200.0
#: CT numbers of the body's surface and above.
_BODY_ABOVE_HU: Final = -300.0


@dataclass(frozen=True, eq=False)
class VoxelPatient:
    """Arrays ``(z, y, x)`` on an axial grid in patient coordinates.

    Attributes
    ----------
    labels
        0 outside the regions, else 1 + index into `REGIONS`.
    body
        The patient in the field with everything inside, without the table.
    """

    grid: Grid
    hu: Image
    labels: NDArray[np.uint8]
    body: Bools

    @cached_property
    def density_g_per_ml(self) -> Image:
        return density_from_hu(self.hu)

    @cached_property
    def masks(self) -> dict[str, Bools]:
        """Voxels of each region, and of the ``rest`` of the body."""
        regions = {name: self.labels == number for number, name in enumerate(REGIONS, start=1)}
        return {**regions, "rest": self.body & (self.labels == 0)}

    @property
    def radius_mm(self) -> float:
        """Radius of the circle with the mean area of the body's sections."""
        _, height, width = self.grid.spacing_mm
        return sqrt(float(self.body.sum()) / len(self.body) * height * width / pi)

    def volume_ml(self, name: str) -> float:
        return float(self.masks[name].sum()) * self.grid.voxel_volume_ml

    def mass_g(self, name: str) -> float:
        return float(self.density_g_per_ml[self.masks[name]].sum(dtype=np.float64)) * self.grid.voxel_volume_ml

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """Activity of each region, and of the ``rest`` of the body in the field, from mid-infusion."""
        curves = {name: _decaying(region.activity_mbq, region.half_life_h) for name, region in REGIONS.items()}
        curves["rest"] = _decaying(REST_BQ_PER_ML / BQ_PER_MBQ * self.volume_ml("rest"), REST_HALF_LIFE_H)
        return curves

    def activity_bq_per_ml(self, time_h: float) -> Image:
        """True activity concentration, hours after mid-infusion; even within each region."""
        image = np.zeros(self.grid.shape, dtype=np.float32)
        for name, mask in self.masks.items():
            image[mask] = self.curves[name].activity_mbq(time_h) * BQ_PER_MBQ / self.volume_ml(name)
        return image


def read_voxel_patient(folder: Path) -> VoxelPatient:
    """Read both maps and turn them into patient coordinates.

    The file counts rows from the back to the front and slices from the head downwards; columns go
    from right to left of the patient, as in DICOM. CT number = value - 1000.

    Parameters
    ----------
    folder
        Holds the headers `SOURCE_HEADER` and `ATTENUATION_HEADER`, with their values.

    Raises
    ------
    InputMissingError, TagMissingError, UnitError, FileUnreadableError
        See `read_interfile`.
    GeometryError
        The two maps are not on one grid.
    QuantityError
        A region does not have the published number of voxels: it is another file.
    """
    source = read_interfile(folder / SOURCE_HEADER, slice_thickness_unit="mm")
    attenuation = read_interfile(folder / ATTENUATION_HEADER, slice_thickness_unit="mm")
    if source.values.shape != attenuation.values.shape or source.spacing_mm != attenuation.spacing_mm:
        raise GeometryError(
            "the source map and the attenuation map are not on one grid",
            path=folder / SOURCE_HEADER,
            value=(source.values.shape, source.spacing_mm),
            expected=(attenuation.values.shape, attenuation.spacing_mm),
            remedy="Fetch both files again, from the same release.",
        )
    codes, values = source.values[::-1, ::-1], attenuation.values[::-1, ::-1].astype(np.float32)
    table = values == _TABLE_VALUE
    hu = np.where(table, np.float32(_TABLE_HU), values - np.float32(_HU_OFFSET))
    return VoxelPatient(
        grid=_centred(source.values.shape, source.spacing_mm),
        hu=hu,
        labels=_labels(codes, folder / SOURCE_HEADER),
        body=_body((hu > _BODY_ABOVE_HU) & ~table),
    )


def resample_mean(values: Floats | Image, source: Grid, target: Grid) -> Image:
    """Mean over each target voxel of values that are constant within source voxels; zero outside the source.

    Sums times voxel volumes are the same on both grids as far as the target covers the source.

    Raises
    ------
    GeometryError
        The grids are turned against each other.
    """
    if source.direction != target.direction:
        raise GeometryError(
            "the grids are turned against each other", value=target.direction, expected=source.direction
        )
    offset = source.index(np.asarray([target.origin_mm]))[0]
    result = np.asarray(values, dtype=np.float32)
    for axis in range(3):
        ratio = target.spacing_mm[axis] / source.spacing_mm[axis]
        weights = _overlap(source.shape[axis], target.shape[axis], offset[axis], ratio)
        result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def _overlap(n_source: int, n_target: int, offset: float, ratio: float) -> Image:
    """Share of each target voxel ``(target, source)`` that lies in each source voxel, along one axis."""
    centre = offset + ratio * np.arange(n_target)[:, None]
    edge = np.arange(n_source)[None, :] - 0.5
    covered = np.minimum(centre + 0.5 * ratio, edge + 1.0) - np.maximum(centre - 0.5 * ratio, edge)
    return np.asarray(np.clip(covered, 0.0, None) / ratio, dtype=np.float32)


def _centred(shape: tuple[int, ...], spacing_mm: Vector) -> Grid:
    z, y, x = (-(n - 1) / 2.0 * step for n, step in zip(shape, spacing_mm, strict=True))
    return Grid((shape[0], shape[1], shape[2]), spacing_mm, (x, y, z))


def _labels(codes: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    labels = np.zeros(codes.shape, dtype=np.uint8)
    for number, (name, region) in enumerate(REGIONS.items(), start=1):
        inside = codes == region.code
        if inside.sum() != region.voxels:
            raise QuantityError(
                f"region {name} of the source map does not have its published number of voxels",
                path=path,
                value=int(inside.sum()),
                expected=region.voxels,
                remedy="Fetch the file again.",
            )
        labels[inside] = number
    return labels


def _body(tissue: Bools) -> Bools:
    """The largest connected part, with lungs and bowel gas filled in slice by slice."""
    parts, _ = connected_components(tissue)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.stack([binary_fill_holes(plane) for plane in largest])


def _decaying(reference_mbq: float, half_life_h: float) -> Curve:
    """One exponential through the activity at `REFERENCE_TIME_H`."""
    rate_per_h = log(2.0) / half_life_h
    return Curve((reference_mbq * exp(rate_per_h * REFERENCE_TIME_H),), (rate_per_h,))
