"""Numbers, names and flags as a reader wants them. Nothing here computes a result."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final, TypeGuard

from doseledger.dose.marrow import BLOOD
from doseledger.regions.gate import DEMO_WEIGHTS

#: What a null looks like on a page.
DASH: Final = "\N{EN DASH}"
#: Mark of a half-life whose clearance rate is at the bound of physical decay.
AT_BOUND_MARK: Final = "\N{DAGGER}"

_MINUS: Final = "\N{MINUS SIGN}"
#: Groups digits without breaking the line, and without the ambiguity of comma and point.
_THIN: Final = "\N{NARROW NO-BREAK SPACE}"
#: Integers from here on are grouped in threes; four digits read well without.
_GROUP_FROM: Final = 10_000
#: Below this the leading zeros of a plain decimal hide the number.
_SMALLEST_PLAIN: Final = 1.0e-3

#: Names of radiopharmaceuticals in pages (nomenclature of the EANM), by their name in sheets.
TRACERS: Final[dict[str, str]] = {
    "Lu177-DOTATATE": "[177Lu]Lu-DOTA-TATE",
    "Lu177-PSMA617": "[177Lu]Lu-PSMA-617",
    "Lu177-PSMA-617": "[177Lu]Lu-PSMA-617",
    "Lu177-PSMAIT": "[177Lu]Lu-PSMA-I&T",
    "Tb161-PSMA617": "[161Tb]Tb-PSMA-617",
}

#: Flags of the tables in words. A flag that is not listed is shown with its underscores opened.
FLAGS: Final[dict[str, str]] = {
    DEMO_WEIGHTS: "demo weights: mask by a model that knows virtual patients only",
    "region_not_found": "model found no voxel of a region of the sheet",
    "wrong_order": "outline on the wrong side of, or above instead of below, another one",
    "fragmented": "outline of one organ in several parts",
    "hu_implausible": "mean CT number does not fit the tissue",
    "outline_changed": "outline differs between scans",
    "wall_and_content": "wall and content together",
    "at_bound": "clearance at the bound of physical decay",
    "rate_at_bound": "clearance at the bound of physical decay",
    "saturated": "as many curve parameters as scans: the fit cannot be checked",
    "too_few_points": "too few scans for the curve model",
    "not_converged": "curve fit did not converge",
    "extrapolated": "over 20 % extrapolated",
    "low": "low grade: over 50 % extrapolated",
    "half_life_assumed": "half-life assumed, not measured",
    "half_life_of_population": "half-life of the population, not measured",
    "half_life_of_own_cycle": "half-lives of another cycle of the patient",
    "population_prior": "the population took part in the curve of two scans",
    "no_own_cycle": "no other cycle of the patient has a curve of this region that can be relied on",
    "no_population_value": "no population value for this region, or scans that contradict it",
    "dose_implausible": "dose per activity far from published values: check the units",
    "unmapped_structures": "structures in the set that the region sheet does not name",
    "no_activity": "no activity measured",
    "ct_in_another_frame_of_reference": "CT in another frame of reference than the SPECT",
    # Of phantom studies.
    "sensitivity_changed": "sensitivity changed by more than the limit",
    "calibration_off": "images in Bq/mL are off by more than the limit",
    "blur_changed": "blur changed by more than the limit",
    "repeatability_not_measured": "fewer than three studies: no repeatability in the uncertainty",
    # Of images of several beds.
    "several_beds": "several beds, brought to the start of the first one by physical decay",
    "bed_decay_reference_assumed": "decay of the beds taken as corrected to the start of the first one",
    "beds_interpolated": "beds interpolated onto common slices",
    "beds_of_equal_time": "beds that were scanned at the same time, by their headers",
    "scaled_by_private_factor": "counts scaled by a private factor of the maker",
    "lossy_compression": "image was compressed with loss",
    # Of clocks.
    "clocks_may_have_been_moved": "summer time may have begun or ended between injection and scan",
    "clocks_were_moved": "summer time began or ended between injection and scan; the hours are right",
    "admin_across_moved_clocks": "header's decay correction reaches over a change of summer time",
    # Of NM images.
    "duration_from_image_comments": "duration taken from the comment in the header",
    "views_counted_over_all_detectors": "views counted over all detectors",
    "duration_assumes_one_detector": "duration read as of one detector",
    "acquisition_time_may_be_completion": "acquisition time may be that of completion",
    "within_scan_decay_not_corrected": "decay during the scan not corrected",
    "energy_window_missing": "energy window not in the header",
    "energy_window_of_frames_not_stated": "energy window of the frames not stated",
    "frames_not_in_order_of_slices": "frames sorted by slice",
    "slice_vector_missing": "order of slices taken from the frames",
    "spacing_from_thickness": "slice spacing taken from the thickness",
    "slices_thicker_than_step": "slices thicker than their distance",
    "detector_positions_conflict": "positions of the detectors differ",
    "rescale_differs_from_real_world_value": "rescale slope differs from the real-world value",
    "calibrated_after_the_scan": "calibrated after the scan",
    "calibration_older_than_a_year": "calibration older than a year",
    "nuclide_in_header_differs": "header names another nuclide",
    "no_degrees_of_freedom": "as many curve parameters as scans: the fit cannot be checked",
    "single_time_point": "curve from a single scan",
    "poor_fit": "curve misses the scans by more than their stated uncertainty",
    "too_few_scans_for_model": "too few scans for the curve model that was named: the scans chose another",
    "voxels_disagree_with_curve": "voxel curves add up to another TIA than the region's curve",
    "no_partial_volume_correction": "not corrected for partial volume",
    "histogram_not_corrected": "histogram and D values are not corrected for partial volume",
    "missing_at_time_point": "region missing in a scan",
    "part_missing": "sum lacks a part",
    "more_activity_than_administered": "more activity than can be left of what was administered",
    "kidney_volumes_differ": "left and right kidney volumes differ more than twofold",
    "kidney_doses_differ": "left and right kidney doses differ more than twofold",
    "cycles_missing": "not every given cycle is counted",
    "cycles_imputed": "a cycle without a dose is counted with the dose per activity of another",
    "prior_dose_not_in_bed": "prior dose is not part of the BED",
    "overlap": "outlines overlap",
    "registration_failed": "a scan could not be registered: it is measured in its own outlines",
    "spect_shifted": "lies more than 15 mm from its outline in the SPECT: breath, or another CT",
    "misaligned": "outlines of the scans overlap poorly after alignment",
    "no_ct": "no CT",
    "threshold_volume": "volume from a SPECT threshold: mass and dose are rough",
    "volume_implausible": "volume outside the plausible range",
    "truncated": "cut off by the field of view",
    "wrong_side": "outline on the other side of the body than its name says",
    "foreign_result": "computed by another program, read from its file",
    "electrons_only": "engine leaves photons out",
    "uniform_tissue": "engine takes all for soft tissue",
    "own_activity_only": "engine leaves out what other regions send",
    "engines_differ": "another dose engine gives a dose that differs by more than 10 %",
    # Of red marrow.
    "vertebra_not_marrow": "dose of the vertebra's outline, not of its marrow",
    "marrow_fraction_assumed": "share of red marrow in the vertebra assumed, not stated by the site",
    "cross_dose_not_included": "without the dose by photons from the rest of the body",
    "no_s_value_of_marrow": "no dose of red marrow: no S value of this nuclide is on record",
    "extrapolated_to_injection": "over 20 % of the blood's curve is before its first sample",
    "uncertainty_disagrees": "uncertainty by Monte Carlo differs by more than 20 % from the stated one",
    "padding_set_to_air": "CT padding outside the field of view was set to air",
    "injected_activity_implausible": "administered activity in the header is implausible",
    "duration_missing": "acquisition duration missing in the header",
    "corrected_image_contradicts_decay_correction": "header contradicts itself on decay correction",
    "injection_after_scan": "injection time in the header lies after the scan",
    "slices_thinner_than_step": "slices thinner than their distance",
}

PROTOCOLS: Final[dict[str, str]] = {"mtp": "three or more scans", "2tp": "two scans", "stp": "single scan"}

#: Curve models that are ways with one or two scans, in words.
FEW_SCANS: Final[dict[str, str]] = {
    "hanscheid": "Hänscheid's approximation",
    "madsen": "one exponential with the half-life of the population (Madsen)",
    "population": "curves of the population, weighed by the scans",
    "own_cycle": "the curve of another cycle of the patient, scaled to the scan",
}

_FIRST_REGIONS: Final = ("kidneys", "kidney_left", "kidney_right", "liver", "spleen", "bone_marrow", "red_marrow")
_LAST_REGIONS: Final = (BLOOD, "remainder", "whole_field")


def drawable(value: float | None) -> TypeGuard[float]:
    """Whether a number can stand in a chart: it is there and finite."""
    return value is not None and math.isfinite(value)


def significant(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; null is an en dash.

    Examples
    --------
    >>> significant(4.1852), significant(0.6723), significant(9.996)
    ('4.19', '0.672', '10.0')
    >>> significant(None) == DASH
    True
    """
    if value is None:
        return DASH
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("\N{INFINITY}" if value > 0 else f"{_MINUS}\N{INFINITY}")
    if value == 0:
        return "0"
    # Rounding first: 9.996 has one digit more before the point than it seems.
    rounded = float(f"{value:.{digits - 1}e}")
    if abs(rounded) < _SMALLEST_PLAIN:
        return f"{rounded:.{digits - 1}e}".replace("-", _MINUS)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:.{decimals}f}"
    if abs(rounded) >= _GROUP_FROM:
        text = f"{rounded:,.0f}".replace(",", _THIN)
    return text.replace("-", _MINUS)


