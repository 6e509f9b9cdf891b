"""Red marrow by two methods: doses, uncertainties, flags, which row is primary, and sums that never mix them."""

from __future__ import annotations

from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doseledger.dose import DoseMap, EnergyBalance, compute_dose
from doseledger.dose.marrow import (
    DEFAULT_FRACTION,
    MARROW_G_PER_ML,
    RED_MARROW,
    U_CROSS_DOSE_REL,
    U_SELF_S_VALUE_REL,
    marrow_to_blood_ratio,
    red_marrow_mass_g,
    self_dose_gy,
    tia_from_image,
)
from doseledger.errors import NuclideError, QuantityError
from doseledger.geometry import Grid
from doseledger.io.nifti import write_sidecar
from doseledger.io.tables import is_leading, write_rows
from doseledger.nuclides import nuclide
from doseledger.regions import RegionSpec
from doseledger.report.sums import sum_charts, sums_by_region
from doseledger.statistics.region import region_dose
from doseledger.statistics.uncertainty import DoseUncertainty
from doseledger.steps import course
from doseledger.steps.layout import BLOOD_SAMPLES, LABELS
from doseledger.steps.marrow_rows import marrow_rows, vertebra_flags
from doseledger.steps.organ_rows import Result
from doseledger.steps.stage import Job
from doseledger.summary import _marrow_against_truth

