"""The report: what stands in the tables is on the page, nothing else, and the same each time."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from math import exp, inf, log, nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from doseledger.errors import GeometryError
from doseledger.io.tables import table, write_rows
from doseledger.report import CycleSlices, charts, cohort_page, patient_page, words
from doseledger.report.completeness import cycle_states
from doseledger.report.figures import fused_picture, mark
from doseledger.report.pages import checked, stopped
from doseledger.report.sums import sum_charts, sums_by_region
from doseledger.steps.cohort_page import read_comparison
from doseledger.steps.compare import write_comparison

Row = dict[str, Any]
Tables = dict[str, list[Row]]

HOSTILE = "<script>alert('x')</script>&$\\frac{"
SENTENCE = "the image is not in a known unit of activity concentration (file P01/c2/spect). Export it in Bq/mL."
SCANS_H = (4.0, 24.0, 96.0, 168.0)
#: Amplitude per administered MBq, effective half-life (h), volume (mL), dose per activity (Gy/GBq).
ORGANS = {
    "kidney_left": (0.0141, 51.6, 168.0, 0.561),
    "kidney_right": (0.0132, 49.8, 159.0, 0.547),
    "kidneys": (0.0273, 50.7, 327.0, 0.554),
    "liver": (0.0602, 65.0, 1740.0, 0.271),
    "spleen": (0.0188, 159.528, 214.0, 0.912),
    "lesion_1": (0.0061, 88.0, 24.0, 2.71),
}
LABELS = {1: "kidney_left", 2: "kidney_right", 3: "liver", 4: "spleen", 5: "lesion_1"}


def rows(name: str, *items: Row) -> list[Row]:
    """Rows with every column of the ledger's schema; an unknown column is a KeyError."""
    return list(table(name, items).to_pylist())


