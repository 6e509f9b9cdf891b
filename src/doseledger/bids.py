"""Export of a cohort's images for other programs: a dataset after BIDS, without dates and identifiers.

BIDS has no datatype for SPECT. The layout is that of BIDS and the keys of the sidecars are those of PET-BIDS, but
images lie in folders ``spect`` and ``ct`` that ``.bidsignore`` names, and no SPECT is ever called PET. Masks and
dose maps are a derivative dataset within.

References
----------
Norgaard M et al, PET-BIDS, an extension to the brain imaging data structure for positron emission tomography,
Sci Data 9 (2022) 65, doi:10.1038/s41597-022-01164-1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from doseledger import __version__
from doseledger.cohort import PARTIAL, PATIENT_STAGE, Cycle, Plan, Row, cycle_folder, patient_folder
from doseledger.errors import ForeignResultsError
from doseledger.io.nifti import read_sidecar, write_sidecar
from doseledger.io.tables import read_rows
from doseledger.steps.collect import FinishedCycle, outcome_rows
from doseledger.steps.layout import dose_file, scan_file
from doseledger.steps.lesion_names import read_lesion_names
from doseledger.steps.specs import demo_marks
from doseledger.units import BQ_PER_MBQ, MM3_PER_ML

BIDS_VERSION: Final = "1.10.0"
DERIVATIVE: Final = "derivatives/doseledger"
#: What a validator must pass over: datatypes that BIDS does not have.
_IGNORED: Final = ("spect", "ct", "dseg", "dose")
#: Identifiers of the DICOM files stay in the results folder.
_UIDS: Final = ("FrameOfReferenceUID", "SeriesInstanceUID")
_NOT_KNOWN: Final = "n/a"
_PARTICIPANT: Final = {
    "site": "Site pseudonym",
    "patient": "Patient pseudonym, unique within the site",
    "sex": "F, M or O",
    "age_band": "Age at the first cycle in years, in bands of five",
    "mass_kg": "Body mass in kg",
    "height_cm": "Body height in cm",
    "data_origin": "patient, or virtual: a simulated person",
}
_README: Final = """\
# {name}

SPECT and CT of a cohort, written by doseledger {version}, which is research software and not a medical device.

* `sub-SITE+PATIENT/ses-cN`: one treatment cycle. `spect` holds activity concentration in Bq/mL at the start of each
  scan, `ct` Hounsfield units; run-1, run-2, ... are the time points in order.
* Times in the sidecars are seconds from the middle of the infusion; clock times and dates are not exported. The key
  `Doseledger` holds the row of the table `acquisition`: how the numbers came about, with their flags.
* `{derivative}`: masks (`dseg`) with the names of their labels, and absorbed dose in Gy (`dose`) on the
  voxels of the reference SPECT.

