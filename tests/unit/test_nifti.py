"""NIfTI and sidecars: round trips in any orientation, repeatable bytes, hashes of content."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from doseledger.errors import FileUnreadableError, GeometryError, InputMissingError, QuantityError
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, read_sidecar, voxels_sha256, write_image, write_sidecar

from .dicom_factory import ORIENTATIONS, centres, field, grid_of

GRID = grid_of()
VALUES = field(centres(GRID)).astype(np.float32)


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_round_trip(tmp_path: Path, name: str, suffix: str) -> None:
    grid = grid_of(ORIENTATIONS[name])
    values = field(centres(grid)).astype(np.float32)
    path = tmp_path / f"image{suffix}"
    write_image(path, values, grid, dtype=np.float32)
    read, read_grid = read_image(path)
    assert read.dtype == np.float32
    assert np.array_equal(read, values)
    assert read_grid.same_as(grid)


def test_the_file_says_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    write_image(path, VALUES, GRID, dtype="float32")
    image = nib.load(path)
    assert int(image.header["qform_code"]) == int(image.header["sform_code"]) == 1
    assert image.header.get_xyzt_units()[0] == "mm"
    # Both forms say the same, for readers that prefer one of them.
    assert np.allclose(image.header.get_qform(), image.header.get_sform(), atol=1e-4)
    # RAS: left and back are negative. Voxel [0, 0, 0] lies at LPS (-12.5, 20, -300).
    assert np.allclose(image.affine[:3, 3], [12.5, -20.0, -300.0])
    assert image.shape == (8, 6, 5)


def test_identical_input_gives_identical_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.nii.gz", tmp_path / "other-name.nii.gz"
    for path in (first, second):
        write_image(path, VALUES, GRID, dtype=np.float32)
    os.utime(first, (0, 0))
    content = first.read_bytes()
    assert content == second.read_bytes()
    flags, modified = content[3], struct.unpack("<I", content[4:8])[0]
    assert flags & 0b1000 == 0  # no file name (RFC 1952, FNAME)
    assert modified == 0
    assert len(gzip.decompress(content)) == 352 + VALUES.size * 4


def test_masks_and_labels_are_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    write_image(path, VALUES > 1000, GRID, dtype=np.uint8)
    read, _ = read_image(path)
    assert read.dtype == np.uint8
    assert np.array_equal(read, (VALUES > 1000).astype(np.uint8))


@pytest.mark.parametrize(("values", "dtype"), [(VALUES, "uint8"), (VALUES + 0.5, "int16"), (VALUES, "float64")])
def test_a_type_that_cannot_hold_the_values_is_refused(tmp_path: Path, values: np.ndarray, dtype: str) -> None:
    with pytest.raises(QuantityError, match=dtype):
        write_image(tmp_path / "a.nii.gz", values, GRID, dtype=dtype)
    assert not (tmp_path / "a.nii.gz").exists()


def test_image_and_grid_must_fit(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="differ in shape"):
        write_image(tmp_path / "a.nii.gz", VALUES.T, GRID, dtype=np.float32)


def _save(path: Path, *, codes: int = 1, unit: str = "mm", shear: float = 0.0, four: bool = False) -> Path:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 1] = shear
    image = nib.Nifti1Image(np.zeros((3, 4, 5, 2) if four else (3, 4, 5), np.float32), None)
    image.set_sform(affine, code=codes)
    image.set_qform(None, code=0)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("options", "error", "fragment"),
    [
        ({"codes": 0}, GeometryError, "no position in patient space"),
        ({"unit": "micron"}, GeometryError, "micron"),
        ({"shear": 0.5}, GeometryError, "not orthonormal"),
        ({"four": True}, FileUnreadableError, "three-dimensional"),
    ],
)
def test_images_that_cannot_be_placed_are_refused(
    tmp_path: Path, options: dict[str, object], error: type[Exception], fragment: str
) -> None:
    path = _save(tmp_path / "a.nii.gz", **options)  # type: ignore[arg-type]
    with pytest.raises(error) as caught:
        read_image(path)
    assert fragment in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("form", "moved_mm", "refused"), [("sform", 3.0, True), ("qform", 3.0, True), ("sform", 0.05, False)]
)
def test_a_stale_position_is_refused(tmp_path: Path, form: str, moved_mm: float, refused: bool) -> None:
    path = tmp_path / "image.nii.gz"
    write_image(path, VALUES, GRID, dtype="float32")
    image = nib.load(path)
    affine = image.affine.copy()
    affine[2, 3] += moved_mm
    getattr(image.header, f"set_{form}")(affine, code=1)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)
    if refused:
        with pytest.raises(GeometryError, match=r"sform and qform.*3\.00 mm apart"):
            read_image(path)
    else:
        read_image(path)


def test_a_stale_spacing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.nii"
    write_image(path, VALUES, GRID, dtype="float32")
    raw = bytearray(path.read_bytes())
    # Only the sform counts, and pixdim[1] (byte 80) is that of the image before it was resampled.
    raw[252:254] = struct.pack("<h", 0)
    raw[80:84] = struct.pack("<f", 1.25)
    path.write_bytes(raw)
    with pytest.raises(GeometryError, match="pixdim"):
        read_image(path)


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        read_image(tmp_path / "absent.nii.gz")
    path = tmp_path / "a.nii.gz"
    write_image(path, VALUES, GRID, dtype=np.float32)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no image", b""):
        path.write_bytes(content)
        with pytest.raises(FileUnreadableError, match=r"a\.nii\.gz"):
            read_image(path)


def test_a_declared_scale_is_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.full((3, 4, 5), 7, np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 1.0)
    nib.save(image, tmp_path / "a.nii")
    read, _ = read_image(tmp_path / "a.nii")
    assert np.allclose(read, 7 * 0.5 + 1.0)


def test_sidecars_are_sorted_and_repeat(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sidecar(path, {"b": [1, 2.5], "a": "µ", "c": None})
    assert path.read_bytes() == '{\n  "a": "µ",\n  "b": [\n    1,\n    2.5\n  ],\n  "c": null\n}\n'.encode()
    assert read_sidecar(path) == {"a": "µ", "b": [1, 2.5], "c": None}


def test_sidecars_hold_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_sidecar(tmp_path / "a.json", {"a": float("nan")})


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_damaged_sidecars_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(InputMissingError):
        read_sidecar(path)
    path.write_text(content)
    with pytest.raises(FileUnreadableError, match=r"a\.json"):
        read_sidecar(path)


# Hash -------------------------------------------------------------------------------------------


def test_the_hash_is_that_of_the_stated_bytes() -> None:
    grid = Grid((1, 1, 2), (4.0, 3.0, 2.5), (-12.5, 20.0, 0.00004))
    text = b"[1, 1, 2, 40000, 30000, 25000, -125000, 200000, 0, 0, 0, 10000, 0, 10000, 0, 10000, 0, 0]"
    voxels = struct.pack("<2f", 1.5, 0.0)
    assert voxels_sha256(np.array([[[1.5, -0.0]]]), grid) == hashlib.sha256(text + voxels).hexdigest()


def test_the_hash_survives_files_and_memory_order(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(path, VALUES, GRID, dtype=np.float32)
    expected = voxels_sha256(VALUES, GRID)
    assert voxels_sha256(*read_image(path)) == expected
    assert voxels_sha256(np.asfortranarray(VALUES.astype(">f4")), GRID) == expected


def test_the_hash_sees_values_order_and_place() -> None:
    moved = Grid(GRID.shape, GRID.spacing_mm, (-12.5, 20.0, -299.999), GRID.direction)
    hashes = {
        voxels_sha256(VALUES, GRID),
        voxels_sha256(VALUES[::-1], GRID),
        voxels_sha256(VALUES + 0.01, GRID),
        voxels_sha256(VALUES, moved),
    }
    assert len(hashes) == 4