def declared(value: float) -> str:
    """A number from a sheet or the settings, as it was written there.

    Examples
    --------
    >>> declared(23.0), declared(2.5)
    ('23', '2.5')
    """
    return f"{value:g}"


def fixed(value: float | None, decimals: int = 1) -> str:
    """A number with so many decimals; null is an en dash."""
    if not drawable(value):
        return significant(value)
    return f"{value:.{decimals}f}".replace("-", _MINUS)


def percent(fraction: float | None) -> str:
    """A share in percent, one decimal, without the sign.

    Examples
    --------
    >>> percent(0.396)
    '39.6'
    """
    return fixed(None if fraction is None else 100.0 * fraction)


def change(fraction: float | None) -> str:
    """A relative change in percent, with its sign."""
    text = percent(fraction)
    return f"+{text}" if fraction is not None and fraction > 0 else text


def interval(low: float | None, high: float | None) -> str:
    return DASH if low is None and high is None else f"{significant(low)} to {significant(high)}"


def text(value: object) -> str:
    """Any text or integer cell; null and the empty string are an en dash."""
    return DASH if value is None or value == "" else str(value)


def curve_model(name: str | None) -> str:
    """A curve model, or a way with few scans in words."""
    return text(None if name is None else FEW_SCANS.get(name, name))


