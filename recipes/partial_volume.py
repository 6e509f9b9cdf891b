"""Measure the correction for blur on virtual patients: ``python recipes/partial_volume.py [--write]``.

Scans of the virtual cohort, imaged like OSEM, breathing, with noise, and outlined on their CT: activity of each region
over the true one, as measured and corrected. And virtual kidneys against printed ones. ``--write`` puts the tables into
docs/partial-volume.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.activity import self_recovery
from doseledger.activity.phantom_shapes import FilledShape
from doseledger.activity.recovery_curve import RecoveryCurve, SurfaceRecovery
from doseledger.activity.region_recovery import CameraRecovery, RegionRecovery, recover_regions
from doseledger.geometry import Grid
from doseledger.kinetics.curves import Z95
from doseledger.phantom import design
from doseledger.phantom.activity import SAMPLES
from doseledger.phantom.camera_phantoms import phantoms
from doseledger.phantom.cycle import Scan, draw_cycle, draw_scans
from doseledger.phantom.imaging import body_radius_mm, hounsfield
from doseledger.phantom.patients import draw_patient
from doseledger.phantom.render import paint_organs
from doseledger.phantom.scanner import image_spect
from doseledger.phantom.torso import BLADDER
from doseledger.phantom.view import View
from doseledger.regions import region_fractions
from doseledger.regions.body import body_mask
from doseledger.units import BQ_PER_MBQ

PAGE: Final = Path(__file__).parents[1] / "docs" / "partial-volume.md"
#: The size of the model uncertainty was set on the first cohort; the second one was not looked at before.
COHORTS: Final = {"set": (1, 2), "kept back": (7, 8)}
PATIENTS: Final = 2
#: What `doseledger camera` finds of the virtual cameras: alpha, beta, k (docs/camera.md).
PHANTOMS: Final = {"A": (5.9, 0.79, 2.07), "B": (7.3, 0.79, 2.19), "C": (5.2, 0.72, 1.93)}
#: Random relative uncertainty of a region's activity, as the curves take it.
U_RANDOM_REL: Final = 0.05

#: Recovery of printed kidneys, from CTs of patients, at ten times the activity of the background: mean and standard
#: deviation (doi 10.1186/s40658-022-00446-2).
PRINTED: Final = {"ellipsoid": (0.854, None), "parenchyma": (0.763, 0.015), "cortex": (0.484, 0.083)}
CONTRAST: Final = 10.0
_FINE_MM: Final = 2.0

Measured = tuple[str, float, float, dict[str, RegionRecovery]]


# --- patients --------------------------------------------------------------------------------------


def scans(seeds: Iterable[int]) -> Iterator[Scan]:
    """First cycles of virtual patients of three sites."""
    for seed in seeds:
        for site in design.sites_of(3):
            for index in range(PATIENTS):
                patient = draw_patient(seed, site.label, design.patient_label(index))
                cycle = draw_cycle(seed, "demo", site, patient, index, 1)
                yield from draw_scans(cycle, site.nominal_times_h(index, 1), refused=False)


def measure(scan: Scan) -> list[Measured]:
    """Region, true and measured activity in MBq, and recovery by method, of one scan."""
    camera, grid, torso = scan.cycle.camera, scan.spect_view.grid, scan.torso
    shares, body = outlines(scan)
    rng = scan.cycle.rng("spect noise", scan.cycle.size, scan.time_point)
    image = image_spect(scan.true_map, grid, camera, rng, radius_mm=body_radius_mm(torso)) / camera.calibration_factor
    found = {
        method: recover_regions(
            shares,
            image,
            grid,
            recovery,
            body=body,
            lesions=[region for region in shares if region.startswith("lesion")],
            kidneys=[region for region in shares if region.startswith("kidney")],
            u_random_rel=U_RANDOM_REL,
        )
        for method, recovery in (("gtm", CameraRecovery(camera.fwhm_mm)), ("auto", measured_camera(scan)))
    }
    true_mbq = scan.cycle.organ_activity_mbq(scan.time_h, scan.since_void_h)
    to_mbq = grid.voxel_volume_ml / BQ_PER_MBQ
    return [
        (
            region,
            true_mbq[region],
            float((share * image).sum(dtype=np.float64)) * to_mbq,
            {method: recovered[region] for method, recovered in found.items() if region in recovered},
        )
        for region, share in shares.items()
    ]


def outlines(scan: Scan) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
    """Regions and body as the CT of the scan shows them, as shares of the voxels of its SPECT."""
    view, torso, grid = scan.ct_view, scan.torso, scan.spect_view.grid
    labels, names = np.zeros(view.grid.shape, np.uint8), list(torso.organs)
    for painted in paint_organs(list(torso.organs.values()), view, samples=SAMPLES):
        labels[painted.block][painted.share > 0.5] = 1 + names.index(painted.organ.name)
    shares = {names[label - 1]: share for label, share in region_fractions(labels, view.grid, grid).items()}
    shares.pop(BLADDER, None)
    patient = body_mask(hounsfield(torso, view)).astype(np.uint8)
    return shares, region_fractions(patient, view.grid, grid)[1]


def measured_camera(scan: Scan) -> CameraRecovery:
    alpha, beta, k = PHANTOMS[scan.cycle.site.label]
    spheres = RecoveryCurve(alpha, beta, ((0.09, 0.0), (0.0, 0.0025)), 0.065, (0.52, 26.6))
    return CameraRecovery(scan.cycle.camera.fwhm_mm, spheres, SurfaceRecovery(k, 0.1, 0.0, (0.09, 0.22)))


def class_of(region: str) -> str:
    return region.rstrip("0123456789_").removesuffix("_left").removesuffix("_right").replace("_", " ")


def cohort_table(rows: list[Measured]) -> Iterator[str]:
    """Ratios to the truth by class of region: median, and root mean square of the logarithm."""
    yield "| region | n | measured | `gtm` | `auto` | u | truth in 95 % |"
    yield "|---|---|---|---|---|---|---|"
    for name in dict.fromkeys(class_of(region) for region, *_ in rows):
        own = [row for row in rows if class_of(row[0]) == name]
        cells = [name, str(len(own)), told([seen / true for _, true, seen, _ in own])]
        for method in ("gtm", "auto"):
            cells.append(told([s / r[method].coefficient / t for _, t, s, r in own if method in r]))
        gtm = [(log_ratio(t, s, r["gtm"]), r["gtm"].u_rel) for _, t, s, r in own if "gtm" in r]
        inside = sum(abs(off) <= Z95 * float(np.hypot(u, U_RANDOM_REL)) for off, u in gtm)
        yield f"| {' | '.join([*cells, f'{np.median([u for _, u in gtm]):.2f}', f'{inside} of {len(gtm)}'])} |"


def told(ratios: list[float]) -> str:
    return f"{np.median(ratios):.2f} ({np.sqrt(np.mean(np.log(ratios) ** 2)):.2f})"


def log_ratio(true: float, seen: float, recovery: RegionRecovery) -> float:
    return float(np.log(seen / recovery.coefficient / true))


# --- kidneys ---------------------------------------------------------------------------------------


def against_background(kept: float) -> float:
    """Recovery of a body that keeps a share of its own activity, in a background of a tenth."""
    return kept + (1.0 - kept) / CONTRAST


def kidney_table(fwhm_mm: float) -> Iterator[str]:
    """Recovery of virtual kidneys under a Gaussian blur beside that of printed ones."""
    yield "| form | printed | virtual |"
    yield "|---|---|---|"
    found = kidney_recoveries(fwhm_mm)
    for name, (mean, sd) in PRINTED.items():
        printed = f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"
        values = found[name]
        virtual = f"{values[0]:.3f}" if len(values) == 1 else f"{np.mean(values):.3f} ± {np.std(values):.3f}"
        yield f"| {name} | {printed} | {virtual} |"
    thin = ", ".join(
        f"{thickness:g} mm {shell_recovery(thickness, fwhm_mm):.2f}" for thickness in (6.0, 7.0, 8.0, 10.0)
    )
    yield ""
    yield f"An ellipsoidal shell of the thickness of a cortex, by its thickness: {thin}."


def kidney_recoveries(fwhm_mm: float, seeds: Iterable[int] = (1, 2)) -> dict[str, list[float]]:
    """The ellipsoid of the virtual camera phantom; parenchyma and cortex of virtual patients."""
    found: dict[str, list[float]] = {"ellipsoid": [shell_recovery(None, fwhm_mm)], "parenchyma": [], "cortex": []}
    for seed in seeds:
        for site in design.sites_of(3):
            torso = draw_patient(seed, site.label, design.patient_label(0)).torso
            for side in torso.kidney_sides:
                organ = torso.organs[f"kidney_{side}"]
                low, high = organ.solid.box.low_mm, organ.solid.box.high_mm
                z, y, x = (int(n) for n in np.ceil((high - low) / _FINE_MM)[::-1] + 1)
                grid = Grid((z, y, x), (_FINE_MM,) * 3, (float(low[0]), float(low[1]), float(low[2])))
                painted = paint_organs([organ], View(grid), samples=SAMPLES)[0]
                # Uptake tells cortex from medulla and pelvis, in which there is least.
                uptake = painted.weight / np.maximum(painted.share, 1e-6)
                for name, least in (("parenchyma", 0.4), ("cortex", 0.9)):
                    share = np.where(uptake > least, painted.share, 0.0).astype(np.float32)
                    kept = self_recovery(share, grid.spacing_mm, fwhm_mm=fwhm_mm)
                    found[name].append(against_background(kept))
    return found


def shell_recovery(thickness_mm: float | None, fwhm_mm: float) -> float:
    """The ellipsoid of the kidney phantom, filled in whole or as a shell."""
    phantom = next(p for p in phantoms() if p.name == "kidneys")
    solid = next(part.solid for part in phantom.parts if part.name == "kidney_ellipsoid")
    x, y, z = (2.0 * float(half) for half in solid.half_mm)
    hollow = None if thickness_mm is None else (x - 2 * thickness_mm, y - 2 * thickness_mm, z - 2 * thickness_mm)
    grid = Grid((60, 36, 36), (_FINE_MM,) * 3, (0.0, 0.0, 0.0))
    share = FilledShape("ellipsoid", (x, y, z), hollow).fraction(grid, (35.0, 35.0, 59.0)).astype(np.float32)
    return against_background(self_recovery(share, grid.spacing_mm, fwhm_mm=fwhm_mm))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    write = parser.parse_args().write
    tables = {"kidneys": list(kidney_table(fwhm_mm=11.0))}
    for name, seeds in COHORTS.items():
        tables[name] = list(cohort_table([row for scan in scans(seeds) for row in measure(scan)]))
    text = PAGE.read_text(encoding="utf-8") if write else ""
    for name, lines in tables.items():
        print("\n".join([name, *lines, ""]))
        if write:
            head, rest = text.split(f"<!-- {name} -->", 1)
            tail = rest.split(f"<!-- end of {name} -->", 1)[1]
            text = "\n".join([head + f"<!-- {name} -->", "", *lines, "", f"<!-- end of {name} -->"]) + tail
    if write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
