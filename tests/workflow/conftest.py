"""Small cohorts run by the real workflow, shared by the tests of the contract."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from doseledger.phantom import simulate

ROOT = Path(__file__).parents[2]
#: No job of these tests needs a minute; a workflow that hangs must not hang the suite.
TIMEOUT_S = 1500


@dataclass(frozen=True)
class Cohort:
    """Input and results of a cohort, and how to run it."""

    folder: Path
    config: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def call(self, *command: str, source: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment; `source` replaces the package's source."""
        environment = os.environ | ({"PYTHONPATH": str(source)} if source else {})
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def run(self, *, cores: int = 2, source: Path | None = None) -> subprocess.CompletedProcess[str]:
        """The whole cohort, as a user runs it."""
        arguments = ["--cores", str(cores), "--directory", str(self.folder / "work")]
        return self.call("doseledger.cli", "run", str(self.config), *arguments, source=source)

    def planned(self, *, source: Path | None = None) -> dict[str, int]:
        """Jobs that a dry run would start, by rule."""
        done = self.call(
            "snakemake",
            *("--dry-run", "--quiet", "host", "--cores", "2", "--profile", "none"),
            *("--configfile", str(self.config), "--directory", str(self.folder / "work")),
            source=source,
        )
        assert done.returncode == 0, done.stderr
        text = done.stdout + done.stderr
        if "Nothing to be done" in text:
            return {}
        lines = text[text.index("Job stats:") :].splitlines()[3:]
        counts = {}
        for line in lines:
            fields = line.split()
            if len(fields) != 2 or fields[0] == "total":
                break
            counts[fields[0]] = int(fields[1])
        return counts

    def outcome(self, site: str, patient: str, cycle: int, stage: str) -> dict[str, object]:
        path = self.results / f"site-{site}/sub-{patient}/ses-c{cycle}/{stage}/outcome.json"
        return dict(json.loads(path.read_text()))


def write_cohort(folder: Path, **options: object) -> Cohort:
    """A virtual micro cohort below `folder`."""
    config = simulate(folder / "input", results="../results", cohort="micro", size="micro", **options)  # type: ignore[arg-type]
    return Cohort(folder, config)


def patched_source(folder: Path, edits: dict[str, tuple[str, str]]) -> Path:
    """A copy of the package in which files are edited: ``{file: (old, new)}``."""
    source = folder / "source"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name, (old, new) in edits.items():
        path = source / "doseledger" / name
        text = path.read_text()
        assert old in text, (name, old)
        path.write_text(text.replace(old, new, 1))
    return source


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Two sites with a patient of the same label, two cycles, one of them planted to be refused; finished."""
    cohort = write_cohort(tmp_path_factory.mktemp("micro"), sites=2, patients=1, cycles=2, seed=3)
    done = cohort.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return cohort


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Cohort]:
    """Makes a cohort of one patient with one good cycle, not yet run."""
    return lambda **options: write_cohort(
        tmp_path, **({"sites": 1, "patients": 1, "cycles": 1, "seed": 5, "plant_refusal": False} | options)
    )