def yes_no(value: bool | None) -> str:
    return DASH if value is None else ("yes" if value else "no")


def tracer(name: str | None) -> str:
    return text(None if name is None else TRACERS.get(name, name))


def flag(code: str) -> str:
    """A flag in readable words."""
    return FLAGS.get(code, code.replace("_", " "))


def flags(codes: Iterable[str] | None) -> tuple[str, ...]:
    """Flags in readable words, in the order of the row."""
    return tuple(flag(code) for code in codes or ())


def region(name: str, marrow_method: str | None = None) -> str:
    """``kidney_left`` as ``Kidney left``; red marrow never without its method.

    Examples
    --------
    >>> region("kidney_left"), region("red_marrow", "blood"), region("blood")
    ('Kidney left', 'Red marrow (blood)', 'Blood (1 mL)')
    """
    words = "blood (1 mL)" if name == BLOOD else name.replace("_", " ")
    method = f" ({marrow_method.replace('_', ' ')})" if marrow_method else ""
    return words[:1].upper() + words[1:] + method


def region_order(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Sort key: the organs that limit therapy first, then lesions, numbers in names by value."""
    if name in _FIRST_REGIONS:
        rank = _FIRST_REGIONS.index(name)
    else:
        rank = len(_FIRST_REGIONS) + name.startswith("lesion") + 2 * (name in _LAST_REGIONS)
    return rank, [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def listing(items: Iterable[object]) -> str:
    """Distinct items, sorted, as ``a, b and c``; nulls are left out.

    Examples
    --------
    >>> listing(["pmc", "vsv", "pmc", None])
    'pmc and vsv'
    """
    distinct = sorted({str(item) for item in items if item is not None})
    return " and ".join([", ".join(distinct[:-1]), distinct[-1]] if len(distinct) > 1 else distinct)


def count(number: int, noun: str) -> str:
    """
    Examples
    --------
    >>> count(1, "scan"), count(3, "scan")
    ('1 scan', '3 scans')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def cumulative_status(status: str | None, *, given: int | None, counted: int | None, imputed: int | None) -> str:
    """Status of a sum over cycles in clear words, e.g. ``incomplete: 1 of 2 cycles counted``."""
    words = f"{text(status)}: {text(counted)} of {text(given)} cycles counted"
    return f"{words}, {imputed} imputed" if imputed else words
