"""Options and places that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept-golden", action="store_true", help="write the table hashes of the current code")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data, which is not in the repository."""
    folder = Path(os.environ.get("DOSELEDGER_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"real data not here (DOSELEDGER_DATA, default ../shared/data): {folder}")
    return folder
