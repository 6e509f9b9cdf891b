"""Whether submitted rows can be true: numbers, relations between columns, physics, keys.

Only what no honest row has is caught here: a merge leaves such rows out, with the reason. What is merely unusual
(a large liver, an outline at the border) carries flags since its own stage and stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import log
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from doseledger.errors import NuclideError
from doseledger.io.tables import SCHEMAS, sort_keys
from doseledger.nuclides import nuclide
from doseledger.regions.gate import PUBLISHED_GY_PER_GBQ, UNIT_SLIP_FACTOR

#: Code and sentence of every reason why a row is left out.
REASONS: Final[dict[str, str]] = {
    "key_missing": "A key column is empty.",
    "not_finite": "The number is not finite.",
    "negative": "The quantity cannot be negative.",
    "out_of_range": "The number lies outside the range of its quantity.",
    "interval_reversed": "The value lies outside its own interval.",
    "inconsistent": "Columns that say the same in two units or tables contradict each other: a unit was changed.",
    "unit_slip": "The dose per activity is five times outside the published means: most often a slip of units.",
    "slower_than_decay": "The effective half-life is longer than that of physical decay.",
    "more_than_administered": "The time-integrated activity exceeds that of all activity staying in the region.",
    "nuclide_unknown": "The nuclide is not known.",
    "no_administration": "The submission has no administration of the cycle.",
    "duplicate_row": "The row is there twice, word for word; one is kept.",
    "conflicting_rows": "Rows with the same key say different things; none can be kept.",
    "several_primary": "More than one row of a cycle and region is primary; none can be kept.",
}

#: Relative difference that columns of the same meaning may have: far above rounding, far below a changed unit.
CONSISTENT_REL: Final = 0.01
#: A region keeps at most what was administered, plus calibration error and noise (docs/theory.md, plausibility gates).
LARGEST_SHARE: Final = 1.10
#: Relative difference of administered activities that programs may be given: with or without the rest in the syringe.
SAME_ACTIVITY_REL: Final = 0.10
#: Largest values that the sheets take (`doseledger.io.models`).
_LARGEST: Final = {"administered_mbq": 1.0e6, "measured_activity_mbq": 1.0e6, "time_h": 2000.0}
#: Units of quantities that are never negative.
_POSITIVE_UNITS: Final = frozenset(
    {"MBq", "MBq h", "g", "mL", "kg", "cm", "h", "min", "s", "mm", "Gy", "Gy GBq-1", "s-1 MBq-1", "us"}
)
#: Exceptions: noise and spill-over may make a measured activity negative, and a limit may be exceeded.
_MAY_BE_NEGATIVE: Final = frozenset(
    {"activity_mbq", "activity_corrected_mbq", "tia_low_mbq_h", "total_activity_mbq", "activity_left_mbq"}
)
_FRACTIONS: Final = frozenset({"extrapolated_fraction", "mc_sd_rel", "aicc_weight"})
#: Whole, part, factor: whole = part x factor, by table.
_RELATIONS: Final[dict[str, tuple[tuple[str, str, str, float], ...]]] = {
    "organ_dose": (
        ("absorbed_dose_gy", "dose_gy_per_gbq", "administered_mbq", 1.0e-3),
        ("tia_mbq_h", "tiac_h", "administered_mbq", 1.0),
    ),
}

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Bad:
    """Rows of a table that share a reason; ``column`` None means the whole row."""

    table: str
    reason: str
    column: str | None
    rows: Mask


def bad_rows(tables: Mapping[str, pa.Table]) -> Iterator[Bad]:
    """Everything wrong with the rows of one site, table by table; a row may have several reasons."""
    cycles = _Cycles(tables["administration"]) if "administration" in tables else None
    for name in sorted(tables):
        data = tables[name]
        found = [*_numbers(name, data), *_relations(name, data), *_keys(name, data)]
        if name == "administration":
            found.append(Bad(name, "nuclide_unknown", "nuclide", _unknown_nuclides(data)))
        if "cycle" in data.column_names and name != "stage_outcome":
            found += _physics(name, data, cycles)
        yield from (bad for bad in found if bad.rows.any())


def row_key(schema: pa.Schema, row: Mapping[str, Any]) -> str:
    """The key of a row in words, without the site.

    Examples
    --------
    >>> row_key(SCHEMAS["course"], {"patient": "P1", "region": "liver", "limit_quantity": None})
    'patient P1, region liver'
    """
    names = [name for name, _ in sort_keys(schema) if name != "site" and row.get(name) is not None]
    return ", ".join(f"{name} {row[name]}" for name in names)


def _numbers(table: str, data: pa.Table) -> Iterator[Bad]:
    for field in SCHEMAS[table]:
        column = data[field.name]
        if pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type):
            yield Bad(table, "not_finite", field.name, _lists_not_finite(column))
        if not pa.types.is_floating(field.type):
            if not field.nullable:
                yield Bad(table, "key_missing", field.name, _mask(pc.is_null(column)))
            continue
        values, known = _values(column)
        yield Bad(table, "not_finite", field.name, known & ~np.isfinite(values))
        unit = field.metadata[b"unit"].decode()
        if (unit in _POSITIVE_UNITS and field.name not in _MAY_BE_NEGATIVE) or field.name.startswith("u_"):
            yield Bad(table, "negative", field.name, known & (values < 0))
        if field.name in _FRACTIONS:
            yield Bad(table, "out_of_range", field.name, known & ((values < 0) | (values > 1)))
        if field.name in _LARGEST and table != "course":
            # What is not finite has its own reason.
            yield Bad(table, "out_of_range", field.name, known & np.isfinite(values) & (values > _LARGEST[field.name]))


def _relations(table: str, data: pa.Table) -> Iterator[Bad]:
    for whole, part, factor, scale in _RELATIONS.get(table, ()):
        (a, has_a), (b, has_b), (c, has_c) = (_values(data[name]) for name in (whole, part, factor))
        with np.errstate(all="ignore"):
            differ = np.abs(a - b * c * scale) > CONSISTENT_REL * np.maximum(np.abs(a), np.abs(b * c * scale))
        yield Bad(table, "inconsistent", whole, has_a & has_b & has_c & differ)
    if table == "organ_dose":
        value, has = _values(data["absorbed_dose_gy"])
        for end, outside in (("dose_low_gy", np.less), ("dose_high_gy", np.greater)):
            limit, has_limit = _values(data[end])
            # Rounding alone must not turn an exact dose (a lower end at the value itself) into a contradiction.
            beyond = outside(value * (1.0 + np.where(outside is np.less, 1e-9, -1e-9)), limit)
            yield Bad(table, "interval_reversed", end, has & has_limit & beyond)


class _Cycles:
    """Half-life, radiopharmaceutical and activity of every administered cycle, to be looked up by many rows at once."""

    def __init__(self, administrations: pa.Table) -> None:
        self._keys = _joined(administrations, ("patient", "cycle"))
        names = administrations["nuclide"].to_pylist()
        half_lives = {name: _half_life_h(name) for name in set(names)}
        self._half_life_h = np.array([half_lives[name] for name in names], float)
        self._tracer = np.array([str(t) for t in administrations["radiopharmaceutical"].to_pylist()], object)

        self._administered_mbq = _values(administrations["administered_mbq"])[0]

    def contradicted(self, data: pa.Table) -> Mask:
        """Whether rows state another administered activity than their cycle has."""
        place = pc.index_in(_joined(data, ("patient", "cycle")), value_set=self._keys)
        stated, has = _values(data["administered_mbq"])
        if not len(self._tracer):
            return np.zeros(len(stated), bool)
        given = self._administered_mbq[np.asarray(pc.fill_null(place, 0).to_numpy(zero_copy_only=False), int)]
        with np.errstate(all="ignore"):
            differ = np.abs(stated - given) > SAME_ACTIVITY_REL * np.maximum(np.abs(stated), np.abs(given))
        return np.asarray(_mask(pc.is_valid(place)) & has & differ)

    def of(self, data: pa.Table) -> tuple[Mask, NDArray[np.float64], NDArray[np.object_]]:
        """Whether each row's cycle is known, its half-life in h (NaN if not) and its radiopharmaceutical."""
        place = pc.index_in(_joined(data, ("patient", "cycle")), value_set=self._keys)
        known = _mask(pc.is_valid(place))
        index = np.asarray(pc.fill_null(place, 0).to_numpy(zero_copy_only=False), int)
        if not len(self._tracer):
            return known, np.full(len(known), np.nan), np.full(len(known), "", object)
        return known, np.where(known, self._half_life_h[index], np.nan), self._tracer[index]


