"""Dose engines against what they could cost at best: ``make bench-dose``.

Times are processor times of one run on one core; ratios are what may be quoted. The engine that pmc is compared with,
ompMC, needs its own environment (``make truth`` makes it); without it that line is left out.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from doseledger.dose import compute_dose
from doseledger.dose.interface import DoseProblem, MonteCarloOptions
from doseledger.dose.media import media_from_density
from doseledger.dose.voxel_s import energy_kernel
from doseledger.nuclides import nuclide

Floats = NDArray[np.float32]

ROOT: Final = Path(__file__).parents[2]
VOXEL_MM: Final = 4.8
PHOTONS: Final = 1_000_000
MIB_PER_KIB: Final = 1.0 / 1024.0
#: Shapes whose peak memory is measured, each in a process of its own.
LARGE_SHAPES: Final = ((256, 256, 256), (192, 192, 400))
#: Density (g/mL) and concentration by tissue: air, fat, soft tissue, lungs, liver, spleen, kidneys, lesion, spine.
DENSITY: Final = np.float32([0.0012, 0.95, 1.03, 0.26, 1.05, 1.05, 1.05, 1.05, 1.3])
CONCENTRATION: Final = np.float32([0.0, 0.2, 0.2, 0.05, 2.0, 12.0, 10.0, 15.0, 0.3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine-python", type=Path, default=ROOT / ".venv" / "ompmc" / "bin" / "python")
    parser.add_argument("--peak", type=int, nargs=3, help="only: dose on a map of this shape, then its peak memory")
    arguments = parser.parse_args()
    if arguments.peak:
        peak(tuple(arguments.peak))
        return
    tia, density = patient((128, 128, 128))
    compute_dose(tia[::4, ::4, ::4], density[::4, ::4, ::4], 4 * VOXEL_MM, "Lu-177", max_histories=100)
    missed = [
        *photon_rates(tia, density, arguments.engine_python),
        *one_per_cent(tia, density),
        *against_transforms(tia, density),
        *against_a_copy(),
        *memory(),
        *second_process(),
    ]
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


def patient(shape: tuple[int, int, int]) -> tuple[Floats, Floats]:
    """TIA (Bq h/mL) and density of ellipsoids in a body that fills the map as a patient does."""
    z, y, x = np.meshgrid(*(np.linspace(-30.7, 30.7, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    label = np.zeros(shape, np.uint8)

    def ellipsoid(number: int, *centre_and_axes: float) -> None:
        cz, cy, cx, az, ay, ax = (np.float32(v) for v in centre_and_axes)
        label[((z - cz) / az) ** 2 + ((y - cy) / ay) ** 2 + ((x - cx) / ax) ** 2 <= 1.0] = number

    along = np.abs(z) < 28
    label[along & ((y / 11) ** 2 + (x / 18) ** 2 <= 1)] = 1
    label[along & ((y / 9) ** 2 + (x / 16) ** 2 <= 1)] = 2
    for side in (-8, 8):
        ellipsoid(3, 15, 0, side, 11, 7, 5.5)
        ellipsoid(6, -14, 4.6, 0.75 * side, 5.5, 2.4, 2.6)
    ellipsoid(4, -3, -1, -7, 6.9, 7, 8)
    ellipsoid(5, -2, 3, 11, 3, 4, 3)
    ellipsoid(7, -3, -2, -8, 1.7, 1.7, 1.7)
    label[along & ((y - 5.5) ** 2 + x**2 <= 4)] = 8
    return CONCENTRATION[label] * np.float32(1e6), DENSITY[label]


# What is compared ---------------------------------------------------------------------------------


def photon_rates(tia: Floats, density: Floats, engine_python: Path) -> list[str]:
    missed = []
    for name in ("Lu-177", "I-131"):
        own = PHOTONS / cpu_s(
            lambda n=name: compute_dose(tia, density, VOXEL_MM, n, precision=1e-9, max_histories=PHOTONS), repeat=1
        )
        line(f"{name} photons per CPU-s, pmc", f"{own:,.0f}")
        if engine_python.exists():
            other = ompmc_rate(tia, density, name, engine_python)
            line(f"{name} photons per CPU-s, ompmc", f"{other:,.0f}")
            missed += ratio(f"{name} photon rate, pmc over ompmc", own / other, at_least=2.5)
    return missed


def ompmc_rate(tia: Floats, density: Floats, name: str, engine_python: Path) -> float:
    """From the difference of two runs, so that reading and preparing do not count."""
    sys.path.insert(0, str(ROOT / "recipes" / "truth"))
    from radiation import Emission, emission_of
    from transport import Job, run

    photons = Emission(tuple(r for r in emission_of(name).radiations if r.particle == "photon"), 0.0)
    edges = tuple(np.arange(n + 1.0) * VOXEL_MM for n in tia.shape)
    medium = media_from_density(density)

    def seconds(histories: int) -> float:
        job = Job(edges, density, medium, tia, np.zeros_like(medium), photons, {"photon": histories}, 2, 1)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(job, engine_python)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime

    few, many = 20_000, 320_000
    return (many - few) / (seconds(many) - seconds(few))


def one_per_cent(tia: Floats, density: Floats) -> list[str]:
    for name in ("Lu-177", "I-131", "Y-90"):
        taken = cpu_s(lambda n=name: compute_dose(tia, density, VOXEL_MM, n, precision=0.01))
        line(f"{name} dose of 128^3 voxels to 1 %, CPU-s", f"{taken:.2f}")
    return []


def against_transforms(tia: Floats, density: Floats) -> list[str]:
    own = cpu_s(lambda: compute_dose(tia, density, VOXEL_MM, "Lu-177", engine="vsv"))
    spacing = (VOXEL_MM,) * 3
    problem = DoseProblem(tia, float(tia.sum()), density, spacing, nuclide("Lu-177"), MonteCarloOptions())
    width = [k // 2 for k in energy_kernel(problem).shape]
    shape = [fft.next_fast_len(n + w, real=True) for n, w in zip(tia.shape, width, strict=True)]

    def bare() -> None:
        fft.rfftn(tia, shape, workers=1)
        fft.irfftn(fft.rfftn(tia, shape, workers=1), shape, workers=1)

    line("vsv dose of 128^3 voxels, CPU-s", f"{own:.2f}")
    return ratio("vsv over its three Fourier transforms", own / cpu_s(bare), at_most=3.0)


def against_a_copy() -> list[str]:
    """On a map in the cache the divisions of `led` show; on one that is larger, memory is the limit."""
    ratios = {}
    for n in (128, 256):
        tia, density = patient((n, n, n))
        own = cpu_s(lambda t=tia, d=density: compute_dose(t, d, VOXEL_MM, "Lu-177", engine="led"), repeat=20)
        ratios[n] = own / cpu_s(lambda t=tia: np.copy(t), repeat=20)
        line(f"led dose of {n}^3 voxels, CPU-ms", f"{1e3 * own:.2f}")
    line("led over a copy of the map, 128^3 in cache", f"{ratios[128]:.2f}")
    return ratio("led over a copy of the map, 256^3", ratios[256], at_most=3.0)


def memory() -> list[str]:
    missed = []
    for shape in LARGE_SHAPES:
        command = [sys.executable, __file__, "--peak", *(str(n) for n in shape)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        taken, mib = (float(word) for word in done.stdout.split())
        line(f"pmc dose of {' x '.join(map(str, shape))} voxels to 1 %, CPU-s", f"{taken:.1f}")
        missed += ratio("   its peak memory, of 1500 MiB", mib / 1500.0, at_most=1.0)
    return missed


def peak(shape: tuple[int, ...]) -> None:
    """Print the processor time of a dose, and the peak memory of this process, maps included, in MiB."""
    tia, density = patient(shape)  # type: ignore[arg-type]
    taken = cpu_s(lambda: compute_dose(tia, density, 2.4, "Lu-177"), repeat=1)
    sys.stdout.write(f"{taken} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MIB_PER_KIB}\n")


def second_process() -> list[str]:
    """A process that finds compiled code computes an organ in 64^3 voxels."""
    code = (
        "import numpy as np; from doseledger.dose import compute_dose; tia = np.zeros((64, 64, 64)); "
        "tia[20:30, 20:30, 20:30] = 1; compute_dose(tia, np.ones(tia.shape), 4.8, 'Lu-177')"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    line("a second process computes 64^3 voxels, CPU-s", f"{taken:.2f}")
    return []


# Measuring and printing ---------------------------------------------------------------------------


def cpu_s(work: Callable[[], object], repeat: int = 5) -> float:
    """Least processor time of some runs after one that warms up."""
    work()
    taken = []
    for _ in range(repeat):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def line(what: str, value: str) -> None:
    sys.stdout.write(f"{what:58s} {value:>12s}\n")
    sys.stdout.flush()


def ratio(what: str, value: float, *, at_least: float = 0.0, at_most: float = float("inf")) -> list[str]:
    bound = f"at least {at_least:g}" if at_least else f"at most {at_most:g}"
    line(what, f"{value:.2f}  ({bound})")
    return [] if at_least <= value <= at_most else [what]


if __name__ == "__main__":
    main()
