"""Errors build their own sentence, survive a process pool and a plan file, and keep their code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from doseledger import errors
from doseledger.errors import (
    AdministrationMissingError,
    DoseledgerError,
    QuantityError,
    RecordedError,
    SheetError,
    StageDamagedError,
    UnitError,
    record,
)

KINDS = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, DoseledgerError) and kind is not RecordedError
    ),
    key=lambda kind: kind.__name__,
)
HOSTILE = "<script>alert('1')</script>\n\"{{ 7*7 }}\" \u202e \x00"
#: Values as they occur: numbers, cells, lists of columns, shapes, text that wants to be markup.
VALUES = [None, "", "GML", 3.0, 0, True, ["a", "b"], ((2, 2), (3,)), Path("a/b"), HOSTILE]


def test_the_sentence_says_what_where_and_what_to_do() -> None:
    error = UnitError("the unit is unknown", path="t1/spect", tag="Units (0054,1001)", value="GML", expected="BQML")
    assert error.sentence == (
        "the unit is unknown (file t1/spect; tag Units (0054,1001); found 'GML'; expected 'BQML'). " + UnitError.remedy
    )
    assert str(error) == error.sentence


def test_nothing_known_of_the_place_leaves_no_empty_brackets() -> None:
    assert QuantityError("the dose is negative").sentence == f"the dose is negative. {QuantityError.remedy}"


def test_a_given_remedy_goes_before_that_of_the_class() -> None:
    error = SheetError("the camera is not known", remedy="Add its row.")
    assert error.sentence.endswith(". Add its row.")
    assert SheetError.remedy not in error.sentence


def test_the_first_place_that_is_named_stays() -> None:
    error = QuantityError("the dose is negative", value=-1.0)
    assert error.within("site A, patient P1, cycle 2") is error
    error.within("somewhere else")
    assert error.sentence.startswith("the dose is negative (site A, patient P1, cycle 2; found -1.0)")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_has_a_code_and_a_remedy_of_its_own(kind: type[DoseledgerError]) -> None:
    assert kind.remedy.endswith((".", "?"))
    assert sum(other.code == kind.code for other in KINDS) == 1
    if kind is not DoseledgerError:
        assert kind.code != DoseledgerError.code


@pytest.mark.parametrize("kind", [*KINDS, RecordedError], ids=lambda kind: kind.__name__)
def test_errors_survive_a_process_pool(kind: type[DoseledgerError]) -> None:
    error = kind("it is wrong", path=Path("a.tsv"), tag="cycle", value="x", expected="1", remedy="Mend it.")
    error.within("site A")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert copy.sentence == error.sentence
    assert copy.code == error.code
    assert "site A; file a.tsv; tag cycle" in copy.sentence


def test_a_damaged_stage_survives_a_process_pool() -> None:
    error = StageDamagedError(Path("ses-c1/dose"), "dvh.parquet has 3 bytes instead of 4")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, StageDamagedError)
    assert not isinstance(copy, DoseledgerError)
    assert (str(copy), copy.path, copy.detail) == (str(error), error.path, error.detail)
    assert "ses-c1/dose" in str(copy)
    assert "doseledger verify" in str(copy)


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("expected", VALUES, ids=repr)
def test_a_recorded_error_says_the_same(value: object, expected: object) -> None:
    error = SheetError(HOSTILE, path="scans.tsv", tag="cycle", value=value, expected=expected, remedy="Mend it.")
    # The plan file is JSON: what is recorded must be plain data.
    recorded = RecordedError(**json.loads(json.dumps(record(error))))
    assert recorded.sentence == error.sentence
    assert recorded.code == error.code
    assert record(recorded) == record(error)


def test_a_recorded_error_keeps_the_remedy_of_its_class() -> None:
    error = AdministrationMissingError("the cycle has scans but no administration", path="administrations.tsv")
    recorded = RecordedError(**record(error))
    assert recorded.code == "administration_missing"
    assert recorded.sentence.endswith(AdministrationMissingError.remedy)
