"""What all phantom scans of one camera say together: calibration, blur, recovery, dead time, constancy, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.activity.dead_time import DeadTime, fit_dead_time
from doseledger.activity.recovery_curve import RecoveryCurve, SurfaceRecovery, fit_recovery, fit_surface_recovery
from doseledger.activity.sensitivity import Constancy, fit_constancy
from doseledger.errors import PhantomError
from doseledger.io.dicom.events import EventRate, read_event_rate
from doseledger.io.phantoms import PhantomScan
from doseledger.steps.phantom_scans import MeasuredScan, measure_scan
from doseledger.units import SECONDS_PER_HOUR

_ML_PER_L: Final = 1.0e3
#: Voxels of two scans of one reconstruction are alike within this, mm.
_SAME_SPACING_MM: Final = 0.01
#: Facts of the header that one protocol shares.
_SAME_ACQUISITION: Final = ("modality", "model", "collimator", "energy_window_kev", "reconstruction", "unit_source")


@dataclass(frozen=True)
class Limits:
    """What a study is held against. Defaults of this program, to be replaced by a site's own.

    The order of size is that of common practice in nuclear-medicine quality control (5 % for an activity or a
    sensitivity, 10 % for a resolution); no document that sets them for quantitative therapy SPECT has been confirmed.

    Attributes
    ----------
    sensitivity_change_rel
        Largest change of the sensitivity or calibration against the camera's first study.
    calibration_error_rel
        Largest error of images in Bq/mL, which nothing corrects.
    fwhm_change_rel
        Largest change of the blur against the camera's first study with the same phantom.
    """

    sensitivity_change_rel: float = 0.05
    calibration_error_rel: float = 0.05
    fwhm_change_rel: float = 0.10


@dataclass(frozen=True, eq=False)
class Study:
    """One scan with what follows from it, and what it was held against."""

    measured: MeasuredScan
    days: int
    calibration: MeasuredScan
    u_sensitivity_rel: float
    sensitivity_change_rel: float | None
    fwhm_change_rel: float | None
    recoveries: tuple[float, ...]
    u_recoveries_rel: tuple[float, ...]
    curve: RecoveryCurve | None
    surface: SurfaceRecovery | None
    passed: bool | None
    flags: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DecaySeries:
    """The measurements of a decaying source, and the dead time that they give."""

    scan: PhantomScan
    rates: tuple[EventRate, ...]
    hours: tuple[float, ...]
    fit: DeadTime
    days: int


@dataclass(frozen=True, eq=False)
class CameraResult:
    """A camera by all of its studies, in order of time."""

    site: str
    camera: str
    data_origin: str
    limits: Limits
    studies: tuple[Study, ...]
    constancy: Constancy | None
    decay: DecaySeries | None = None
    first_day: date = field(default=date.min)

    def latest(self, phantom: str) -> Study | None:
        """The most recent study with a phantom."""
        return next((s for s in reversed(self.studies) if s.measured.scan.phantom == phantom), None)

    @property
    def in_counts(self) -> bool:
        return self.studies[0].measured.image.in_counts if self.studies else True


def geometry_of(cylinder: MeasuredScan) -> str:
    """Name of the phantom that calibration and recovery refer to."""
    return f"cylinder {cylinder.bodies[0].body.volume_ml / _ML_PER_L:.1f} L"


def measure_camera(scans: Sequence[PhantomScan], base: Path, limits: Limits) -> CameraResult:
    """Measure all scans of one camera and put them together.

    Raises
    ------
    PhantomError
        A scan that must not be used, recovery without a calibration, or scans of different reconstructions.
    """
    first = scans[0]
    if {scan.data_origin for scan in scans} != {first.data_origin}:
        raise PhantomError(f"camera {first.camera} is virtual in one scan only", tag="data_origin")
    decaying = [scan for scan in scans if scan.phantom == "decay"]
    measured = [measure_scan(scan, base) for scan in scans if scan.phantom != "decay"]
    measured.sort(key=lambda m: m.day)
    cylinders = [m for m in measured if m.scan.phantom == "cylinder"]
    if measured and not cylinders:
        raise PhantomError(
            "recovery has no meaning without a calibration from the same camera",
            path=measured[0].scan.spect,
            tag="phantom",
            expected="a scan of a cylinder",
            remedy="Image an evenly filled cylinder with the same protocol, and add it to the sheet.",
        )
    for other in measured:
        _require_same_protocol(other, cylinders[0])
    series = _decay_series(decaying, base) if decaying else None
    days = [m.day for m in measured] + ([series.rates[0].middle] if series else [])
    start = min(days)
    constancy = fit_constancy(
        [(m.day - start).days for m in cylinders],
        [m.response for m in cylinders],
        [_u_single_rel(m) for m in cylinders],
    )
    repeatability = constancy.repeatability_rel if constancy else None
    studies = tuple(_study(m, measured, cylinders, repeatability, start, limits) for m in measured)
    if series:
        series = DecaySeries(series.scan, series.rates, series.hours, series.fit, (series.rates[0].middle - start).days)
    return CameraResult(first.site, first.camera, first.data_origin, limits, studies, constancy, series, start.date())


def _require_same_protocol(one: MeasuredScan, other: MeasuredScan) -> None:
    """Calibration and recovery belong together only if they were imaged and reconstructed alike."""
    spacings = np.abs(np.subtract(one.image.grid.spacing_mm, other.image.grid.spacing_mm))
    pairs = {
        "counts or Bq/mL": (one.image.in_counts, other.image.in_counts),
        "voxel size": (one.image.grid.spacing_mm, other.image.grid.spacing_mm)
        if spacings.max() > _SAME_SPACING_MM
        else 0,
        "nuclide": (one.scan.source.name, other.scan.source.name),
        **{name: tuple(getattr(m.image.provenance, name) for m in (one, other)) for name in _SAME_ACQUISITION},
    }
    for name, pair in pairs.items():
        if isinstance(pair, tuple) and pair[0] != pair[1]:
            raise PhantomError(
                f"the scans of camera {one.scan.camera} were not made alike: {name}",
                path=one.scan.spect,
                value=pair[0],
                expected=pair[1],
                remedy="Image all phantoms with the protocol of the patients; another protocol is another camera row.",
            )


def _u_single_rel(cylinder: MeasuredScan) -> float:
    statistics = cylinder.even.u_statistics_rel if cylinder.even else 0.0
    return float(np.hypot(cylinder.scan.u_activity_rel, statistics))


def _study(
    measured: MeasuredScan,
    everything: Sequence[MeasuredScan],
    cylinders: Sequence[MeasuredScan],
    repeatability: float | None,
    start: datetime,
    limits: Limits,
) -> Study:
    phantom = measured.scan.phantom
    nearest = min(cylinders, key=lambda c: abs(c.day - measured.day))
    recoveries = tuple(body.response / nearest.response for body in measured.bodies)
    noise = tuple(measured.noise_rel(body, nearest) for body in measured.bodies) if phantom != "cylinder" else ()
    u_common = float(np.hypot(measured.scan.u_activity_rel, _u_single_rel(nearest)))
    curve = surface = None
    if phantom == "nema":
        curve = fit_recovery([b.body.volume_ml for b in measured.bodies], recoveries, noise, u_common_rel=u_common)
    if phantom == "kidney":
        surfaces = [b.body.shape.surface_per_volume_per_mm for b in measured.bodies]
        surface = fit_surface_recovery(surfaces, recoveries, noise, u_common_rel=u_common)
    before = next(m for m in everything if m.scan.phantom == phantom)
    checks: list[tuple[str, float, float]] = []
    sensitivity_change = fwhm_change = None
    if before is not measured:
        fwhm_change = measured.blur.mean_fwhm_mm / before.blur.mean_fwhm_mm - 1.0
        checks.append(("blur_changed", fwhm_change, limits.fwhm_change_rel))
    if phantom == "cylinder":
        if before is not measured:
            sensitivity_change = measured.response / before.response - 1.0
            checks.append(("sensitivity_changed", sensitivity_change, limits.sensitivity_change_rel))
        if not measured.image.in_counts:
            checks.append(("calibration_off", measured.response - 1.0, limits.calibration_error_rel))
    flags = [flag for flag, value, limit in checks if abs(value) > limit]
    passed = not flags if checks else None
    if phantom == "cylinder" and repeatability is None:
        flags.append("repeatability_not_measured")
    return Study(
        measured=measured,
        days=(measured.day - start).days,
        calibration=nearest,
        u_sensitivity_rel=float(np.hypot(_u_single_rel(nearest), repeatability or 0.0)),
        sensitivity_change_rel=sensitivity_change,
        fwhm_change_rel=fwhm_change,
        recoveries=recoveries if phantom != "cylinder" else (),
        u_recoveries_rel=noise,
        curve=curve,
        surface=surface,
        passed=passed,
        flags=tuple(flags),
    )


def _decay_series(scans: Sequence[PhantomScan], base: Path) -> DecaySeries:
    rates = [read_event_rate(base / scan.spect, detectors=scan.detectors or 1) for scan in scans]
    rates.sort(key=lambda rate: rate.middle)
    hours = [(rate.middle - rates[0].middle).total_seconds() / SECONDS_PER_HOUR for rate in rates]
    fit = fit_dead_time(
        hours, [r.observed_cps for r in rates], [r.counts for r in rates], half_life_h=scans[0].source.half_life_h
    )
    if fit.dead_time_us < 0.0 and fit.dead_time_us < -2.0 * fit.u_dead_time_us:
        raise PhantomError(
            "the count rates fall slower than the source decays: no dead time does that",
            path=scans[0].spect,
            tag="phantom",
            value=f"{fit.dead_time_us:.3g} us",
            remedy="Check the times, the nuclide, and whether another source was near.",
        )
    return DecaySeries(scans[0], tuple(rates), tuple(hours), fit, 0)
