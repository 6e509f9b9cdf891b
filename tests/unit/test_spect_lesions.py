"""Lesions by a threshold in the label maps of a cycle, and their names over the cycles of a patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from doseledger.cohort import CYCLE_STAGES
from doseledger.errors import SegmentationError, SheetError
from doseledger.geometry import Grid
from doseledger.io.models import LesionThreshold
from doseledger.io.nifti import write_image, write_sidecar
from doseledger.io.tables import write_rows
from doseledger.regions import RegionSpec
from doseledger.regions.hot_spots import THRESHOLD
from doseledger.segmentation import DrawnOn, LabelMap, ScanImages
from doseledger.steps.collect import FinishedCycle
from doseledger.steps.layout import ALIGNMENT, LABELS, scan_file
from doseledger.steps.lesion_names import read_lesion_names, with_patient_names, write_lesion_names
from doseledger.steps.spect_lesions import with_spect_lesions
from doseledger.steps.stage import OUTCOME, Job, write_json

KEY = {"site": "A", "patient": "P1", "cycle": 1}
SPECT = Grid((24, 30, 32), (5.0, 5.0, 5.0), (-77.5, -72.5, -57.5))
CT = Grid((48, 75, 80), (2.5, 2.0, 2.0), (-79.0, -74.0, -58.75))
#: Places in LPS mm.
LIVER, KIDNEY = (-40.0, -20.0, 20.0), (50.0, 20.0, -20.0)
ONE, TWO, THREE, DRAWN = (45.0, -45.0, 30.0), (-35.0, 45.0, -25.0), (35.0, -45.0, -40.0), (0.0, 40.0, 35.0)
#: A voxel of 5 mm and its neighbours: 7 of them are 0.875 mL.
LESION_MM = 9.0

SPECS = {
    "Liver": RegionSpec(1, "liver", "organ"),
    "Kidney": RegionSpec(2, "kidney_left", "organ"),
    "Lesion": RegionSpec(3, "lesion_1", "lesion"),
}


def ball(grid: Grid, centre_mm: Sequence[float], radius_mm: float) -> NDArray[np.bool_]:
    to_lps = grid.index_to_lps
    places = np.argwhere(np.ones(grid.shape, bool)) @ to_lps[:3, :3].T + to_lps[:3, 3]
    return np.asarray(np.linalg.norm(places - np.asarray(centre_mm), axis=1) <= radius_mm).reshape(grid.shape)


def moved(place: Sequence[float], shift_mm: float) -> tuple[float, float, float]:
    return (place[0] + shift_mm, place[1], place[2])


def spect(lesions: Mapping[Sequence[float], float], shift_mm: float = 0.0) -> NDArray[np.float32]:
    image = np.full(SPECT.shape, 10.0)
    parts = [(LIVER, 25.0, 300.0), (KIDNEY, 20.0, 2500.0), (DRAWN, LESION_MM, 3000.0)]
    for place, radius, level in [*parts, *((place, LESION_MM, level) for place, level in lesions.items())]:
        image[ball(SPECT, moved(place, shift_mm), radius)] = level
    return np.asarray(ndimage.gaussian_filter(image, 0.8), np.float32)


def label_map(grid: Grid, shift_mm: float = 0.0) -> LabelMap:
    labels = np.zeros(grid.shape, np.uint8)
    for label, (place, radius) in enumerate(((LIVER, 25.0), (KIDNEY, 20.0), (DRAWN, LESION_MM)), start=1):
        labels[ball(grid, moved(place, shift_mm), radius)] = label
    image = DrawnOn("CT" if grid is CT else "SPECT", grid, "1.2", "1.3")
    return LabelMap(labels, image, frozenset(), (), dict.fromkeys(("liver", "kidney_left", "lesion_1"), "contours"), {})


def run(
    folder: Path, images: Sequence[NDArray[np.float32]], maps: Sequence[LabelMap], **settings: Any
) -> tuple[dict[str, RegionSpec], list[LabelMap]]:
    """The step on scans without a CT image: the whole field is the body."""
    scans = []
    for point, image in enumerate(images, start=1):
        write_image(folder / scan_file(KEY, point, "spect.nii.gz"), image, SPECT, dtype="float32")
        scans.append(ScanImages(point, (), None, None, None))
    lesions = LesionThreshold(**({"percent_of_maximum": 50.0} | settings)).model_dump()
    job = Job({"ingest": (folder,)}, folder, {"lesions": lesions}, KEY)
    return with_spect_lesions(job, SPECS, scans, maps)


def test_without_the_setting_nothing_changes(tmp_path: Path) -> None:
    maps = [label_map(CT)]
    job = Job({}, tmp_path, {"lesions": None}, KEY)
    assert with_spect_lesions(job, SPECS, [], maps) == (SPECS, maps)


@pytest.mark.parametrize("grid", [CT, SPECT])
def test_one_name_in_all_scans_and_nothing_over_organs(tmp_path: Path, grid: Grid) -> None:
    """The patient moves by 20 mm, the order of the maxima changes, and one focus is there only once."""
    images = [
        spect({ONE: 2000.0, TWO: 900.0}),
        spect({ONE: 800.0, TWO: 1500.0, THREE: 3000.0}, shift_mm=20.0),
        spect({ONE: 700.0, TWO: 1000.0}),
    ]
    given = [label_map(grid), label_map(grid, 20.0), label_map(grid)]
    specs, maps = run(tmp_path, images, given)
    assert [s.region for s in specs.values()] == ["liver", "kidney_left", "lesion_1", "lesion_t1", "lesion_t2"]
    assert [s.label for s in specs.values()] == [1, 2, 3, 4, 5]
    assert {s.kind for s in list(specs.values())[2:]} == {"lesion"}
    for before, after, shift in zip(given, maps, (0.0, 20.0, 0.0), strict=True):
        assert after.sources["lesion_t1"] == THRESHOLD
        assert after.sources["lesion_1"] == "contours"
        # Organs and the drawn lesion keep every voxel.
        assert np.array_equal(np.where(after.labels > 3, 0, after.labels), before.labels)
        for label, place in ((4, ONE), (5, TWO)):
            voxels = np.argwhere(after.labels == label)
            centre = grid.position_mm(voxels.mean(axis=0))
            assert np.allclose(centre, moved(place, shift), atol=3.0), (label, centre)
            # 3.05 mL are drawn; the coarse voxels of SPECT and its blur decide about the rest.
            assert 0.5 < len(voxels) * grid.voxel_volume_ml / 3.05 < 2.0


def test_a_fixed_concentration_and_the_reference_region(tmp_path: Path) -> None:
    image, made = spect({ONE: 2000.0, TWO: 250.0}), label_map(CT)
    found = [
        [s.region for s in run(tmp_path, [image], [made], **settings)[0].values()][3:]
        for settings in (
            # The maximum of the second one, blurred, is below the liver's median.
            {},
            {"min_reference_ratio": 0.3},
            {"min_reference_ratio": 0.3, "reference_region": "kidney_left"},
            {"percent_of_maximum": None, "bq_per_ml": 100.0, "min_reference_ratio": 0.0},
            {"percent_of_maximum": None, "bq_per_ml": 500.0},
            {"min_volume_ml": 20.0},
        )
    ]
    both = ["lesion_t1", "lesion_t2"]
    assert found == [both[:1], both, both[:1], both, both[:1], []]


def test_without_a_margin_organs_keep_their_voxels_too(tmp_path: Path) -> None:
    """The lesion touches the liver: a voxel of SPECT that belongs to it holds voxels of CT that are liver."""
    given = label_map(CT)
    image = spect({(-40.0, 8.0, 32.0): 3000.0})
    specs, (made,) = run(tmp_path, [image], [given], organ_margin_mm=0.0)
    assert "lesion_t1" in specs
    new = made.labels == 4
    assert new.any()
    assert not given.labels[new].any()
    assert np.array_equal(np.where(new, 0, made.labels), given.labels)


def test_a_lesion_inside_an_outlined_organ_is_not_found(tmp_path: Path) -> None:
    specs, (made,) = run(tmp_path, [spect({LIVER: 4000.0})], [label_map(CT)])
    assert specs == SPECS
    assert np.array_equal(made.labels, label_map(CT).labels)


def test_the_rest_of_the_body_is_searched(tmp_path: Path) -> None:
    made = label_map(SPECT)
    whole = replace(made, labels=np.where(made.labels == 0, 9, made.labels).astype(np.uint8))
    specs = {**SPECS, "body": RegionSpec(9, "rest_of_body", "rest_of_body")}
    write_image(tmp_path / scan_file(KEY, 1, "spect.nii.gz"), spect({ONE: 2000.0}), SPECT, dtype="float32")
    settings = LesionThreshold(percent_of_maximum=41.0).model_dump()
    job = Job({"ingest": (tmp_path,)}, tmp_path, {"lesions": settings}, KEY)
    found, (after,) = with_spect_lesions(job, specs, [ScanImages(1, (), None, None, None)], [whole])
    assert found["lesion_t1"].label == 10
    assert (after.labels == 10).any()
    assert set(np.unique(whole.labels[after.labels == 10])) == {9}


def test_names_of_the_sheet_cannot_clash(tmp_path: Path) -> None:
    job = Job({}, tmp_path, {"lesions": LesionThreshold(bq_per_ml=1.0).model_dump()}, KEY)
    specs = {"Lesion": RegionSpec(1, "lesion_t7", "lesion")}
    with pytest.raises(SheetError) as caught:
        with_spect_lesions(job, specs, [], [])
    assert "regions.tsv" in caught.value.sentence
    assert "lesion_t7" in caught.value.sentence


def test_a_reference_that_is_not_outlined_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegmentationError) as caught:
        run(tmp_path, [spect({ONE: 2000.0})], [label_map(CT)], reference_region="spleen")
    assert "segment.lesions.reference_region" in caught.value.sentence
    assert "'spleen'" in caught.value.sentence


def test_more_lesions_than_labels_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / scan_file(KEY, 1, "spect.nii.gz"), spect({ONE: 2000.0}), SPECT, dtype="float32")
    job = Job({"ingest": (tmp_path,)}, tmp_path, {"lesions": LesionThreshold(bq_per_ml=500.0).model_dump()}, KEY)
    specs = {**SPECS, "Last": RegionSpec(255, "last", "organ")}
    with pytest.raises(SegmentationError) as caught:
        with_spect_lesions(job, specs, [ScanImages(1, (), None, None, None)], [label_map(CT)])
    assert "at most 0 beside the 255 regions" in caught.value.sentence


@pytest.mark.parametrize("given", [{}, {"percent_of_maximum": 41.0, "bq_per_ml": 1.0}])
def test_exactly_one_threshold_is_expected(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        LesionThreshold(**given)


# Names over cycles --------------------------------------------------------------------------------


def finished(folder: Path, cycle: int, lesions: Mapping[str, Sequence[float]], *, shift_mm: float) -> FinishedCycle:
    """A cycle with a dose and the lesions by a threshold at their places; others are in the table only."""
    base = folder / f"ses-c{cycle}"
    key = {"site": "A", "patient": "P1", "cycle": cycle}
    for stage in CYCLE_STAGES:
        (base / stage).mkdir(parents=True)
        write_json(base / stage / OUTCOME, {"status": "ok", "files": []})
    made = label_map(SPECT, shift_mm)
    specs = [*SPECS.values()]
    for label, (name, place) in enumerate(lesions.items(), start=4):
        specs.append(RegionSpec(label, name, "lesion"))
        if place:
            made.labels[ball(SPECT, moved(place, shift_mm), LESION_MM)] = label
    write_image(base / "segment" / scan_file(key, 1, "dseg.nii.gz"), made.labels, SPECT, dtype="uint8")
    write_sidecar(base / "segment" / LABELS, {"regions": [asdict(spec) for spec in specs]})
    write_sidecar(base / "align" / ALIGNMENT, {"reference_time_point": 1})
    rows = [
        key
        | {"time_point": 1, "region": s.region, "lesion_id": s.region if s.kind == "lesion" else None, "flags": []}
        | {"region_source": THRESHOLD if s.region in lesions else "contours"}
        for s in specs
    ]
    write_rows(base / "segment", "region", rows)
    return FinishedCycle("A", "P1", cycle, base)


def test_cycles_share_the_names_of_the_patient(tmp_path: Path) -> None:
    """Each cycle counts from its hottest; the patient lies 25 mm further in the second one."""
    cycles = [
        finished(tmp_path, 1, {"lesion_t1": ONE, "lesion_t2": TWO}, shift_mm=0.0),
        finished(tmp_path, 2, {"lesion_t1": THREE, "lesion_t2": (), "lesion_t3": TWO}, shift_mm=25.0),
        finished(tmp_path, 3, {"lesion_t1": TWO, "lesion_t2": ONE}, shift_mm=0.0),
        finished(tmp_path, 4, {}, shift_mm=0.0),
    ]
    named = with_patient_names(cycles)
    assert [dict(c.lesion_names) for c in named] == [
        {"lesion_t1": "lesion_t1", "lesion_t2": "lesion_t2"},
        # What the reference time point does not show meets no other lesion, and takes no other's name.
        {"lesion_t1": "lesion_t3", "lesion_t2": "lesion_t4", "lesion_t3": "lesion_t2"},
        {"lesion_t1": "lesion_t2", "lesion_t2": "lesion_t1"},
        {},
    ]
    third = named[2]
    assert [s.region for s in third.specs] == ["liver", "kidney_left", "lesion_1", "lesion_t2", "lesion_t1"]
    ids = {row["region"]: row["lesion_id"] for row in third.rows("region")}
    assert ids == {"liver": None, "kidney_left": None} | {n: n for n in ("lesion_1", "lesion_t1", "lesion_t2")}


def test_names_are_kept_for_the_tables_of_the_cohort(tmp_path: Path) -> None:
    out = tmp_path / "course"
    out.mkdir()
    cycles = [finished(tmp_path, 1, {}, shift_mm=0.0)]
    write_lesion_names(out, cycles)
    assert list(out.iterdir()) == []
    names = {"lesion_t1": "lesion_t2"}
    write_lesion_names(out, [replace(cycles[0], lesion_names=names)])
    # Only a finished course has an answer.
    assert read_lesion_names(out) == {}
    write_json(out / OUTCOME, {"status": "ok", "files": []})
    assert read_lesion_names(out) == {1: names}
