"""How often the comparison of sites finds a planted effect, and how often it is wrong: docs/comparison.md.

Six virtual sites; the last one has the effect. Prints a Markdown table: the check that is meant to find the effect,
how often it did at the site that has it, what was expected from the sizes alone, and how often the same check
spoke up at one of the five others. 250 CPU-s.

    python recipes/site_effects.py [--seeds 100] [--effects unit decay]
    python recipes/site_effects.py --phantoms 2000      the phantoms alone, which cost nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from math import log, sqrt

import numpy as np
import pandas as pd
from scipy.stats import norm

from doseledger.cohort import Row
from doseledger.phantom import ledger
from doseledger.regions.gate import UNIT_SLIP_FACTOR, dose_flags
from doseledger.statistics.power import detection_power
from doseledger.statistics.site_model import ALPHA
from doseledger.steps.cohort_shares import RECOVERY_TOLERANCE_REL, compare_phantoms
from doseledger.steps.compared import CYCLE_KEY, compared_doses, leave_out_slips
from doseledger.steps.findings import LEFT_CORRECTED, findings, unit_slips
from doseledger.steps.method_rows import difference_rows
from doseledger.steps.site_rows import distribution_rows, ln_ratio_of, model_rows

SITES, CYCLES = 6, 4
FIRST_SEED = 1000
#: Effect, region, patients per site.
SCENARIOS = (
    ("none", "kidney_left", 30),
    ("sensitivity", "kidney_left", 30),
    ("sensitivity", "kidney_left", 99),
    ("recovery", "kidney_left", 30),
    ("lesion_policy", "liver", 30),
    ("undeclared_policy", "liver", 30),
    ("unit", "kidney_left", 30),
    ("decay", "kidney_left", 30),
)
#: Cycles per patient: 10 % leave before each next one, at most four.
MEAN_CYCLES = sum(0.9**k for k in range(CYCLES))


def frames(tables: ledger.Tables) -> pd.DataFrame:
    """What `read_analyses` reads, without files."""
    doses = tables["organ_dose"].to_pandas()
    given = tables["administration"].select([*CYCLE_KEY, "radiopharmaceutical", "nuclide", "preparation"]).to_pandas()
    implausible = [
        bool(dose_flags("Lu177-DOTATATE", region, dose))
        for region, dose in zip(doses["region"], doses["dose_gy_per_gbq"], strict=True)
    ]
    flags = {"demo_weights": False, "low": False, "implausible": implausible}
    return doses.assign(**flags).merge(given, on=CYCLE_KEY)


def found_in(seed: int, effect: str, organ: str, patients: int) -> tuple[list[Row], list[Row]]:
    """Findings and distributions of one virtual study."""
    tables = ledger.simulate_ledger(
        sites=SITES, patients=patients, cycles=CYCLES, seed=seed, effect=effect, organs=[organ]
    )
    compared = compared_doses(frames(tables))
    scans = pd.DataFrame({"site": [], "camera": [], "sensitivity_cps_per_mbq": []})
    phantoms = compare_phantoms(tables["phantom_qc"].to_pylist(), scans)
    distributions = list(distribution_rows(compared))
    leave_out_slips(compared, unit_slips(distributions))
    _, effects, _ = model_rows(compared, ln_ratio_of(phantoms))
    rows = {
        "site_distribution": distributions,
        "method_difference": list(difference_rows(compared)),
        "phantom_comparison": phantoms,
        "site_effect": effects,
    }
    return findings(rows), distributions


def expected(effect: str, kind: str, organ: str, patients: int) -> float | None:
    """Chance that the check finds the effect, from the planted sizes and scatters alone; two-sided, alpha 0.05/6."""
    reach = norm.ppf(1.0 - 0.025 / SITES)
    of_organ = ledger.ORGANS[organ]
    # A tenth of the cycles has one scan.
    cycle_variance = ledger.SD_CYCLE**2 + 0.1 * ledger.SD_SINGLE_SCAN**2
    sd = sqrt(ledger.SD_COMMON**2 + ledger.SD_ORGAN**2 + cycle_variance / MEAN_CYCLES)
    rate = ledger.nuclide("Lu-177").half_life_h / of_organ.half_life_h
    gains = {
        "sensitivity": ledger.SENSITIVITY_REL,
        "recovery": -of_organ.recovery_loss,
        "undeclared_policy": of_organ.lesion_gain,
        "decay": rate / (rate - 1.0) - 1.0,
    }
    if kind == "site_effect" and effect in gains:
        return detection_power(gains[effect], sd, patients, n_sites=SITES, alpha=0.05 / SITES)
    if kind == "calibration" and effect == "sensitivity":
        return float(norm.sf(reach - log(1.0 + ledger.SENSITIVITY_REL) / ledger.U_CALIBRATION))
    if kind == "recovery" and effect == "recovery":
        # One-sided against the tolerance; the median of the cameras scatters too.
        short = -log(ledger.RECOVERY_OF_POOR_CAMERA) - log(1.0 + RECOVERY_TOLERANCE_REL)
        needed = norm.ppf(1.0 - 0.05 / SITES) * ledger.U_BODY / sqrt(len(ledger.SPHERES_ML))
        return float(norm.cdf((short - needed) / (ledger.SD_RECOVERY * sqrt(1.0 + np.pi / 2.0 / SITES))))
    if kind == "lesion_policy" and effect == "lesion_policy":
        return 1.0
    if kind == "unit" and effect == "unit":
        error = sqrt(np.pi / 2.0 / patients) * sd
        return float(norm.cdf((log(7.4) - log(UNIT_SLIP_FACTOR)) / error))
    if kind == "clearance" and effect == "decay":
        # The rate of physical decay is 1; rates scatter as half-lives do.
        scatter = rate * sqrt(ledger.SD_HALF_LIFE**2 + ledger.SD_HALF_LIFE_CYCLE**2 / MEAN_CYCLES)
        return float(norm.sf(reach - sqrt(patients / (1.0 + 1.0 / (SITES - 1))) / scatter))
    return None


CHECKS = {
    "none": ("site_effect", "clearance", "calibration", "recovery", "unit", "lesion_policy"),
    "sensitivity": ("calibration", "site_effect"),
    "recovery": ("recovery", "site_effect"),
    "lesion_policy": ("lesion_policy", "site_effect"),
    "undeclared_policy": ("site_effect",),
    "unit": ("unit", "site_effect"),
    "decay": ("clearance", "site_effect"),
}


def lines(seeds: int, chosen: Sequence[str]) -> Iterator[str]:
    yield "| planted at one site | region, patients per site | check | found, % | expected, % | at another site, % |"
    yield "|---|---|---|---|---|---|"
    for effect, organ, patients in SCENARIOS:
        if chosen and effect not in chosen:
            continue
        runs = [found_in(FIRST_SEED + seed, effect, organ, patients) for seed in range(seeds)]
        last = ledger.site_names(SITES)[-1]
        for kind in CHECKS[effect]:
            hits = [{f["site"] for f in found if f["kind"] == kind} for found, _ in runs]
            own = sum(last in sites for sites in hits)
            other = sum(bool(sites - {last}) for sites in hits)
            wished = expected(effect, kind, organ, patients)
            if effect == "none":
                # No site has an effect: the last one is like the others.
                own, other = 0, sum(bool(sites) for sites in hits)
            yield (
                f"| {effect} | {organ}, {patients} | {kind} | {'' if effect == 'none' else rate_text(own, seeds)} | "
                f"{'' if wished is None else f'{100 * wished:.0f}'} | {rate_text(other, seeds)} |"
            )
        if effect == "decay":
            named = sum(
                any(f["kind"] == "clearance" and f["site"] == last and f["detail"] == LEFT_CORRECTED for f in found)
                for found, _ in runs
            )
            check = "clearance, named as left corrected"
            yield f"| decay | {organ}, {patients} | {check} | {rate_text(named, seeds)} | | |"
        if effect == "unit":
            rows = [r for _, of_run in runs for r in of_run if r["site"] == last]
            share = sum(r["n_implausible"] for r in rows) / sum(r["n_rows"] for r in rows)
            check = "flag `dose_implausible` of single rows"
            yield f"| unit | {organ}, {patients} | {check} | {100 * share:.0f} of rows | | |"


def phantom_lines(seeds: int) -> Iterator[str]:
    """The same two checks over many more seeds."""
    scans = pd.DataFrame({"site": [], "camera": [], "sensitivity_cps_per_mbq": []})
    last = ledger.site_names(SITES)[-1]
    for effect, kind in (("sensitivity", "calibration"), ("recovery", "recovery")):
        own = other = 0
        for seed in range(seeds):
            tables = ledger.simulate_ledger(
                sites=SITES, patients=1, cycles=1, seed=FIRST_SEED + seed, effect=effect, organs=["liver"]
            )
            rows = compare_phantoms(tables["phantom_qc"].to_pylist(), scans)
            sites = {row["site"] for row in rows if row["quantity"] == kind and row["p_holm"] < ALPHA}
            own, other = own + (last in sites), other + bool(sites - {last})
        wished = 100 * (expected(effect, kind, "kidney_left", 1) or 0.0)
        yield f"| {effect} | {kind} | {rate_text(own, seeds, 1)} | {wished:.1f} | {rate_text(other, seeds, 1)} |"


def rate_text(count: int, total: int, digits: int = 0) -> str:
    """Per cent with its Monte Carlo standard error (Wilson's centre, so that 0 and 100 have one)."""
    share = (count + 2.0) / (total + 4.0)
    return f"{100 * count / total:.{digits}f} ± {100 * sqrt(share * (1 - share) / total):.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--effects", nargs="+", default=[], choices=sorted(CHECKS))
    parser.add_argument("--phantoms", type=int, default=0)
    chosen = parser.parse_args()
    for line in phantom_lines(chosen.phantoms) if chosen.phantoms else lines(chosen.seeds, chosen.effects):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
