"""Label maps: NIfTI volumes of whole numbers, with the name of each number.

The names come from one of three places: a table beside the image (``X.tsv`` or ``X_labels.tsv`` beside
``X.nii.gz``, with the columns ``index`` and ``name`` of a BIDS ``dseg.tsv``), a JSON sidecar (``X.json``)
with the object ``LabelMap`` from number to name, or the label table that TotalSegmentator and Connectome
Workbench write into the header of the image.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from doseledger.errors import FileUnreadableError, GeometryError, QuantityError, SegmentationFileError
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, read_sidecar
from doseledger.regions.placement import place_on, require_same_voxels

#: Endings of label maps.
ENDINGS: Final = (".nii.gz", ".nii")
#: Key of the names in a JSON sidecar.
NAMES_KEY: Final = "LabelMap"
#: Root of the XML that Connectome Workbench keeps in a header extension. It is known by this, not by the
#: code of the extension: TotalSegmentator writes the code 0 ("ignore") for it.
_CARET: Final = b"<CaretExtension"


@dataclass(frozen=True, eq=False)
class NamedLabels:
    """A label map.

    Attributes
    ----------
    labels
        ``(z, y, x)``; 0 is no region.
    names
        Name of each number that occurs in `labels`.
    """

    path: Path
    labels: NDArray[np.int64]
    grid: Grid
    names: Mapping[int, str]


def is_label_map(path: Path) -> bool:
    """Whether a file is a label map by the ending of its name."""
    return path.name.lower().endswith(ENDINGS)


def read_label_map(path: Path) -> NamedLabels:
    """Read a label map and its names.

    Raises
    ------
    InputMissingError, FileUnreadableError, GeometryError
        No such file, not a NIfTI volume with a position in mm, an unreadable table of names.
    QuantityError
        A voxel is no whole number from 0 on.
    SegmentationFileError
        No names, a number without a name, two tables that contradict each other.
    """
    voxels, grid = read_image(path)
    wrong = voxels[~np.isfinite(voxels) | (voxels != np.floor(voxels)) | (voxels < 0)]
    if wrong.size:
        raise QuantityError(
            "the label map has voxels that are no label",
            path=path,
            value=float(wrong[0]),
            expected="whole numbers from 0 on",
            remedy="Write the labels without interpolation: nearest neighbour, an integer voxel type.",
        )
    labels = voxels.astype(np.int64)
    names = _names(path)
    present = [int(n) for n in np.unique(labels) if n != 0]
    unnamed = [n for n in present if n not in names]
    if unnamed:
        raise SegmentationFileError(
            "the label map has numbers without a name",
            path=path,
            value=unnamed,
            expected=sorted(names),
            remedy="Add the numbers to the table of names beside the image.",
        )
    return NamedLabels(Path(path), labels, grid, {n: names[n] for n in present})


def label_mask(label_map: NamedLabels, name: str, grid: Grid) -> NDArray[np.bool_]:
    """Voxels of an image that carry a name (of one number or several).

    The label map must have the voxels of the image, within `doseledger.regions.placement.PLACE_TOLERANCE`;
    axes may be permuted or reversed. It is never resampled.

    Returns
    -------
    bool ``(z, y, x)``.

    Raises
    ------
    SegmentationFileError
        The label map has other voxels than the image.
    """
    require_voxels_of(label_map, grid)
    numbers = [n for n, known in label_map.names.items() if known == name]
    return place_on(np.isin(label_map.labels, numbers), label_map.grid, grid)


def has_voxels_of(label_map: NamedLabels, grid: Grid) -> bool:
    """Whether the label map has the voxels of an image, in any order of the axes."""
    try:
        require_voxels_of(label_map, grid)
    except SegmentationFileError:
        return False
    return True


def require_voxels_of(label_map: NamedLabels, grid: Grid) -> None:
    """Refuse a label map on other voxels than those of an image.

    Raises
    ------
    SegmentationFileError
        Saying how they differ.
    """
    try:
        require_same_voxels(label_map.grid, grid)
    except GeometryError as error:
        raise SegmentationFileError(
            f"the label map has other voxels than the image: {error.what}",
            path=label_map.path,
            value=error.value,
            expected=error.expected,
            remedy="Write the label map on the voxels of the image named in the sheet: it is never resampled.",
        ) from error


def _names(path: Path) -> dict[int, str]:
    """Names from all places that have them; they must agree."""
    stem = path.name[: -len(next(e for e in ENDINGS if path.name.lower().endswith(e)))]
    tables = [path.with_name(f"{stem}.tsv"), path.with_name(f"{stem}_labels.tsv")]
    sidecar = path.with_name(f"{stem}.json")
    found = {table.name: _from_tsv(table) for table in tables if table.is_file()}
    if sidecar.is_file() and NAMES_KEY in (content := read_sidecar(sidecar)):
        found[sidecar.name] = _from_json(sidecar, content[NAMES_KEY])
    embedded = _from_header(path)
    if embedded:
        found["its header"] = embedded
    if not found:
        raise SegmentationFileError(
            "the label map has no names",
            path=path,
            expected=f"{tables[0].name} or {tables[1].name} (columns index and name), or {sidecar.name} "
            f"(object {NAMES_KEY})",
            remedy="Write the table of names beside the image.",
        )
    (first, names), *others = found.items()
    for other, theirs in others:
        clash = sorted(n for n in names.keys() & theirs.keys() if names[n] != theirs[n])
        if clash:
            raise SegmentationFileError(
                f"two tables of names contradict each other: {first} and {other}",
                path=path,
                value={clash[0]: theirs[clash[0]]},
                expected={clash[0]: names[clash[0]]},
                remedy="Keep the table that belongs to the image.",
            )
        names = names | theirs
    return names


def _from_tsv(path: Path) -> dict[int, str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if rows and not {"index", "name"} <= rows[0].keys():
        raise FileUnreadableError(
            "the table of names lacks a column",
            path=path,
            value=list(rows[0]),
            expected=["index", "name"],
            remedy="Write the table as a BIDS dseg.tsv, with tabs.",
        )
    return _checked(path, [(row["index"], row["name"]) for row in rows])


def _from_json(path: Path, names: object) -> dict[int, str]:
    if not isinstance(names, dict):
        raise FileUnreadableError(
            f"{NAMES_KEY} is no object from number to name",
            path=path,
            value=json.dumps(names)[:60],
            remedy="Write it again.",
        )
    return _checked(path, list(names.items()))


def _from_header(path: Path) -> dict[int, str]:
    image: Any = nib.load(path)
    pairs = []
    for extension in image.header.extensions:
        content = extension.get_content()
        if isinstance(content, bytes) and _CARET in content:
            try:
                table = ElementTree.fromstring(content.strip(b"\0 \r\n\t"))
            except ElementTree.ParseError as error:
                raise FileUnreadableError(
                    f"the label table in the header is no XML: {error}", path=path, remedy="Write the file again."
                ) from error
            pairs += [(label.get("Key"), label.text) for label in table.iter("Label")]
    return _checked(path, pairs)


def _checked(path: Path, pairs: list[tuple[Any, Any]]) -> dict[int, str]:
    """Each number once, with a name."""
    names: dict[int, str] = {}
    for key, value in pairs:
        name = value.strip() if isinstance(value, str) else ""
        if not str(key).strip().isdecimal() or not name or int(key) in names:
            raise FileUnreadableError(
                "the table of names has a line without number or name, or a number twice",
                path=path,
                value=[key, value],
                expected="each whole number once, with its name",
                remedy="Correct the table.",
            )
        names[int(key)] = name
    return names
