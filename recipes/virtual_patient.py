"""Draw one virtual patient: ``python recipes/virtual_patient.py COHORT --out docs/pictures/virtual-patient.png``.

CT, SPECT at scan start and outlines of one scan of a simulated cohort, read back from its DICOM. With ``--beside`` the
same sections of another CT (NIfTI) stand beside them, to compare by eye.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from doseledger.geometry import Grid
from doseledger.io.dicom import read_ct, read_spect, read_structures, structure_mask

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

#: Soft-tissue window, HU.
WINDOW_HU: Final = (-160.0, 240.0)
#: Of the largest value: lesions do not hide the organs.
SPECT_TOP: Final = 0.35
#: Of what is shown; arms and body fit in.
HALF_WIDTH_MM: Final = 200.0
AXIAL, CORONAL = 0, 1
TITLES: Final = {AXIAL: "axial", CORONAL: "coronal"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--scan", default="site-A/sub-P1/ses-c1/tp-2")
    parser.add_argument("--beside", type=Path, help="NIfTI file of another CT")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.cohort / "dicom" / arguments.scan
    ct, spect = read_ct(folder / "ct"), read_spect(folder / "spect")
    masks = {s.name: structure_mask(s, ct.grid) for s in read_structures(folder / "rtstruct.dcm")}
    centre = np.argwhere(masks["Kidney R"] | masks["Kidney L"]).mean(axis=0)
    columns = 4 if arguments.beside else 3
    figure, axes = plt.subplots(2, columns, figsize=(4 * columns, 7.4), facecolor="black")
    for row, axis in enumerate((AXIAL, CORONAL)):
        index = int(centre[axis])
        _show_ct(axes[row, 0], ct.array_hu, ct.grid, axis, index, "virtual CT")
        _show_ct(axes[row, 1], ct.array_hu, ct.grid, axis, index, "outlines")
        for number, mask in enumerate(masks.values()):
            section = np.take(mask, index, axis)
            if section.any():
                colour = plt.get_cmap("tab10")(number % 10)
                axes[row, 1].contour(section, [0.5], colors=[colour], linewidths=1.0, extent=_extent(ct.grid, axis))
        place_mm = ct.grid.position_mm(centre)[2 - axis]
        _show_spect(axes[row, 2], spect.array_bq_per_ml, spect.grid, axis, place_mm)
        if arguments.beside:
            other, grid = _read_upright(arguments.beside)
            _show_ct(axes[row, 3], other, grid, axis, grid.shape[axis] // (3 if axis == AXIAL else 2), "another CT")
    figure.tight_layout()
    figure.savefig(arguments.out, dpi=75, facecolor="black", metadata={"Software": None})


def _read_upright(path: Path) -> tuple[NDArray[np.float32], Grid]:
    """A CT with axes towards left, back and head."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(path), sitk.sitkFloat32), "LPS")
    x, y, z = image.GetSpacing()
    return sitk.GetArrayFromImage(image), Grid(image.GetSize()[::-1], (z, y, x), image.GetOrigin())


def _extent(grid: Grid, axis: int) -> tuple[float, float, float, float]:
    """Edges of a section about the middle of the field, mm, as matplotlib wants them."""
    steps, counts = grid.spacing_mm, grid.shape
    down = 1 if axis == AXIAL else 0
    x, y = counts[2] * steps[2] / 2.0, counts[down] * steps[down] / 2.0
    return (-x, x, -y, y)


def _finish(ax: Axes, axis: int, text: str) -> None:
    # Rows of an axial section go to the back, slices of a coronal one to the head.
    if axis == AXIAL:
        ax.set_ylim(130.0, -130.0)
    ax.set_xlim(-HALF_WIDTH_MM, HALF_WIDTH_MM)
    ax.set_title(f"{text}, {TITLES[axis]}", color="white", fontsize=10)
    ax.set_axis_off()


def _show_ct(ax: Axes, array: NDArray[np.float32], grid: Grid, axis: int, index: int, text: str) -> None:
    low, high = WINDOW_HU
    section = np.take(array, index, axis)
    ax.imshow(section, cmap="gray", vmin=low, vmax=high, origin="lower", extent=_extent(grid, axis))
    _finish(ax, axis, text)


def _show_spect(ax: Axes, array: NDArray[np.float32], grid: Grid, axis: int, place_mm: float) -> None:
    index = round((place_mm - grid.origin_mm[2 - axis]) / grid.spacing_mm[axis])
    top = SPECT_TOP * float(array.max())
    ax.imshow(np.take(array, index, axis), cmap="gray_r", vmin=0, vmax=top, origin="lower", extent=_extent(grid, axis))
    _finish(ax, axis, "SPECT")


if __name__ == "__main__":
    main()
