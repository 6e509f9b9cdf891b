"""``doseledger verify``: what it must not pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from doseledger.cli.app import app
from doseledger.steps.stage import OUTCOME, file_sha256, write_json

PARTS = ("site-A/sub-P1/ses-c1/dose", "site-A/sub-P1/course", "cohort")


def stage(folder: Path, *, says: str) -> None:
    """A finished stage of one table; `says` is what a difference would be."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "table.parquet"
    table.write_text(says)
    files = [{"name": table.name, "size": table.stat().st_size, "sha256": file_sha256(table)}]
    write_json(folder / OUTCOME, {"status": "ok", "files": files})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for part in PARTS:
        stage(tmp_path / "results" / part, says=part)
    return tmp_path / "results"


@pytest.fixture
def other(results: Path) -> Path:
    return Path(shutil.copytree(results, results.with_name("other")))


def verify(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["verify", *map(str, arguments)])
    return done.exit_code, done.output


def test_what_is_whole_and_the_same_passes(results: Path, other: Path) -> None:
    status, said = verify(results, "--against", other)
    assert status == 0, said
    assert "3 stages, 0 damaged" in said


def test_a_folder_without_a_stage_is_not_taken_for_sound(tmp_path: Path) -> None:
    status, said = verify(tmp_path)
    assert status == 2
    assert "no finished stage" in said
    assert str(tmp_path) in said


@pytest.mark.parametrize("part", PARTS)
def test_a_stage_without_its_outcome_is_damaged(results: Path, part: str) -> None:
    (results / part / OUTCOME).unlink()
    status, said = verify(results)
    assert status == 1
    assert f"damaged: {results / part}: no {OUTCOME}" in said


def test_the_files_of_the_other_folder_are_held_against_its_manifests(results: Path, other: Path) -> None:
    """Otherwise a file that was changed counts as identical, by the hash that it no longer has."""
    (other / PARTS[0] / "table.parquet").write_text(PARTS[0].upper())
    status, said = verify(results, "--against", other)
    assert status == 1
    assert f"damaged: {other / PARTS[0]}" in said
    assert "not compared" in said


def test_a_damaged_folder_is_named_and_not_compared(results: Path, other: Path) -> None:
    (results / PARTS[0] / OUTCOME).write_text("{")
    status, said = verify(results, "--against", other)
    assert status == 1
    assert "not compared" in said
    assert f"damaged: {results / PARTS[0]}" in said


def test_what_is_only_in_one_counts_also_where_damage_is_discarded(results: Path, other: Path) -> None:
    stage(other / "compare", says="more")
    status, said = verify(results, "--against", other, "--discard")
    assert status == 1
    assert "only in one of the two" in said
