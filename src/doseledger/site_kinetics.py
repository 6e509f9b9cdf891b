"""Population kinetics over sites: sums of each site's patients, and the prior that they make together.

A submission has a summary per radiopharmaceutical and class of region: sums over at least five patients, around a
reference that all sites have. A merge makes one frozen prior of them, for sites with one or two scans.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from doseledger.cohort import Row
from doseledger.errors import DoseledgerError, PriorError
from doseledger.io.priors import read_summaries, write_prior, write_summaries
from doseledger.io.row_checks import bad_rows
from doseledger.io.shared_text import trouble
from doseledger.io.submission import Submission
from doseledger.kinetics import Cycle, PopulationPrior, SiteSummary, merge_summaries, summarise
from doseledger.regions import REMAINDER, WHOLE_FIELD
from doseledger.steps.population import Kind, teaching_cycles

#: Curve of the summaries: the most general one of which three scans tell something.
MODEL: Final = "bi_uptake"
PRIOR_NAME: Final = "merged"
#: Tables that the sums are made of.
TEACHING: Final = ("region_activity", "curve", "administration")

Tables = Mapping[str, pa.Table]


def site_summaries(tables: Tables, reference: PopulationPrior | None = None) -> list[SiteSummary]:
    """Summaries of every class of region that enough patients of a site teach, as a cohort's own prior is learnt.

    Rows that a merge would set aside take no part.

    Parameters
    ----------
    reference
        The prior of an earlier merge, around which the sums are made; the hyper-prior where it has no entry.

    Raises
    ------
    QuantityError
        The reference was not learnt with the curve of the summaries.
    """
    groups = _taught(tables)
    found = []
    for (tracer, region), cycles in sorted(groups.items()):
        if region in (WHOLE_FIELD, REMAINDER):
            # What they hold depends on the field of view and on the outlines of the site.
            continue
        around = reference.find(tracer, region) if reference else None
        summary = summarise(cycles, radiopharmaceutical=tracer, region=region, model=MODEL, reference=around)
        if summary is not None:
            found.append(summary)
    return found


def sums_of_rows_set_aside(found: Submission, aside: Iterable[Row]) -> Iterator[str]:
    """Rows that a merge sets aside although the site did not foresee it: they are in the site's sums.

    A site leaves out of its sums what its own program would set aside, and states how many rows these are.
    """
    if found.summaries is None:
        return
    foreseen = {(check["table"], check["reason"], check["column"]): check["rows"] for check in found.manifest.checks}
    here = Counter((row["source_table"], row["reason"], row["column"]) for row in aside)
    for (name, reason, column), rows in sorted(here.items(), key=str):
        more = rows - foreseen.get((name, reason, column), 0)
        if name in TEACHING and more > 0:
            yield (
                f"site {found.manifest.site}: {more} rows of {name} were set aside ({reason}) that the site took into "
                "its kinetics, which prior.json is made of: ask for a new submission"
            )


def _taught(tables: Tables) -> dict[Kind, list[Cycle]]:
    """Cycles to learn from, of the rows that can be true."""
    if not set(TEACHING) <= tables.keys():
        return {}
    kept = {name: np.ones(tables[name].num_rows, bool) for name in TEACHING}
    for bad in bad_rows({name: tables[name] for name in TEACHING}):
        kept[bad.table] &= ~bad.rows
    groups, _ = teaching_cycles(*(tables[name].filter(pa.array(kept[name])).to_pylist() for name in TEACHING))
    return groups


def summary_bytes(summaries: Iterable[SiteSummary]) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "kinetics.json"
        write_summaries(path, summaries)
        return path.read_bytes()


def summaries_in(content: bytes, *, site: str) -> tuple[SiteSummary, ...]:
    """Summaries of a submission, which must be those of its own site.

    Raises
    ------
    PriorError
        No file of summaries, one of fewer patients than may leave a site, or one of another site.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "kinetics.json"
        path.write_bytes(content)
        found = read_summaries(path)
    for summary in found:
        if summary.site != site:
            raise PriorError("a summary is of another site", path="kinetics.json", value=summary.site, expected=site)
        if trouble("technical", summary.radiopharmaceutical) or trouble("name", summary.region):
            raise PriorError("a summary has a name that no table has", path="kinetics.json", value=summary.region[:60])
    return found


def merged_prior(summaries: Sequence[SiteSummary]) -> tuple[PopulationPrior | None, list[str]]:
    """The prior of all sites, and what could not be merged, with the reason."""
    by_kind: dict[Kind, list[SiteSummary]] = {}
    for summary in summaries:
        by_kind.setdefault((summary.radiopharmaceutical, summary.region), []).append(summary)
    entries, notes = [], []
    for (tracer, region), of_kind in sorted(by_kind.items()):
        try:
            entries.append(merge_summaries(of_kind, source="merged submissions"))
        except (DoseledgerError, np.linalg.LinAlgError) as error:
            what = error.what if isinstance(error, DoseledgerError) else "a matrix has no inverse"
            notes.append(f"kinetics of {region} under {tracer} are not merged: {what}")
    return (PopulationPrior(PRIOR_NAME, tuple(entries)) if entries else None), notes


def write_merged_prior(path: Path, summaries: Sequence[SiteSummary]) -> list[str]:
    """Write the prior of all sites, if there is one; return what could not be merged."""
    prior, notes = merged_prior(summaries)
    if prior is not None:
        write_prior(path, prior)
    return notes
