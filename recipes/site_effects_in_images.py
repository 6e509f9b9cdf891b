"""Effects of sites planted in images, through the whole pipeline: docs/comparison.md, "From images to the tables".

`site_effects.py` plants effects in tables. Here the same ones arise where they do in a hospital: camera, file, sheet or
setting of the last of six virtual sites with DOTATATE and images in counts. Its patients are run once undisturbed
and once per effect, from the same random numbers, so that the ratio of two rows is the effect alone. Each study goes
through ``doseledger run``, ``submit``, ``merge`` and ``compare``. Prints a Markdown table. A study that FOLDER holds
already is not run again.

    python recipes/site_effects_in_images.py FOLDER [--patients 5] [--effects decay ...]
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import pyarrow.parquet as pq
import yaml
from pydicom.uid import UID

from doseledger.cohort import Row
from doseledger.geometry import Grid
from doseledger.nuclides import nuclide
from doseledger.phantom import design, ledger, sheets
from doseledger.phantom.camera_study import write_camera_study
from doseledger.phantom.cycle import draw_cycle, draw_scans
from doseledger.phantom.design import Site
from doseledger.phantom.dialects import DIALECTS, Dialect, SpectFacts
from doseledger.phantom.imaging import write_scan
from doseledger.phantom.patients import draw_patient
from doseledger.phantom.records import Records
from doseledger.phantom.scanner import Camera
from doseledger.phantom.shapes import Image

#: DOTATATE, images in counts with the sensitivity of the camera sheet; the last one has the effect.
SITES: Final = ("B", "E", "H", "K", "N", "Q")
OFF: Final = SITES[-1]
SEED: Final = 1
#: Filter after the reconstruction, mm, instead of 10.2: by the formula of a blurred sphere the six spheres of the NEMA
#: phantom then show 0.75 of what they did, as in `ledger`, and 0.36.
FILTERS_MM: Final = {"recovery": 13.5, "wide_recovery": 22.0}
LEFT_CORRECTED: Final = "nm-counts, left corrected"
#: Gy/GBq by patient and region.
Doses = dict[tuple[str, str], float]
REGIONS: Final = ("kidney_left", "kidney_right", "liver", "spleen")

#: What is planted, and the name of the same effect in `ledger`.
EFFECTS: Final = {
    "sensitivity": ("sensitivity", "camera counts 8 % more than the sheet says"),
    "recovery": ("recovery", "filter of 13.5 mm instead of 10.2 mm, not in the sheet"),
    "wide_recovery": ("recovery", "the same with 22 mm"),
    "lesion_policy": ("lesion_policy", "no lesions in the region sheet, `lesion_policy: included`"),
    "undeclared_policy": ("undeclared_policy", "no lesions in the region sheet, `lesion_policy` as usual"),
    "decay": ("decay", "counts left corrected to the injection; no header says so"),
    "gbq": ("unit", "administered activity in GBq in the sheet of MBq"),
}


@dataclass(frozen=True)
class Hospital(Site):
    """A site with a camera that reads the truth but for what is planted."""

    effect: str = "none"

    @property
    def camera(self) -> Camera:
        camera = replace(super().camera, calibration_factor=1.0)
        if self.effect == "sensitivity":
            return replace(camera, calibration_factor=1.0 + ledger.SENSITIVITY_REL)
        return replace(camera, post_fwhm_mm=FILTERS_MM.get(self.effect, camera.post_fwhm_mm))

    @property
    def dialect(self) -> str:
        return LEFT_CORRECTED if self.effect == "decay" else super().dialect


def _left_corrected(folder: Path, reading: Image, grid: Grid, facts: SpectFacts) -> list[UID]:
    """Counts taken back to the injection, as some workstations do; headers of counts have no word for it."""
    since_h = design.hours_between(facts.injection.start, facts.visit.scan_start)
    factor = exp(nuclide("Lu-177").decay_constant_per_h * since_h)
    return DIALECTS["nm-counts"].write(folder, reading * np.float32(factor), grid, facts)


DIALECTS[LEFT_CORRECTED] = Dialect(_left_corrected, DIALECTS["nm-counts"].camera_columns)


def write_study(out: Path, labels: Sequence[str], effect: str, patients: int) -> Path:
    """Images, sheets and config of some sites; all but the effect is the same in every study."""
    records = Records()
    phantoms: list[dict[str, str]] = []
    for label in labels:
        site = Hospital(label, design.site_named(label).index, effect)
        records.add_site(site)
        phantoms += _image_phantoms(out / "cameras", site)
        for index in range(patients):
            patient = draw_patient(SEED, label, design.patient_label(index))
            records.add_patient(patient)
            cycle = draw_cycle(SEED, "micro", site, patient, index, 1)
            records.add_cycle(cycle)
            for scan in draw_scans(cycle, site.nominal_times_h(index, 1), refused=False):
                records.add_scan(scan)
                write_scan(out, scan)
    records.write(out)
    config = out / "config.yaml"
    sheets.write_config(config, "effects", "results")
    _plant_in_sheets(out, effect)
    _write_tsv(out / "cameras/phantoms.tsv", phantoms)
    # The sheet that the command writes stays apart: with it the site would already have mended its sensitivity.
    command("camera", str(out / "cameras"), "--out", str(out / "cameras/measured.tsv"), good=(0, 1))
    settings = yaml.safe_load(config.read_text())
    settings["sheets"]["phantom_qc"] = "cameras/phantom_qc.parquet"
    settings["dose"] = {"engines": ["led"]}
    if effect == "lesion_policy":
        settings["segment"] = {"lesion_policy": "included"}
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    return config


def _image_phantoms(folder: Path, site: Site) -> list[dict[str, str]]:
    """Rows of the phantom sheet, their paths seen from `folder`. The workstation treats phantoms as usual."""
    own = folder / site.label
    write_camera_study(own, site, SEED, dialect="nm-counts")
    rows = _read_tsv(own / "phantoms.tsv")
    for row in rows:
        row |= {name: f"{site.label}/{row[name]}" for name in ("spect", "contours")}
    return rows


def _plant_in_sheets(out: Path, effect: str) -> None:
    if effect in ("lesion_policy", "undeclared_policy"):
        _write_tsv(out / "regions.tsv", [r for r in _read_tsv(out / "regions.tsv") if r["kind"] != "lesion"])
    if effect == "gbq":
        rows = _read_tsv(out / "administrations.tsv")
        for row in rows:
            row |= {n: f"{float(row[n]) / 1e3:g}" for n in ("measured_activity_mbq", "residual_activity_mbq")}
        _write_tsv(out / "administrations.tsv", rows)


def _read_tsv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _write_tsv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def command(*arguments: str, good: Sequence[int] = (0,)) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "doseledger.cli", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode not in good:
        raise SystemExit(f"doseledger {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def run(folder: Path, labels: Sequence[str], effect: str, patients: int) -> Path:
    """Images to results, and the submission of each site beside them."""
    if (folder / "results/cohort").exists():
        return folder / "config.yaml"
    config = write_study(folder, labels, effect, patients)
    command("run", str(config), "--cores", "1", "--directory", str(folder / "work"), good=(0, 1))
    return config


def submitted(config: Path, label: str) -> Path:
    out = config.parent / f"{label}.zip"
    command("submit", str(config), "--site", label, "--out", str(out))
    return out


def rows(results: Path, table: str, *columns: str) -> list[Row]:
    paths = sorted((results / "cohort" / table).glob("*/*.parquet"))
    return [row for p in paths for row in pq.read_table(p, columns=list(columns), partitioning=None).to_pylist()]


def doses(config: Path) -> Doses:
    """Gy/GBq of the last site by patient and region."""
    columns = ("site", "patient", "region", "is_primary", "dose_gy_per_gbq")
    found = rows(config.parent / "results", "organ_dose", *columns)
    return {(r["patient"], r["region"]): r["dose_gy_per_gbq"] for r in found if r["site"] == OFF and r["is_primary"]}


def lines(folder: Path, patients: int, chosen: Sequence[str]) -> Iterator[str]:
    yield "| planted | where | rows over undisturbed ones: median (range) | in `ledger` | phantoms | findings |"
    yield "|---|---|---|---|---|---|"
    usual = run(folder / "none", SITES, "none", patients)
    archives = [submitted(usual, label) for label in SITES]
    yield f"| none | | | | {_compared(folder / 'none', archives)} |"
    own = doses(usual)
    for effect in chosen:
        alias, where = EFFECTS[effect]
        config = run(folder / effect, (OFF,), effect, patients)
        theirs = doses(config)
        if not theirs:
            outcomes = rows(config.parent / "results", "stage_outcome", "stage", "code")
            codes = sorted({str(row["code"]) for row in outcomes if row["stage"] == "ingest"})
            yield f"| {effect} | {where} | all cycles refused: {', '.join(codes)} | {_assumed(alias)} | | |"
            continue
        found = _compared(folder / effect, [*archives[:-1], submitted(config, OFF)])
        yield f"| {effect} | {where} | {_ratios(own, theirs)} | {_assumed(alias)} | {found} |"


def _ratios(own: Doses, theirs: Doses) -> str:
    texts = []
    for region in REGIONS:
        ratios = [theirs[k] / own[k] for k in own.keys() & theirs.keys() if k[1] == region]
        if ratios:
            texts.append(f"{region} {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    return "; ".join(texts)


def _assumed(effect: str) -> str:
    factors = {}
    for region in REGIONS:
        organ = ledger.ORGANS[region]
        rate = nuclide("Lu-177").half_life_h / organ.half_life_h
        factors[region] = {
            "sensitivity": 1.0 + ledger.SENSITIVITY_REL,
            "recovery": 1.0 - organ.recovery_loss,
            "lesion_policy": 1.0 + organ.lesion_gain,
            "undeclared_policy": 1.0 + organ.lesion_gain,
            "decay": rate / max(rate - 1.0, 1.0),
            "unit": 7.4,
        }[effect]
    return "; ".join(f"{region} {factor:.3f}" for region, factor in factors.items())


def _compared(folder: Path, archives: Sequence[Path]) -> str:
    """What the phantoms say of the last site, and findings, those of other sites after its own."""
    shutil.rmtree(folder / "comparison", ignore_errors=True)
    said = command("merge", *map(str, archives), "--out", str(folder / "merged"), "--no-page")
    command("compare", str(folder / "merged"), "--out", str(folder / "comparison"))
    tables = folder / "comparison/compare"
    found = pq.read_table(tables / "finding.parquet").to_pylist()
    texts = [_finding_text(f) for f in found if f["site"] == OFF]
    aside = [line for line in said.splitlines() if line.startswith("set aside")]
    others = [f"at {f['site']}: {_finding_text(f)}" for f in found if f["site"] != OFF]
    phantoms = [r for r in pq.read_table(tables / "phantom_comparison.parquet").to_pylist() if r["site"] == OFF]
    ratios = ", ".join(f"{row['quantity']} {row['ratio']:.3f}" for row in phantoms)
    return f"{ratios} | {'; '.join([*(texts or ['none']), *aside, *others])}"


def _finding_text(found: Row) -> str:
    size = "" if found["size"] is None else f"{found['size']:+.3f}"
    return " ".join(filter(None, (found["kind"], found["found_in"], size, found["detail"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=5)
    parser.add_argument("--effects", nargs="+", default=list(EFFECTS), choices=list(EFFECTS))
    chosen = parser.parse_args()
    for line in lines(chosen.folder, chosen.patients, chosen.effects):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
