"""What the page of a patient shows as figures: pictures of each cycle, curves and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from doseledger.dose.marrow import BLOOD
from doseledger.kinetics import exponentials
from doseledger.report import charts, words
from doseledger.report.figures import CycleSlices, Mark, dose_picture, fused_picture, mark
from doseledger.report.pages import Picture, Row, cycle_region, half_life, primary_rows
from doseledger.units import BQ_PER_MBQ

#: A per cent sign that stays with its number.
_PER_CENT: Final = "\N{NO-BREAK SPACE}%"


def marks_of(rows: Mapping[str, Sequence[Row]], slices: Sequence[CycleSlices]) -> dict[str, Mark]:
    """One number and colour per region, the same in every picture and chart of the page."""
    pictured = {name for item in slices for name in item.regions_shown()}
    charted = {row["region"] for row in rows["dvh"]} - pictured
    ordered = [*sorted(pictured, key=words.region_order), *sorted(charted, key=words.region_order)]
    return {name: mark(index) for index, name in enumerate(ordered)}


def cycle_view(slices: CycleSlices, marks: Mapping[str, Mark]) -> dict[str, Any]:
    """Pictures of one cycle with the legend of their outlines."""
    background = "over CT" if slices.ct_coronal is not None else "without CT"
    pictures = [
        Picture(
            fused_picture(slices, "coronal", marks),
            f"Coronal view of cycle {slices.cycle}: SPECT maximum projection {background} with the outlines",
            "Coronal.",
            f"SPECT maximum projection {background}; outlines of the slice.",
        ),
        Picture(
            fused_picture(slices, "axial", marks),
            f"Axial view of cycle {slices.cycle}: SPECT {background} with the outlines",
            "Axial.",
            f"SPECT {background}, seen from the feet.",
        ),
    ]
    if dose := dose_picture(slices, marks):
        alternative = f"Coronal view of cycle {slices.cycle}: absorbed dose {background} with the outlines"
        pictures.append(Picture(dose, alternative, "Absorbed dose.", f"Coronal slice {background}."))
    shown = sorted(set(slices.regions_shown()), key=words.region_order)
    legend = [(words.region(name), marks[name]) for name in shown]
    return {"cycle": slices.cycle, "time": words.fixed(slices.time_h), "pictures": pictures, "legend": legend}


def curve_groups(activities: Sequence[Row], curves: Sequence[Row]) -> list[dict[str, Any]]:
    """Small multiples: one group per region with one chart per cycle, on the same axes."""
    chosen = {(row["region"], row["cycle"]): row for row in curves if row["chosen"]}
    panels: dict[tuple[str, int], charts.CurvePanel] = {}
    measured = [row for row in activities if words.drawable(row["time_h"]) and words.drawable(row["activity_mbq"])]
    for key, group in groupby(sorted(measured, key=_region_cycle_time), key=lambda r: (r["region"], r["cycle"])):
        panels[key] = _panel(list(group), chosen.get(key))
    groups: list[dict[str, Any]] = []
    for region, keys in groupby(panels, key=lambda key: key[0]):
        of_region = {key: panels[key] for key in keys}
        until_h, top_mbq = charts.common_axes(list(of_region.values()))
        pictures = [
            _curve_picture(region, cycle, panel, chosen.get((region, cycle)), until_h, top_mbq)
            for (_, cycle), panel in of_region.items()
        ]
        groups.append({"region": words.region(region), "pictures": pictures})
    return groups


def blood_points(samples: Sequence[Row]) -> list[Row]:
    """Blood samples as points of a curve: the activity of 1 mL."""
    return [
        {
            "region": BLOOD,
            "cycle": row["cycle"],
            "time_h": row["time_h"],
            "activity_mbq": (activity := row["concentration_bq_per_ml"] / BQ_PER_MBQ),
            "u_activity_mbq": activity * row["u_concentration_rel"],
            "activity_corrected_mbq": None,
        }
        for row in samples
    ]


def _region_cycle_time(row: Row) -> tuple[Any, ...]:
    return words.region_order(row["region"]), row["cycle"], row["time_h"]


def _panel(points: Sequence[Row], curve: Row | None) -> charts.CurvePanel:
    # A model that is no sum of exponentials has no terms, and is not drawn.
    names, values = (curve["parameter_names"] or [], curve["parameters"] or []) if curve else ([], [])
    amplitudes, rates = exponentials(names, values) if len(names) == len(values) else ([], [])
    corrected = (row["activity_corrected_mbq"] for row in points)
    return charts.CurvePanel(
        times_h=tuple(row["time_h"] for row in points),
        activity_mbq=tuple(row["activity_mbq"] for row in points),
        u_activity_mbq=tuple(u if words.drawable(u := row["u_activity_mbq"]) else 0.0 for row in points),
        corrected_mbq=tuple(value if words.drawable(value) else None for value in corrected),
        terms=tuple(zip(amplitudes, rates, strict=True)) if all(map(words.drawable, [*amplitudes, *rates])) else (),
        half_life_h=curve["effective_half_life_h"] if curve else None,
    )


def _curve_picture(
    region: str, cycle: int, panel: charts.CurvePanel, curve: Row | None, until_h: float, top_mbq: float
) -> Picture:
    scans = words.count(len(panel.times_h), "scan")
    if curve is None:
        detail = f"{scans}; no curve was chosen."
    else:
        drawn = "" if panel.terms else " (the page does not draw this model)"
        status = words.text(curve["status"]).replace("_", " ")
        prior = f" ({curve['prior']})" if curve["prior"] else ""
        detail = (
            f"{scans}; {words.curve_model(curve['model'])}{prior}{drawn}, {status}; "
            f"effective half-life {half_life(curve, ' h')}; "
            f"{words.percent(curve['extrapolated_fraction'])}{_PER_CENT} after the last scan."
        )
    return Picture(
        charts.curve_chart(panel, until_h=until_h, top_mbq=top_mbq),
        f"Time-activity curve of {words.region(region)}, cycle {cycle}: {detail}",
        f"{words.region(region)}, cycle {cycle}.",
        detail,
    )


def histogram_views(rows: Mapping[str, Sequence[Row]], marks: Mapping[str, Mark]) -> list[dict[str, Any]]:
    """One chart per cycle with the histograms of its primary rows, and the legend."""
    primary = {(row["cycle"], row["region"], row["analysis_id"]) for row in primary_rows(rows["organ_dose"])}
    shown = [
        row
        for row in sorted(rows["dvh"], key=cycle_region)
        if (row["cycle"], row["region"], row["analysis_id"]) in primary and row["dose_edges_gy"]
    ]
    views = []
    for cycle, group in groupby(shown, key=lambda row: row["cycle"]):
        of_cycle = list(group)
        styles = {row["region"]: marks[row["region"]] for row in of_cycle}
        chart = charts.histogram_chart(
            [
                charts.Histogram(
                    tuple(row["dose_edges_gy"]),
                    tuple(row["volume_fraction"]),
                    styles[row["region"]].dark,
                    styles[row["region"]].linestyle,
                )
                for row in of_cycle
            ]
        )
        blur = words.listing(words.text(row["partial_volume_method"]) for row in of_cycle)
        detail = f"Correction for blur in the histogram: {blur}."
        names = words.listing(words.region(name) for name in styles)
        picture = Picture(
            chart, f"Cumulative dose-volume histograms of cycle {cycle}: {names}", f"Cycle {cycle}.", detail
        )
        views.append({"picture": picture, "legend": [(words.region(name), style) for name, style in styles.items()]})
    return views