def fabricated_cycle(
    site: str, patient: str, cycle: int, *, times_h: tuple[float, ...] = SCANS_H, factor: float = 1.0
) -> Tables:
    """All rows that an accepted cycle leaves behind, with a plausible size of every number."""
    key = {"site": site, "patient": patient, "cycle": cycle}
    origin = {"data_origin": "virtual", "software_version": "0.1.0"}
    administered = 7412.0 - 31.0 * cycle
    protocol = {1: "stp", 2: "2tp"}.get(len(times_h), "mtp")
    found: Tables = {name: [] for name in ("acquisition", "region", "region_activity", "curve", "organ_dose", "dvh")}
    for point, time_h in enumerate(times_h, start=1):
        here = {**key, **origin, "time_point": point, "time_h": time_h}
        found["acquisition"].append(
            {
                **here,
                "camera": "camA",
                "collimator": "MEGP",
                "reconstruction": "OSEM 10i8s",
                "energy_window_kev": "187.2-228.8",
                "unit_source": "(0054,1001)",
                "total_activity_mbq": administered * 0.4 * exp(-log(2) / 70 * time_h),
                "total_fraction_of_administered": 0.41 - 0.001 * time_h,
                "u_calibration_rel": 0.05,
                "has_ct": point != 2,
                "flags": ["duration_missing"] if point == 2 else [],
            }
        )
        for region, (amplitude, half_life_h, volume_ml, _) in ORGANS.items():
            activity = factor * amplitude * administered * exp(-log(2) / half_life_h * time_h)
            wobble = 1 + 0.03 * (-1) ** point
            corrected = activity / 0.82 if region == "lesion_1" else None
            found["region_activity"].append(
                {
                    **here,
                    "region": region,
                    "activity_mbq": activity * wobble,
                    "u_activity_mbq": 0.05 * activity,
                    "activity_corrected_mbq": corrected,
                    "method": "none",
                    "curve_source": "own_mask",
                }
            )
            if region != "kidneys":
                outline = {"volume_ml": volume_ml, "region_source": "totalsegmentator", "outline_modality": "CT"}
                state = {"review_status": "not_reviewed", "mass_source": "ct_density"}
                shared = {name: here[name] for name in (*key, *origin, "time_point")}
                found["region"].append({**shared, "region": region, **outline, **state})
    for region, (amplitude, half_life_h, volume_ml, gy_per_gbq) in ORGANS.items():
        at_bound = region == "spleen"
        tia = factor * amplitude * administered * half_life_h / log(2)
        extrapolated = exp(-log(2) * times_h[-1] / half_life_h)
        common = {
            **key,
            **origin,
            "region": region,
            "effective_half_life_h": half_life_h,
            "tia_mbq_h": tia,
            "extrapolated_fraction": extrapolated,
            "rate_at_bound": at_bound,
        }
        found["curve"].append(
            {
                **common,
                "model": "trapezoid" if region == "liver" else "mono",
                "parameter_names": ["last_activity_mbq", "tail_rate_per_h"]
                if region == "liver"
                else ["amplitude_mbq", "rate_per_h"],
                "parameters": [factor * amplitude * administered, log(2) / half_life_h],
                "chosen": True,
                "status": "at_bound" if at_bound else "ok",
                "n_timepoints": len(times_h),
            }
        )
        dose = factor * gy_per_gbq * administered / 1000
        analysis = {
            **common,
            "lesion_id": "L1" if region.startswith("lesion") else None,
            "administered_mbq": administered,
            "n_timepoints": len(times_h),
            "protocol": protocol,
            "lesion_policy": "excluded",
            "partial_volume_method": "none",
            "curve_model": "mono",
            "volume_ml": volume_ml,
            "mass_g": 1.05 * volume_ml,
            "alpha_beta_gy": 2.5,
            "repair_half_time_h": 2.8,
            "settings_sha256": "5e77" * 16,
            "weights_sha256": "ab12" * 16,
            "flags": ["extrapolated"] if extrapolated > 0.2 else [],
        }
        found["organ_dose"].append(
            {
                **analysis,
                "analysis_id": "a1",
                "is_primary": True,
                "dose_engine": "pmc",
                "absorbed_dose_gy": dose,
                "dose_low_gy": dose / 1.28,
                "dose_high_gy": dose * 1.28,
                "u_absorbed_dose_rel": 0.126,
                "dose_gy_per_gbq": dose / administered * 1000,
            }
        )
        found["organ_dose"].append(
            {
                **analysis,
                "analysis_id": "b2",
                "is_primary": False,
                "dose_engine": "led",
                "absorbed_dose_gy": 0.98 * dose,
            }
        )
        edges = np.linspace(0.0, 2.2 * dose, 41)
        shape = np.exp(-0.5 * ((edges[:-1] - dose) / (0.3 * dose)) ** 2)
        histogram = {"dose_edges_gy": edges.tolist(), "volume_fraction": (shape / shape.sum()).tolist()}
        found["dvh"].append(
            {**key, **origin, "region": region, "analysis_id": "a1", "partial_volume_method": "none", **histogram}
        )
    found["administration"] = [
        {
            **key,
            **origin,
            "radiopharmaceutical": "Lu177-DOTATATE",
            "nuclide": "Lu-177",
            "measured_activity_mbq": administered + 42.0,
            "residual_activity_mbq": 42.0,
            "administered_mbq": administered,
            "infusion_min": 30.0,
            "imaged": True,
            "days_after_first_cycle": 56 * (cycle - 1),
        }
    ]
    if cycle == 1:
        found["patient"] = [
            {
                "site": site,
                "patient": patient,
                **origin,
                "sex": "F",
                "age_band": "60-64",
                "mass_kg": 71.5,
                "height_cm": 168.0,
                "diagnosis": "ileal neuroendocrine tumour",
                "kidney_function_band": "60-89",
            }
        ]
    lesion = {"lesion_id": "L1", "location": "liver", "delineation": "threshold 41 %", "volume_ml": 24.0 - 3 * cycle}
    found["lesion"] = [
        {
            **key,
            **origin,
            **lesion,
            "uptake_mean_bq_per_ml": 1.52e6,
            "uptake_peak_bq_per_ml": 2.9e6,
            "absorbed_dose_gy": 19.9,
            "volume_change_rel": None if cycle == 1 else -0.143,
            "appearance": "first" if cycle == 1 else "persistent",
            "flags": ["threshold_volume"],
        }
    ]
    stages = ("ingest", "segment", "align", "kinetics", "dose")
    found["stage_outcome"] = [{**key, "stage": stage, "status": "ok"} for stage in stages]
    return {name: rows(name, *items) for name, items in found.items()}


