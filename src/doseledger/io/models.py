"""Pydantic models of the config file and of every sheet; they export the JSON schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from doseledger.dose import DEFAULT_ENGINE
from doseledger.dose import REGISTRY as ENGINES
from doseledger.dose.marrow import BLOOD, DEFAULT_FRACTION, RED_MARROW
from doseledger.errors import SheetError
from doseledger.io.tables import SCHEMA_VERSION
from doseledger.regions.lesions import DEFAULT_MIN_VOLUME_ML

Label = Annotated[str, Field(pattern="^[A-Za-z0-9]+$", description="Pseudonym of letters and digits")]
Name = Annotated[str, Field(min_length=1)]

#: Therapy activities of beta emitters are hundreds of MBq and more; a smaller number is in GBq.
SMALLEST_BETA_THERAPY_MBQ: Final = 50.0
_DATE_AND_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}")
#: Columns of cameras.tsv that only together make a recovery curve.
_RECOVERY_CURVE: Final = (
    "recovery_alpha_ml",
    "u_recovery_alpha_ml",
    "recovery_beta",
    "u_recovery_beta",
    "recovery_correlation",
    "u_recovery_model_rel",
    "recovery_volume_min_ml",
    "recovery_volume_max_ml",
)
#: Plausible haematocrits.
_HAEMATOCRIT: Final = (0.1, 0.7)
_SIZE: Final = r"^[0-9]+(\.[0-9]+)?(x[0-9]+(\.[0-9]+)?x[0-9]+(\.[0-9]+)?)?$"
_BETA_THERAPY: Final = frozenset({"Lu-177", "Y-90", "I-131", "Tb-161", "Cu-67", "Sm-153", "Ho-166", "Re-188"})


def _date_and_time(value: object) -> object:
    # Pydantic would take a bare date for midnight and a number for seconds since 1970.
    if isinstance(value, str) and not _DATE_AND_TIME.match(value):
        raise ValueError("a date and a time of day are expected, YYYY-MM-DDThh:mm")
    return value


class SheetRow(BaseModel):
    """One row of a tab-separated sheet; an unknown column is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Scan(SheetRow):
    """scans.tsv: one row per time point."""

    site: Label
    patient: Label
    cycle: int = Field(ge=1, description="Treatment cycle, counted from 1")
    time_point: int = Field(ge=1, description="Scan within the cycle, in order of time, from 1")
    spect: Name = Field(description="Folder or file of the SPECT, relative to the config file")
    ct: str | None = Field(None, description="Folder of the CT, relative to the config file; n/a if there is none")
    contours: str | None = Field(None, description="RTSTRUCT file, relative to the config file")
    camera: Name = Field(description="Camera as named in cameras.tsv")