def _physics(table: str, data: pa.Table, cycles: _Cycles | None) -> Iterator[Bad]:
    if cycles is None:
        yield Bad(table, "no_administration", None, np.ones(data.num_rows, bool))
        return
    known, half_life_h, tracer = cycles.of(data)
    if table != "administration":
        yield Bad(table, "no_administration", None, ~known)
    if "effective_half_life_h" in data.column_names:
        effective_h, has = _values(data["effective_half_life_h"])
        slower = effective_h > half_life_h * (1.0 + CONSISTENT_REL)
        yield Bad(table, "slower_than_decay", "effective_half_life_h", known & has & slower)
    if table == "organ_dose":
        tiac_h, has = _values(data["tiac_h"])
        yield Bad(
            table, "more_than_administered", "tiac_h", known & has & (tiac_h > LARGEST_SHARE * half_life_h / log(2))
        )
        yield Bad(table, "inconsistent", "administered_mbq", cycles.contradicted(data))
        yield Bad(table, "unit_slip", "dose_gy_per_gbq", known & _slipped(data, tracer))


def _slipped(data: pa.Table, tracer: NDArray[np.object_]) -> Mask:
    dose, has = _values(data["dose_gy_per_gbq"])
    region = data["region"]
    slipped = np.zeros(data.num_rows, bool)
    for (name, organ), (low, high) in PUBLISHED_GY_PER_GBQ.items():
        here = has & (tracer == name) & _mask(pc.fill_null(pc.equal(region, organ), False))
        slipped |= here & ((dose < low / UNIT_SLIP_FACTOR) | (dose > high * UNIT_SLIP_FACTOR))
    return slipped


