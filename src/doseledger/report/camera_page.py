"""The page of a camera: its studies, what they give, and what they were held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from doseledger.report.figures import ACCENT, INK, MUTED
from doseledger.report.figures import render as draw_figure
from doseledger.report.pages import FLAGS, Column, Picture, Row, checked, data_table, label, number, percent, render

_SIZE_IN: Final = (4.4, 2.6)
_BOX: Final = (0.14, 0.19, 0.82, 0.74)

_STUDIES: Final = (
    label("Phantom", "phantom", lead=True),
    label("Day", "days_after_first"),
    number("Sensitivity", "sensitivity_cps_per_mbq", "cps/MBq", 4),
    number("Image/true", "calibration_ratio", "", 4),
    percent("Uncertainty", "u_sensitivity_rel"),
    percent("Change", "sensitivity_change_rel"),
    number("Blur", "fwhm_mm", "mm"),
    number("u(blur)", "u_fwhm_mm", "mm", 2),
    percent("Blur change", "fwhm_change_rel"),
    Column("Within limits", lambda row: {True: "yes", False: "NO", None: "no limit"}[row["passed"]]),
    FLAGS,
)
_RECOVERY: Final = (
    label("Phantom", "phantom", lead=True),
    label("Body", "body", lead=True),
    number("Volume", "volume_ml", "mL"),
    number("Recovery", "recovery", ""),
    percent("Noise", "u_rel"),
)


@dataclass(frozen=True, eq=False)
class Profile:
    """Image and fitted model along a line through a body."""

    title: str
    place_mm: tuple[float, ...]
    seen: tuple[float, ...]
    model: tuple[float, ...]
    unit: str


def camera_page(
    *,
    site: str,
    camera: str,
    rows: Sequence[Mapping[str, Any]],
    profiles: Sequence[Profile],
    surfaces_per_mm: Mapping[str, float],
    limits: Mapping[str, float],
    changes: Sequence[tuple[str, str, str]],
    software_version: str,
) -> str:
    """The page of a camera as one HTML text that needs no other file.

    Parameters
    ----------
    rows
        Of table ``phantom_qc``.
    surfaces_per_mm
        Surface over volume of the kidney-shaped bodies, by name.
    limits
        What the studies were held against, by what it limits.
    changes
        Column of cameras.tsv, what stood there, and what the study wrote.
    """
    studies = checked({"phantom_qc": rows})["phantom_qc"]
    bodies = [
        {"phantom": row["phantom"], "body": name, "volume_ml": volume, "recovery": recovery, "u_rel": u_rel}
        for row in studies
        for name, volume, recovery, u_rel in zip(
            row["body_names"] or (), row["body_volumes_ml"] or (), row["body_recoveries"] or (),
            row["body_u_recoveries_rel"] or (), strict=False,
        )
    ]  # fmt: skip
    return render(
        "camera.html.j2",
        site=site,
        camera=camera,
        software_version=software_version,
        origins=sorted({row["data_origin"] for row in studies}),
        demo_weights=False,
        studies=data_table(_STUDIES, studies),
        recovery=data_table(_RECOVERY, bodies),
        pictures=[*map(_profile_picture, profiles), *_study_pictures(studies, surfaces_per_mm, limits)],
        statements=_statements(studies),
        limits=limits,
        changes=changes,
    )


def _statements(studies: Sequence[Row]) -> list[str]:
    found = []
    for row in studies:
        if row["recovery_alpha_ml"] is not None:
            cov = row["recovery_covariance"]
            found.append(
                f"Spheres, day {row['days_after_first']}: RC(V) = 1/(1 + (a/V)^b), "
                f"a = {row['recovery_alpha_ml']:.3g} ± {sqrt(cov[0]):.2g} mL, "
                f"b = {row['recovery_beta']:.3g} ± {sqrt(cov[3]):.2g}, "
                f"correlation {cov[1] / sqrt(cov[0] * cov[3]):.2f}; "
                f"spheres lie {row['u_recovery_model_rel']:.1%} around the curve. Valid from "
                f"{row['recovery_volume_min_ml']:.2g} to {row['recovery_volume_max_ml']:.3g} mL, never for kidneys."
            )
        if row["recovery_surface_mm"] is not None:
            found.append(
                f"Kidney shapes, day {row['days_after_first']}: RC = 1 \N{MINUS SIGN} k S/V, "
                f"k = {row['recovery_surface_mm']:.3g} ± {row['u_recovery_surface_mm']:.2g} mm."
            )
        if row["drift_rel_per_year"] is not None:
            found.append(
                f"Drift of the response: {row['drift_rel_per_year']:+.2%} per year "
                f"(95 % interval {row['drift_low_rel_per_year']:+.2%} to {row['drift_high_rel_per_year']:+.2%})."
            )
        if row["dead_time_us"] is not None:
            found.append(f"Dead time: {row['dead_time_us']:.3g} ± {row['u_dead_time_us']:.2g} µs, paralysable.")
    return found


def _profile_picture(profile: Profile) -> Picture:
    def draw(figure: Figure) -> None:
        axes = figure.add_axes(_BOX)
        axes.plot(profile.place_mm, profile.model, color=ACCENT, linewidth=1.4)
        axes.plot(profile.place_mm, profile.seen, "o", color=INK, markersize=3)
        axes.set_xlabel("mm")
        axes.set_ylabel(profile.unit)

    source = draw_figure(draw, width_in=_SIZE_IN[0], height_in=_SIZE_IN[1])
    return Picture(source, f"Profile through {profile.title}", profile.title, "Points: image; line: the blurred form.")


def _study_pictures(
    studies: Sequence[Row], surfaces_per_mm: Mapping[str, float], limits: Mapping[str, float]
) -> list[Picture]:
    pictures = []
    for row in studies:
        if row["recovery_alpha_ml"] is not None:
            pictures.append(_sphere_picture(row))
        if row["recovery_surface_mm"] is not None:
            pictures.append(_kidney_picture(row, surfaces_per_mm))
    cylinders = [row for row in studies if row["phantom"] == "cylinder"]
    if len(cylinders) > 1:
        pictures.append(_constancy_picture(cylinders, limits["change of the sensitivity"]))
    return pictures


def _sphere_picture(row: Row) -> Picture:
    def draw(figure: Figure) -> None:
        axes = figure.add_axes(_BOX)
        volumes = np.geomspace(row["recovery_volume_min_ml"], row["recovery_volume_max_ml"], 100)
        ratio = (row["recovery_alpha_ml"] / volumes) ** row["recovery_beta"]
        curve = 1.0 / (1.0 + ratio)
        slopes = -(ratio * curve) * np.array(
            [np.full_like(volumes, row["recovery_beta"] / row["recovery_alpha_ml"]),
             np.log(row["recovery_alpha_ml"] / volumes)]
        )  # fmt: skip
        covariance = np.reshape(row["recovery_covariance"], (2, 2))
        u_rel = np.sqrt(np.einsum("iv,ij,jv->v", slopes, covariance, slopes) + row["u_recovery_model_rel"] ** 2)
        axes.fill_between(volumes, curve * (1 - 2 * u_rel), curve * (1 + 2 * u_rel), color=ACCENT, alpha=0.15, lw=0)
        axes.plot(volumes, curve, color=ACCENT, linewidth=1.4)
        seen = np.array(row["body_recoveries"])
        bars = 2.0 * seen * np.array(row["body_u_recoveries_rel"])
        axes.errorbar(row["body_volumes_ml"], seen, bars, fmt="o", color=INK, markersize=4, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"], minor=False)
        axes.minorticks_off()
        axes.set_ylim(0.0, 1.1)
        axes.set_xlabel("volume of the sphere, mL")
        axes.set_ylabel("recovery coefficient")

    source = draw_figure(draw, width_in=_SIZE_IN[0], height_in=_SIZE_IN[1])
    detail = "Bars: twice the noise; shaded: twice the uncertainty of one sphere's recovery by the curve."
    return Picture(source, "Recovery against volume", f"Recovery of spheres, day {row['days_after_first']}", detail)


def _kidney_picture(row: Row, surfaces_per_mm: Mapping[str, float]) -> Picture:
    def draw(figure: Figure) -> None:
        axes = figure.add_axes(_BOX)
        surfaces = [surfaces_per_mm[name] for name in row["body_names"]]
        line = np.array([0.0, 1.1 * max(surfaces)])
        axes.plot(line, 1.0 - row["recovery_surface_mm"] * line, color=ACCENT, linewidth=1.4)
        bars = 2.0 * np.array(row["body_recoveries"]) * np.array(row["body_u_recoveries_rel"])
        axes.errorbar(surfaces, row["body_recoveries"], bars, fmt="o", color=INK, markersize=4, linewidth=0.8)
        axes.set_ylim(0.0, 1.1)
        axes.set_xlabel("surface over volume, 1/mm")
        axes.set_ylabel("recovery coefficient")

    source = draw_figure(draw, width_in=_SIZE_IN[0], height_in=_SIZE_IN[1])
    caption = f"Recovery of kidney shapes, day {row['days_after_first']}"
    return Picture(source, "Recovery against surface over volume", caption, "Bars: twice the noise.")


def _constancy_picture(cylinders: Sequence[Row], limit_rel: float) -> Picture:
    def draw(figure: Figure) -> None:
        axes = figure.add_axes(_BOX)
        days = [row["days_after_first"] for row in cylinders]
        changes = [100.0 * (row["sensitivity_change_rel"] or 0.0) for row in cylinders]
        bars = [200.0 * row["u_sensitivity_rel"] for row in cylinders]
        for line in (-limit_rel, limit_rel):
            axes.axhline(100.0 * line, color=MUTED, linewidth=1.0, linestyle="--")
        axes.errorbar(days, changes, bars, fmt="o", color=INK, markersize=4, linewidth=0.8)
        axes.set_xlabel("days after the first study")
        axes.set_ylabel("change of sensitivity, %")

    source = draw_figure(draw, width_in=_SIZE_IN[0], height_in=_SIZE_IN[1])
    detail = "Dashed: limits. Bars: twice the uncertainty, activity meter included."
    return Picture(source, "Constancy of the sensitivity", "Constancy", detail)
