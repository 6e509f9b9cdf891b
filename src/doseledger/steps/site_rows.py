"""Rows that say how sites differ: distributions, the model, its effects, references, cycle to cycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from math import expm1, log1p, sqrt
from typing import Final

import numpy as np
import pandas as pd

from doseledger.cohort import Row
from doseledger.statistics import power
from doseledger.statistics.agreement import agreement, coefficient_of_variation, quartile_dispersion
from doseledger.statistics.reference import reference_interval
from doseledger.statistics.site_model import SiteComparison, SiteEffect, compare_sites
from doseledger.steps.compared import COVARIATES, clearance_in_decays, groups

DOSE: Final = "dose_per_activity"
CLEARANCE: Final = "clearance_rate"
_DISTRIBUTION: Final = {"p5": 5.0, "q25": 25.0, "median": 50.0, "q75": 75.0, "p95": 95.0}
_REFERENCE: Final = ("p5", "median", "p95")
#: Names of a covariate's missing values.
_NONE: Final = "none"


def patient_of(rows: pd.DataFrame) -> pd.Series:
    """A label that is unique over all sites."""
    return rows["site"] + "\t" + rows["patient"]


def distribution_rows(rows: pd.DataFrame) -> Iterator[Row]:
    """Distribution of the dose per activity at each site."""
    for group, of_group in groups(rows):
        for site, here in of_group.groupby("site"):
            shown = here[~here["low"]]
            values = shown["dose_gy_per_gbq"].to_numpy()
            found: Row = {
                "n_rows": len(values),
                "n_patients": shown["patient"].nunique(),
                "n_left_out": len(here) - len(values),
                "n_outliers": int(here["outlier"].sum()),
                "n_implausible": int(here["implausible"].sum()),
                "protocols": sorted(shown["protocol"].dropna().unique()),
            }
            if len(values):
                cuts = np.percentile(values, list(_DISTRIBUTION.values()))
                found |= {f"{name}_gy_per_gbq": float(cut) for name, cut in zip(_DISTRIBUTION, cuts, strict=True)}
                found |= {"minimum_gy_per_gbq": float(values.min()), "maximum_gy_per_gbq": float(values.max())}
                found["variation_rel"] = coefficient_of_variation(values)
                found["quartile_dispersion_rel"] = quartile_dispersion(values)
            yield {"site": site, **group, **found}


def model_rows(
    rows: pd.DataFrame, phantom_ln: Mapping[str, tuple[float, float]]
) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows of ``site_model``, ``site_effect`` and ``covariate_effect``.

    Parameters
    ----------
    phantom_ln
        By site, ln(activity in the image over the true one) by its phantoms, and its standard uncertainty.
    """
    models: list[Row] = []
    effects: list[Row] = []
    covariates: list[Row] = []
    for group, of_group in groups(rows[rows["left_out"].isna()]):
        doses = of_group["dose_gy_per_gbq"]
        clearance = clearance_in_decays(of_group)
        for quantity, values in ((DOSE, np.log(doses)), (CLEARANCE, clearance.dropna())):
            if quantity == CLEARANCE and values.empty:
                continue
            used = of_group.loc[values.index]
            levels = {name: used[name].fillna(_NONE).astype(str).tolist() for name in COVARIATES}
            found = compare_sites(values.to_numpy(), used["site"].tolist(), used["patient"].tolist(), levels)
            key = {**group, "quantity": quantity}
            models.append({**key, **_model_columns(found, quantity)})
            effects += [{**key, **row} for row in _effect_rows(found, quantity, phantom_ln)]
            covariates += [{**key, **row} for row in _covariate_rows(found, quantity)]
    return models, effects, covariates


def relative(value: float, quantity: str) -> float:
    """A difference of logarithms as a relative one; a difference of rates as it is."""
    return expm1(value) if quantity == DOSE else value


def _model_columns(found: SiteComparison, quantity: str) -> Row:
    n_sites = len(found.effects)
    columns: Row = {
        "status": found.status,
        "sites_are": found.sites_are,
        "n_sites": n_sites,
        "n_rows": found.n_rows,
        "n_patients": found.n_patients,
        "sites_left_out": list(found.left_out),
        "covariates": list(dict.fromkeys(item.term.covariate for item in found.covariates)),
        "confounded": list(found.confounded),
        "sd_site": found.sd_site,
        "sd_patient": found.sd_patient,
        "sd_rest": found.sd_rest,
        "dof": found.dof,
    }
    sd = sd_of_patient_mean(found)
    if quantity == DOSE and sd is not None and sd > 0 and n_sites > 1:
        # The harmonic mean: a comparison is as good as its smallest sites.
        size = n_sites / sum(1.0 / effect.n_patients for effect in found.effects)
        columns["power_at_8_percent"] = power.detection_power(power.TYPICAL_EFFECT_REL, sd, size, n_sites=n_sites)
        columns["patients_needed"] = power.patients_per_site(power.TYPICAL_EFFECT_REL, sd, n_sites=n_sites)
    return columns


