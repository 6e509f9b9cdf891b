"""Do the intervals hold the truth? ``python recipes/interval_coverage.py WORK [--write]``

Virtual cohorts go from DICOM through the stages of the workflow, in one process, and every primary organ dose is held
against its truth. Cohorts that WORK has tables of are not run again. ``--write`` puts the tables into
docs/uncertainty.md.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import yaml

from doseledger.activity.region_recovery import volume_slope
from doseledger.cohort import Cycle, Plan, stage_folder
from doseledger.io.nifti import read_sidecar
from doseledger.io.sheets import load_plan
from doseledger.io.tables import read_rows
from doseledger.kinetics.curves import Z95
from doseledger.phantom import simulate
from doseledger.phantom.scanner import CAMERAS
from doseledger.statistics.sampling import DISAGREE_REL
from doseledger.statistics.uncertainty import S_VALUE_EXPONENT, spill_fraction
from doseledger.steps.layout import RECOVERY, UNCERTAINTY
from doseledger.steps.stage import run_stage

PAGE: Final = Path(__file__).parents[1] / "docs" / "uncertainty.md"
#: What each stage reads.
INPUTS: Final[dict[str, tuple[str, ...]]] = {
    "ingest": (),
    "segment": ("ingest",),
    "align": ("ingest", "segment"),
    "kinetics": ("ingest", "segment", "align"),
    "dose": ("ingest", "segment", "align", "kinetics"),
}
#: Reading over truth of the sites' cameras: each states an uncertainty of 5 %.
CALIBRATION: Final = {site: camera.calibration_factor for site, camera in zip("ABC", CAMERAS, strict=True)}
KEYS: Final = ["seed", "site", "patient", "cycle", "region"]


@dataclass(frozen=True)
class Cohort:
    """Patients of three sites, two cycles each, and the engine that has a truth for them."""

    seed: int
    patients: int
    engine: str
    truth: str
    checked: bool = False


#: Seeds chosen before a number was seen. `led` leaves the electrons of a region in it, which is what the analytic truth
#: is; true doses with all radiations are known of the demo cohort alone (recipes/truth).
COHORTS: Final = (
    Cohort(11, 3, "led", "dose_local_gy"),
    Cohort(12, 3, "led", "dose_local_gy"),
    Cohort(1, 2, "pmc", "absorbed_dose_gy", checked=True),
)


# --- the cohort ------------------------------------------------------------------------------------


def run(cohort: Cohort, work: Path) -> None:
    """Simulate and compute a cohort; leave its tables and truth, without images."""
    folder = work / f"running-{cohort.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    config = simulate(
        folder / "input", sites=3, patients=cohort.patients, cycles=2, seed=cohort.seed, plant_refusal=False
    )
    plan = load_plan(yaml.safe_load(config.read_text(encoding="utf-8")), config.parent)
    plan.settings["dose"]["engines"] = [cohort.engine]
    plan.settings["dose"]["uncertainty_check"] = "monte_carlo" if cohort.checked else "none"
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("organ_dose", "region_activity", "curve", "sampled")
    }
    for cycle in plan.imaged:
        run_cycle(plan, cycle)
        own = {stage: stage_folder(plan.results, *cycle.key, stage) for stage in INPUTS}
        corrections = read_sidecar(own["kinetics"] / RECOVERY)["regions"]
        fwhm_mm = {"spect_fwhm_mm": cycle.cameras[0]["fwhm_mm"]}
        for row in read_rows(own["dose"], "organ_dose"):
            kept = {"self_recovery": corrections.get(row["region"], {}).get("self_recovery")}
            found["organ_dose"].append(row | kept | fwhm_mm)
        if cohort.checked:
            found["sampled"] += [row | cycle_key(cycle) for row in read_sidecar(own["dose"] / UNCERTAINTY)["rows"]]
        for name in ("region_activity", "curve"):
            found[name] += read_rows(own["kinetics"], name)
        for path in plan.results.rglob("*.nii.gz"):
            path.unlink()
    out = work / f"seed-{cohort.seed}"
    partial = work / f".seed-{cohort.seed}"
    shutil.copytree(folder / "input" / "truth", partial, dirs_exist_ok=True)
    for name, rows in found.items():
        pd.DataFrame(rows).to_csv(partial / f"{name}.csv", index=False)
    shutil.rmtree(folder)
    partial.rename(out)


def cycle_key(cycle: Cycle) -> dict[str, Any]:
    return dict(zip(KEYS[1:4], cycle.key, strict=True))


def run_cycle(plan: Plan, cycle: Cycle) -> None:
    for stage, needed in INPUTS.items():
        outcome = run_stage(
            stage,
            inputs={name: (stage_folder(plan.results, *cycle.key, name),) for name in needed},
            output=stage_folder(plan.results, *cycle.key, stage),
            settings=plan.settings[stage],
            rows=cycle.rows_for(stage),
        )
        if outcome["status"] != "ok":
            raise SystemExit(f"{cycle.key} {stage}: {outcome['sentence']}")


# --- against the truth -----------------------------------------------------------------------------


def rows_of(cohort: Cohort, work: Path) -> pd.DataFrame:
    """Primary doses with their truth: errors as logarithms, and what they were stated to be."""
    folder = work / f"seed-{cohort.seed}"
    doses = pd.read_csv(folder / "organ_dose.csv")
    doses = doses[doses["is_primary"]]
    truth = pd.read_csv(folder / "organ_truth.csv", na_values="n/a")
    both = doses.merge(truth, on=KEYS[1:], suffixes=("", "_true")).merge(
        activity_errors(folder), on=KEYS[1:], how="left"
    )
    true_gy = both[f"{cohort.truth}_true" if cohort.truth in doses.columns else cohort.truth]
    both = both.assign(seed=cohort.seed, true_gy=true_gy)[true_gy.notna()]
    both = both.assign(
        group=both["region"].map(group_of),
        error=np.log(both["absorbed_dose_gy"] / both["true_gy"]),
        inside=both["dose_low_gy"].le(both["true_gy"]) & both["dose_high_gy"].ge(both["true_gy"]),
        tia_error=np.log(both["tia_mbq_h"] / both["tia_mbq_h_true"]),
        mass_error=np.log(both["mass_g"] / both["mass_g_true"]),
        calibration_error=np.log(both["site"].map(CALIBRATION)),
    )
    # A truth of local electrons says nothing of what `led` leaves out.
    engine = both["u_dose_factor_rel"] if cohort.engine == "led" else 0.0
    exponents = pd.Series([count_exponent(row) for row in both.to_dict("records")], both.index)
    u_volume = both["u_volume_rel"] / (exponents + S_VALUE_EXPONENT).abs()
    parts = both[["u_calibration_rel", "u_recovery_rel", "u_fit_rel"]].fillna(0.0)
    return both.assign(
        u_tested=np.sqrt(both["u_absorbed_dose_rel"] ** 2 - engine**2),
        u_volume=u_volume,
        u_tia=np.sqrt((parts**2).sum(axis=1) + (exponents * u_volume) ** 2),
        curve_error=both["tia_error"] - both["activity_error"] - both["calibration_error"],
    )


def activity_errors(folder: Path) -> pd.DataFrame:
    """By region, ln of corrected over true activity without the calibration error: mean and scatter over the scans."""
    seen, truth = (
        pd.read_csv(folder / f"{name}.csv", na_values="n/a") for name in ("region_activity", "activity_truth")
    )
    both = seen.merge(truth, on=[*KEYS[1:], "time_point"], suffixes=("", "_true"))
    ratio = both["activity_corrected_mbq"] / both["activity_mbq_true"] / both["site"].map(CALIBRATION)
    grouped = both.assign(ratio=np.log(ratio)).groupby(KEYS[1:])["ratio"]
    return pd.DataFrame({"activity_error": grouped.mean(), "activity_scatter": grouped.std(ddof=1)}).reset_index()


def group_of(region: str) -> str:
    """Left and right are one group, and so are all lesions."""
    return region.rstrip("0123456789_").removesuffix("_left").removesuffix("_right").replace("_", " ")


def count_exponent(row: dict[str, Any]) -> float:
    """d ln activity / d ln volume of a row: what an outline that is too large puts into it."""
    kept = row["self_recovery"]
    if np.isnan(kept) or row["partial_volume_method"] == "none":
        return spill_fraction(row["volume_ml"], fwhm_mm=row["spect_fwhm_mm"]) / 2.0
    counts = spill_fraction(row["volume_ml"], fwhm_mm=row["spect_fwhm_mm"]) / (2.0 * kept)
    return counts - volume_slope(kept)


def coverage_table(rows: pd.DataFrame, by: list[str]) -> Iterator[str]:
    """Share inside, and what the errors are against what was stated."""
    yield f"| {' | '.join(by)} | n | dose in 95 % | TIA in 95 % | D/true | rms ln | u | mean z | sd z | within 1 u |"
    yield f"|{'---|' * (len(by) + 9)}"
    for key, own in rows.groupby(by, sort=True):
        z = own["error"] / own["u_tested"]
        cells = [
            *(str(part) for part in key),
            str(len(own)),
            f"{100.0 * own['inside'].mean():.0f} %",
            f"{100.0 * ((own['tia_error'] / own['u_tia']).abs() <= Z95).mean():.0f} %",
            f"{np.exp(own['error'].median()):.2f}",
            f"{rms(own['error']):.3f}",
            f"{own['u_tested'].median():.3f}",
            f"{z.mean():+.2f}",
            f"{z.std(ddof=1):.2f}",
            f"{100.0 * (z.abs() <= 1.0).mean():.0f} %",
        ]
        yield f"| {' | '.join(cells)} |"


def crossed_table(rows: pd.DataFrame) -> Iterator[str]:
    """Region by site and protocol: rows inside of all, and mean and standard deviation of z."""
    columns = sorted(set(zip(rows["site"], rows["protocol"], strict=True)))
    yield f"| region | {' | '.join(f'{site}, {protocol}' for site, protocol in columns)} |"
    yield f"|{'---|' * (len(columns) + 1)}"
    for group, own in rows.groupby("group", sort=True):
        cells = []
        for site, protocol in columns:
            cell = own[(own["site"] == site) & (own["protocol"] == protocol)]
            z = cell["error"] / cell["u_tested"]
            inside = f"{int(cell['inside'].sum())} of {len(cell)}"
            cells.append(f"{inside} ({z.mean():+.1f} ± {z.std(ddof=1):.1f})" if len(cell) else "")
        yield f"| {group} | {' | '.join(cells)} |"


def distribution_line(rows: pd.DataFrame) -> str:
    z = rows["error"] / rows["u_tested"]
    low, lower, middle, upper, high = np.percentile(z, [2.5, 16.0, 50.0, 84.0, 97.5])
    return (
        f"z of {len(z)} rows: 2.5 % {low:+.2f}, 16 % {lower:+.2f}, median {middle:+.2f}, 84 % {upper:+.2f}, "
        f"97.5 % {high:+.2f}; a normal one has -1.96, -0.99, 0, +0.99, +1.96."
    )


def parts_table(rows: pd.DataFrame) -> Iterator[str]:
    """Root mean square of the errors of each part, and the median that was stated of it."""
    yield (
        "| region | protocol | n | recovery: found | stated | scan to scan: found | curve: found | stated "
        "| mass: found | u(V)/V stated |"
    )
    yield f"|{'---|' * 10}"
    for key, own in rows.groupby(["group", "protocol"], sort=True):
        cells = [
            *key,
            str(len(own)),
            f"{rms(own['activity_error']):.3f}",
            f"{own['u_recovery_rel'].median():.3f}",
            f"{own['activity_scatter'].median():.3f}" if own["activity_scatter"].notna().any() else "",
            f"{rms(own['curve_error']):.3f}",
            f"{own['u_fit_rel'].median():.3f}",
            f"{rms(own['mass_error']):.3f}",
            f"{own['u_volume'].median():.3f}",
        ]
        yield f"| {' | '.join(cells)} |"


def sampled_table(cohort: Cohort, work: Path) -> Iterator[str]:
    """Stated and drawn uncertainty of a cohort that was checked."""
    sampled = pd.read_csv(work / f"seed-{cohort.seed}" / "sampled.csv")
    doses = pd.read_csv(work / f"seed-{cohort.seed}" / "organ_dose.csv")
    both = sampled.merge(doses[doses["is_primary"]][[*KEYS[1:], "protocol"]], on=KEYS[1:])
    both = both.assign(
        group=both["region"].map(group_of),
        ratio=both["sd_ln_dose"] / both["u_absorbed_dose_rel"],
        low=both["sampled_low_gy"] / both["dose_low_gy"],
        high=both["sampled_high_gy"] / both["dose_high_gy"],
    )
    yield (
        "| region | protocol | n | stated u | drawn sd of ln D | drawn/stated | range | 2.5 %: drawn/stated "
        "| 97.5 % | flagged |"
    )
    yield f"|{'---|' * 10}"
    for (group, protocol), own in both.groupby(["group", "protocol"], sort=True):
        yield (
            f"| {group} | {protocol} | {len(own)} | {own['u_absorbed_dose_rel'].median():.3f} "
            f"| {own['sd_ln_dose'].median():.3f} | {own['ratio'].median():.2f} "
            f"| {own['ratio'].min():.2f} to {own['ratio'].max():.2f} | {own['low'].median():.2f} "
            f"| {own['high'].median():.2f} | {int(((own['ratio'] - 1.0).abs() > DISAGREE_REL).sum())} |"
        )


def rms(values: pd.Series) -> float:
    return float(np.sqrt((values.dropna() ** 2).mean()))


def tables(work: Path) -> dict[str, list[str]]:
    rows = {cohort: rows_of(cohort, work) for cohort in COHORTS}
    local = pd.concat([found for cohort, found in rows.items() if cohort.engine == "led"])
    every = pd.concat([found for cohort, found in rows.items() if cohort.engine == "pmc"])
    checked = [cohort for cohort in COHORTS if cohort.checked]
    return {
        "coverage by region": [*coverage_table(local, ["group"]), "", distribution_line(local)],
        "coverage by site": list(coverage_table(local, ["site", "protocol"])),
        "coverage crossed": list(crossed_table(local)),
        "parts": list(parts_table(local)),
        "coverage of all radiations": [*coverage_table(every, ["group"]), "", distribution_line(every)],
        "drawn": [line for cohort in checked for line in sampled_table(cohort, work)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    arguments = parser.parse_args()
    for cohort in COHORTS:
        if not (arguments.work / f"seed-{cohort.seed}").exists():
            run(cohort, arguments.work)
    text = PAGE.read_text(encoding="utf-8") if arguments.write else ""
    for name, lines in tables(arguments.work).items():
        print("\n".join([name, *lines, ""]))
        if arguments.write:
            head, rest = text.split(f"<!-- {name} -->", 1)
            tail = rest.split(f"<!-- end of {name} -->", 1)[1]
            text = "\n".join([head + f"<!-- {name} -->", "", *lines, "", f"<!-- end of {name} -->"]) + tail
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
