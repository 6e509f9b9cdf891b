"""The demo cohort: the same bits on one core and on two, and what it says against the truth."""

from __future__ import annotations

import pytest

from doseledger import audit
from doseledger.phantom import simulate
from doseledger.phantom.study import WEIGHTS
from doseledger.segmentation.demo_weights import unpack_demo_weights

from .conftest import Cohort

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Cohort]:
    """Half of the cohort of `make demo`, organs by the demo weights, run on one core and on two."""
    folder = tmp_path_factory.mktemp("demo")
    config = simulate(
        folder / "input",
        sites=3,
        patients=1,
        cycles=2,
        seed=1,
        segmentation="totalsegmentator",
        results="../one/results",
    )
    unpack_demo_weights(folder / "input" / WEIGHTS)
    other = config.with_name("two.yaml")
    other.write_text(config.read_text().replace("../one/results", "../two/results"))
    cohorts = {1: Cohort(folder / "one", config), 2: Cohort(folder / "two", other)}
    for cores, cohort in cohorts.items():
        done = cohort.run(cores=cores)
        assert done.returncode == 0, done.stdout + done.stderr
    return cohorts


def test_one_core_and_two_give_identical_tables_images_and_pages(demo: dict[int, Cohort]) -> None:
    one, two = (audit.hashes(demo[cores].results) for cores in (1, 2))
    assert len(one) > 120
    assert one == two
    pages = [sorted(p.read_bytes() for p in demo[cores].results.rglob("index.html")) for cores in (1, 2)]
    assert pages[0] == pages[1]
    assert list(audit.differences(demo[1].results, demo[2].results)) == []


def test_the_demo_prints_doses_truth_and_the_planted_refusal(demo: dict[int, Cohort]) -> None:
    cohort = demo[2]
    truth = cohort.config.parent / "truth"
    done = cohort.call("doseledger.cli", "summary", str(cohort.config), "--truth", str(truth))
    assert done.returncode == 0, done.stderr
    for part in (
        "Dose against truth",
        "Monte Carlo with all radiations",
        "refused [unit_unknown]",
        "cohort_page/index.html",
        "kidneys",
    ):
        assert part in done.stdout


def test_status_counts_the_cycles(demo: dict[int, Cohort]) -> None:
    done = demo[2].call("doseledger.cli", "status", str(demo[2].config))
    assert "5 done, 1 refused" in done.stdout
