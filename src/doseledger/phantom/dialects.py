"""How a hospital's archive exports the same SPECT: one dialect per kind of workstation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.uid import UID

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.geometry import Grid
from doseledger.phantom import design
from doseledger.phantom.dicom_base import Visit
from doseledger.phantom.dicom_images import Injection, SpectScale, write_spect
from doseledger.phantom.dicom_nm import camera_columns, write_nm_counts, write_nm_mapped
from doseledger.phantom.scanner import Camera, frame_reference_ms, header_decay_factor, stored_per_start
from doseledger.phantom.shapes import Image
from doseledger.units import BQ_PER_MBQ, G_PER_KG


@dataclass(frozen=True)
class SpectFacts:
    """What the headers of a SPECT state.

    Attributes
    ----------
    as_suv
        Stored as SUV, which is no activity.
    """

    visit: Visit
    injection: Injection
    as_suv: bool = False

    @property
    def suv_per_bq_per_ml(self) -> float:
        """Body mass in g over the administered activity."""
        return self.visit.subject.mass_kg * G_PER_KG / (self.injection.administered_mbq * BQ_PER_MBQ)


Writer = Callable[[Path, Image, Grid, SpectFacts], list[UID]]


@dataclass(frozen=True)
class Dialect:
    """A way of storing SPECT, and what of it the camera sheet must state."""

    write: Writer
    camera_columns: Callable[[Camera], dict[str, object]]


def _pt_bqml(folder: Path, reading_bq_per_ml: Image, grid: Grid, facts: SpectFacts) -> list[UID]:
    """A PET series in Bq/mL, one file and one slope per slice, decay-corrected as the camera does."""
    visit, injection = facts.visit, facts.injection
    since_injection_h = design.hours_between(injection.start, visit.scan_start)
    factor = stored_per_start(visit.camera, since_injection_h)
    if facts.as_suv:
        factor *= facts.suv_per_bq_per_ml
    scale = SpectScale(
        units="GML" if facts.as_suv else "BQML",
        decay_factor=header_decay_factor(visit.camera, since_injection_h),
        frame_reference_ms=frame_reference_ms(visit.camera),
    )
    return write_spect(folder, reading_bq_per_ml * np.float32(factor), grid, visit, injection, scale)


def _nm_counts(folder: Path, reading_bq_per_ml: Image, grid: Grid, facts: SpectFacts) -> list[UID]:
    if facts.as_suv:
        raise QuantityError("an image of counts cannot be stored as SUV")
    return write_nm_counts(folder, _mean_over_scan(reading_bq_per_ml, facts), grid, facts.visit, facts.injection)


def _nm_rwv(folder: Path, reading_bq_per_ml: Image, grid: Grid, facts: SpectFacts) -> list[UID]:
    mean = _mean_over_scan(reading_bq_per_ml, facts)
    if not facts.as_suv:
        return write_nm_mapped(folder, mean, grid, facts.visit, facts.injection)
    suv = mean * np.float32(facts.suv_per_bq_per_ml)
    return write_nm_mapped(folder, suv, grid, facts.visit, facts.injection, unit="g/ml{SUVbw}")


def _mean_over_scan(reading_bq_per_ml: Image, facts: SpectFacts) -> Image:
    """NM images have no element for a decay correction: they are as measured, whatever the camera does for PT."""
    as_measured = replace(facts.visit.camera, decay_correction="NONE")
    return np.asarray(reading_bq_per_ml * np.float32(stored_per_start(as_measured, 0.0)))


def _nothing(_: Camera) -> dict[str, object]:
    return {}


DEFAULT_DIALECT: Final = "pt-bqml"
DIALECTS: Final[dict[str, Dialect]] = {
    DEFAULT_DIALECT: Dialect(_pt_bqml, _nothing),
    "nm-counts": Dialect(_nm_counts, camera_columns),
    "nm-rwv": Dialect(_nm_rwv, _nothing),
}


def store_spect(
    folder: Path, reading_bq_per_ml: Image, grid: Grid, facts: SpectFacts, dialect: str = DEFAULT_DIALECT
) -> list[UID]:
    """Write what a camera read at scan start; returns the SOP instance UIDs.

    Raises
    ------
    UnknownNameError
        There is no such dialect.
    QuantityError
        The dialect cannot hold the image.
    """
    if dialect not in DIALECTS:
        raise UnknownNameError("the dialect is unknown", value=dialect, expected=sorted(DIALECTS))
    return DIALECTS[dialect].write(folder, reading_bq_per_ml, grid, facts)
