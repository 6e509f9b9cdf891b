"""The snippets of docs/dataset.md run on a merged cohort, without this package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from doseledger.merge import merge

from .submission_factory import submitted

PAGE = (Path(__file__).parents[2] / "docs/dataset.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dataset")
    merge([submitted(place / f"{site}.zip", site) for site in ("A", "B")], place / "cohort")
    return place


def test_there_are_three_worked_queries() -> None:
    assert len(fenced("sql")) == 3


@pytest.mark.parametrize("query", fenced("sql"))
def test_a_query_gives_rows_of_every_site(folder: Path, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    monkeypatch.chdir(folder)
    rows = duckdb.sql(query).fetchall()
    assert {row[0] for row in rows} == {"A", "B"}


def test_the_queries_count_right(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    kidneys, liver, outcomes = (duckdb.sql(query).fetchall() for query in fenced("sql"))
    # Three patients with two cycles and two kidneys of 0.45 and 0.47 Gy/GBq.
    assert kidneys[0][:4] == ("A", "Lu177-DOTATATE", 12, 3)
    assert kidneys[0][4] == pytest.approx(0.46)
    assert [row[5] for row in liver] == [0.0] * 12
    assert all(row[6] for row in liver)
    assert outcomes == [("A", "ok", 6), ("B", "ok", 6)]


@pytest.mark.parametrize("code", fenced("python"))
def test_a_python_snippet_runs_without_this_package(folder: Path, code: str) -> None:
    """In a process of its own, where doseledger cannot be imported."""
    blocked = "import sys\nsys.modules['doseledger'] = None\n" + code
    done = subprocess.run([sys.executable, "-c", blocked], cwd=folder, check=True, capture_output=True, text=True)
    assert "kidney_left" in done.stdout or "absorbed_dose_gy\tGy" in done.stdout


def _r(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["Rscript", "-e", code], cwd=folder, check=False, capture_output=True, text=True)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
@pytest.mark.parametrize("code", fenced("r"))
def test_an_r_snippet_parses_and_runs_where_arrow_is_installed(folder: Path, code: str) -> None:
    (folder / "snippet.R").write_text(code)
    assert _r("parse('snippet.R')", folder).returncode == 0
    if _r("quit(status = !requireNamespace('arrow', quietly = TRUE))", folder).returncode:
        pytest.skip("the package arrow is not installed: the snippet was only parsed")
    done = _r("source('snippet.R')", folder)
    assert "kidney_left" in done.stdout, done.stderr
