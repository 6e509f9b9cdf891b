"""How sites, cycles and methods compare, as parts of the cohort page: what stands in the tables of ``compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from doseledger.report import charts, words
from doseledger.report.comparison_charts import (
    Effect,
    Spread,
    caterpillar_chart,
    completeness_chart,
    reach_of,
    spread_chart,
)
from doseledger.report.comparison_lists import (
    AGREEMENT,
    COUNTED,
    COVARIATES,
    CYCLES,
    DIFFERENCES,
    EFFECTS,
    FINDINGS,
    LIMITS,
    MODELS,
    PHANTOMS,
    REFERENCES,
    SUMMARY,
    opened,
)
from doseledger.report.completeness import STATES
from doseledger.report.pages import Column, DataTable, Picture, Row, data_table

Comparison = Mapping[str, Sequence[Row]]

#: Above this many rows of one group its points would cover each other.
MAX_POINTS: Final = 5000
_DOSE: Final = "dose_per_activity"
_CLEARANCE: Final = "clearance_rate"
_LESIONS: Final = "lesions"
#: Columns of a group that its title names where they differ within radiopharmaceutical and region.
_APART: Final = ("marrow_method", "lesion_policy", "demo_weights", "data_origin")
_EFFECT_AXIS: Final = "difference from the mean of the sites, %"
_AXIS: Final = "absorbed dose per administered activity, Gy/GBq"
_UNFITTED: Final = {
    "too_few": "too few patients",
    "no_variation": "all values are one",
    "not_converged": "the fit did not converge",
}


def comparison_view(found: Comparison) -> dict[str, Any]:
    """Content of the template's part on comparison; empty lists where there is nothing to say."""
    titles = _titles(found.get("site_distribution", ()))
    models = [{**row, "title": titles.get(row["group_id"], "")} for row in found.get("site_model", ())]
    dose_models = [row for row in models if row["quantity"] == _DOSE]
    references = [{**row, "title": titles[row["group_id"]]} for row in found.get("reference_interval", ())]
    changes = [{**row, "title": titles[row["group_id"]]} for row in found.get("cycle_change", ())]
    fitted = [row for row in dose_models if row["status"] == "fitted"]
    effects = [row for row in found.get("site_effect", ()) if row["quantity"] == _DOSE]
    return {
        "has_comparison": bool(found),
        "completeness": completeness_picture(found.get("completeness", ())),
        "findings": data_table(FINDINGS, found.get("finding", ())),
        "n_tested": len([row for row in models if row["status"] == "fitted"]),
        "not_fitted": _not_fitted(dose_models),
        "distributions": _distributions(found, titles),
        "effects_by_tracer": _effects_by_tracer(effects, fitted, titles),
        "covariates": _by_tracer(COVARIATES, [r for r in found.get("covariate_effect", ()) if r["quantity"] == _DOSE]),
        "agreements": _by_tracer(AGREEMENT, found.get("method_agreement", ())),
        "differences": _by_tracer(DIFFERENCES, _alike(found.get("method_difference", ()))),
        "references": _by_tracer(REFERENCES, [r for r in references if r["median_gy_per_gbq"] is not None]),
        "n_references_missing": sum(r["median_gy_per_gbq"] is None for r in references),
        "cycle_changes": _by_tracer(CYCLES, changes),
        "phantoms": data_table(PHANTOMS, found.get("phantom_comparison", ())),
        "limit_shares": data_table(LIMITS, found.get("limit_share", ())),
    }


def _titles(distributions: Sequence[Row]) -> dict[str, str]:
    """Name of each group: its region, and of what is not pooled that which differs among groups of the region."""
    by_region: dict[tuple[str, str], dict[str, Row]] = {}
    for row in distributions:
        by_region.setdefault((row["radiopharmaceutical"], row["region"]), {}).setdefault(row["group_id"], row)
    titles = {}
    for alike in by_region.values():
        differ = [name for name in _APART if len({str(row[name]) for row in alike.values()}) > 1]
        for group_id, row in alike.items():
            parts = [_part(name, row[name]) for name in differ]
            region = "Lesions" if row["region"] == _LESIONS else words.region(row["region"])
            titles[group_id] = f"{region} ({', '.join(parts)})" if parts else region
    return titles