def refused_cycle(site: str, patient: str, cycle: int, sentence: str = SENTENCE) -> Tables:
    """A cycle that ingest refused: the refusal is copied forward by every later stage."""
    key = {"site": site, "patient": patient, "cycle": cycle}
    given = {"radiopharmaceutical": "Lu177-DOTATATE", "administered_mbq": 7300.0, "imaged": True}
    refusal = {"status": "refused", "code": "unit_unknown", "sentence": sentence, "tag": "(0054,1001)"}
    stages = ("ingest", "segment", "align", "kinetics", "dose")
    return {
        "administration": rows("administration", {**key, **given, "data_origin": "virtual"}),
        "stage_outcome": rows(
            "stage_outcome", *({**key, "stage": stage, **refusal, "origin_stage": "ingest"} for stage in stages)
        ),
    }


def fabricated_course(site: str, patient: str, *, given: int, counted: int, dose_gy: float) -> Tables:
    complete = given == counted
    common = {
        "site": site,
        "patient": patient,
        "region": "kidneys",
        "cycles_given": given,
        "cycles_counted": counted,
        "cycles_imputed": 0,
        "cumulative_status": "complete" if complete else "incomplete",
        "administered_mbq": 7400.0 * given,
        "cumulative_dose_gy": dose_gy,
        "cumulative_bed_gy": 1.1 * dose_gy,
        "u_cumulative_dose_rel": 0.108,
        "prior_dose_gy": 3.2,
        "data_origin": "virtual",
    }
    limits = (("absorbed_dose", 23.0), ("bed", 40.0))
    return {
        "course": rows(
            "course",
            *(
                {
                    **common,
                    "limit_quantity": quantity,
                    "limit_gy": limit,
                    "limit_source": "site protocol",
                    "fraction_of_limit": (dose_gy + 3.2) / limit if complete else None,
                }
                for quantity, limit in limits
            ),
        )
    }


def merged(*parts: Tables) -> Tables:
    return {name: [row for part in parts for row in part.get(name, [])] for name in {n for part in parts for n in part}}


def fabricated_patient(site: str = "S1", patient: str = "P01", sentence: str = SENTENCE) -> Tables:
    """Two cycles given, the second refused."""
    return merged(
        fabricated_cycle(site, patient, 1),
        refused_cycle(site, patient, 2, sentence),
        fabricated_course(site, patient, given=2, counted=1, dose_gy=4.09),
    )


def fabricated_cohort() -> Tables:
    """Three sites: the third has one scan per cycle, and one patient with a refused cycle."""
    parts = []
    for n, (site, patient) in enumerate((s, p) for s in ("S1", "S2", "S3") for p in ("P01", "P02")):
        times_h = SCANS_H[1:2] if site == "S3" else SCANS_H
        parts += [fabricated_cycle(site, patient, c, times_h=times_h, factor=0.8 + 0.09 * n) for c in (1, 2)]
        parts.append(fabricated_course(site, patient, given=2, counted=2, dose_gy=6.5 + n))
    return merged(*parts, refused_cycle("S2", "P02", 3))


def torso(cycle: int = 1, *, ct: bool = True, dose: bool = True) -> CycleSlices:
    """An ellipsoid torso with kidneys, liver, spleen and a lesion; z to the head, x to the left."""
    spacing_mm = (4.8, 4.8, 4.8)
    z, y, x = np.meshgrid(*(4.8 * (np.arange(n) - n / 2) for n in (90, 64, 90)), indexing="ij")

    def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Any:
        parts = zip((x, y, z), centre, radii, strict=True)
        return sum(((axis - middle) / radius) ** 2 for axis, middle, radius in parts) <= 1

    body = ellipsoid((0, 0, 0), (165, 105, 330))
    shapes = {
        3: ellipsoid((-70, -5, 70), (75, 70, 62)),
        4: ellipsoid((105, 35, 75), (28, 32, 42)),
        1: ellipsoid((62, 40, -10), (28, 24, 54)),
        2: ellipsoid((-62, 40, -25), (28, 24, 54)),
        5: ellipsoid((-85, 30, 40), (15, 15, 15)),
    }
    labels = np.zeros(body.shape, dtype=np.int16)
    for label, mask in shapes.items():
        labels[mask] = label
    grain = np.random.Generator(np.random.PCG64(cycle)).normal(0.0, 1.0, body.shape)
    hounsfield = np.where(body, 20.0, -1000.0) + np.where(ellipsoid((0, 70, 0), (18, 18, 320)), 250.0, 0.0)
    hounsfield += np.where(labels > 0, 40.0, 0.0) + np.where(body, 12.0, 3.0) * grain
    concentration = np.where(body, 8e3, 0.0)
    for label, value in {1: 2.2e5, 2: 2.1e5, 3: 9e4, 4: 2.6e5, 5: 6.5e5}.items():
        concentration[labels == label] = value
    concentration *= np.clip(1 + 0.1 * grain, 0.0, None)
    row, slice_ = 40, 53
    return CycleSlices(
        cycle=cycle,
        time_h=24.1,
        spacing_mm=spacing_mm,
        ct_coronal=hounsfield[:, row] if ct else None,
        spect_coronal_mip=concentration.max(axis=1),
        ct_axial=hounsfield[slice_] if ct else None,
        spect_axial=concentration[slice_],
        labels_coronal=labels[:, row],
        labels_axial=labels[slice_],
        label_names=LABELS,
        dose_coronal=concentration[:, row] * 2e-5 if dose else None,
    )