class Administration(SheetRow):
    """administrations.tsv: one row per administered cycle, imaged or not."""

    site: Label
    patient: Label
    cycle: int = Field(ge=1)
    radiopharmaceutical: Name = Field(description="e.g. Lu177-DOTATATE")
    nuclide: str = Field(pattern="^[A-Z][a-z]?-[0-9]+m?$", description="e.g. Lu-177")
    injection_start: datetime = Field(description="Local wall-clock time, ISO 8601 without zone")
    infusion_min: float = Field(ge=0, le=24 * 60, description="Duration of the infusion, min")
    measured_activity_mbq: float = Field(gt=0, le=1e6, description="Measured activity at injection start, MBq")
    residual_activity_mbq: float = Field(ge=0, description="Activity left in syringe and lines, MBq")
    preparation: str | None = Field(None, description="e.g. amino acids")
    extravasation: bool | None = Field(None, description="yes or no")
    time_zone: str | None = Field(
        None, description="Zone of the clocks of injection and scans, e.g. Europe/Berlin: summer time is accounted for"
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        try:
            return value if value is None else ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("no time zone of the IANA list, such as Europe/Berlin or America/New_York") from None

    @field_validator("injection_start", mode="before")
    @classmethod
    def _with_time_of_day(cls, value: object) -> object:
        return _date_and_time(value)

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        if self.injection_start.tzinfo is not None:
            raise ValueError("injection_start: local time without a zone is expected")
        if self.nuclide in _BETA_THERAPY and self.measured_activity_mbq < SMALLEST_BETA_THERAPY_MBQ:
            raise ValueError(
                f"measured_activity_mbq: {self.measured_activity_mbq:g} MBq is no therapy activity of {self.nuclide}; "
                "was it written in GBq?"
            )
        if self.residual_activity_mbq >= self.measured_activity_mbq:
            raise ValueError("residual_activity_mbq: not smaller than measured_activity_mbq")
        return self


class Camera(SheetRow):
    """cameras.tsv: one row per camera (and calibration) of a site."""

    site: Label
    camera: Name
    manufacturer: str | None = None
    model: str | None = None
    collimator: str | None = None
    u_calibration_rel: float = Field(gt=0, lt=1, description="Relative standard uncertainty of the calibration")
    fwhm_mm: float = Field(gt=0, lt=60, description="Blur of the reconstructed image, full width at half maximum, mm")
    sensitivity_cps_per_mbq: float | None = Field(None, gt=0, description="For images in counts")
    sensitivity_geometry: str | None = Field(None, description="Phantom of the calibration")
    sensitivity_date: date | None = None
    sensitivity_basis: Literal["system", "detector"] | None = None
    detectors: int | None = Field(None, ge=1, le=32, description="Heads of the camera; reconstructions do not tell")
    energy_window_kev: str | None = Field(
        None,
        pattern=r"^[0-9]+(\.[0-9]+)?-[0-9]+(\.[0-9]+)?$",
        description="Window of the calibration, lower-upper; n/a for the nuclide's photopeak",
    )
    dead_time_us: float | None = Field(None, ge=0, description="Paralysable dead time of a detector, microseconds")
    recovery_alpha_ml: float | None = Field(None, gt=0, description="Spheres: RC(V) = 1/(1 + (alpha/V)^beta), mL")
    u_recovery_alpha_ml: float | None = Field(None, ge=0, description="Standard uncertainty of alpha, mL")
    recovery_beta: float | None = Field(None, gt=0, description="Spheres: exponent beta")
    u_recovery_beta: float | None = Field(None, ge=0, description="Standard uncertainty of beta")
    recovery_correlation: float | None = Field(None, ge=-1, le=1, description="Correlation of alpha and beta")
    u_recovery_model_rel: float | None = Field(None, ge=0, description="Scatter of the spheres around the curve")
    recovery_volume_min_ml: float | None = Field(None, gt=0, description="Smallest sphere of the curve, mL")
    recovery_volume_max_ml: float | None = Field(None, gt=0, description="Largest sphere of the curve, mL")
    recovery_surface_mm: float | None = Field(None, ge=0, description="Kidney shapes: RC = 1 - k S/V, k in mm")
    u_recovery_surface_mm: float | None = Field(None, ge=0, description="Standard uncertainty of k, mm")
    recovery_geometry: str | None = Field(
        None, description="Phantom of the calibration that the recovery refers to: that of the sensitivity"
    )

    @model_validator(mode="after")
    def _recovery_complete(self) -> Self:
        curve = {name: getattr(self, name) for name in type(self).model_fields if name in _RECOVERY_CURVE}
        missing = [name for name, value in curve.items() if value is None]
        if missing and len(missing) < len(curve):
            raise ValueError(f"{missing[0]}: missing; a recovery curve has all of {', '.join(curve)}")
        has_recovery = not missing or self.recovery_surface_mm is not None
        if has_recovery and (self.recovery_geometry is None or self.recovery_geometry != self.sensitivity_geometry):
            raise ValueError(
                "recovery_geometry: recovery and calibration come from one geometry, "
                f"but sensitivity_geometry is {self.sensitivity_geometry or 'n/a'}"
            )
        return self


class Region(SheetRow):
    """regions.tsv: from names in structure sets to regions of the ledger."""

    source_name: Name = Field(description="Name in the structure set, or class of the model")
    region: str = Field(pattern="^[a-z0-9_]+$", description="Name in the ledger")
    kind: Literal["organ", "marrow", "lesion", "rest_of_body"] = Field(
        description="marrow: source_name is a vertebra; its spongiosa is what is left 5 mm inside of its surface. "
        "rest_of_body: what of the body no other region has, from CT; source_name is body"
    )
    sct_code: str | None = Field(None, description="SNOMED CT code")
    laterality: Literal["left", "right"] | None = None
    part_of: str | None = Field(None, description="Region this one is summed into, e.g. kidneys")
    alpha_beta_gy: float | None = Field(None, gt=0, description="alpha/beta, Gy; BED is null without it")
    repair_half_time_h: float | None = Field(None, gt=0, description="Repair half-time, h")

    @field_validator("region")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value in (RED_MARROW, BLOOD):
            raise ValueError(f"{value} is no outline: the ledger computes it from a vertebra or from blood samples")
        return value


class Limit(SheetRow):
    """limits.tsv: reference lines of cumulative dose, not verdicts."""

    region: Name
    quantity: Literal["absorbed_dose", "bed"]
    limit_gy: float = Field(gt=0)
    source: Name


#: Keys of the registry of curve models, spelled out: the plan is read by every job, compiled fits are not.
CurveModelName = Literal["mono", "mono_uptake", "bi", "bi_uptake", "trapezoid", "trapezoid_physical"]


SingleMethod = Literal["hanscheid", "madsen", "population", "own_cycle"]


class CurveModel(SheetRow):
    """curve_models.tsv (optional): curve model and uptake of a region, frozen after a look at the cohort."""

    radiopharmaceutical: Name
    region: Name
    model: CurveModelName | None = Field(None, description="Instead of the config's kinetics.model")
    single_time_point: SingleMethod | None = Field(None, description="Instead of the config's")
    uptake_half_life_h: float | None = Field(None, gt=0, description="Median of the prior of the uptake half-life, h")
    uptake_ln_sd: float | None = Field(None, gt=0, description="Standard deviation of its logarithm")
    source: Name

    @model_validator(mode="after")
    def _whole_prior(self) -> Self:
        if (self.uptake_half_life_h is None) != (self.uptake_ln_sd is None):
            raise ValueError("uptake_half_life_h and uptake_ln_sd: both are needed, or neither")
        return self


class Patient(SheetRow):
    """patients.tsv (optional): what else is known of a patient."""

    site: Label
    patient: Label
    sex: Literal["F", "M", "O"] | None = None
    age_years: int | None = Field(None, ge=0, le=120, description="Age at the first cycle; the ledger keeps the band")
    mass_kg: float | None = Field(None, gt=1, lt=400)
    height_cm: float | None = Field(None, gt=30, lt=250)
    diagnosis: str | None = None
    kidney_function_band: str | None = None
    prior_therapy: str | None = None
    prior_kidney_dose_gy: float | None = Field(None, ge=0, lt=100)


class BloodSample(SheetRow):
    """blood_samples.tsv (optional): one row per blood sample of a cycle, for the dose of red marrow."""

    site: Label
    patient: Label
    cycle: int = Field(ge=1)
    sample_time: datetime | None = Field(
        None, description="Local wall-clock time, ISO 8601 without zone; the zone is that of the administration"
    )
    time_after_injection_start_h: float | None = Field(
        None, ge=0, le=2000, description="Instead of sample_time: hours after injection_start"
    )
    concentration_kbq_per_ml: float = Field(gt=0, le=1e6, description="Activity concentration of the matrix, kBq/mL")
    decay_reference: Literal["sample_time", "injection_start"] = Field(
        description="Time that the concentration refers to: that of the sample, or decay-corrected to injection_start"
    )
    matrix: Literal["blood", "plasma"] = Field(description="What was counted: whole blood or plasma")
    u_concentration_rel: float = Field(
        gt=0, lt=0.5, description="Relative standard uncertainty of this sample: counts, volume"
    )
    u_calibration_rel: float = Field(
        gt=0, lt=0.5, description="Relative standard uncertainty that all samples share: calibration of the counter"
    )
    haematocrit: float | None = Field(None, description="Of the cycle, a fraction from 0.1 to 0.7")

    @field_validator("sample_time", mode="before")
    @classmethod
    def _with_time_of_day(cls, value: object) -> object:
        return _date_and_time(value)

    @field_validator("haematocrit")
    @classmethod
    def _fraction(cls, value: float | None) -> float | None:
        if value is not None and not _HAEMATOCRIT[0] <= value <= _HAEMATOCRIT[1]:
            raise ValueError("no fraction from 0.1 to 0.7; was it written in per cent?")
        return value

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if (self.sample_time is None) == (self.time_after_injection_start_h is None):
            raise ValueError("sample_time: exactly one of it and time_after_injection_start_h is needed")
        if self.sample_time is not None and self.sample_time.tzinfo is not None:
            raise ValueError("sample_time: local time without a zone is expected")
        return self


class Review(SheetRow):
    """review.tsv (optional): what a person says of the masks of a time point."""

    site: Label
    patient: Label
    cycle: int = Field(ge=1)
    time_point: int = Field(ge=1)
    decision: Literal["accept", "edit", "reject"] = Field(
        description="edit: use label_map instead; reject: refuse the cycle"
    )
    label_map: str | None = Field(
        None, description="For edit: NIfTI label map with names (dseg.tsv beside it), SEG or RTSTRUCT with all regions"
    )
    reviewer: Name = Field(description="Who decided: initials or a role")
    comment: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.decision == "edit") != (self.label_map is not None):
            raise ValueError("label_map: an edit needs a label map, and nothing else has one")
        return self