def _part(name: str, value: Any) -> str:
    if name == "demo_weights":
        return "demo weights" if value else "no demo weights"
    if value is None:
        return f"no {name.replace('_', ' ')}"
    text = words.text(value).replace("_", " ")
    return f"lesions {text}" if name == "lesion_policy" else text


def _order(row: Row) -> tuple[Any, ...]:
    return words.tracer(row["radiopharmaceutical"]), row["region"] == _LESIONS, words.region_order(row["region"])


def _distributions(found: Comparison, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """A chart and its summary per group, by radiopharmaceutical."""
    points: dict[str, list[Row]] = {}
    for row in found.get("compared_dose", ()):
        points.setdefault(row["group_id"], []).append(row)
    by_group: dict[str, list[Row]] = {}
    for row in found.get("site_distribution", ()):
        by_group.setdefault(row["group_id"], []).append(row)
    ordered = sorted(by_group.values(), key=lambda rows: (*_order(rows[0]), titles[rows[0]["group_id"]]))
    return [
        {
            "tracer": tracer,
            "regions": [_distribution(rows, points, titles[rows[0]["group_id"]], tracer) for rows in alike],
        }
        for tracer, alike in groupby(ordered, key=lambda rows: words.tracer(rows[0]["radiopharmaceutical"]))
    ]


def _distribution(rows: Sequence[Row], points: Mapping[str, Sequence[Row]], title: str, tracer: str) -> dict[str, Any]:
    shown = [row for row in rows if row["n_rows"]]
    n_rows, n_patients = (sum(row[name] for row in rows) for name in ("n_rows", "n_patients"))
    own = [row for row in points.get(rows[0]["group_id"], ()) if row["left_out"] != "low_grade"]
    detail = f"n = {n_rows} rows of {words.count(n_patients, 'patient')}."
    if not shown:
        return {"picture": None, "title": title, "summary": _summary(rows)}
    if 0 < len(own) <= MAX_POINTS:
        strips = [
            charts.Strip(site, tuple(r["dose_gy_per_gbq"] for r in of_site), tuple(r["protocol"] for r in of_site))
            for site, of_site in ((s, list(g)) for s, g in groupby(own, key=lambda row: row["site"]))
        ]
        source = charts.strip_chart(strips, x_label=_AXIS)
    else:
        detail += " Box: middle half; line: 5 to 95 %."
        cuts = ("p5", "q25", "median", "q75", "p95")
        spreads = [Spread(r["site"], r["n_rows"], *(r[f"{c}_gy_per_gbq"] for c in cuts)) for r in shown]
        source = spread_chart(spreads, x_label=_AXIS)
    alternative = f"{title}, {tracer}: absorbed dose per administered activity by site, n = {n_rows}"
    return {
        "picture": Picture(source, alternative, f"{title}.", detail),
        "title": title,
        "summary": _summary(rows),
    }


def _summary(rows: Sequence[Row]) -> DataTable:
    counted = [
        Column(heading, lambda r, name=name: str(r[name]), "n", number=True)  # type: ignore[misc]
        for name, heading in COUNTED.items()
        if any(row[name] for row in rows)
    ]
    return data_table([*SUMMARY, *counted], rows)


def _not_fitted(models: Sequence[Row]) -> list[tuple[str, str]]:
    """Why regions have no comparison of sites: reason, and the regions."""
    found: dict[str, list[str]] = {}
    for row in sorted(models, key=_order):
        if row["status"] != "fitted":
            name = f"{row['title']}, {words.tracer(row['radiopharmaceutical'])}"
            found.setdefault(_UNFITTED.get(row["status"], str(row["status"])), []).append(name)
    return [(reason, "; ".join(names)) for reason, names in found.items()]


def _effects_by_tracer(
    effects: Sequence[Row], models: Sequence[Row], titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    tables = []
    for tracer, of_tracer in groupby(sorted(models, key=_order), key=lambda r: words.tracer(r["radiopharmaceutical"])):
        fitted = list(of_tracer)
        own = [row for model in fitted for row in effects if row["group_id"] == model["group_id"]]
        by_region = [
            _caterpillar([row for row in own if row["group_id"] == model["group_id"]], model) for model in fitted
        ]
        tables.append(
            {
                "tracer": tracer,
                "caterpillars": by_region,
                "profiles": _profiles(own, titles) if len(fitted) > 1 else [],
                "effects": data_table(EFFECTS, [{**r, "region": titles[r["group_id"]]} for r in own]),
                "models": data_table(MODELS, [{**r, "region": r["title"]} for r in fitted]),
            }
        )
    return tables


def _caterpillar(rows: Sequence[Row], model: Row) -> Picture:
    """Sites of one region in the order of their effects."""
    ranked = sorted(rows, key=lambda row: row["effect"])
    drawn = [
        Effect(f"{r['site']} (n = {r['n_patients']})", r["effect"], r["effect_low"], r["effect_high"], r["stands_out"])
        for r in ranked
    ]
    source = caterpillar_chart(drawn, x_label=_EFFECT_AXIS, reach=reach_of(drawn))
    detail = f"{model['n_patients']} patients, {model['n_rows']} rows. Power for one site 8 % off: "
    detail += f"{words.percent(model['power_at_8_percent'])} %."
    if model["sites_are"] == "random":
        detail += " Sites are random: effects are shrunk towards zero."
    if model["confounded"]:
        detail += f" Goes with the sites: {words.listing(opened(model['confounded']))}."
    return Picture(source, f"{model['title']}: difference of each site", f"{model['title']}.", detail)


def _profiles(rows: Sequence[Row], titles: Mapping[str, str]) -> list[Picture]:
    """Regions of each site, on one scale: what shifts all of them alike is the camera or the activity meter."""
    by_site: dict[str, list[Effect]] = {}
    for r in rows:
        effect = Effect(titles[r["group_id"]], r["effect"], r["effect_low"], r["effect_high"], r["stands_out"])
        by_site.setdefault(r["site"], []).append(effect)
    reach = reach_of([effect for drawn in by_site.values() for effect in drawn])
    return [_profile(site, by_site[site], reach) for site in sorted(by_site)]


def _profile(site: str, drawn: Sequence[Effect], reach: float) -> Picture:
    source = caterpillar_chart(drawn, x_label=_EFFECT_AXIS, reach=reach)
    return Picture(
        source, f"Site {site}: difference in each region", f"Site {site}.", words.count(len(drawn), "region") + "."
    )


def _alike(rows: Sequence[Row]) -> list[Row]:
    """Differences that are the same in several regions, once."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = (row["radiopharmaceutical"], row["column"], row["value"], *row["sites"])
        merged = found.setdefault(key, {**row, "regions": [], "n_rows": 0})
        merged["regions"].append(row["region"])
        merged["n_rows"] += row["n_rows"]
    return sorted(found.values(), key=lambda row: (row["column"], row["value"], row["sites"]))


def completeness_picture(rows: Sequence[Row]) -> Picture | None:
    """Cycles by state and site; none without a cycle."""
    sites = [(row["site"], [row[f"n_{state}"] for state in STATES]) for row in rows]
    if not any(any(parts) for _, parts in sites):
        return None
    source = completeness_chart(sites, [state.replace("_", " ") for state in STATES])
    return Picture(source, "Cycles of each site by state", "Cycles by state.")


def _by_tracer(columns: Sequence[Column], rows: Sequence[Row]) -> list[tuple[str, DataTable]]:
    ordered = sorted(
        rows, key=lambda row: _order(row) if "regions" not in row else (words.tracer(row["radiopharmaceutical"]),)
    )
    return [
        (tracer, data_table(columns, list(of_tracer)))
        for tracer, of_tracer in groupby(ordered, key=lambda row: words.tracer(row["radiopharmaceutical"]))
    ]