def page(tables: Tables | None = None, slices: tuple[CycleSlices, ...] = (), **changes: str) -> str:
    arguments = {"site": "S1", "patient": "P01", "software_version": "0.1.0", **changes}
    return patient_page(tables=fabricated_patient() if tables is None else tables, slices=slices, **arguments)


def without_charts(tables: Tables) -> Tables:
    """The same rows without those that are drawn: enough, and quicker, where only words matter."""
    return {name: [] if name in ("region_activity", "dvh") else items for name, items in tables.items()}


@pytest.fixture(scope="module")
def patient_html() -> str:
    return page(slices=(torso(),))


def compared(tables: Tables) -> Tables:
    """What stage ``compare`` makes of the tables."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for table_name, items in tables.items():
            for site in {row["site"] for row in items}:
                # The folder's name is not read: a hostile label must not become a path here.
                part = folder / table_name / f"site={len(site)}{site.isalnum() and site}"
                part.mkdir(parents=True, exist_ok=True)
                write_rows(part, table_name, [row for row in items if row["site"] == site])
        out = folder / "compare"
        out.mkdir()
        write_comparison(folder, out)
        return read_comparison(out)


def whole_page(tables: Tables, **changes: Any) -> str:
    """The page of a cohort with its comparison."""
    arguments = {"cohort": "demo", "software_version": "0.1.0", "comparison": compared(tables), **changes}
    return cohort_page(tables=tables, **arguments)


@pytest.fixture(scope="module")
def cohort_html() -> str:
    return whole_page(fabricated_cohort())


def readable(html: str) -> str:
    """Text of a page as a reader sees it: no tags, no pictures, one space between words."""
    without = re.sub(r"<style>.*?</style>|<[^>]+>", " ", re.sub(r"data:image[^\"]+", "", html), flags=re.S)
    return re.sub(r"\s+", " ", without.replace("&ndash;", words.DASH))


def markup(html: str) -> str:
    """The page without the content of its pictures."""
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", html)


def section(html: str, start: str, end: str | None = None) -> str:
    """Readable text between two pieces of the page."""
    first = html.index(start)
    return readable(html[first : None if end is None else html.index(end, first)])


def pictures(html: str) -> list[bytes]:
    return [base64.b64decode(text) for text in re.findall(r"base64,([A-Za-z0-9+/=]+)", html)]


class Balance(HTMLParser):
    """Collects open tags: a page whose tags do not nest is broken somewhere."""

    VOID = frozenset({"meta", "link", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_sound(html: str) -> None:
    """What holds for every page, whatever is in it."""
    checker = Balance()
    checker.feed(html)
    assert checker.open == []
    assert "Research software. Not a medical device." in readable(html)
    assert "://" not in markup(html)
    assert "<script" not in html
    assert not re.search(r"\bm?sv\b", markup(html), flags=re.IGNORECASE)
    assert "None" not in readable(html)


class TestPatientPage:
    def test_same_rows_in_another_order_give_the_same_bytes(self, patient_html: str) -> None:
        turned = {name: items[::-1] for name, items in fabricated_patient().items()}
        assert page(turned, (torso(),)) == patient_html

    def test_page_is_sound_and_self_contained(self, patient_html: str) -> None:
        assert_sound(patient_html)
        assert len(pictures(patient_html)) == patient_html.count("<img ")
        assert "Site S1" in readable(patient_html)
        assert "[177Lu]Lu-DOTA-TATE" in readable(patient_html)

    def test_empty_tables_and_no_pictures_do_not_crash(self) -> None:
        html = page({})
        assert_sound(html)
        assert "data origin not stated" in html
        assert "<h2>" not in html

    @pytest.mark.parametrize("name", ["administration", "organ_dose", "curve", "region_activity", "stage_outcome"])
    def test_any_table_may_be_empty(self, name: str) -> None:
        tables = {key: items[:4] if key == "region_activity" else items for key, items in fabricated_patient().items()}
        assert_sound(page({**tables, name: []}))

    def test_unknown_table_or_column_is_a_defect(self) -> None:
        with pytest.raises(KeyError, match="organ_doses"):
            page({"organ_doses": []})
        with pytest.raises(KeyError, match="dose_mgy"):
            page({"organ_dose": [{"site": "S1", "dose_mgy": 1.0}]})

    def test_user_text_is_escaped(self) -> None:
        tables = fabricated_patient(patient=HOSTILE, sentence=HOSTILE)
        tables["region_activity"] = tables["region_activity"][:4]
        tables["organ_dose"] = [{**row, "region": HOSTILE, "flags": [HOSTILE]} for row in tables["organ_dose"]]
        tables["region_activity"] = [{**row, "region": HOSTILE} for row in tables["region_activity"]]
        html = page(tables, (replace(torso(), label_names={1: HOSTILE}),), patient=HOSTILE, site='"><b>')
        assert_sound(html)
        assert "<b>" not in html
        assert html.count("&lt;script&gt;") >= 5

    def test_virtual_patient_is_marked(self, patient_html: str) -> None:
        assert '<span class="badge">VIRTUAL PATIENT</span>' in patient_html
        tables = {name: [{**r, "data_origin": "patient"} for r in items] for name, items in _with_origin().items()}
        assert "VIRTUAL" not in page(without_charts(tables))

    def test_refusal_is_in_the_box_once_and_in_the_dose_table(self, patient_html: str) -> None:
        box = section(patient_html, 'class="trouble"', "Administrations")
        assert box.count(SENTENCE) == 1
        assert "Refused : cycle 2, stage ingest unit_unknown" in box
        doses = section(patient_html, "Absorbed dose by cycle", "Other analyses")
        assert f"2 all regions refused at ingest: {SENTENCE}" in doses

    def test_no_box_without_refusal(self) -> None:
        assert "What was refused" not in page(without_charts(fabricated_cycle("S1", "P01", 1)))

    def test_cycle_without_scans_is_a_line_in_the_dose_table(self) -> None:
        given = {"site": "S1", "patient": "P01", "cycle": 2, "imaged": False}
        tables = merged(fabricated_cycle("S1", "P01", 1), {"administration": rows("administration", given)})
        assert "2 all regions not imaged: no dose" in readable(page(without_charts(tables)))

    def test_dose_row_shows_the_numbers_of_the_table(self, patient_html: str) -> None:
        # 0.561 Gy/GBq x 7.381 GBq = 4.14 Gy; interval over and times 1.28.
        text = section(patient_html, "Absorbed dose by cycle")
        assert f"1 Kidney left 4.14 3.23 to 5.30 12.6 0.561 7747 51.6 10.5 168 176 pmc none {words.DASH}" in text
        assert "12.6 0.912 31 940 160 † 48.2 214" in text
        assert "over 20 % extrapolated" in text

    def test_other_engines_are_apart_from_primary_rows(self, patient_html: str) -> None:
        text = section(patient_html, "Other analyses", "Dose-volume histograms")
        assert "1 Kidney left led none mono 4.06 4.14" in text

    def test_course_says_what_is_counted(self, patient_html: str) -> None:
        text = readable(patient_html)
        assert "incomplete: 1 of 2 cycles counted" in text
        assert "23 Gy absorbed dose (site protocol)" in text
        assert "% of it reached" not in text
        complete = fabricated_course("S1", "P01", given=2, counted=2, dose_gy=8.3)
        assert "23 Gy absorbed dose (site protocol), 50.0 % of it reached" in readable(page(complete))

    def test_curve_of_another_model_is_said_not_to_be_drawn(self, patient_html: str) -> None:
        text = readable(patient_html)
        assert "trapezoid (the page does not draw this model), ok" in text
        assert "Kidney left, cycle 1. 4 scans; mono, ok; effective half-life 51.6 h; 10.5 % after the last scan" in text

    def test_numbers_that_are_not_finite_are_shown_as_such(self) -> None:
        tables = fabricated_patient()
        broken = {"absorbed_dose_gy": nan, "dose_high_gy": inf, "tia_mbq_h": None}
        tables["organ_dose"] = [{**row, **broken} for row in tables["organ_dose"]]
        tables["curve"] = [{**row, "effective_half_life_h": nan, "parameters": [nan, nan]} for row in tables["curve"]]
        tables["region_activity"][0]["activity_mbq"] = nan
        text = readable(page(tables))
        assert f"1 Kidney left NaN 3.23 to ∞ 12.6 0.561 {words.DASH} 51.6" in text

    def test_methods_text_comes_from_the_rows(self, patient_html: str) -> None:
        text = readable(patient_html)
        assert "20 outlines by totalsegmentator, drawn on CT; review: not reviewed 20; edited by a person: 0" in text
        assert "mono in 4 region curves (ok)" in text
        assert "BED with alpha/beta 2.5 Gy and a repair half-time of 2.8 h" in text
        assert "5e77" * 16 in text
        assert "4 SPECT scans, 3 with CT" in text


def _with_origin() -> Tables:
    """Rows of the tables that carry an origin."""
    return {name: items for name, items in fabricated_patient().items() if items and "data_origin" in items[0]}


class TestPictures:
    def test_patients_right_is_left_and_head_is_up(self) -> None:
        """A hot voxel at the head's end on the patient's right lies in the upper left of the picture."""
        image = np.zeros((40, 40))
        image[36, 4] = 1e6
        blank = np.zeros((40, 40), dtype=np.int16)
        slices = CycleSlices(1, 24.0, (4.0, 4.0, 4.0), None, image, None, image, blank, blank, {}, None)
        for plane, (row, column) in {"coronal": (0.09, 0.11), "axial": (0.91, 0.11)}.items():
            [content] = pictures(fused_picture(slices, plane, {}))  # type: ignore[arg-type]
            pixels = imread(io.BytesIO(content))[:, :, :3]
            square = pixels[: pixels.shape[1]]  # the picture proper, above the colour bar
            where = np.argwhere((square[:, :, 0] > 0.8) & (square[:, :, 2] < 0.5))
            found = where.mean(axis=0) / pixels.shape[1]
            assert found == pytest.approx((row, column), abs=0.03)

    @pytest.mark.parametrize("ct", [True, False])
    def test_views_per_cycle_with_legend(self, ct: bool) -> None:
        html = page({}, (torso(2, ct=ct, dose=False), torso(1, ct=ct)))
        text = readable(html)
        assert text.index("Cycle 1, 24.1 h") < text.index("Cycle 2, 24.1 h")
        assert html.count("<img ") == 5  # the second cycle has no dose
        assert text.count("1 Kidney left 2 Kidney right 3 Liver 4 Spleen 5 Lesion 1") == 2
        assert ("over CT" in text) is ct

    def test_label_without_name_is_shown(self) -> None:
        assert "Label 5" in readable(page({}, (replace(torso(), label_names={1: "kidney_left"}),)))

    def test_no_activity_and_no_outline(self) -> None:
        image, blank = np.zeros((8, 9)), np.zeros((8, 9), dtype=np.int16)
        slices = CycleSlices(1, 24.0, (4.0, 4.0, 4.0), image, image, image, image, blank, blank, {}, image)
        assert "No outlined region" in page({}, (slices,))

    def test_arrays_of_different_shape_are_refused(self) -> None:
        with pytest.raises(GeometryError, match="axial pictures of cycle 1"):
            replace(torso(), labels_axial=np.zeros((3, 3), dtype=np.int16))
        with pytest.raises(GeometryError, match="spacing"):
            replace(torso(), spacing_mm=(4.8, 0.0, 4.8))

    def test_marks_differ_for_many_regions(self) -> None:
        marks = [mark(index) for index in range(24)]
        assert len({(m.bright, m.linestyle) for m in marks}) == 24
        assert len({(m.dark, m.css_style) for m in marks}) == 24


class TestCohortPage:
    def test_page_is_sound_deterministic_and_independent_of_row_order(self, cohort_html: str) -> None:
        assert_sound(cohort_html)
        turned = {name: items[::-1] for name, items in fabricated_cohort().items()}
        assert cohort_html == whole_page(turned)

    def test_empty_cohort_does_not_crash(self) -> None:
        html = cohort_page(cohort="demo", tables={}, software_version="0.1.0")
        assert_sound(html)
        assert "Cycles planned 0" in readable(html)

    def test_counts_and_completeness(self, cohort_html: str) -> None:
        text = readable(cohort_html)
        assert "Sites 3 Patients 6 Cycles planned 13 ok 12 refused 1 failed 0 missing 0 not imaged 0" in text
        assert "S2 2 5 4 1 0 0 0" in text
        assert f"Refused : S2 P02, cycle 3, stage ingest unit_unknown {SENTENCE}" in text

    def test_every_primary_row_is_listed(self, cohort_html: str) -> None:
        listed = cohort_html[cohort_html.index("every primary row") :]
        assert listed.count('data-label="Region"') == 12 * len(ORGANS)
        # S2 P01 is the third patient: 0.554 Gy/GBq x 0.98.
        assert "P01 1 Kidneys 4 4.01 3.13 to 5.13 12.6 0.543" in readable(listed)

    def test_summary_by_site_shows_median_range_and_protocol(self, cohort_html: str) -> None:
        text = readable(cohort_html)
        kidneys = text[
            text.index("Kidneys. n = 12 rows of 6 patients.") : text.index("Kidney left. n = 12 rows of 6 patients.")
        ]
        # Factors 0.80 and 0.89 (S1), 1.16 and 1.25 (S3) on 0.554 Gy/GBq, two cycles each.
        assert "S1 4 2 3+ 0.468 0.443 to 0.493" in kidneys
        assert "S3 4 2 1 0.668 0.643 to 0.693" in kidneys

    def test_lesions_are_pooled_and_radiopharmaceuticals_and_marrow_methods_are_not(self) -> None:
        tables = fabricated_cohort()
        for row in tables["administration"]:
            if row["site"] == "S3":
                row["radiopharmaceutical"] = "Lu177-PSMA617"
        tables["organ_dose"] = [
            {**row, "marrow_method": "image" if row["patient"] == "P01" else "blood"}
            if row["region"] == "liver"
            else {**row, "lesion_id": f"L{row['cycle']}"}
            if row["region"] == "lesion_1"
            else row
            for row in tables["organ_dose"]
        ]
        text = readable(whole_page(tables))
        assert text.index("[177Lu]Lu-DOTA-TATE") < text.index("[177Lu]Lu-PSMA-617")
        assert "Kidneys. n = 8 rows of 4 patients." in text
        assert "Kidneys. n = 4 rows of 2 patients." in text
        assert "Lesions. n = 8 rows of 4 patients." in text
        assert "Liver (image). n = 4 rows of 2 patients." in text

    def test_links_lead_to_the_patients_pages(self) -> None:
        links = {("S1", "P01"): "../site-S1/sub-P01/course/page.html"}
        html = cohort_page(cohort="demo", tables=fabricated_cohort(), software_version="0.1.0", page_links=links)
        assert html.count(f'<a href="{links["S1", "P01"]}">') == 1 + 2 * len(ORGANS)
        assert ">S1 P01</a>" in html

    def test_flags_are_counted_in_words(self, cohort_html: str) -> None:
        text = readable(cohort_html)
        # One lesion row per accepted cycle: twelve rows of six patients at three sites.
        assert "volume from a SPECT threshold: mass and dose are rough lesion 12 6 3" in text

    def test_hostile_text_is_escaped(self) -> None:
        tables = merged(fabricated_cycle("S1", "P01", 1), refused_cycle("S1", "P01", 2, HOSTILE))
        tables["organ_dose"] = [{**row, "site": "<b>", "protocol": HOSTILE} for row in tables["organ_dose"]]
        html = whole_page(tables, cohort=HOSTILE)
        assert_sound(html)
        assert "<b>" not in html
        assert "&lt;b&gt;" in html

    def test_too_many_rows_name_the_table_instead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = import_module("doseledger.report.cohort_page")
        monkeypatch.setattr(module, "_MAX_ROWS_LISTED", 5)
        html = cohort_page(cohort="demo", tables=fabricated_cycle("S1", "P01", 1), software_version="0.1.0")
        assert "6 primary rows are too many for a page" in readable(html)
        assert "<details" not in html


class TestStates:
    def outcome(self, stage: str, status: str, **more: Any) -> Row:
        return rows(
            "stage_outcome", {"site": "S1", "patient": "P1", "cycle": 1, "stage": stage, "status": status, **more}
        )[0]

    @pytest.mark.parametrize(
        ("stages", "state"),
        [
            ({"ingest": "ok", "dose": "ok"}, "ok"),
            ({"ingest": "ok", "segment": "ok"}, "missing"),
            ({"ingest": "refused", "dose": "refused"}, "refused"),
            ({"ingest": "ok", "segment": "failed", "dose": "missing"}, "failed"),
        ],
    )
    def test_state_of_a_cycle(self, stages: dict[str, str], state: str) -> None:
        tables = checked({"stage_outcome": [self.outcome(*item) for item in stages.items()]})
        assert cycle_states(tables) == {("S1", "P1", 1): state}

    def test_given_but_not_imaged(self) -> None:
        tables = checked({"administration": [{"site": "S1", "patient": "P1", "cycle": 4, "imaged": False}]})
        assert cycle_states(tables) == {("S1", "P1", 4): "not_imaged"}

    def test_first_stage_is_named_where_no_row_names_it(self) -> None:
        found = stopped([self.outcome(stage, "failed", code="memory") for stage in ("dose", "align", "kinetics")])
        assert [row["stage"] for row in found] == ["align"]

    def test_patient_stage_is_no_cycle(self) -> None:
        row = {**self.outcome("course", "failed"), "cycle": 0}
        tables = checked({"stage_outcome": [row]})
        assert cycle_states(tables) == {}
        assert [item["stage"] for item in stopped(tables["stage_outcome"])] == ["course"]


class TestCharts:
    def test_many_points_become_a_picture(self) -> None:
        few, many = (charts.strip_chart([_strip(n)], x_label="Gy/GBq") for n in (10, 700))
        assert few.startswith("data:image/svg+xml")
        assert many.startswith("data:image/png")

    def test_many_sums_become_points_of_a_fixed_height(self) -> None:
        charted = [
            charts.bar_chart(
                [charts.Bar(f"S1 P{i}", 5.0 + 0.01 * i, 1.0, i % 2 == 0) for i in range(n)], [23.0], x_label="Gy"
            )
            for n in (70, 90)
        ]
        heights = [imread(io.BytesIO(pictures(chart)[0])).shape for chart in charted]
        assert heights[0] == heights[1]

    def test_caption_of_many_sums_names_points_not_bars(self) -> None:
        parts = [fabricated_course("S1", f"P{n}", given=2, counted=1, dose_gy=5.0) for n in range(charts.MAX_BARS + 1)]
        absorbed, bed = sum_charts(sums_by_region(merged(*parts)["course"]))
        assert "Open: not every given cycle counted" in absorbed.detail
        assert "61 sums in order of size." in bed.detail

    def test_corrected_points_and_no_half_life(self) -> None:
        panel = charts.CurvePanel((24.0,), (100.0,), (5.0,), (120.0,), (), None)
        assert charts.common_axes([panel]) == pytest.approx((24.0 * 1.05, 120.0 * 1.12))


def _strip(n: int) -> charts.Strip:
    return charts.Strip("S1", tuple(0.4 + 0.0001 * i for i in range(n)), tuple(["mtp", None][i % 2] for i in range(n)))


class TestWords:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (4.1852, "4.19"),
            (9.996, "10.0"),
            (0.0254, "0.0254"),
            (0.00002, "2.00e\N{MINUS SIGN}05"),
            (15208.97, "15\u202f200"),
            (-12.34, "\N{MINUS SIGN}12.3"),
            (0.0, "0"),
            (None, words.DASH),
            (inf, "∞"),
            (nan, "NaN"),
        ],
    )
    def test_three_significant_digits(self, value: float | None, text: str) -> None:
        assert words.significant(value) == text

    def test_regions_in_the_order_of_their_weight(self) -> None:
        names = ["whole_field", "lesion_10", "lesion_2", "pancreas", "liver", "kidney_right", "kidneys"]
        order = ["kidneys", "kidney_right", "liver", "pancreas", "lesion_2", "lesion_10", "whole_field"]
        assert sorted(names, key=words.region_order) == order

    def test_imputed_cycles_are_named(self) -> None:
        found = words.cumulative_status("imputed", given=4, counted=4, imputed=1)
        assert found == "imputed: 4 of 4 cycles counted, 1 imputed"

    def test_unknown_flag_stays_readable(self) -> None:
        assert words.flag("a_new_flag") == "a new flag"