KEY = {"site": "A", "patient": "P1", "cycle": 1}
GRID = Grid((2, 2, 2), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
SETTINGS = {
    "region": "lumbar_marrow",
    "fraction": 0.5,
    "u_fraction_rel": 0.2,
    "blood_ratio": "unity",
    "u_blood_ratio_rel": 0.3,
    "primary": "image",
}
#: Vertebra of 50 mL with 100 MBq h.
VERTEBRA = {
    "region": "lumbar_marrow",
    "region_source": "contours",
    "tia_mbq_h": 100.0,
    "volume_ml": 50.0,
    "u_calibration_rel": 0.05,
    "u_recovery_rel": 0.1,
    "u_volume_rel": 0.08,
    "partial_volume_method": "gtm",
    "curve_model": "mono",
    "effective_half_life_h": 50.0,
    "flags": ["extrapolated", "histogram_not_corrected", "vertebra_not_marrow"],
}
CURVE = {
    "region": "blood",
    "model": "bi",
    "chosen": True,
    "effective_half_life_h": 20.0,
    "rate_at_bound": False,
    "extrapolated_fraction": 0.1,
    "tia_mbq_h": 3.0,
    "u_tia_mbq_h": 0.12,
    "tia_low_mbq_h": 2.774,
    "tia_high_mbq_h": 3.245,
    "flags": ["poor_fit"],
}
PHOTONS_J = np.array([[0.0, 0.9e-3], [0.0, 1.1e-3]])


def dose_map(*, photons: bool = True) -> DoseMap:
    """Batches of photons left 1 mJ in label 1 on average."""
    return DoseMap(
        dose_gy=np.ones((2, 2, 2), np.float32),
        relative_sd=np.zeros((2, 2, 2), np.float32),
        energy_balance=EnergyBalance({"electron": 1.0}, 0.9, 0.1),
        engine="pmc" if photons else "led",
        nuclear_data="",
        _batch_j=PHOTONS_J if photons else None,
        _label_j=np.array([0.0, 5e-3]),
    )


def found_rows(
    tmp_path: Path,
    *,
    image: bool = True,
    blood: bool = True,
    photons: bool = True,
    name: str = "Lu-177",
    person: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, dict[str, Any]]:
    segment, kinetics = tmp_path / "segment", tmp_path / "kinetics"
    for folder in (segment, kinetics):
        folder.mkdir(exist_ok=True)
    write_sidecar(segment / LABELS, {"regions": [vars(RegionSpec(1, "lumbar_marrow", "marrow"))]})
    write_rows(kinetics, "curve", [KEY | CURVE] if blood else [])
    sample = {"sample": 1, "time_h": 1.0, "concentration_bq_per_ml": 1e5, "u_concentration_rel": 0.03}
    write_rows(kinetics, "blood_sample", [KEY | sample])
    facts = {"n_samples": 6, "u_calibration_rel": 0.02, "haematocrit": 0.42, "matrix": "blood"}
    if blood:
        write_sidecar(kinetics / BLOOD_SAMPLES, facts)
    administration = {
        "measured_activity_mbq": 7400.0,
        "residual_activity_mbq": 0.0,
        "radiopharmaceutical": "Lu177-DOTATATE",
    }
    camera = {"camera": "NM1", "u_calibration_rel": 0.05, "fwhm_mm": 10.0}
    job = Job(
        inputs={"segment": (segment,), "kinetics": (kinetics,)},
        out=tmp_path,
        settings={"marrow": SETTINGS | settings},
        rows=KEY
        | {"administration": administration, "scans": [{"camera": "NM1"}], "cameras": [camera]}
        | {"person": person or {"sex": None, "mass_kg": None}},
    )
    ones = np.ones((2, 2, 2), np.float32)
    spread = [DoseUncertainty(0.05, 0.1, 0.08, fit, 0.01, 0.0) for fit in (0.04, 0.06, 0.05)]
    whole = region_dose(ones, ones, 1.0, np.ones((2, 2, 2), bool), 50.0)
    vertebra = (dict(VERTEBRA), Result(whole, *spread, high_let_gy=None, mc_sd_rel=None, chain=())) if image else None
    labels = np.ones((2, 2, 2), np.uint8)
    common = KEY | {"n_timepoints": 4, "protocol": "mtp", "curve_source": "own_mask", "input_sha256": "images"}
    rows = marrow_rows(job, common, dose_map(photons=photons), ones, GRID, labels, vertebra, name)
    return {row["marrow_method"]: row for row in rows}


# Physics ------------------------------------------------------------------------------------------


def test_the_self_dose_is_that_of_the_concentration_and_never_that_of_the_voxels() -> None:
    """Of a concentration the mass of the marrow cancels; a share f < 1 and lost electrons make it another dose."""
    doses = [
        self_dose_gy(tia_from_image(100.0, 50.0, fraction=0.6, marrow_g=mass), mass, "Lu-177")
        for mass in (900.0, 1500.0)
    ]
    assert doses[0] == pytest.approx(doses[1])
    delta = 0.57 * nuclide("Lu-177").electron_kev * 1.602176634e-16 * 3.6e9 * 1e3
    assert doses[0] == pytest.approx(100.0 / 50.0 / 0.6 / MARROW_G_PER_ML * delta)


def test_a_nuclide_without_a_self_fraction_has_no_dose() -> None:
    with pytest.raises(NuclideError, match="Y-90"):
        self_dose_gy(1.0, 1170.0, "Y-90")
    assert vertebra_flags("Y-90") == ["vertebra_not_marrow", "no_s_value_of_marrow"]
    assert vertebra_flags("Lu-177") == ["vertebra_not_marrow"]


@pytest.mark.parametrize("haematocrit", [0.0, 1.0, 42.0])
def test_a_haematocrit_is_a_fraction(haematocrit: float) -> None:
    with pytest.raises(QuantityError):
        marrow_to_blood_ratio(haematocrit)


@pytest.mark.parametrize(("volume_ml", "fraction"), [(0.0, 0.6), (50.0, 0.0), (50.0, 1.1)])
def test_no_volume_and_no_share_is_no_concentration(volume_ml: float, fraction: float) -> None:
    with pytest.raises(QuantityError):
        tia_from_image(1.0, volume_ml, fraction=fraction, marrow_g=1170.0)


def test_the_mass_is_the_reference_in_proportion_to_the_body() -> None:
    assert red_marrow_mass_g("M", 73.0) == red_marrow_mass_g("O") == 1170.0
    assert red_marrow_mass_g("F", 120.0) == 1800.0


def test_photons_of_a_region_are_what_the_electrons_leave_over() -> None:
    """pmc scores photons by batch: with their energy the electrons make up the whole of the region."""
    tia = np.zeros((7, 7, 7))
    tia[3, 3, 3] = 1e6
    labels = np.zeros((7, 7, 7), np.uint8)
    labels[1:6, 1:6, 1:6] = 1
    density = np.full((7, 7, 7), 1.04)
    dose = compute_dose(tia, density, 20.0, "Lu-177", labels=labels, precision=0.05)
    electrons_j = compute_dose(tia, density, 20.0, "Lu-177", engine="led", labels=labels)._label_j
    photons = dose.region_photon_energy([1])
    assert photons is not None
    assert dose._label_j is not None
    assert electrons_j is not None
    # Electrons of 177Lu stay within 20 mm.
    assert photons[0] + electrons_j[1] == pytest.approx(dose._label_j[1], rel=2e-3)
    assert photons[0] > 0.02 * electrons_j[1]
    assert 0.0 < photons[1] < 0.05
    with pytest.raises(QuantityError, match="labels"):
        compute_dose(tia, density, 20.0, "Lu-177", engine="led").region_photon_energy([1])


# Rows ---------------------------------------------------------------------------------------------


def test_each_method_has_a_row_with_its_own_numbers(tmp_path: Path) -> None:
    rows = found_rows(tmp_path)
    # 1 mJ in 8 mL of 1 g/mL.
    assert [r["cross_dose_gy"] for r in rows.values()] == pytest.approx([0.125, 0.125])
    image = self_dose_gy(100.0 / (50.0 * 0.5 * 1.03) * 1170.0, 1170.0, "Lu-177")
    blood = self_dose_gy(3.0 * 1170.0, 1170.0, "Lu-177")
    assert rows["image"]["absorbed_dose_gy"] == pytest.approx(image + 0.125)
    assert rows["blood"]["absorbed_dose_gy"] == pytest.approx(blood + 0.125)
    assert (rows["image"]["marrow_factor"], rows["blood"]["marrow_factor"]) == (0.5, 1.0)
    assert (rows["image"]["curve_model"], rows["blood"]["curve_model"]) == ("mono", "bi")
    assert (rows["image"]["n_timepoints"], rows["blood"]["n_timepoints"]) == (4, 6)
    assert (rows["image"]["curve_source"], rows["blood"]["curve_source"]) == ("own_mask", "blood_samples")
    assert rows["image"]["input_sha256"] != rows["blood"]["input_sha256"]
    assert {r["region"] for r in rows.values()} == {RED_MARROW}
    assert {r["mass_g"] for r in rows.values()} == {1170.0}


def test_the_parts_of_the_uncertainty_are_the_whole(tmp_path: Path) -> None:
    rows = found_rows(tmp_path)
    names = ("calibration", "recovery", "volume", "marrow_factor", "dose_factor", "fit")
    for row in rows.values():
        parts = [row[f"u_{name}_rel"] or 0.0 for name in names]
        assert row["u_absorbed_dose_rel"] == pytest.approx(hypot(*parts))
        assert row["u_systematic_rel"] == pytest.approx(hypot(*parts[:-1]))
        own = 1.0 - row["cross_dose_gy"] / row["absorbed_dose_gy"]
        assert row["mc_sd_rel"] == pytest.approx((1.0 - own) * 0.1)
        assert row["dose_low_gy"] < row["absorbed_dose_gy"] < row["dose_high_gy"]
    image, blood = rows["image"], rows["blood"]
    own = 1.0 - 0.125 / image["absorbed_dose_gy"]
    assert image["u_calibration_rel"] == 0.05
    assert image["u_marrow_factor_rel"] == pytest.approx(own * 0.2)
    assert image["u_recovery_rel"] == pytest.approx(own * 0.1)
    assert image["u_fit_rel"] == pytest.approx(own * 0.04)
    expected = hypot(own * U_SELF_S_VALUE_REL, (1.0 - own) * U_CROSS_DOSE_REL, image["mc_sd_rel"])
    assert image["u_dose_factor_rel"] == pytest.approx(expected)
    own = 1.0 - 0.125 / blood["absorbed_dose_gy"]
    assert blood["u_calibration_rel"] == pytest.approx(own * 0.02)
    assert blood["u_marrow_factor_rel"] == pytest.approx(own * 0.3)
    assert blood["u_recovery_rel"] is blood["u_volume_rel"] is None


@pytest.mark.parametrize(
    ("image", "blood", "wanted", "primary"),
    [
        (True, True, "image", "image"),
        (True, True, "blood", "blood"),
        (False, True, "image", "blood"),
        (True, False, "blood", "image"),
    ],
)
def test_exactly_one_row_is_primary(tmp_path: Path, image: bool, blood: bool, wanted: str, primary: str) -> None:
    rows = found_rows(tmp_path, image=image, blood=blood, primary=wanted)
    assert [method for method, row in rows.items() if row["is_primary"]] == [primary]
    assert len(rows) == image + blood
    assert all(is_leading(row) for row in rows.values())


def test_without_data_or_an_s_value_there_is_no_row(tmp_path: Path) -> None:
    assert found_rows(tmp_path, image=False, blood=False) == {}
    assert found_rows(tmp_path, name="Y-90") == {}


def test_an_assumed_share_of_marrow_is_never_silent(tmp_path: Path) -> None:
    stated, assumed = found_rows(tmp_path)["image"], found_rows(tmp_path, fraction=None)["image"]
    assert "marrow_fraction_assumed" not in stated["flags"]
    assert "marrow_fraction_assumed" in assumed["flags"]
    assert assumed["marrow_factor"] == DEFAULT_FRACTION
    assert "marrow_fraction_assumed" not in found_rows(tmp_path, fraction=None)["blood"]["flags"]


def test_flags_of_the_activity_stay_and_flags_of_the_voxel_dose_do_not(tmp_path: Path) -> None:
    rows = found_rows(tmp_path)
    assert rows["image"]["flags"] == ["extrapolated"]
    assert rows["blood"]["flags"] == ["poor_fit"]


def test_an_engine_without_photons_says_that_they_are_missing(tmp_path: Path) -> None:
    for row in found_rows(tmp_path, photons=False).values():
        assert row["cross_dose_gy"] is None
        assert row["dose_engine"] == "organ"
        assert "cross_dose_not_included" in row["flags"]
        assert row["mc_sd_rel"] is None


def test_the_ratio_by_haematocrit_is_a_third_of_unity(tmp_path: Path) -> None:
    row = found_rows(tmp_path, blood_ratio="haematocrit", photons=False)["blood"]
    assert row["marrow_factor"] == pytest.approx(0.19 / 0.58)
    unity = found_rows(tmp_path, photons=False)["blood"]
    assert row["absorbed_dose_gy"] / unity["absorbed_dose_gy"] == pytest.approx(0.19 / 0.58)


def test_a_body_mass_scales_the_marrow_and_not_its_dose(tmp_path: Path) -> None:
    reference = found_rows(tmp_path)["image"]
    heavy = found_rows(tmp_path, person={"sex": "M", "mass_kg": 109.5})["image"]
    assert (reference["mass_source"], heavy["mass_source"]) == ("reference", "body_mass")
    assert heavy["mass_g"] == pytest.approx(1.5 * reference["mass_g"])
    assert heavy["tia_mbq_h"] == pytest.approx(1.5 * reference["tia_mbq_h"])
    assert heavy["absorbed_dose_gy"] == pytest.approx(reference["absorbed_dose_gy"])


# Sums ---------------------------------------------------------------------------------------------


class Finished:
    """A finished cycle with rows of red marrow."""

    def __init__(self, cycle: int, **doses: float) -> None:
        self.cycle = cycle
        primary = "image" if "image" in doses else "blood"
        self.doses = [
            {
                "cycle": cycle,
                "region": RED_MARROW,
                "marrow_method": method,
                "is_primary": method == primary,
                "absorbed_dose_gy": gy,
                "bed_gy": None,
                "u_systematic_rel": 0.1,
                "u_fit_rel": 0.0,
            }
            for method, gy in doses.items()
        ]

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.doses if table == "organ_dose" else []


def sums(*cycles: Finished) -> dict[str, dict[str, Any]]:
    administration = {"measured_activity_mbq": 7400.0, "residual_activity_mbq": 0.0}
    limit = {"region": RED_MARROW, "quantity": "absorbed_dose", "limit_gy": 2.0, "source": "a line"}
    job = Job(
        inputs={},
        out=Path(),
        settings={"imputation": "none"},
        rows={
            "site": "A",
            "patient": "P1",
            "data_origin": "virtual",
            "person": None,
            "administrations": [{"cycle": c.cycle, **administration} for c in cycles],
            "cycles": [{"cycle": c.cycle, "imaged": True} for c in cycles],
            "regions": [],
            "limits": [limit],
        },
    )
    return {row["marrow_method"]: row for row in course._course_rows(job, list(cycles))}  # type: ignore[arg-type]


def test_methods_are_summed_apart_each_against_the_line() -> None:
    found = sums(Finished(1, image=0.4, blood=0.2), Finished(2, image=0.4, blood=0.3))
    assert {m: r["cumulative_dose_gy"] for m, r in found.items()} == {
        "blood": pytest.approx(0.5),
        "image": pytest.approx(0.8),
    }
    assert {r["cumulative_status"] for r in found.values()} == {"complete"}
    assert found["image"]["fraction_of_limit"] == pytest.approx(0.4)
    assert found["blood"]["fraction_of_limit"] == pytest.approx(0.25)


def test_a_cycle_with_the_other_method_alone_makes_a_sum_incomplete_and_fills_no_gap() -> None:
    """The second cycle's primary row is that of blood: it must not stand in for the image."""
    found = sums(Finished(1, image=0.4, blood=0.2), Finished(2, blood=0.3))
    assert found["image"]["cumulative_status"] == "incomplete"
    assert found["image"]["cumulative_dose_gy"] == pytest.approx(0.4)
    assert found["image"]["fraction_of_limit"] is None
    assert (found["blood"]["cumulative_status"], found["blood"]["cumulative_dose_gy"]) == (
        "complete",
        pytest.approx(0.5),
    )


# Shown --------------------------------------------------------------------------------------------


def test_a_page_joins_the_limits_of_one_method_and_never_two_methods() -> None:
    row = {"site": "A", "patient": "P1", "region": RED_MARROW, "limit_gy": 2.0, "cumulative_status": "complete"}
    row |= {"cycles_given": 1, "cycles_counted": 1, "cycles_imputed": 0, "limit_quantity": "absorbed_dose"}
    row |= {"cumulative_bed_gy": None, "prior_dose_gy": None}
    rows = [
        row | {"marrow_method": "image", "cumulative_dose_gy": 0.4},
        row | {"marrow_method": "image", "cumulative_dose_gy": 0.4, "limit_gy": 3.0},
        row | {"marrow_method": "blood", "cumulative_dose_gy": 0.2},
    ]
    joined = sums_by_region(rows)
    assert [(r["marrow_method"], len(r["limits"])) for r in joined] == [("blood", 1), ("image", 2)]
    captions = [picture.caption for picture in sum_charts(joined)]
    assert captions == [
        "Red marrow (blood): cumulative absorbed dose, Gy.",
        "Red marrow (image): cumulative absorbed dose, Gy.",
    ]


def test_each_method_is_held_against_its_own_truth(tmp_path: Path) -> None:
    truth = "site,patient,cycle,marrow_method,mass_g,marrow_factor,tia_mbq_h,dose_self_gy\n"
    (tmp_path / "marrow_truth.csv").write_text(f"{truth}A,P1,1,image,1170,0.6,1,0.2\nA,P1,1,blood,1170,1,1,0.1\n")
    key = {"site": "A", "patient": "P1", "cycle": 1, "region": RED_MARROW}
    doses = [
        key
        | {"marrow_method": "image", "absorbed_dose_gy": 0.31, "cross_dose_gy": 0.05}
        | {"dose_low_gy": 0.2, "dose_high_gy": 0.4},
        key
        | {"marrow_method": "blood", "absorbed_dose_gy": 0.08, "cross_dose_gy": None}
        | {"dose_low_gy": 0.07, "dose_high_gy": 0.09},
        key | {"region": "liver", "marrow_method": None},
    ]
    _, blood, image = _marrow_against_truth(doses, tmp_path).splitlines()
    assert blood.split() == ["A", "blood", "1", "0.080", "0.000", "0.800", "0.800-0.800", "0", "of", "1"]
    assert image.split() == ["A", "image", "1", "0.310", "0.050", "1.300", "1.300-1.300", "1", "of", "1"]
    assert _marrow_against_truth(doses[2:], tmp_path) == "none"
