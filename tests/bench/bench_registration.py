"""Registration of virtual CTs against their truth, and what one large pair costs: ``make bench``.

Target registration error (TRE) is taken at the outlines of liver, spleen, kidneys and lesions of the reference CT,
where anatomy, pose and breath say where each point lies in the other one. `--large` runs one pair of
512 x 512 x 200 in a process of its own and prints its processor time and memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from time import process_time

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid
from doseledger.phantom.cycle import Scan, draw_cycle, draw_scans
from doseledger.phantom.design import site_named
from doseledger.phantom.imaging import body_radius_mm, hounsfield
from doseledger.phantom.outlines import outlines
from doseledger.phantom.patients import draw_patient, stream
from doseledger.phantom.scanner import image_ct
from doseledger.phantom.sheets import SOURCE_NAMES
from doseledger.phantom.view import Pose, View
from doseledger.registration import REGISTRY, Transform

SEED = 2
REGIONS = ("liver", "spleen", "kidney", "lesion")
LARGE = Grid((200, 512, 512), (2.0, 0.977, 0.977), (-249.6, -249.6, -199.0))
Floats = NDArray[np.float64]


def virtual_scans(site: str, patient: str) -> list[Scan]:
    cycle = draw_cycle(SEED, "demo", site_named(site), draw_patient(SEED, site, patient), 0, 1)
    return draw_scans(cycle, (4.0, 24.0, 96.0), refused=False)


def ct(scan: Scan, grid: Grid | None = None) -> tuple[NDArray[np.float32], Grid]:
    """CT numbers with noise, on the scanner's grid or another one."""
    view = scan.ct_view if grid is None else View(grid, scan.pose, scan.ct_breath_mm)
    noise = stream(SEED, "bench registration", scan.time_point)
    image = image_ct(hounsfield(scan.torso, view), noise, radius_mm=body_radius_mm(scan.torso))
    return np.asarray(image, np.float32), view.grid


def target_points_mm(fixed: Scan, moving: Scan) -> tuple[Floats, Floats]:
    """Points on organ surfaces in the CT of `fixed`, and where they are in that of `moving`, LPS mm."""
    shares = {
        SOURCE_NAMES[organ.name]: organ.breathing for organ in fixed.torso.organs.values() if organ.name in SOURCE_NAMES
    }
    regions = {SOURCE_NAMES[name] for name in SOURCE_NAMES if name.startswith(REGIONS)}
    here, there = [], []
    for outline in outlines(fixed.torso, fixed.ct_view):
        if outline.name not in regions:
            continue
        points = np.concatenate(list(outline.contours.values()))[::5]
        rest = _at_rest(points, fixed.pose, fixed.ct_breath_mm * shares[outline.name])
        lift = np.array([0.0, 0.0, moving.ct_breath_mm * shares[outline.name]])
        here.append(points)
        there.append(rest @ moving.pose.matrix.T + np.asarray(moving.pose.shift_mm) + lift)
    return np.concatenate(here), np.concatenate(there)


def _at_rest(points_mm: Floats, pose: Pose, lift_mm: float) -> Floats:
    return (points_mm - np.asarray(pose.shift_mm) - np.array([0.0, 0.0, lift_mm])) @ pose.matrix


def errors_mm(transform: Transform, fixed: Scan, moving: Scan) -> Floats:
    here, there = target_points_mm(fixed, moving)
    return np.asarray(np.linalg.norm(transform.points_mm(here) - there, axis=1))


def table(patients: tuple[tuple[str, str], ...]) -> None:
    sys.stdout.write("patient  scan  method  TRE mean  p95  largest (mm)  Jacobian        CPU-s\n")
    pooled: dict[str, list[Floats]] = {}
    for site, patient in patients:
        fixed, *others = virtual_scans(site, patient)
        target, target_grid = ct(fixed)
        for moving in others:
            source, source_grid = ct(moving)
            for name in ("none", *REGISTRY):
                start = process_time()
                found = Transform.identity()
                if name in REGISTRY:
                    found = REGISTRY[name](target, target_grid, source, source_grid, metric="mean_squares")
                spent = process_time() - start
                error = errors_mm(found, fixed, moving)
                pooled.setdefault(name, []).append(error)
                low, high = found.jacobian_range
                sys.stdout.write(
                    f"{site}/{patient}     {moving.time_point}     {name:7s} {error.mean():7.2f} "
                    f"{np.percentile(error, 95):6.2f} {error.max():7.2f}       "
                    f"{low:5.2f} to {high:4.2f}   {spent:5.1f}\n"
                )
    for name, errors in pooled.items():
        together = np.concatenate(errors)
        sys.stdout.write(f"all            {name:7s} {together.mean():7.2f} {np.percentile(together, 95):6.2f}\n")


def large(method: str) -> None:
    fixed, moving, *_ = virtual_scans("A", "P1")
    images = [ct(scan, LARGE)[0] for scan in (fixed, moving)]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, process_time()
    found = REGISTRY[method](images[0], LARGE, images[1], LARGE, metric="mean_squares")
    spent, peak = process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = errors_mm(found, fixed, moving)
    sys.stdout.write(
        f"512 x 512 x 200, {method}: {spent:.1f} CPU-s, peak {peak / 1024:.0f} MiB (rendering: {before / 1024:.0f}), "
        f"TRE mean {error.mean():.2f}, p95 {np.percentile(error, 95):.2f} mm\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", choices=sorted(REGISTRY))
    chosen = parser.parse_args().large
    if chosen:
        large(chosen)
    else:
        table((("A", "P1"), ("A", "P2"), ("B", "P1")))
        for method in REGISTRY:
            sys.stdout.flush()
            subprocess.run([sys.executable, __file__, "--large", method], check=True)
