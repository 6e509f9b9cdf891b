"""TotalSegmentator's command against the worker, for one and for four CTs: ``make bench``.

Prints processor time and memory of both and their ratio in the same run; the ratio is what may be quoted. Demo weights
at 6 mm: networks of real weights cost more, the imports that the worker does once cost the same.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from doseledger.io.nifti import read_image, write_image
from doseledger.phantom.cycle import draw_cycle, draw_scans
from doseledger.phantom.design import site_named
from doseledger.phantom.imaging import body_radius_mm, hounsfield
from doseledger.phantom.patients import draw_patient, stream
from doseledger.phantom.scanner import image_ct
from doseledger.segmentation.demo_weights import unpack_demo_weights
from doseledger.segmentation.process import worker_environment
from doseledger.segmentation.totalsegmentator import Request, segment_cts

CTS = 4
SEED = 2


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = unpack_demo_weights(folder / "weights")
        cts = write_cts(folder)
        sys.stdout.write("CTs  command CPU-s  worker CPU-s  ratio  command MiB  worker MiB\n")
        for count in (1, CTS):
            own = dict(list(cts.items())[:count])
            command_s, command_mib = command(own, weights, folder / f"command{count}")
            worker_s, worker_mib, labels = worker(own, weights, folder / f"worker{count}")
            for key, path in labels.items():
                assert np.array_equal(read_image(path)[0], read_image(folder / f"command{count}" / f"{key}.nii.gz")[0])
            sys.stdout.write(
                f"{count:3d}  {command_s:13.1f}  {worker_s:12.1f}  {command_s / worker_s:5.2f}  "
                f"{command_mib:11.0f}  {worker_mib:10.0f}\n"
            )


def write_cts(folder: Path) -> dict[str, Path]:
    """CTs of the scans of one virtual cycle."""
    site = site_named("A")
    cycle = draw_cycle(SEED, "demo", site, draw_patient(SEED, "A", "P1"), 0, 1)
    cts = {}
    for scan in draw_scans(cycle, (4.0, 24.0, 96.0, 168.0), refused=False):
        view = scan.ct_view
        rng = stream(SEED, "bench", scan.time_point)
        image = image_ct(hounsfield(scan.torso, view), rng, radius_mm=body_radius_mm(scan.torso))
        cts[f"t{scan.time_point}"] = folder / f"t{scan.time_point}.nii.gz"
        write_image(cts[f"t{scan.time_point}"], np.rint(image), view.grid, dtype="int16")
    return cts


def command(cts: dict[str, Path], weights: Path, out: Path) -> tuple[float, float]:
    """CPU time, and highest memory of one of its processes, of one command per CT."""
    out.mkdir()
    before = children()
    for key, ct in cts.items():
        room = out / f"room-{key}"
        room.mkdir()
        tool = str(Path(sys.executable).with_name("TotalSegmentator"))
        options = ["--ml", "--fastest", "-d", "cpu", "-nr", "1", "-ns", "1", "--quiet"]
        subprocess.run(
            [tool, "-i", str(ct), "-o", str(out / f"{key}.nii.gz"), *options],
            env=worker_environment(room, weights, threads=1),
            check=True,
            capture_output=True,
        )
    return children() - before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def worker(cts: dict[str, Path], weights: Path, out: Path) -> tuple[float, float, dict[str, Path]]:
    before = children()
    result = segment_cts(Request(cts, out, weights, data_origin="virtual", mode="fastest"))
    return children() - before, max(result.peak_memory_mib.values()), result.labels


def children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
