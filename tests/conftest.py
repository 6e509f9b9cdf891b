"""Options and places that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept-golden", action="store_true", help="write the table hashes of the current code")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cohorts first, for they take longest; tests that share one go to the same process of ``-n 2``."""
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)
    for item in items:
        shared = "micro" if "micro" in getattr(item, "fixturenames", ()) else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data, which is not in the repository."""
    folder = Path(os.environ.get("DOSELEDGER_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"real data not here (DOSELEDGER_DATA, default ../shared/data): {folder}")
    return folder
