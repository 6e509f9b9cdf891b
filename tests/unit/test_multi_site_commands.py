"""docs/multi-site.md as a user follows it: its commands, as written there, on the tables of three small sites."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from doseledger.cli import app
from doseledger.cohort import Row
from doseledger.io.tables import COMPARISON_SCHEMAS, write_rows

from .sheet_factory import Cohort
from .submission_factory import site_rows

ROOT = Path(__file__).parents[2]
SITES = ("A", "B", "C")
CONFIG = Path("results/demo-input/config.yaml")
DOSES = ("absorbed_dose_gy", "dose_gy_per_gbq", "dose_low_gy", "dose_high_gy")


@pytest.fixture(scope="module")
def commands() -> list[list[str]]:
    """Lines of the page that a user of the demo types, in their order."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/multi-site.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words[0] == "doseledger" and "../study/config.yaml" not in words]


@pytest.fixture(scope="module")
def followed(commands: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """Where the commands were run, and what each printed."""
    folder = tmp_path_factory.mktemp("sites")
    (folder / CONFIG.parent).mkdir(parents=True)
    cohort = Cohort(folder / CONFIG.parent)
    cohort.write()
    (folder / CONFIG).write_text(yaml.safe_dump(cohort.config | {"results": "../demo"}))
    for site in SITES:
        for name, rows in _rows(site).items():
            place = folder / "results/demo/cohort" / name / f"site={site}"
            place.mkdir(parents=True)
            write_rows(place, name, rows).rename(place / "part-0.parquet")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        yield folder, [_call(*words[1:]) for words in commands]


def _call(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (words, done.output)
    return done.output


def _rows(site: str) -> dict[str, list[Row]]:
    """Rows of a site whose doses scatter, so that there is something to compare."""
    rows = site_rows(site, patients=6)
    random = np.random.default_rng(SITES.index(site))
    for row in rows["organ_dose"]:
        factor = float(np.exp(random.normal(0.0, 0.1)))
        row |= {name: row[name] * factor for name in DOSES}
    return rows


def _bits(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_page_tells_all_steps(commands: list[list[str]]) -> None:
    """Three submissions, one merge of them, one comparison of that merge."""
    assert [words[1] for words in commands] == ["submit"] * 3 + ["merge", "compare"]
    *_, merge, compare = commands
    assert merge[2:5] == [words[words.index("--out") + 1] for words in commands[:3]]
    assert merge[merge.index("--out") + 1] == compare[2]


def test_no_row_is_set_aside(followed: tuple[Path, list[str]]) -> None:
    folder, said = followed
    assert not [text for text in said if "leave out" in text or "set aside" in text]
    assert not (folder / "merged/quarantine").exists()


def test_the_merged_tables_are_those_of_the_sites(followed: tuple[Path, list[str]]) -> None:
    folder, _ = followed
    own, merged = folder / "results/demo/cohort", folder / "merged"
    filled = (path for path in own.rglob("*.parquet") if pq.read_metadata(path).num_rows)
    files = {path.relative_to(own) for path in filled}
    assert {path.relative_to(merged) for path in merged.rglob("*.parquet")} == files
    assert len({path.parent.name for path in files}) == len(SITES)
    for path in files:
        theirs, ours = (pq.read_table(folder_ / path, partitioning=None) for folder_ in (merged, own))
        assert sorted(map(repr, theirs.to_pylist())) == sorted(map(repr, ours.to_pylist())), path


def test_page_and_figure_data_are_made(followed: tuple[Path, list[str]]) -> None:
    folder, _ = followed
    page = (folder / "comparison/index.html").read_text(encoding="utf-8")
    assert all(f"site {site}" in page or f">{site}<" in page for site in SITES)
    for name in COMPARISON_SCHEMAS:
        data = pq.read_table(folder / f"comparison/compare/{name}.parquet")
        lines = (folder / f"comparison/compare/{name}.csv").read_text(encoding="utf-8").splitlines()
        assert lines[0].replace('"', "").split(",") == data.schema.names
    effects = pq.read_table(folder / "comparison/compare/site_effect.parquet").to_pylist()
    assert {row["site"] for row in effects} == set(SITES)


def test_another_order_gives_the_same_bits(followed: tuple[Path, list[str]]) -> None:
    folder, _ = followed
    Path("other").mkdir()
    # The page has the name of its folder.
    _call("merge", "C.zip", "A.zip", "B.zip", "--out", "other/merged")
    first, second = (_bits(folder / name) for name in ("merged", "other/merged"))
    assert first == second
    assert first.keys() >= {"merge.json", "index.html"}


def test_the_readme_leads_to_the_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/multi-site.md" in text
    assert all(f"`doseledger {name}" in text for name in ("submit", "merge", "compare"))