class PhantomBody(SheetRow):
    """phantoms.tsv: one row per filled body of a phantom scan; no sheet of a cohort, but of a camera study."""

    site: Label
    camera: Name = Field(description="Camera as named in cameras.tsv")
    data_origin: Literal["patient", "virtual"] = Field(
        description="patient: a camera that images patients; virtual: a simulated one"
    )
    phantom: Literal["cylinder", "nema", "kidney", "decay"] = Field(
        description="cylinder: even, for the sensitivity; nema: hot spheres; kidney: kidney-shaped inserts; "
        "decay: one measurement of a decaying source, for the dead time"
    )
    spect: Name = Field(description="Folder or file of the SPECT, relative to this sheet")
    contours: str | None = Field(None, description="RTSTRUCT in which body is outlined, relative to this sheet")
    body: Name = Field(description="Name of the body: that of its outline, if there are contours")
    shape: Literal["sphere", "cylinder", "ellipsoid"] | None = Field(None, description="Form of the body")
    size_mm: str | None = Field(
        None, pattern=_SIZE, description="Inner diameters, one number for a sphere, else along x x y x z, mm"
    )
    hollow_mm: str | None = Field(None, pattern=_SIZE, description="The same of a concentric hollow that is not filled")
    volume_ml: float | None = Field(None, gt=0, description="Volume that was filled, as weighed, mL")
    nuclide: str = Field(pattern="^[A-Z][a-z]?-[0-9]+m?$", description="e.g. Lu-177")
    activity_mbq: float | None = Field(None, gt=0, le=1e5, description="Activity in the body at activity_time, MBq")
    activity_time: datetime | None = Field(None, description="Local time of the activity, ISO 8601 without zone")
    u_activity_rel: float | None = Field(
        None, gt=0, lt=0.5, description="Relative standard uncertainty of the activity: meter, volumes, residues"
    )
    detectors: int | None = Field(None, ge=1, le=32, description="As in cameras.tsv, for images in counts")
    energy_window_kev: str | None = Field(
        None, pattern=r"^[0-9]+(\.[0-9]+)?-[0-9]+(\.[0-9]+)?$", description="As in cameras.tsv, for images in counts"
    )

    @field_validator("activity_time", mode="before")
    @classmethod
    def _with_time_of_day(cls, value: object) -> object:
        return _date_and_time(value)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.phantom != "decay":
            for name in ("shape", "size_mm", "volume_ml", "activity_mbq", "activity_time", "u_activity_rel"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: missing; only a decaying source goes without")
        if self.activity_time is not None and self.activity_time.tzinfo is not None:
            raise ValueError("activity_time: local time without a zone is expected")
        if self.size_mm is not None and self.shape not in (None, "sphere") and "x" not in self.size_mm:
            raise ValueError("size_mm: three diameters are expected, as in 216x216x186")
        return self


class PatientKey(SheetRow):
    """The key list of a site, for ``doseledger index``: it is named in no config and stays with the records."""

    patient_id: Name = Field(description="PatientID (0010,0020)")
    patient: Label


SHEETS: Final[dict[str, type[SheetRow]]] = {
    "scans": Scan,
    "administrations": Administration,
    "cameras": Camera,
    "regions": Region,
    "limits": Limit,
    "patients": Patient,
    "review": Review,
    "curve_models": CurveModel,
    "blood_samples": BloodSample,
    "phantoms": PhantomBody,
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Sheets(_Section):
    """Paths of the sheets, relative to the config file."""

    scans: str
    administrations: str
    cameras: str
    regions: str
    limits: str | None = None
    patients: str | None = None
    review: str | None = None
    curve_models: str | None = None
    kinetic_prior: str | None = Field(None, description="Prior file of population kinetics; else the one that ships")
    blood_samples: str | None = None
    phantom_qc: str | None = Field(None, description="Table phantom_qc of the cameras, as `doseledger camera` wrote it")


class Ingest(_Section):
    """Cross-checks of header and sheet."""

    activity_tolerance_rel: float = Field(0.05, gt=0, description="Header against sheet, administered activity")
    injection_tolerance_min: float = Field(15.0, gt=0, description="Header against sheet, injection time, min")


class LesionThreshold(_Section):
    """Lesions by a threshold on SPECT, outside the outlined regions; exactly one threshold."""

    percent_of_maximum: float | None = Field(
        None, gt=0, le=100, description="Threshold: share of each lesion's own maximum, %; 41 to 50 are in use"
    )
    bq_per_ml: float | None = Field(None, gt=0, description="Threshold: concentration at scan start, Bq/mL")
    reference_region: str = Field(
        "liver", min_length=1, description="Region that lesions must outshine; every scan must show it"
    )
    min_reference_ratio: float = Field(
        1.0, ge=0, description="Least maximum of a lesion over the median of the reference region"
    )
    min_volume_ml: float = Field(DEFAULT_MIN_VOLUME_ML, ge=0, description="Smallest lesion, mL")
    organ_margin_mm: float = Field(
        10.0, ge=0, description="Distance to outlined regions within which nothing is a lesion, mm"
    )

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if (self.percent_of_maximum is None) == (self.bq_per_ml is None):
            raise ValueError("exactly one of percent_of_maximum and bq_per_ml is expected")
        return self


class Segment(_Section):
    """Where the regions come from."""

    source: Literal["contours", "totalsegmentator", "nnunet"] = Field(
        "contours", description="Back end; what a model has no class for comes from the column contours"
    )
    mode: Literal["default", "fast", "fastest"] = Field(
        "default", description="totalsegmentator, task total: voxels of 1.5, 3 or 6 mm"
    )
    tasks: tuple[Literal["total", "body", "head_glands_cavities"], ...] = Field(
        ("total",), min_length=1, description="totalsegmentator: later tasks paint over earlier ones"
    )
    roi_subset: bool = Field(
        True, description="totalsegmentator, task total: only the classes that regions.tsv names, on a crop around them"
    )
    weights: str | None = Field(
        None, description="totalsegmentator: weights folder; without it TOTALSEG_WEIGHTS_PATH or the tool's own folder"
    )
    model: str | None = Field(None, description="nnunet: model folder TRAINER__PLANS__CONFIGURATION")
    lesions: LesionThreshold | None = Field(None, description="Lesions by a threshold on SPECT; none without it")
    lesion_policy: Literal["excluded", "included"] = Field(
        "excluded",
        description="excluded: outlined lesions are no part of the organ around them; included: organs hold their "
        "lesions, and no region of the sheet is one",
    )
    operator_uncertainty_rel: float = Field(
        0.05, ge=0, lt=1, description="Variability of an outlined volume between operators"
    )


class Align(_Section):
    """Registration of the time points."""

    method: Literal["rigid", "demons"] = Field(
        "rigid", description="demons: rigid, then what remains between the CTs by fast symmetric demons"
    )
    reference_time_point: int = Field(1, ge=1, description="Time point whose grid carries the dose map")


class Kinetics(_Section):
    """Time-activity fits."""

    model: Literal["auto"] | CurveModelName = Field("auto", description="auto: what so many scans can tell")
    single_time_point: SingleMethod = Field(
        "population",
        description="One scan; madsen and population: with the prior; own_cycle: with the curve of another cycle of "
        "the patient, else population; what the prior does not have: hanscheid",
    )
    two_time_points: Literal["mono", "population"] = Field(
        "mono", description="Two scans; mono: through both; population: with the prior, maximum a posteriori"
    )
    own_cycle: Literal["earlier", "any"] = Field(
        "earlier", description="Cycles that own_cycle may take; any: of equal distance the earlier one first"
    )
    curve_source: Literal["own_mask", "reference_mask"] = Field(
        "own_mask", description="Each time point's own outline, or that of the reference on the aligned images"
    )
    follow_spect_shift: bool = Field(
        False, description="Move each outline of own_mask to where the SPECT of its time point shows the region"
    )
    partial_volume_method: Literal["none", "gtm", "auto"] = Field(
        "auto",
        description="Correction for blur; gtm: by form, neighbours and blur; auto: recovery of the camera's phantoms "
        "where cameras.tsv has it (near-spherical lesions, kidneys), gtm for all else",
    )
    relative_random_uncertainty: float = Field(0.05, gt=0, lt=1, description="Of a region's activity between scans")


class Marrow(_Section):
    """Red marrow, from the activity of a vertebra and from that of blood; never from both together."""

    region: str = Field("lumbar_marrow", min_length=1, description="Region of regions.tsv that is spongiosa")
    fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description=f"Share of the volume of that region that is red marrow; null: {DEFAULT_FRACTION:g}, flagged",
    )
    u_fraction_rel: float = Field(0.2, gt=0, lt=1, description="Relative standard uncertainty of the fraction")
    blood_ratio: Literal["unity", "haematocrit"] = Field(
        "unity", description="Marrow over blood concentration: 1, or 0.19/(1 - haematocrit)"
    )
    u_blood_ratio_rel: float = Field(0.2, gt=0, lt=1, description="Relative standard uncertainty of that ratio")
    primary: Literal["image", "blood"] = Field(
        "image", description="Method of the primary row in a cycle that has both; the only one is primary"
    )


class Dose(_Section):
    """Dose engines on one map of time-integrated activity; the first one is primary."""

    marrow: Marrow = Marrow()
    engines: tuple[str, ...] = Field(
        (DEFAULT_ENGINE,), min_length=1, json_schema_extra={"items": {"type": "string", "enum": [*sorted(ENGINES)]}}
    )
    uncertainty_check: Literal["none", "monte_carlo"] = Field(
        "none",
        description="Whether the uncertainty of primary doses is also computed by drawing; rows that it does not "
        "confirm are flagged",
    )

    @field_validator("engines")
    @classmethod
    def _known(cls, engines: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [e for e in engines if e not in ENGINES]:
            raise ValueError(f"unknown dose engine {unknown[0]}, expected one of {', '.join(sorted(ENGINES))}")
        if len(set(engines)) < len(engines):
            raise ValueError("a dose engine is listed twice")
        return engines


class Course(_Section):
    """Cumulation over cycles."""

    imputation: Literal["none", "own_dose_per_activity"] = Field(
        "none",
        description="How cycles without a dose are counted: not at all, or by the patient's own dose per activity of "
        "the nearest cycle",
    )
    u_between_cycles_rel: float = Field(
        0.2, gt=0, lt=1, description="Of an imputed cycle: standard deviation of ln(dose per activity) between cycles"
    )
    response: Literal["none", "volume"] = Field(
        "none", description="Response of each lesion: not stated, or by its volume with the limits of RECIST 1.1"
    )


class Config(_Section):
    """The config file of a cohort."""

    cohort: str = Field(pattern="^[A-Za-z0-9_-]+$", description="Identity of the cohort; marks the results folder")
    results: str = Field(min_length=1, description="Results folder, relative to this file")
    data_origin: Literal["patient", "virtual"] = Field(description="Never defaulted: it is in every table")
    sheets: Sheets
    ingest: Ingest = Ingest()
    segment: Segment = Segment()
    align: Align = Align()
    kinetics: Kinetics = Kinetics()
    dose: Dose = Dose()
    course: Course = Course()

    def stage_settings(self) -> dict[str, dict[str, Any]]:
        """Settings by stage, defaults included, as plain data: each stage sees only its own."""
        stages = ("ingest", "segment", "align", "kinetics", "dose", "course")
        return {name: getattr(self, name).model_dump(mode="json") for name in stages}


def parse_config(settings: Mapping[str, Any]) -> Config:
    """Validate the config.

    Raises
    ------
    SheetError
        Names the key, what stood there and what belongs there.
    """
    try:
        return Config.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SheetError(
            f"the config is invalid: {first['msg'].lower()}",
            path="config.yaml",
            tag=key,
            value=None if first["type"] == "missing" else first["input"],
            remedy="Correct the key; config/README.md describes the config.",
        ) from None


def first_error(
    model: type[SheetRow], cells: Mapping[str, str], path: str, line: int
) -> tuple[dict[str, Any] | None, SheetError | None]:
    """A row as plain data, or the first thing wrong with it."""
    try:
        return model.model_validate(cells).model_dump(mode="json"), None
    except ValidationError as error:
        first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    # A rule over several columns has no location; its message starts with the column's name.
    column = str(first["loc"][0]) if first["loc"] else message.split(":")[0]
    what = f"line {line}: {message[0].lower()}{message[1:]}"
    # Messages reach the ledger, and the ledger holds no dates.
    value = None if column in ("injection_start", "sensitivity_date", "sample_time") else cells.get(column)
    return None, SheetError(what, path=path, tag=column, value=value)


def json_schemas() -> dict[str, str]:
    """JSON schemas of config and sheets by file name, generated: a test keeps them in step."""
    schemas: dict[str, type[BaseModel]] = {"config": Config, **SHEETS}
    texts = {}
    for name, model in schemas.items():
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "version": SCHEMA_VERSION,
            **model.model_json_schema(),
        }
        texts[f"{name}.schema.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return texts
