"""The scans of a cycle against the sheets: from headers alone, as the ingest stage does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from doseledger.errors import CrossCheckError, DoseledgerError, MixedSeriesError, TimeError
from doseledger.io.dicom import CtInspection, SpectInspection, inspect_ct, inspect_spect, open_ct, open_spect
from doseledger.nuclides import nuclide
from doseledger.steps.cross_check import check_cycle, clock_flags, time_h

from .dicom_factory import Edit, put, write_ct, write_pet

Row = dict[str, Any]
SETTINGS = {"activity_tolerance_rel": 0.05, "injection_tolerance_min": 15.0}


def _rows(base: Path, **change: object) -> Row:
    administration = {
        "nuclide": "Lu-177",
        "injection_start": "2024-01-02T08:00:00",
        "infusion_min": 30.0,
        "measured_activity_mbq": 7400.0,
        "residual_activity_mbq": 50.0,
        "time_zone": None,
        **change,
    }
    camera = {"camera": "PT1", "sensitivity_cps_per_mbq": None}
    scans = [{"time_point": t, "spect": f"s{t}", "ct": f"c{t}", "camera": "PT1"} for t in (1, 2)]
    return {"problems": [], "base": str(base), "administration": administration, "cameras": [camera], "scans": scans}


def _write(base: Path, edit: Edit | None = None, edit_ct: Edit | None = None) -> None:
    """Two time points a day apart; the edits are of the second one."""

    def second(dataset: Dataset, z: int) -> None:
        put(dataset, SeriesInstanceUID="1.2.3", SeriesDate="20240103", AcquisitionDate="20240103")
        if edit:
            edit(dataset, z)

    write_pet(base / "s1")
    write_pet(base / "s2", edit=second)
    write_ct(base / "c1")
    write_ct(base / "c2", edit=edit_ct)


@pytest.fixture(autouse=True)
def _no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(_: Dataset) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(Dataset, "pixel_array", property(decode))


def test_a_cycle_is_checked_without_pixels(tmp_path: Path) -> None:
    _write(tmp_path)
    first, second = check_cycle(_rows(tmp_path), SETTINGS, open_spect=open_spect, open_ct=open_ct)
    assert (first.row["time_point"], second.row["time_point"]) == (1, 2)
    assert second.spect.inspection.scan_start > first.spect.inspection.scan_start
    assert first.ct is not None
    assert first.camera["camera"] == "PT1"


@dataclass(frozen=True)
class _Kept:
    """What an index has kept of a series."""

    inspection: Any


def test_kept_inspections_stand_in_for_the_files(tmp_path: Path) -> None:
    _write(tmp_path)
    spects: dict[Path, SpectInspection] = {tmp_path / s: inspect_spect(tmp_path / s) for s in ("s1", "s2")}
    cts: dict[Path, CtInspection] = {tmp_path / c: inspect_ct(tmp_path / c) for c in ("c1", "c2")}
    for path in tmp_path.rglob("*.dcm"):
        path.unlink()
    scans = check_cycle(
        _rows(tmp_path),
        SETTINGS,
        open_spect=lambda path, *, calibration, nuclide: _Kept(spects[path]),
        open_ct=lambda path: _Kept(cts[path]),
    )
    assert [scan.spect.inspection.grid.shape for scan in scans] == [(5, 6, 8)] * 2
    with pytest.raises(CrossCheckError, match="administered activity"):
        check_cycle(
            _rows(tmp_path, measured_activity_mbq=6000.0),
            SETTINGS,
            open_spect=lambda path, *, calibration, nuclide: _Kept(spects[path]),
            open_ct=lambda path: _Kept(cts[path]),
        )


def _set(**values: object) -> Edit:
    return lambda dataset, z: put(dataset, **values)


@pytest.mark.parametrize(
    ("edit", "edit_ct", "change", "error", "fragment"),
    [
        (_set(AcquisitionDate="20240101"), None, {}, TimeError, "before the injection"),
        (_set(AcquisitionDate="20240102"), None, {}, TimeError, "not in order of time"),
        (_set(PatientID="SITE-0043"), None, {}, MixedSeriesError, "two patients"),
        (_set(SeriesInstanceUID="1.2.826.0.1.3680043.8.498.2"), None, {}, DoseledgerError, "two time points"),
        (None, _set(PatientID="SITE-0043"), {}, MixedSeriesError, "CT is of another patient"),
        (None, None, {"measured_activity_mbq": 7000.0}, CrossCheckError, "administered activity"),
        (None, None, {"injection_start": "2024-01-02T08:20:00"}, CrossCheckError, "injection time"),
        (None, None, {"nuclide": "I-131"}, CrossCheckError, "half-life"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, edit: Edit | None, edit_ct: Edit | None, change: Row, error: type[DoseledgerError], fragment: str
) -> None:
    _write(tmp_path, edit, edit_ct)
    with pytest.raises(error, match=fragment):
        check_cycle(_rows(tmp_path, **change), SETTINGS, open_spect=open_spect, open_ct=open_ct)


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        # The header says 7400 MBq at 08:00; 5 % and 15 min are borne.
        ({"measured_activity_mbq": 7400.0 / 1.049}, {"measured_activity_mbq": 7400.0 / 1.051}),
        ({"measured_activity_mbq": 7400.0 / 0.951}, {"measured_activity_mbq": 7400.0 / 0.949}),
        ({"injection_start": "2024-01-02T07:45:01"}, {"injection_start": "2024-01-02T07:44:59"}),
        ({"injection_start": "2024-01-02T08:14:59"}, {"injection_start": "2024-01-02T08:15:01"}),
    ],
)
def test_the_tolerances_are_those_that_are_stated(tmp_path: Path, within: Row, beyond: Row) -> None:
    _write(tmp_path)
    assert len(check_cycle(_rows(tmp_path, **within), SETTINGS, open_spect=open_spect, open_ct=open_ct)) == 2
    with pytest.raises(CrossCheckError):
        check_cycle(_rows(tmp_path, **beyond), SETTINGS, open_spect=open_spect, open_ct=open_ct)


@pytest.mark.parametrize(("share", "fits"), [(1.019, True), (1.021, False), (0.981, True), (0.979, False)])
def test_the_half_life_of_the_header_is_that_of_the_nuclide_within_two_percent(
    tmp_path: Path, share: float, fits: bool
) -> None:
    half_life_s = nuclide("Lu-177").half_life_h * 3600.0 * share

    def edit(dataset: Dataset, z: int) -> None:
        put(dataset.RadiopharmaceuticalInformationSequence[0], RadionuclideHalfLife=f"{half_life_s:.1f}")

    _write(tmp_path, edit)
    if fits:
        check_cycle(_rows(tmp_path), SETTINGS, open_spect=open_spect, open_ct=open_ct)
    else:
        with pytest.raises(CrossCheckError, match="half-life"):
            check_cycle(_rows(tmp_path), SETTINGS, open_spect=open_spect, open_ct=open_ct)


# Clocks -----------------------------------------------------------------------------------------

#: A day after the injection, over the night in which the clocks of the European Union go forward.
SPRING = {"injection_start": "2025-03-29T10:00:00", "infusion_min": 30.0}


def _spring(correction: str = "START", **values: object) -> Edit:
    def edit(dataset: Dataset, z: int) -> None:
        put(dataset, SeriesDate="20250330", SeriesTime="100000", AcquisitionDate="20250330", AcquisitionTime="100000")
        put(dataset, DecayCorrection=correction, **values)
        put(dataset.RadiopharmaceuticalInformationSequence[0], RadiopharmaceuticalStartDateTime="20250329100000")

    return edit


def _one_scan(base: Path, **change: object) -> Row:
    rows = _rows(base, **change)
    return {**rows, "scans": [{**rows["scans"][0], "ct": None}]}


@pytest.mark.parametrize(
    ("zone", "correction", "hours", "flags"),
    [
        (None, "START", 23.75, ["clocks_may_have_been_moved"]),
        ("Europe/Berlin", "START", 22.75, ["clocks_were_moved"]),
        ("Europe/Berlin", "ADMIN", 22.75, ["clocks_were_moved", "admin_across_moved_clocks"]),
        # The clocks of the United States had been moved before, those of Japan never are.
        ("America/New_York", "START", 23.75, []),
        ("Asia/Tokyo", "ADMIN", 23.75, []),
    ],
)
def test_hours_are_counted_over_moved_clocks(
    tmp_path: Path, zone: str | None, correction: str, hours: float, flags: list[str]
) -> None:
    write_pet(tmp_path / "s1", edit=_spring(correction))
    rows = _one_scan(tmp_path, **SPRING, time_zone=zone)
    (scan,) = check_cycle(rows, SETTINGS, open_spect=open_spect, open_ct=open_ct)
    assert time_h(scan.spect.inspection.scan_start, rows["administration"]) == pytest.approx(hours, abs=1e-9)
    assert clock_flags(scan.spect.inspection, rows["administration"]) == flags


def test_a_header_of_another_clock_is_refused(tmp_path: Path) -> None:
    # An archive that keeps UTC: at this time of the year an hour or two off.
    write_pet(tmp_path / "s1", edit=_spring(TimezoneOffsetFromUTC="+0000"))
    rows = _one_scan(tmp_path, **SPRING, time_zone="Europe/Berlin")
    with pytest.raises(CrossCheckError, match=r"TimezoneOffsetFromUTC \(0008,0201\).*\+0 h.*\+2 h"):
        check_cycle(rows, SETTINGS, open_spect=open_spect, open_ct=open_ct)
    rows["administration"]["time_zone"] = "Africa/Abidjan"
    check_cycle(rows, SETTINGS, open_spect=open_spect, open_ct=open_ct)


@pytest.mark.parametrize("moment", ["2025-10-26T02:30:00", "2025-03-30T02:30:00"])
def test_a_time_that_was_there_twice_or_never_is_refused(tmp_path: Path, moment: str) -> None:
    write_pet(tmp_path / "s1", edit=_spring(AcquisitionDate="20251101"))
    rows = _one_scan(tmp_path, injection_start=moment, time_zone="Europe/Berlin")
    with pytest.raises(TimeError, match="twice or never"):
        check_cycle(rows, SETTINGS, open_spect=open_spect, open_ct=open_ct)
