"""Images as NIfTI with JSON sidecars: identical input gives identical bytes.

Files hold ``(x, y, z)`` in RAS millimetres, as the format demands; arrays are ``(z, y, x)`` in LPS.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import DTypeLike, NDArray

from doseledger.errors import FileUnreadableError, GeometryError, InputMissingError, QuantityError
from doseledger.geometry import Grid

#: Voxel types that are written.
DTYPES: Final = ("float32", "uint8", "int16", "uint16", "int32")
#: Code of qform and sform: positions are those of the scanner (NIfTI-1, nifti1.h).
SCANNER: Final = 1
#: Units that a file may declare. Unknown is read as mm: writers that leave it out mean mm.
READ_UNITS: Final = ("mm", "unknown")
#: Largest distance between two statements of where a voxel lies, in mm: float32 and quaternions differ by less.
SAME_POSITION_MM: Final = 0.1
#: Geometry is hashed in whole steps of this, in mm (and for direction cosines in the same number):
#: below it, files that went through float32 or decimal text differ.
HASH_STEP_MM: Final = 1.0e-4

_REMEDY: Final = "Write the file again with its position in patient space, in mm."


def write_image(path: Path, array_zyx: NDArray[Any], grid: Grid, *, dtype: DTypeLike) -> None:
    """Write an image as ``.nii.gz`` (or ``.nii``) with qform and sform in scanner coordinates.

    Parameters
    ----------
    array_zyx
        ``(z, y, x)``, of the shape of `grid`.
    dtype
        One of `DTYPES`. Masks are written as ``uint8``.

    Raises
    ------
    GeometryError
        Array and grid differ in shape.
    QuantityError
        The type is not in `DTYPES`, or whole numbers of that type cannot hold the values.
    """
    if array_zyx.shape != grid.shape:
        raise GeometryError("image and grid differ in shape", path=path, value=array_zyx.shape, expected=grid.shape)
    kind = np.dtype(dtype)
    if kind.name not in DTYPES:
        raise QuantityError("the voxel type is not written", path=path, value=kind.name, expected=", ".join(DTYPES))
    with np.errstate(invalid="ignore"):  # a value that does not fit is found by the comparison
        voxels = np.asarray(array_zyx).astype(kind)
    if kind.kind in "iu" and not np.array_equal(voxels, array_zyx):
        raise QuantityError("the voxel type cannot hold the values", path=path, value=kind.name)
    image = nib.Nifti1Image(voxels.transpose(2, 1, 0), grid.affine)
    image.set_qform(grid.affine, code=SCANNER)
    image.set_sform(grid.affine, code=SCANNER)
    image.header.set_xyzt_units("mm")
    # nibabel's gzip writer leaves name and time out of the gzip header, so bytes repeat.
    nib.save(image, path)


def write_vectors(path: Path, vectors_mm: NDArray[np.float32], grid: Grid) -> None:
    """Write a field of displacements, ``(z, y, x, 3)``, LPS x, y, z in mm, as NIfTI with five axes and vector intent.

    Raises
    ------
    GeometryError
        Field and grid differ in shape.
    """
    if vectors_mm.shape != (*grid.shape, 3):
        raise GeometryError("field and grid differ in shape", path=path, value=vectors_mm.shape, expected=grid.shape)
    image = nib.Nifti1Image(vectors_mm.astype(np.float32).transpose(2, 1, 0, 3)[:, :, :, None, :], grid.affine)
    image.set_qform(grid.affine, code=SCANNER)
    image.set_sform(grid.affine, code=SCANNER)
    image.header.set_xyzt_units("mm")
    image.header.set_intent("vector", name="LPS")
    nib.save(image, path)


def read_image(path: Path) -> tuple[NDArray[Any], Grid]:
    """Read a three-dimensional image as ``(z, y, x)`` and its grid.

    Values come in the stored type, or as float64 if the file declares a scale.

    Raises
    ------
    InputMissingError, FileUnreadableError
        No such file, or not a whole NIfTI image of three dimensions.
    GeometryError
        No position in patient space or two that differ, another unit than mm, sheared axes.
    """
    image, grid = _opened(path)
    try:
        voxels = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError) as error:
        raise _unreadable(path, error) from error
    return np.ascontiguousarray(voxels.transpose(2, 1, 0)), grid


def read_grid(path: Path) -> Grid:
    """Grid of an image, without its voxels; raises as `read_image`."""
    return _opened(path)[1]


def _opened(path: Path) -> tuple[Any, Grid]:
    if not Path(path).is_file():
        raise InputMissingError("the file does not exist", path=path)
    try:
        image: Any = nib.load(path)
        shape = image.shape
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(image, nib.Nifti1Image) or len(shape) != 3:
        raise FileUnreadableError(
            "the file is not a three-dimensional NIfTI image", path=path, value=shape, remedy=_REMEDY
        )
    if not int(image.header["sform_code"]) and not int(image.header["qform_code"]):
        raise GeometryError("the image has no position in patient space", path=path, remedy=_REMEDY)
    unit = image.header.get_xyzt_units()[0]
    if unit not in READ_UNITS:
        raise GeometryError("the spacing is not in mm", path=path, value=unit, expected="mm", remedy=_REMEDY)
    x, y, z = (int(n) for n in shape)
    try:
        grid = Grid.from_affine(np.asarray(image.affine), (z, y, x))
    except GeometryError as error:
        raise GeometryError(error.what, path=path, value=error.value, remedy=_REMEDY) from error
    _require_one_position(path, image)
    return image, grid


def _require_one_position(path: Path, image: Any) -> None:
    """Refuse a stale affine: of two positions, or of position and spacing, a program has changed only one."""
    header = image.header
    if int(header["sform_code"]) and int(header["qform_code"]):
        corners = np.array([[*corner, 1.0] for corner in np.ndindex(2, 2, 2)]) * [*(n - 1 for n in image.shape), 1]
        apart_mm = np.abs(corners @ (header.get_sform() - header.get_qform()).T).max()
        if apart_mm > SAME_POSITION_MM:
            raise GeometryError(
                "the two positions of the image (sform and qform) contradict each other",
                path=path,
                value=f"{apart_mm:.2f} mm apart",
                expected=f"within {SAME_POSITION_MM:g} mm",
                remedy=_REMEDY,
            )
    along = np.linalg.norm(image.affine[:3, :3], axis=0)
    spacing = np.asarray(header.get_zooms()[:3], dtype=float)
    if np.abs((along - spacing) * image.shape).max() > SAME_POSITION_MM:
        raise GeometryError(
            "position and spacing (pixdim) of the image contradict each other",
            path=path,
            value=spacing.round(4).tolist(),
            expected=along.round(4).tolist(),
            remedy=_REMEDY,
        )


def _unreadable(path: Path, error: Exception) -> FileUnreadableError:
    return FileUnreadableError(f"the file cannot be read as NIfTI: {error}", path=path, remedy="Write the file again.")


def write_sidecar(path: Path, mapping: Mapping[str, Any]) -> None:
    """Write a JSON sidecar: keys sorted, a newline at the end, no NaN."""
    text = json.dumps(mapping, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    Path(path).write_text(f"{text}\n", encoding="utf-8", newline="\n")


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read a JSON sidecar.

    Raises
    ------
    InputMissingError, FileUnreadableError
        No such file, or not a JSON object.
    """
    if not Path(path).is_file():
        raise InputMissingError("the file does not exist", path=path)
    try:
        mapping = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileUnreadableError(f"the sidecar is not JSON: {error}", path=path, remedy="Write it again.") from error
    if not isinstance(mapping, dict):
        raise FileUnreadableError("the sidecar is not a JSON object", path=path, remedy="Write it again.")
    return mapping


def voxels_sha256(array_zyx: NDArray[Any], grid: Grid) -> str:
    """SHA-256 of an image's decoded voxels and geometry, independent of how they are stored.

    Shape, spacing, origin and direction in steps of `HASH_STEP_MM`, then the voxels as
    little-endian float32 in the order z, y, x. Negative zero counts as zero.
    """
    numbers = np.concatenate([grid.spacing_mm, grid.origin_mm, np.ravel(grid.direction)])
    geometry = [*grid.shape, *np.rint(numbers / HASH_STEP_MM).astype(np.int64).tolist()]
    digest = hashlib.sha256(json.dumps(geometry).encode())
    voxels = np.asarray(array_zyx, dtype=np.float32) + np.float32(0)
    digest.update(voxels.astype("<f4").tobytes())
    return digest.hexdigest()