def sd_of_patient_mean(found: SiteComparison) -> float | None:
    """Scatter of the means of patients: between patients, and between cycles over their number."""
    if found.sd_rest is None:
        return None
    return sqrt((found.sd_patient or 0.0) ** 2 + found.sd_rest**2 * found.n_patients / found.n_rows)


def _effect_rows(found: SiteComparison, quantity: str, phantom_ln: Mapping[str, tuple[float, float]]) -> Iterator[Row]:
    sites = [effect.site for effect in found.effects]
    # Against the mean of the sites, as the effects are: that needs the phantoms of all of them.
    calibrated = quantity == DOSE and bool(sites) and all(site in phantom_ln for site in sites)
    mean = float(np.mean([phantom_ln[site][0] for site in sites])) if calibrated else 0.0
    for effect in found.effects:
        row: Row = {
            "site": effect.site,
            "n_rows": effect.n_rows,
            "n_patients": effect.n_patients,
            "effect": relative(effect.effect, quantity),
            "effect_low": relative(effect.low, quantity),
            "effect_high": relative(effect.high, quantity),
            "p": effect.p,
            "p_holm": effect.p_holm,
            "stands_out": effect.stands_out,
        }
        if (step := effect.step) is not None:
            row |= {
                "step_effect": relative(step.effect, quantity),
                "step_effect_low": relative(step.low, quantity),
                "step_effect_high": relative(step.high, quantity),
                "step_p_holm": step.p_holm,
            }
        if calibrated:
            row |= _remaining(effect, phantom_ln[effect.site], mean)
        yield row


def _remaining(effect: SiteEffect, phantom: tuple[float, float], mean: float) -> Row:
    """The effect without what the phantoms explain; no dose is changed."""
    explained, u_phantom = phantom[0] - mean, phantom[1]
    reach = (effect.high - effect.low) / 2.0
    wider = reach * sqrt(1.0 + (u_phantom / effect.se) ** 2) if effect.se > 0 else reach
    left = effect.effect - explained
    return {
        "phantom_effect": expm1(explained),
        "remaining_effect": expm1(left),
        "remaining_effect_low": expm1(left - wider),
        "remaining_effect_high": expm1(left + wider),
    }


def _covariate_rows(found: SiteComparison, quantity: str) -> Iterator[Row]:
    for item in found.covariates:
        yield {
            "covariate": item.term.covariate,
            "level": item.term.level,
            "against": item.term.against,
            "n_rows": item.term.n_rows,
            "effect": relative(item.effect, quantity),
            "effect_low": relative(item.low, quantity),
            "effect_high": relative(item.high, quantity),
            "p": item.p,
        }


def reference_rows(rows: pd.DataFrame) -> Iterator[Row]:
    """Reference intervals over all sites of a group, each patient counted with all cycles."""
    for group, of_group in groups(rows[rows["left_out"].isna()]):
        found = reference_interval(
            of_group["dose_gy_per_gbq"].to_numpy(), patient_of(of_group).tolist(), seed=int(group["group_id"], 16)
        )
        row: Row = {
            **group,
            "n_rows": len(of_group),
            "n_patients": patient_of(of_group).nunique(),
            "n_sites": of_group["site"].nunique(),
        }
        for name, percentile in zip(_REFERENCE, found, strict=True):
            row[f"{name}_gy_per_gbq"] = percentile.value
            row[f"{name}_gy_per_gbq_low"] = percentile.low
            row[f"{name}_gy_per_gbq_high"] = percentile.high
        yield row


def cycle_rows(rows: pd.DataFrame) -> Iterator[Row]:
    """Ratio of the dose per activity of following cycles of one patient; lesions by their own name."""
    for group, of_group in groups(rows[rows["left_out"].isna()]):
        named = of_group.assign(lesion=of_group["lesion_id"].fillna(""))
        who = ["site", "patient", "lesion"]
        wide = named.pivot_table(index=who, columns="cycle", values="dose_gy_per_gbq", aggfunc="first")
        for before, after in pairwise(sorted(named["cycle"].unique().tolist())):
            if after != before + 1:
                continue
            both = wide[[before, after]].dropna()
            if both.empty:
                continue
            persons = ["\t".join(key[:2]) for key in both.index]
            found = agreement(both[before].to_numpy(), both[after].to_numpy(), persons)
            yield {
                **group,
                "from_cycle": int(before),
                "to_cycle": int(after),
                "n_patients": found.n_patients,
                "ratio": found.ratio,
                "ratio_low": found.ratio_low,
                "ratio_high": found.ratio_high,
                "limit_low": found.limit_low,
                "limit_high": found.limit_high,
            }


def ln_ratio_of(rows: Iterable[Row]) -> dict[str, tuple[float, float]]:
    """By site, mean of ln(ratio) of its cameras' calibrations and its uncertainty."""
    by_site: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["quantity"] == "calibration":
            by_site.setdefault(row["site"], []).append((log1p(row["ratio"] - 1.0), row["u_rel"]))
    return {
        site: (float(np.mean([v for v, _ in found])), sqrt(sum(u * u for _, u in found)) / len(found))
        for site, found in by_site.items()
    }
