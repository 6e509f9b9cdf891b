"""What the stored values of an NM image mean: Bq/mL as its header declares, or counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import TagMissingError, UnitError
from doseledger.io.dicom.headers import Header, tag_name
from doseledger.io.dicom.series import rescale
from doseledger.units import BQ_PER_ML_FACTORS

COUNTS: Final = "CNTS"
#: Spellings of counts: Units (0054,1001), and UCUM in a real-world value mapping.
_COUNT_UNITS: Final = (COUNTS, "{counts}")
_UCUM: Final = "UCUM"
#: RescaleType (0028,1054) of values whose unit is not specified. Source: DICOM PS3.3 C.11.1.1.2.
_UNSPECIFIED: Final = "US"
#: Slopes that differ by more are not the same number printed twice.
SLOPE_TOLERANCE_REL: Final = 1.0e-5


@dataclass(frozen=True)
class NmScale:
    """``(stored * slope + intercept) * bq_per_ml`` in Bq/mL; `bq_per_ml` is None for counts."""

    slope: float
    intercept: float
    bq_per_ml: float | None
    unit: str
    unit_source: str
    mapped: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()

    @property
    def is_counts(self) -> bool:
        return self.bq_per_ml is None

    def apply(self, header: Header, stored: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values in the unit that is declared.

        Raises
        ------
        UnitError
            Stored values lie outside the range that the scale is declared for.
        """
        if self.mapped is not None and (stored.min() < self.mapped[0] or stored.max() > self.mapped[1]):
            raise UnitError(
                "the declared scale does not hold for all values of the image",
                path=header.path,
                tag=tag_name("RealWorldValueLastValueMapped"),
                value=f"{stored.min():g} to {stored.max():g}",
                expected=f"{self.mapped[0]:g} to {self.mapped[1]:g}",
            )
        return stored * self.slope + self.intercept


def read_scale(header: Header) -> NmScale:
    """Scale of an NM image.

    The first of these that is there: a real-world value mapping in an activity concentration (UCUM);
    RescaleSlope (0028,1053) with the unit in Units (0054,1001) or RescaleType (0028,1054); counts.

    Raises
    ------
    UnitError
        A unit that is no activity concentration, a scale without a unit, or contradictory scales.
    TagMissingError, QuantityError
        The slope of a declared unit is missing or not positive.
    """
    mappings = header.items("RealWorldValueMappingSequence")
    activities = [m for m in mappings if _unit_of(m) in BQ_PER_ML_FACTORS]
    if activities:
        return _from_mapping(header, activities)
    declared = _declared_unit(header)
    if declared in BQ_PER_ML_FACTORS:
        slope, intercept = rescale(header)
        source = f"{tag_name('RescaleSlope')}, {_declaring_tag(header)}"
        return NmScale(slope, intercept, BQ_PER_ML_FACTORS[declared], declared, source)
    return _counts(header, mappings, declared)


def _from_mapping(header: Header, mappings: list[Header]) -> NmScale:
    scales = {_mapping(m) for m in mappings}
    if len(scales) > 1:
        raise UnitError(
            "the image has several scales in Bq/mL",
            path=header.path,
            tag=tag_name("RealWorldValueMappingSequence"),
            value=len(scales),
            expected=1,
        )
    slope, intercept, unit, mapped = scales.pop()
    rescaled = header.number("RescaleSlope")
    differs = rescaled is not None and abs(rescaled - slope) > SLOPE_TOLERANCE_REL * abs(slope)
    flags = ("rescale_differs_from_real_world_value",) if differs else ()
    source = tag_name("RealWorldValueMappingSequence")
    return NmScale(slope, intercept, BQ_PER_ML_FACTORS[unit], unit, source, mapped, flags)


def _mapping(item: Header) -> tuple[float, float, str, tuple[float, float] | None]:
    slope, intercept = (item.number(k) for k in ("RealWorldValueSlope", "RealWorldValueIntercept"))
    if slope is None or slope <= 0 or intercept is None:
        raise TagMissingError(
            "the real-world value mapping has no positive slope with its intercept",
            path=item.path,
            tag=tag_name("RealWorldValueSlope"),
            value=slope,
        )
    ends = [item.number(f"RealWorldValue{end}ValueMapped") for end in ("First", "Last")]
    # Signed limits are often written as unsigned ones: such a range says nothing.
    first, last = ends
    mapped = (first, last) if first is not None and last is not None and first < last else None
    return slope, intercept, _unit_of(item), mapped


def _unit_of(mapping: Header) -> str:
    codes = mapping.items("MeasurementUnitsCodeSequence")
    units = [c.text("CodeValue") or "" for c in codes if c.text("CodingSchemeDesignator") == _UCUM]
    return units[0] if len(units) == 1 else ""


def _declared_unit(header: Header) -> str | None:
    kind = header.text("RescaleType")
    declared = {u for u in (header.text("Units"), None if kind == _UNSPECIFIED else kind) if u}
    if len(declared) > 1:
        raise UnitError(
            "the header declares two units",
            path=header.path,
            tag=f"{tag_name('Units')}, {tag_name('RescaleType')}",
            value=sorted(declared),
        )
    return declared.pop() if declared else None


def _declaring_tag(header: Header) -> str:
    return tag_name("Units" if header.text("Units") else "RescaleType")


def _counts(header: Header, mappings: tuple[Header, ...], declared: str | None) -> NmScale:
    """Counts, where nothing speaks against it."""
    foreign = next((m for m in mappings if _unit_of(m) not in _COUNT_UNITS), None)
    if foreign is not None:
        raise UnitError(
            "the image has a scale that is no activity concentration",
            path=header.path,
            tag=tag_name("RealWorldValueMappingSequence"),
            value=_unit_of(foreign),
            expected="Bq/ml",
        )
    if declared not in (None, *_COUNT_UNITS):
        raise UnitError(
            "the image is not in a known unit of activity concentration",
            path=header.path,
            tag=_declaring_tag(header),
            value=declared,
            expected="BQML",
        )
    if mappings:
        slope, intercept, unit, mapped = _mapping(mappings[0])
        return NmScale(slope, intercept, None, unit, tag_name("RealWorldValueMappingSequence"), mapped)
    if header.number("RescaleSlope") is None:
        return NmScale(1.0, 0.0, None, COUNTS, "no scale declared: counts")
    slope, intercept = rescale(header)
    if declared is None and (slope, intercept) != (1.0, 0.0):
        raise UnitError(
            "the image has a scale but no unit", path=header.path, tag=tag_name("RescaleSlope"), value=slope
        )
    return NmScale(slope, intercept, None, COUNTS, tag_name("RescaleSlope"))
