"""Simulate a whole multi-site cohort: DICOM, sheets, config and truth."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, get_args

from doseledger.errors import ForeignResultsError, UnknownNameError
from doseledger.phantom import design, sheets
from doseledger.phantom.camera_study import write_camera_study
from doseledger.phantom.cycle import draw_cycle, draw_scans
from doseledger.phantom.design import Size
from doseledger.phantom.imaging import write_scan
from doseledger.phantom.patients import draw_patient
from doseledger.phantom.records import Records

Segmenting = Literal["contours", "totalsegmentator"]
#: Folder of the demo weights beside the config, and how they are used.
WEIGHTS: Final = "weights"
_BY_MODEL: Final = {"source": "totalsegmentator", "mode": "fastest", "roi_subset": False, "weights": WEIGHTS}


def simulate(
    out: Path,
    *,
    sites: int = 3,
    patients: int = 2,
    cycles: int = 2,
    seed: int = 1,
    size: Size = "demo",
    plant_refusal: bool = True,
    segmentation: Segmenting = "contours",
    camera_studies: bool = False,
    results: str = "../results",
    cohort: str = "demo",
) -> Path:
    """Write a virtual cohort of 177Lu-DOTATATE and 177Lu-PSMA-617 treatments with its truth.

    The same arguments give the same bytes. Patients of one seed are the same in a larger cohort.

    Parameters
    ----------
    out
        Folder to write to; it must not hold a cohort yet.
    sites, patients, cycles
        Number of sites (A, B, C, ...), of patients per site and of cycles per patient. Sites A, D, ...
        give DOTATATE and scan four times, B, E, ... give DOTATATE and scan two or three times, C, F, ...
        give PSMA-617 and scan once or twice, from the bladder to the salivary glands.
    size
        Voxel grids: ``demo`` looks like hospital data, ``micro`` is for tests of the workflow.
    plant_refusal
        Store the first scan of one cycle as SUV (Units GML), which is no activity: the last cycle
        of the last patient of site A.
    segmentation
        What the config asks for: regions from the structure sets, or organs by TotalSegmentator with the
        weights that the caller puts into the folder `WEIGHTS` beside it.
    camera_studies
        Also image the phantoms of each site's camera, with their truth: ``cameras/site-A/<phantom>``.
    results
        Results folder as written into the config file, relative to it.

    Returns
    -------
    Path
        The config file.

    Raises
    ------
    QuantityError, UnknownNameError
        A cohort that cannot be simulated.
    ForeignResultsError
        `out` holds a cohort already.
    """
    design.check_design(sites, patients, cycles, size)
    if segmentation not in get_args(Segmenting):
        raise UnknownNameError("the segmentation is unknown", value=segmentation, expected=get_args(Segmenting))
    out = Path(out)
    _check_vacant(out)
    refused = design.refused_cycle(patients, cycles) if plant_refusal else None
    records = Records()
    for site in design.sites_of(sites):
        records.add_site(site)
        if camera_studies:
            write_camera_study(out / "cameras" / f"site-{site.label}", site, seed)
        for index in range(patients):
            patient = draw_patient(seed, site.label, design.patient_label(index))
            records.add_patient(patient)
            for number in range(1, cycles + 1):
                cycle = draw_cycle(seed, size, site, patient, index, number)
                records.add_cycle(cycle)
                nominal_times_h = site.nominal_times_h(index, number)
                for scan in draw_scans(cycle, nominal_times_h, refused=(site.label, patient.label, number) == refused):
                    records.add_scan(scan)
                    write_scan(out, scan)
    records.write(out)
    config = out / "config.yaml"
    sheets.write_config(config, cohort, results, _BY_MODEL if segmentation == "totalsegmentator" else None)
    return config


def _check_vacant(out: Path) -> None:
    names = ("config.yaml", "dicom", "truth", *(f"{name}.tsv" for name in sheets.SHEET_COLUMNS))
    for name in names:
        if (out / name).exists():
            raise ForeignResultsError(
                "the folder holds a cohort already",
                path=out / name,
                remedy="Give a new or empty folder, or delete the old cohort first.",
            )
