"""Left is left and head is head: one asymmetric phantom, in every orientation, through every reader.

The phantom has a mark of its own at its left, right, front, back, head and feet, found by patient
position alone. Whatever way the rows, columns and slices of a file run, the marks must lie there.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Final

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from doseledger.geometry import Grid
from doseledger.io.dicom import read_ct, read_spect
from doseledger.io.nifti import read_image, write_image

from .dicom_factory import ORIENTATIONS, centres, grid_of, put, write_ct, write_pet
from .nm_factory import add_mapping, write_nm_image

#: Directions in LPS and the value of the mark at that end.
MARKS: Final = {
    "left": ((1, 0, 0), 1100),
    "right": ((-1, 0, 0), 1200),
    "back": ((0, 1, 0), 1300),
    "front": ((0, -1, 0), 1400),
    "head": ((0, 0, 1), 1500),
    "feet": ((0, 0, -1), 1600),
}
BACKGROUND: Final = 1000
#: All ways in which rows and columns can run along the axes of the patient, and an oblique one.
ALL: Final = {
    **{
        f"{'+-'[i]}{'xyz'[row]}{'+-'[j]}{'xyz'[column]}": (
            *(float((1, -1)[i]) * np.eye(3)[row]),
            *(float((1, -1)[j]) * np.eye(3)[column]),
        )
        for (row, column), i, j in product(permutations(range(3), 2), (0, 1), (0, 1))
    },
    "oblique": ORIENTATIONS["oblique"],
}


def _places(grid: Grid) -> dict[str, tuple[int, ...]]:
    """Voxel of each mark: the farthest that way, of those the nearest to the middle line."""
    offsets = centres(grid) - grid.centre_mm
    places = {}
    for name, (direction, _) in MARKS.items():
        along = offsets @ np.array(direction, dtype=float)
        aside = np.linalg.norm(offsets - along[..., None] * np.array(direction, dtype=float), axis=-1)
        places[name] = tuple(int(i) for i in np.unravel_index(np.argmax(along - 0.01 * aside), grid.shape))
    assert len(set(places.values())) == len(MARKS)
    return places


def _phantom(grid: Grid) -> NDArray[np.int64]:
    image = np.full(grid.shape, BACKGROUND)
    for name, place in _places(grid).items():
        image[place] = MARKS[name][1]
    return image


def _require_marks(array: NDArray[np.floating], grid: Grid) -> None:
    """By the positions of the marks in the image that was read, whatever its axes."""
    positions = {name: centres(grid)[np.abs(array - value) < 5] for name, (_, value) in MARKS.items()}
    assert {name: len(found) for name, found in positions.items()} == dict.fromkeys(MARKS, 1)
    left, right, back, front, head, feet = (positions[name][0] for name in MARKS)
    assert left[0] - right[0] > 5.0
    assert back[1] - front[1] > 5.0
    assert head[2] - feet[2] > 5.0
    assert np.count_nonzero(np.abs(array - BACKGROUND) < 5) == array.size - len(MARKS)


def _slices(orientation: tuple[float, ...], dtype: str, **more: object) -> Callable[[Dataset, int], None]:
    stored = _phantom(grid_of(orientation))

    def edit(dataset: Dataset, z: int) -> None:
        put(dataset, RescaleSlope=1, RescaleIntercept=0, **more)
        dataset.PixelData = stored[z].astype(dtype).tobytes()

    return edit


@pytest.mark.parametrize("name", ALL)
def test_pt(tmp_path: Path, name: str) -> None:
    write_pet(tmp_path, orientation=ALL[name], edit=_slices(ALL[name], "<u2"))
    image = read_spect(tmp_path)
    _require_marks(image.array_bq_per_ml, image.grid)


@pytest.mark.parametrize("name", ALL)
def test_ct(tmp_path: Path, name: str) -> None:
    write_ct(tmp_path, orientation=ALL[name], edit=_slices(ALL[name], "<i2"))
    image = read_ct(tmp_path)
    _require_marks(image.array_hu, image.grid)


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_nm(tmp_path: Path, name: str, upwards: bool) -> None:
    stored = _phantom(grid_of(ALL[name]))

    def edit(dataset: Dataset) -> None:
        add_mapping(dataset, 1.0)
        put(dataset, PatientPosition="FFP")
        dataset.PixelData = (stored if upwards else stored[::-1]).astype("<i2").tobytes()

    image = read_spect(write_nm_image(tmp_path / "nm.dcm", orientation=ALL[name], upwards=upwards, edit=edit))
    _require_marks(image.array_bq_per_ml, image.grid)


@pytest.mark.parametrize("name", ALL)
def test_nifti_of_our_own(tmp_path: Path, name: str) -> None:
    grid = grid_of(ALL[name])
    write_image(tmp_path / "image.nii.gz", _phantom(grid), grid, dtype="int16")
    _require_marks(*read_image(tmp_path / "image.nii.gz"))
    # And as others read it: positions in RAS.
    other = nib.load(tmp_path / "image.nii.gz")
    voxels = np.asarray(other.dataobj)
    for mark, (direction, value) in MARKS.items():
        (index,) = np.argwhere(voxels == value)
        middle = other.affine @ [*(np.array(other.shape) - 1) / 2, 1]
        ras = (other.affine @ [*index, 1] - middle)[:3] * [-1, -1, 1]
        assert ras @ direction > 2.5, mark


@pytest.mark.parametrize("codes", [*map("".join, product("LR", "AP", "IS")), "SPL", "AIR"])
def test_nifti_of_others(tmp_path: Path, codes: str) -> None:
    grid = grid_of()
    write_image(tmp_path / "image.nii.gz", _phantom(grid), grid, dtype="int16")
    image = nib.load(tmp_path / "image.nii.gz")
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes))
    nib.save(image.as_reoriented(turn), tmp_path / "turned.nii.gz")
    assert "".join(nib.aff2axcodes(nib.load(tmp_path / "turned.nii.gz").affine)) == codes
    _require_marks(*read_image(tmp_path / "turned.nii.gz"))
