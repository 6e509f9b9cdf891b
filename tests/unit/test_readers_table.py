"""docs/readers.md tells the truth: each row of its table is run."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from math import exp, log
from pathlib import Path
from typing import Final

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from doseledger.activity import Calibration
from doseledger.errors import DoseledgerError
from doseledger.geometry import Grid
from doseledger.io.dicom import read_ct, read_spect
from doseledger.io.nifti import read_image, write_image
from doseledger.nuclides import nuclide

from .dicom_factory import ORIGIN_MM, SPACING_ZYX_MM, Edit, centres, field, grid_of, put, write_ct, write_pet
from .nm_factory import PHOTOPEAK, SCATTER, add_mapping, frames_of, set_frames, write_nm_image

#: What a reader returns, what it should be at each position, and the flags.
Read = tuple[NDArray[np.floating], Grid, float, tuple[str, ...]]
Case = Callable[[Path], Read]
EditNm = Callable[[Dataset], None]

CALIBRATION: Final = Calibration(9.2, "system", "cylinder", date(2023, 12, 1), detectors=2)
LAMBDA: Final = log(2.0) / 574_300.0


def _to_start(duration_s: float) -> float:
    return LAMBDA * duration_s / (1.0 - exp(-LAMBDA * duration_s))


#: Of the factory's 25 minutes, and of the half hour between two beds.
TO_START: Final = _to_start(1500.0)
LATER: Final = exp(-LAMBDA * 1800.0)


def _bq(dataset: Dataset) -> None:
    add_mapping(dataset, 30.0)


def _then(*edits: EditNm) -> EditNm:
    def edit(dataset: Dataset) -> None:
        for one in edits:
            one(dataset)

    return edit


def _nm(
    *edits: EditNm,
    unit: float = 30.0 * TO_START,
    calibration: Calibration | None = None,
    windows: tuple[tuple[float, float], ...] = (PHOTOPEAK,),
    upwards: bool = True,
) -> Case:
    def case(folder: Path) -> Read:
        write_nm_image(folder / "nm.dcm", windows=windows, upwards=upwards, edit=_then(*edits))
        return _spect(folder, unit, calibration)

    return case


def _spect(folder: Path, unit: float, calibration: Calibration | None = None) -> Read:
    image = read_spect(folder, calibration=calibration, nuclide=nuclide("Lu-177"))
    return image.array_bq_per_ml, image.grid, unit, image.provenance.flags


def _without(*keywords: str) -> EditNm:
    def edit(dataset: Dataset) -> None:
        for keyword in keywords:
            delattr(dataset, keyword)

    return edit


def _other_detector(dataset: Dataset) -> None:
    first = dataset.DetectorInformationSequence[0]
    other = Dataset()
    other.ImageOrientationPatient = list(first.ImageOrientationPatient)
    other.ImagePositionPatient = [v + 7.0 for v in first.ImagePositionPatient]
    dataset.DetectorInformationSequence = [first, other]


def _signed(dataset: Dataset) -> None:
    """Stored values below zero; the intercept brings them back."""
    set_frames(dataset, frames_of(dataset) - 1200)
    dataset.RealWorldValueMappingSequence[0].RealWorldValueIntercept = 1200.0 * 30.0


def _missing_frame(dataset: Dataset) -> None:
    set_frames(dataset, np.delete(frames_of(dataset), 2, axis=0))
    put(dataset, SliceVector=[1, 2, 4, 5])


def _in_counts(wall_clock_s: float) -> float:
    return 1e6 / (wall_clock_s * 9.2 * 0.03) * _to_start(wall_clock_s)


def _starguide(dataset: Dataset) -> None:
    del dataset.RotationInformationSequence
    put(dataset, Manufacturer="GE MEDICAL SYSTEMS", ImageComments="$ImagingDuration$900000$")


def _two_rotations(dataset: Dataset) -> None:
    dataset.RotationInformationSequence = [*dataset.RotationInformationSequence, Dataset()]


def _nm_beds(slices: float) -> Case:
    def case(folder: Path) -> Read:
        def upper(dataset: Dataset) -> None:
            up_mm = slices * SPACING_ZYX_MM[0]
            set_frames(dataset, np.rint((field(centres(grid_of())) + 3.0 * up_mm) * LATER * 10.0))
            put(dataset, SeriesInstanceUID="1.2.3", AcquisitionTime="103000", SeriesTime="103000")
            put(dataset, ContentTime="120000")
            position = [*ORIGIN_MM[:2], ORIGIN_MM[2] + up_mm]
            put(dataset.DetectorInformationSequence[0], ImagePositionPatient=position)
            add_mapping(dataset, 3.0)

        def lower(dataset: Dataset) -> None:
            set_frames(dataset, np.rint(field(centres(grid_of())) * 10.0))
            add_mapping(dataset, 3.0)

        write_nm_image(folder / "lower.dcm", edit=lower)
        write_nm_image(folder / "upper.dcm", edit=upper)
        return _spect(folder, 30.0 * TO_START)

    return case


def _pt(*edits: Edit, unit: float = 1.0, n: int = 5, dropped: int = 0) -> Case:
    def case(folder: Path) -> Read:
        def edit(dataset: Dataset, z: int) -> None:
            for one in edits:
                one(dataset, z)

        paths = write_pet(folder, n=n, edit=edit)
        for path in paths[len(paths) - dropped :]:
            path.unlink()
        return _spect(folder, unit)

    return case


def _set(only: int | None = None, **values: object) -> Edit:
    def edit(dataset: Dataset, z: int) -> None:
        if only in (None, z):
            put(dataset, **values)

    return edit


def _pt_beds(second: float, factor: float) -> Edit:
    """Slices 0 and 1 half an hour later, stored as `second` of the activity at 10:00, with their DecayFactor."""

    def edit(dataset: Dataset, z: int) -> None:
        put(dataset, DecayFactor=f"{TO_START:.6g}")
        if z < 2:
            put(dataset, AcquisitionTime="103000.25", DecayFactor=f"{factor:.6g}")
            put(dataset, RescaleSlope=f"{float(dataset.RescaleSlope) * second:.12g}")

    return edit


def _philips(dataset: Dataset, z: int) -> None:
    put(dataset, Units="CNTS", RescaleSlope=f"{float(dataset.RescaleSlope) / 4.5:.12g}")
    dataset.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0x09, "DS", "4.5")


def _time_frames(dataset: Dataset, z: int) -> None:
    x, y, _ = dataset.ImagePositionPatient
    put(dataset, ImagePositionPatient=[x, y, ORIGIN_MM[2] + SPACING_ZYX_MM[0] * (z // 2)])


def _ct(*edits: Edit, dropped: tuple[int, ...] = (), cut: bool = False, n: int = 5) -> Case:
    def case(folder: Path) -> Read:
        def edit(dataset: Dataset, z: int) -> None:
            for one in edits:
                one(dataset, z)

        paths = write_ct(folder, n=n, edit=edit)
        for z in dropped:
            paths[z].unlink()
        if cut:
            paths[1].write_bytes(paths[1].read_bytes()[:-20])
        image = read_ct(folder)
        return image.array_hu, image.grid, 1.0, image.provenance.flags

    return case


def _places(*steps_mm: float) -> Edit:
    places = np.cumsum([0.0, *steps_mm])

    def edit(dataset: Dataset, z: int) -> None:
        x, y, _ = dataset.ImagePositionPatient
        put(dataset, ImagePositionPatient=[x, y, ORIGIN_MM[2] + round(places[z], 6)])
        # The content stays that of its position.
        there = field(centres(grid_of()))[0] + 3.0 * places[z]
        dataset.PixelData = np.rint(there + 1024).astype("<i2").tobytes()

    return edit


def _sheared(dataset: Dataset, z: int) -> None:
    x, y, height = dataset.ImagePositionPatient
    put(dataset, ImagePositionPatient=[x, y + 0.5 * z, height])


def _nifti(change: Callable[[nib.Nifti1Image], None]) -> Case:
    def case(folder: Path) -> Read:
        write_image(folder / "image.nii", field(centres(grid_of())), grid_of(), dtype="float32")
        image = nib.load(folder / "image.nii")
        image.get_fdata()
        change(image)
        nib.save(nib.Nifti1Image(image.get_fdata(), None, image.header), folder / "changed.nii")
        return *read_image(folder / "changed.nii"), 1.0, ()

    return case


def _move_qform(image: nib.Nifti1Image) -> None:
    affine = image.affine.copy()
    affine[0, 3] += 3.0
    image.header.set_qform(affine, code=1)


def _other_zooms(image: nib.Nifti1Image) -> None:
    image.header.set_qform(None, code=0)
    image.header.set_zooms((2.6, 3.0, 4.0))


CASES: Final[dict[str, Case]] = {
    "NM, negative spacing": _nm(_bq, upwards=False),
    "NM, thickness but no spacing": _nm(_bq, _without("SpacingBetweenSlices")),
    "NM, neither": _nm(_bq, _without("SpacingBetweenSlices", "SliceThickness")),
    "NM, scale only in the real-world value": _nm(_bq),
    "NM, two energy windows": _nm(_bq, windows=(SCATTER, PHOTOPEAK)),
    "NM, two detectors of other positions": _nm(_bq, _other_detector),
    "CT, three slices missing": _ct(dropped=(3, 4, 5), n=9),
    "PT in Bq/mL, a slope per slice": _pt(),
    "CT": _ct(),
    "NM, counts with a sensitivity": _nm(unit=_in_counts(1500.0), calibration=CALIBRATION),
    "NM, counts without one": _nm(),
    "NM, signed": _nm(_bq, _signed),
    "NM, projections": _nm(_bq, lambda d: put(d, ImageType=["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"])),
    "NM, gated": _nm(_bq, lambda d: put(d, FrameIncrementPointer=[Tag(0x0054, 0x0070), Tag(0x0054, 0x0080)])),
    "NM, a slice missing": _nm(_bq, _missing_frame),
    "NM, two images of one place": _nm_beds(0.0),
    "NM, beds in two files": _nm_beds(3.0),
    "NM, beds with a gap": _nm_beds(7.0),
    "NM, duration in a comment (GE StarGuide)": _nm(_starguide, unit=_in_counts(900.0), calibration=CALIBRATION),
    "NM, counts of scatter windows alone": _nm(calibration=CALIBRATION, windows=(SCATTER, (130.0, 150.0))),
    "NM, counts of several rotations": _nm(_two_rotations, calibration=CALIBRATION),
    "NM, corrected to an unknown moment": _nm(_bq, lambda d: put(d, CorrectedImage=["ATTN", "DECY"])),
    "PT, not corrected for decay (NONE)": _pt(_set(DecayCorrection="NONE", CorrectedImage=["ATTN"]), unit=TO_START),
    "PT, corrected to the injection (ADMIN)": _pt(_set(DecayCorrection="ADMIN"), unit=exp(-LAMBDA * 7200.25)),
    "PT, beds corrected to the first one": _pt(_pt_beds(1.0, TO_START / LATER)),
    "PT, beds corrected each to its own start": _pt(_pt_beds(LATER, TO_START)),
    "PT, g/mL (SUV)": _pt(_set(Units="GML")),
    "PT, counts of Philips": _pt(_philips),
    "PT, counts without a factor": _pt(_set(Units="CNTS")),
    "PT, fewer slices than declared": _pt(dropped=1),
    "PT, time frames": _pt(_time_frames, n=6),
    "CT, steps of 3.19, 3.27 and 3.29 mm": _ct(_places(3.27, 3.19, 3.29, 3.27)),
    "CT, one slice off its place": _ct(_places(4.0, 4.0, 5.5, 2.5)),
    "CT, a slice twice": _ct(_places(4.0, 0.0, 4.0, 4.0)),
    "CT, tilted gantry": _ct(_set(GantryDetectorTilt=12.0)),
    "CT, sheared slices": _ct(_sheared),
    "CT, with its localizer": _ct(_set(4, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    "CT, slices of unequal size": _ct(_set(3, PixelSpacing=[3.0, 2.6])),
    "CT, not in HU": _ct(_set(RescaleType="US")),
    "CT, of two patients": _ct(_set(3, PatientID="SITE-0043")),
    "CT, truncated file": _ct(cut=True),
    "NIfTI, sform and qform apart": _nifti(_move_qform),
    "NIfTI, spacing and position apart": _nifti(_other_zooms),
}


def _table() -> dict[str, str]:
    text = (Path(__file__).parents[2] / "docs/readers.md").read_text(encoding="utf-8")
    rows = [line.strip("|\n ").split("|") for line in text.splitlines() if line.startswith("|")][2:]
    return {cells[0].strip(): cells[-1].strip() for cells in rows}


def test_the_table_has_all_cases_and_no_other() -> None:
    assert list(_table()) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_row(tmp_path: Path, name: str) -> None:
    outcome, _, codes = _table()[name].partition(":")
    named = tuple(re.findall(r"`(\w+)`", codes))
    if outcome == "refused":
        with pytest.raises(DoseledgerError) as caught:
            CASES[name](tmp_path)
        assert (caught.value.code,) == named
        return
    assert outcome == "right"
    array, grid, unit, flags = CASES[name](tmp_path)
    # Half a unit of stored values near 1000, and 0.1 mm of a field that rises by 3 per mm.
    assert np.allclose(array, field(centres(grid)) * unit, rtol=6e-4)
    assert flags == named
