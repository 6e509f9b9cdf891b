"""What a virtual cohort writes down: rows of the sheets and of the truth tables."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from doseledger.phantom import sheets
from doseledger.phantom.blood import Blood, marrow_truth_rows, takes_blood
from doseledger.phantom.cycle import Cycle, Scan
from doseledger.phantom.design import Site
from doseledger.phantom.dialects import DIALECTS
from doseledger.phantom.patients import VirtualPatient
from doseledger.phantom.truth_rows import WHOLE_FIELD as WHOLE_FIELD
from doseledger.phantom.truth_rows import activity_rows, organ_rows, planted_rows, pose_row


@dataclass
class Records:
    """Rows by sheet or truth table, in the order in which they arise."""

    rows: defaultdict[str, list[sheets.Row]] = field(default_factory=lambda: defaultdict(list))

    def add_site(self, site: Site) -> None:
        camera = site.camera
        self._add(
            "cameras",
            site=site.label,
            camera=camera.name,
            manufacturer=camera.manufacturer,
            model=camera.model,
            collimator=camera.collimator,
            u_calibration_rel=camera.u_calibration_rel,
            fwhm_mm=camera.fwhm_mm,
            **DIALECTS[site.dialect].camera_columns(camera),
        )
        self._add("planted", site=site.label, fact="dialect", detail=site.dialect)
        self._add("planted", site=site.label, fact="calibration_factor", detail=f"{camera.calibration_factor:.2f}")
        self._add("planted", site=site.label, fact="decay_correction", detail=camera.decay_correction)

    def add_patient(self, patient: VirtualPatient) -> None:
        self._add(
            "patients",
            site=patient.site,
            patient=patient.label,
            sex=patient.sex,
            age_years=patient.age_years,
            mass_kg=patient.mass_kg,
            height_cm=patient.height_cm,
            diagnosis=patient.diagnosis,
            kidney_function_band=patient.kidney_function_band,
            prior_therapy="none",
            prior_kidney_dose_gy=0,
        )
        self.rows["planted"] += planted_rows(patient)

    def add_cycle(self, cycle: Cycle) -> None:
        self._add(
            "administrations",
            **cycle.key,
            radiopharmaceutical=cycle.injection.radiopharmaceutical,
            nuclide=cycle.nuclide.name,
            injection_start=cycle.injection.start.isoformat(),
            infusion_min=cycle.injection.infusion_min,
            measured_activity_mbq=cycle.measured_mbq,
            residual_activity_mbq=cycle.residual_mbq,
            preparation=cycle.patient.pharmaceutical.preparation,
            extravasation="no",
        )
        self.rows["organ_truth"] += organ_rows(cycle)
        self.rows["marrow_truth"] += marrow_truth_rows(cycle)
        if takes_blood(cycle.site):
            self.rows["blood_samples"] += Blood(cycle).sample_rows()

    def add_scan(self, scan: Scan) -> None:
        key = {**scan.cycle.key, "time_point": scan.time_point}
        folder = scan.folder.as_posix()
        self._add(
            "scans",
            **key,
            spect=f"{folder}/spect",
            ct=f"{folder}/ct",
            contours=f"{folder}/rtstruct.dcm",
            camera=scan.cycle.site.camera.name,
        )
        self.rows["activity_truth"] += activity_rows(scan)
        self.rows["pose_truth"].append(pose_row(scan))
        if scan.as_suv:
            self._add(
                "planted",
                **scan.cycle.key,
                fact="units_gml",
                detail=f"SPECT of time point {scan.time_point} is stored as SUV (Units GML): refuse the cycle",
            )

    def write(self, out: Path) -> None:
        for name in sheets.SHEET_COLUMNS:
            sheets.write_sheet(out, name, sheets.FIXED_ROWS.get(name, self.rows[name]))
        for name in sheets.TRUTH_COLUMNS:
            sheets.write_truth(out / "truth", name, self.rows[name])
        (out / "truth" / "README.md").write_text(sheets.TRUTH_README, encoding="utf-8")

    def _add(self, name: str, **row: object) -> None:
        self.rows[name].append(row)