BIDS has no datatype for SPECT. The keys are those of PET-BIDS, and `.bidsignore` names the folders with images.
Data origin: {origin}.
"""


@dataclass(frozen=True)
class Exported:
    """What an export holds, and which cycles it does not, with the reason."""

    cycles: int
    images: int
    left_out: tuple[tuple[str, str], ...]


def export_bids(plan: Plan, out: Path) -> Exported:
    """Copy the images of all cycles that were ingested into a new dataset; it appears whole or not at all.

    Raises
    ------
    ForeignResultsError
        The folder exists and is not empty.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ForeignResultsError("the folder for the dataset is not empty", path=out, remedy="Give an empty folder.")
    partial = out.with_name(f".{out.name}{PARTIAL}{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        exported = _write_dataset(plan, partial)
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return exported


def _write_dataset(plan: Plan, out: Path) -> Exported:
    cycles, images, left_out = 0, 0, []
    for cycle in plan.imaged:
        lesion_names = read_lesion_names(patient_folder(plan.results, cycle.site, cycle.patient) / PATIENT_STAGE)
        folder = cycle_folder(plan.results, *cycle.key)
        finished = FinishedCycle(*cycle.key, folder, lesion_names.get(cycle.cycle, {}))
        stages = {row["stage"]: row for row in outcome_rows(finished)}
        if stages["ingest"]["status"] != "ok":
            where = f"site {cycle.site}, patient {cycle.patient}, cycle {cycle.cycle}"
            left_out.append((where, stages["ingest"]["sentence"]))
            continue
        cycles += 1
        images += _write_scans(cycle, finished, out)
        if stages["segment"]["status"] == "ok":
            images += _write_masks(finished, out / DERIVATIVE)
        if stages["dose"]["status"] == "ok":
            images += _write_doses(finished, out / DERIVATIVE)
    _write_description(plan, out)
    _write_participants(plan, out)
    return Exported(cycles, images, tuple(left_out))


def _write_scans(cycle: Cycle, finished: FinishedCycle, out: Path) -> int:
    images = 0
    for row in finished.rows("acquisition"):
        for what in ("spect", "ct") if row["has_ct"] else ("spect",):
            source = finished.folder("ingest") / scan_file(_key(finished), row["time_point"], what)
            sidecar = read_sidecar(source.with_name(f"{source.name}.json"))
            if what == "spect":
                assert cycle.administration is not None, "no scan is ingested without one"
                sidecar = spect_sidecar(sidecar, row, cycle.administration)
            target = _target(out, finished, what, run=row["time_point"])
            _copy(source.with_name(f"{source.name}.nii.gz"), target, sidecar)
            images += 1
    return images


def spect_sidecar(ingested: Mapping[str, Any], acquisition: Row, administration: Row) -> Row:
    """Sidecar with the keys that PET-BIDS asks for; what is not known is ``n/a``.

    Parameters
    ----------
    ingested
        Sidecar of the ingest stage.
    acquisition, administration
        Row of the table ``acquisition``, and of the sheet.
    """
    known = {
        "Manufacturer": acquisition["manufacturer"],
        "ManufacturersModelName": acquisition["model"],
        "ModeOfAdministration": "infusion" if administration["infusion_min"] > 0 else "bolus",
        "InjectedMass": None,
        "InjectedMassUnits": None,
        "SpecificRadioactivity": None,
        "SpecificRadioactivityUnits": None,
        "AcquisitionMode": None,
        # Parameters and filters stand in the name of the method, if anywhere.
        "ReconMethodParameterLabels": [],
        "ReconMethodParameterUnits": [],
        "ReconMethodParameterValues": [],
        "ReconFilterType": [],
        "ReconFilterSize": [],
        "AttenuationCorrection": None,
        # A clock that shows 0 at the time that all others count from; the true one is not exported.
        "TimeZero": "00:00:00",
        "TimeZeroDescription": "middle of the infusion",
        "Doseledger": acquisition,
    }
    if (sensitivity := acquisition["sensitivity_cps_per_mbq"]) is not None:
        voxel_ml = acquisition["spacing_z_mm"] * acquisition["spacing_y_mm"] * acquisition["spacing_x_mm"] / MM3_PER_ML
        known["DoseCalibrationFactor"] = BQ_PER_MBQ / (sensitivity * voxel_ml)
    return {k: _NOT_KNOWN if v is None else v for k, v in {**ingested, **known}.items()}


def _write_masks(finished: FinishedCycle, out: Path) -> int:
    sidecar = {"DemoWeights": bool(demo_marks(finished.folder("segment")))}
    names = "".join(f"{spec.label}\t{spec.region}\n" for spec in finished.specs)
    points = sorted({row["time_point"] for row in finished.rows("region")})
    for point in points:
        target = _target(out, finished, "dseg", run=point)
        _copy(finished.folder("segment") / scan_file(_key(finished), point, "dseg.nii.gz"), target, sidecar)
        target.with_name(f"{target.name}.tsv").write_text(f"index\tname\n{names}", encoding="utf-8")
    return len(points)


def _write_doses(finished: FinishedCycle, out: Path) -> int:
    # Those of the finished stage: the config may have changed since.
    engines = finished.outcomes["dose"]["settings"]["engines"]
    for engine in engines:
        target = _target(out, finished, "dose", desc=engine.replace("_", ""))
        _copy(finished.folder("dose") / dose_file(engine), target, {"Units": "Gy", "Engine": engine})
    return len(engines)


def _key(finished: FinishedCycle) -> Row:
    return {"patient": finished.patient, "cycle": finished.cycle}


def _target(out: Path, finished: FinishedCycle, what: str, **entities: object) -> Path:
    """``sub-A+P1/ses-c2/spect/sub-A+P1_ses-c2_run-1_spect``, to which the endings are added."""
    subject, session = _subject(finished.site, finished.patient), f"ses-c{finished.cycle}"
    more = [f"{entity}-{label}" for entity, label in entities.items()]
    return out / subject / session / what / "_".join([subject, session, *more, what])


def _subject(site: str, patient: str) -> str:
    """The label of a patient is unique within the site alone; a plus sign cannot be part of either."""
    return f"sub-{site}+{patient}"


def _copy(image: Path, target: Path, sidecar: Row) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image, target.with_name(f"{target.name}.nii.gz"))
    write_sidecar(target.with_name(f"{target.name}.json"), {k: v for k, v in sidecar.items() if k not in _UIDS})


def _write_description(plan: Plan, out: Path) -> None:
    readme = _README.format(name=plan.cohort, version=__version__, derivative=DERIVATIVE, origin=plan.data_origin)
    ignored = "".join(f"{name}/\n**/{name}\n**/{name}/**\n" for name in _IGNORED)
    for folder, kind in ((out, "raw"), (out / DERIVATIVE, "derivative")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text(readme, encoding="utf-8")
        (folder / ".bidsignore").write_text(ignored, encoding="utf-8")
        made_by = {
            "Name": "doseledger",
            "Version": __version__,
            "Description": "Research software, not a medical device",
        }
        write_sidecar(
            folder / "dataset_description.json",
            {"Name": plan.cohort, "BIDSVersion": BIDS_VERSION, "DatasetType": kind, "GeneratedBy": [made_by]},
        )


def _write_participants(plan: Plan, out: Path) -> None:
    """What the tables say of the patients whose images are here."""
    lines = ["\t".join(("participant_id", *_PARTICIPANT))]
    for site, patient in plan.by_patient:
        if not (out / _subject(site, patient)).exists():
            continue
        course = patient_folder(plan.results, site, patient) / PATIENT_STAGE
        known = read_rows(course, "patient")[0] if (course / "patient.parquet").exists() else {}
        known |= {"site": site, "patient": patient, "data_origin": plan.data_origin}
        cells = [known.get(column) for column in _PARTICIPANT]
        lines.append("\t".join([_subject(site, patient), *(_NOT_KNOWN if c is None else str(c) for c in cells)]))
    (out / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_sidecar(out / "participants.json", {name: {"Description": text} for name, text in _PARTICIPANT.items()})