def _unknown_nuclides(data: pa.Table) -> Mask:
    known = {name: np.isfinite(_half_life_h(name)) for name in set(data["nuclide"].to_pylist())}
    return np.array([not known[name] for name in data["nuclide"].to_pylist()], bool)


def _half_life_h(name: str | None) -> float:
    try:
        return float("nan") if name is None else nuclide(name).half_life_h
    except NuclideError:
        return float("nan")


def _keys(table: str, data: pa.Table) -> Iterator[Bad]:
    names = tuple(name for name, _ in sort_keys(data.schema))
    repeated = _repeated(_joined(data, names))
    if repeated.any():
        yield from _same_keys(table, data, names, repeated)
    if table == "organ_dose":
        primary = _mask(pc.fill_null(data["is_primary"], False))
        several = np.zeros(data.num_rows, bool)
        keys = _joined(data, ("patient", "cycle", "region")).filter(pa.array(primary))
        several[np.flatnonzero(primary)] = _repeated(keys)
        # A row that is there twice is no second opinion.
        yield Bad(table, "several_primary", "is_primary", several & ~repeated)


def _same_keys(table: str, data: pa.Table, names: tuple[str, ...], repeated: Mask) -> Iterator[Bad]:
    places = np.flatnonzero(repeated)
    groups: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for place, row in zip(places, data.take(places).to_pylist(), strict=True):
        groups.setdefault(tuple(row[name] for name in names), []).append((int(place), repr(row)))
    twice, conflicting = np.zeros(data.num_rows, bool), np.zeros(data.num_rows, bool)
    for rows in groups.values():
        if len({text for _, text in rows}) == 1:
            twice[[place for place, _ in rows[1:]]] = True
        else:
            conflicting[[place for place, _ in rows]] = True
    yield Bad(table, "duplicate_row", None, twice)
    yield Bad(table, "conflicting_rows", None, conflicting)


def _repeated(keys: pa.Array) -> Mask:
    codes = np.asarray(keys.dictionary_encode().indices.to_numpy(zero_copy_only=False), int)
    return np.asarray(np.bincount(codes)[codes] > 1) if len(codes) else np.zeros(0, bool)


def _joined(data: pa.Table, names: tuple[str, ...]) -> pa.Array:
    """The values of several columns as one text per row; a null is a text of its own."""
    columns = [pc.fill_null(pc.cast(data[name], pa.string()), "\x00") for name in names]
    joined = pc.binary_join_element_wise(*columns, "\x1f")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _values(column: pa.ChunkedArray) -> tuple[NDArray[np.float64], Mask]:
    """Numbers of a column (0 where null), and whether there is one."""
    known = _mask(pc.is_valid(column))
    return np.asarray(pc.fill_null(column, 0.0).to_numpy(), float), known


def _lists_not_finite(column: pa.ChunkedArray) -> Mask:
    bad = np.zeros(len(column), bool)
    flat = pc.list_flatten(column)
    wrong = _mask(pc.fill_null(pc.invert(pc.is_finite(flat)), True))
    if wrong.any():
        parents = np.asarray(pc.list_parent_indices(column.combine_chunks()).to_numpy(), int)
        bad[parents[wrong]] = True
    return bad


def _mask(values: Any) -> Mask:
    return np.asarray(
        values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False), bool
    )
