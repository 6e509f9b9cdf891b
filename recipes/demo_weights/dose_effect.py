"""Effect of the demo weights on dose: ``dose_effect.py --work FOLDER --out dose_effect.csv``.

Simulates a cohort of one cycle, runs it with the drawn outlines and with the organs of the demo weights, and compares
doses and masses of the two with each other and with the truth.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

import pandas as pd
import yaml

from doseledger.phantom import simulate
from doseledger.phantom.study import WEIGHTS
from doseledger.segmentation.demo_weights import demo_record, unpack_demo_weights
from doseledger.steps.cohort_page import read_cohort_table

SEED: Final = 1
SITES: Final = 3
PATIENTS: Final = 2
KEYS: Final = ["site", "patient", "cycle", "region"]
REGIONS: Final = ("kidneys", "kidney_left", "kidney_right", "liver", "spleen")
DRAWN: Final = "contours"
NETWORK: Final = "totalsegmentator"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="new folder for the cohort and its results")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cores", default="1")
    arguments = parser.parse_args()
    configs = simulated(arguments.work / "input")
    drawn, network = (finished(configs[mask], arguments.work / mask, arguments.cores) for mask in (DRAWN, NETWORK))
    truth = pd.read_csv(arguments.work / "input" / "truth" / "organ_truth.csv")
    table(drawn, network, truth).to_csv(arguments.out, index=False, float_format="%.3f")


def simulated(folder: Path) -> dict[str, Path]:
    """A cohort with two configs, by what they take regions from."""
    by_model = simulate(
        folder,
        sites=SITES,
        patients=PATIENTS,
        cycles=1,
        seed=SEED,
        plant_refusal=False,
        segmentation=NETWORK,
        results=f"../{NETWORK}",
    )
    unpack_demo_weights(folder / WEIGHTS)
    settings = yaml.safe_load(by_model.read_text(encoding="utf-8"))
    del settings["segment"]  # the outlines of the structure sets are the default
    settings["results"] = f"../{DRAWN}"
    by_hand = folder / "drawn.yaml"
    by_hand.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return {NETWORK: by_model, DRAWN: by_hand}


def finished(config: Path, results: Path, cores: str) -> pd.DataFrame:
    """Primary doses of a cohort that is run."""
    tool = str(Path(sys.executable).with_name("doseledger"))
    subprocess.run([tool, "run", str(config), "--cores", cores], check=True)
    rows = [row for row in read_cohort_table(results / "cohort", "organ_dose") if row["is_primary"]]
    return pd.DataFrame(rows)[[*KEYS, "absorbed_dose_gy", "mass_g"]]


def table(drawn: pd.DataFrame, network: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """One row per region: dose over true dose by either mask, and the network's over the drawn dose and mass.

    ``only_network``: how many patients have a dose for a region that nobody has drawn, e.g. a false second kidney.
    """
    both = drawn.merge(network, on=KEYS, how="outer", suffixes=("_drawn", "_network"))
    both = both.merge(truth[[*KEYS, "absorbed_dose_gy"]].rename(columns={"absorbed_dose_gy": "true_gy"}), how="left")
    lines = []
    for region in REGIONS:
        of_region = both[both["region"] == region]
        pairs = of_region.dropna(subset=["mass_g_drawn", "mass_g_network"])
        ratios = {
            "dose": pairs["absorbed_dose_gy_network"] / pairs["absorbed_dose_gy_drawn"],
            "mass": pairs["mass_g_network"] / pairs["mass_g_drawn"],
        }
        line: dict[str, object] = {"region": region, "n": len(pairs)}
        for mask in ("drawn", "network"):
            line[f"{mask}_over_true"] = (pairs[f"absorbed_dose_gy_{mask}"] / pairs["true_gy"]).mean()
        for name, ratio in ratios.items():
            line |= {f"{name}_{what}": ratio.agg(what) for what in ("mean", "min", "max")}
        lines.append(line | {"only_network": int(of_region["mass_g_drawn"].isna().sum())})
    return pd.DataFrame(lines).assign(sha256=demo_record()["sha256"])


if __name__ == "__main__":
    main()
