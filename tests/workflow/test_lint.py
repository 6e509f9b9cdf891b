"""Rules know paths, scripts make one call: checked on the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from doseledger.cohort import COHORT_STAGES, CYCLE_STAGES, PATIENT_STAGE, stage_version

ROOT = Path(__file__).parents[2]
STAGES = (*CYCLE_STAGES, PATIENT_STAGE, *COHORT_STAGES)


def test_every_script_imports_only_steps_and_makes_one_call() -> None:
    scripts = sorted((ROOT / "scripts").glob("*.py"))
    assert {path.stem for path in scripts} == set(STAGES)
    for path in scripts:
        text = path.read_text()
        assert len(text.splitlines()) <= 30
        body = ast.parse(text).body
        imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert [getattr(node, "module", None) for node in imports] == ["doseledger.steps"]
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        assert len(calls) == 1
        assert len(body) == 3, "docstring, import, call"
        assert ast.literal_eval(calls[0].args[0]) == path.stem


@pytest.mark.parametrize("stage", STAGES)
def test_every_rule_passes_the_version_of_its_stage(stage: str) -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    assert f'stage_version("{stage}")' in text
    assert stage_version(stage) >= 1


def test_the_workflow_is_small_and_has_no_checkpoints() -> None:
    assert len((ROOT / "workflow/Snakefile").read_text().splitlines()) <= 60
    text = "".join(path.read_text() for path in (ROOT / "workflow").rglob("*.smk"))
    for word in ("glob_wildcards", "checkpoint", "run:"):
        assert word not in text


def test_snakemake_lint_passes(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    for source in (ROOT / "config").glob("*.*"):
        (tmp_path / source.name).write_text(source.read_text())
    command = [sys.executable, "-m", "snakemake", "--lint", "--configfile", str(config), "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
