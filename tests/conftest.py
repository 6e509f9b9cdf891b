"""Options and places that all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
#: Benchmarks are scripts, not modules. The tests of the cluster start a Slurm, in a box only (make test-cluster).
collect_ignore = ["bench"] if os.environ.get("DOSELEDGER_BOX") else ["bench", "cluster"]
#: Files whose tests read the cohort of the fixture `micro`, which takes a minute to make.
SHARE_MICRO: Final = {
    "test_contract.py",
    "test_alignment.py",
    "test_bids.py",
    "test_golden.py",
    "test_instruction_set.py",
    "test_provenance.py",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept-golden", action="store_true", help="write the table hashes of the current code")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cohorts first, for they take longest."""
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


class TogetherByCohort(LoadScopeScheduling):
    """For ``-n 2``: the tests of a file go to one process, and those of all files that share the small cohort.

    The groups that pytest-xdist has for this (``--dist loadgroup``) are lost on pytest 9, without a word.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "micro" if Path(file).name in SHARE_MICRO else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return TogetherByCohort(config, log)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data, which is not in the repository."""
    folder = Path(os.environ.get("DOSELEDGER_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"real data not here (DOSELEDGER_DATA, default ../shared/data): {folder}")
    return folder
