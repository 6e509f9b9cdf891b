"""Contact sheets of real CTs with masks of others: ``real_masks.py DATA OUT``, DATA as in ``DOSELEDGER_DATA``.

The masks come through the back end ``contours`` and the quality gate, as those of a cohort do. Sources and licences of
the images are in the README beside each; none of the pictures is part of the repository.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from doseledger.io.dicom import read_ct
from doseledger.io.nifti import read_image
from doseledger.regions import RegionSpec
from doseledger.regions.gate import centroid_mm, mask_flags, order_flags
from doseledger.report.contact_sheet import ScanPanel, contact_sheet, region_styles
from doseledger.segmentation import DrawnOn, label_map_from_contours

#: Names in the files, and regions: organs first, what lies in them last.
ORGANS: Final = ("liver", "spleen", "kidney_left", "kidney_right", "pancreas", "stomach", "colon", "vertebrae_L1")
ABDOMEN: Final = {name: name for name in ORGANS}
#: Folder, CT, masks, and region of each name in the masks.
ITEMS: Final = (
    ("ct_seg_totalsegmentator", "example_ct_sm.nii.gz", "example_seg.nii.gz", ABDOMEN),
    ("ct_seg_totalsegmentator", "example_ct_sm.nii.gz", "example_seg_fast.nii.gz", ABDOMEN),
    ("ct_seg_totalsegmentator", "example_ct_dicom", "example_seg_dicom.nii.gz", ABDOMEN),
    ("petct_sts002_crop", "CT/dicom/image", "CT/dicom/mask/RS.dcm", {"GTV_Mass_CT": "lesion_1"}),
    ("seg_dcmqi", "ct-3slice", "liver.dcm", {"Liver": "liver"}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number, (item, ct, masks, regions) in enumerate(ITEMS, 1):
        folder = arguments.data / item
        png = sheet(folder / ct, folder / masks, regions, title=f"{item}: {masks} on {ct}")
        (arguments.out / f"{number}_{item}.png").write_bytes(png)


def sheet(ct: Path, masks: Path, regions: Mapping[str, str], *, title: str) -> bytes:
    """The contact sheet of one CT; SPECT there is none."""
    image, hu = _opened(ct)
    specs = {name: _spec(label, region) for label, (name, region) in enumerate(regions.items(), 1)}
    made = label_map_from_contours(masks, [image], specs, masks.name)
    flags = dict(_flags(made.labels, list(specs.values()), image, hu))
    panel = ScanPanel("CT", made.labels, image.grid, hu=hu, ct_grid=image.grid, flags=flags)
    found = {spec.label: spec.region for spec in specs.values() if spec.region in flags}
    return contact_sheet([panel], region_styles(found), title=title)


def _opened(path: Path) -> tuple[DrawnOn, NDArray[Any]]:
    if path.is_dir():
        ct = read_ct(path)
        uids = ct.provenance.series_uid or "", ct.provenance.frame_of_reference_uid or ""
        return DrawnOn("CT", ct.grid, *uids), ct.array_hu
    hu, grid = read_image(path)
    return DrawnOn("CT", grid, "", ""), hu


def _spec(label: int, region: str) -> RegionSpec:
    kind: Literal["lesion", "organ"] = "lesion" if region.startswith("lesion") else "organ"
    side = region.rpartition("_")[2]
    laterality: Any = side if side in ("left", "right") else None
    return RegionSpec(label, region, kind, laterality=laterality)


def _flags(
    labels: NDArray[np.uint8], specs: list[RegionSpec], image: DrawnOn, hu: NDArray[Any]
) -> Iterator[tuple[str, list[str]]]:
    """Flags of each region that has voxels."""
    masks = {spec.region: labels == spec.label for spec in specs if (labels == spec.label).any()}
    order = order_flags({region: centroid_mm(mask, image.grid) for region, mask in masks.items()})
    for region, mask in masks.items():
        yield region, mask_flags(region, mask, image.grid, hu=hu) + order.get(region, [])


if __name__ == "__main__":
    main()
