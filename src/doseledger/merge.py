"""Submissions of any number of sites, merged into one dataset; bad rows are set aside with the reason.

The result is a function of the set of submissions alone: neither their order nor what was merged before matters.
It has the layout of a cohort's own tables, so that whatever reads those reads it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from doseledger import __version__
from doseledger.cohort import PARTIAL, Row
from doseledger.errors import DoseledgerError, ForeignResultsError, SubmissionError
from doseledger.io.probe import tried
from doseledger.io.row_checks import REASONS, Bad, bad_rows, row_key
from doseledger.io.shared_text import findings
from doseledger.io.submission import LEDGER, SUMMARIES, Submission, read_submission
from doseledger.io.tables import SCHEMA_VERSION, SCHEMAS, sort_keys, table, write_table
from doseledger.kinetics import SiteSummary
from doseledger.site_kinetics import summaries_in, sums_of_rows_set_aside, write_merged_prior

#: What was merged, beside the tables; marks a folder as the result of a merge.
RECORD: Final = "merge.json"
QUARANTINE: Final = "quarantine"
#: What results of another program are made of.
FOREIGN_TABLES: Final = frozenset({"administration", "region_activity", "organ_dose"})
#: Kinetics of all sites, if they sent summaries.
PRIOR: Final = "prior.json"
PAGE: Final = "index.html"
#: All that a merge leaves in its folder.
_WRITTEN: Final = frozenset({*SCHEMAS, RECORD, PRIOR, PAGE})
#: Rows of doses up to which a page is made unasked; 60,000 take 3 CPU-s and 0.6 GiB.
MAX_ROWS_ON_PAGE: Final = 100_000
#: Longest value that the table of left-out rows quotes.
_MAX_QUOTED: Final = 60


@dataclass(frozen=True)
class Merged:
    """What a merge took, left out and passed over."""

    rows: dict[str, int]
    quarantined: dict[str, int]
    used: tuple[Row, ...]
    superseded: tuple[Row, ...]
    notes: tuple[str, ...]


def merge(archives: Iterable[Path], out: Path) -> Merged:
    """Merge submissions into a new dataset; it appears whole or not at all.

    A dataset that an earlier merge wrote to the same place is replaced as a whole.

    Raises
    ------
    SubmissionError
        A submission is damaged, hostile, of another version, or contradicts another one.
    ForeignResultsError
        `out` holds something that no merge wrote.
    """
    out = out.absolute()
    _require_replaceable(out)
    paths = list(archives)
    for path in paths:
        tried(checked, path)
    used, superseded = latest([checked(path) for path in paths])
    partial = out.with_name(f".{out.name}{PARTIAL}{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        merged = _write(used, superseded, partial)
        _put_in_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return merged


def _require_replaceable(out: Path) -> None:
    """Refuse a folder that holds more than a merge writes: it is replaced as a whole."""
    if not out.exists():
        return
    found = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    odd = sorted(found - _WRITTEN) if RECORD in found else sorted(found)
    if odd or not out.is_dir():
        raise ForeignResultsError(
            "the folder holds something that no merge wrote",
            path=out.name,
            value=odd[0],
            remedy="Give a new folder, or move that elsewhere: a merge replaces its folder as a whole.",
        )


def checked(path: Path) -> Submission:
    """A submission whose texts are harmless and whose rows are those of its own site.

    Raises
    ------
    SubmissionError
        As `read_submission`; or a text or a summary that no site writes.
    """
    found = read_submission(path)
    if found.manifest.source != LEDGER and (odd := sorted(found.tables.keys() - FOREIGN_TABLES)):
        raise SubmissionError("another program's results have tables of a ledger", path=path.name, value=odd)
    for name, data in found.tables.items():
        sites = pc.unique(data["site"]).to_pylist()
        if sites not in ([], [found.manifest.site]):
            raise SubmissionError(
                "a table holds rows of another site", path=path.name, tag=f"{name}.site", value=str(sites[:3])[:80]
            )
        # What a site let through was read by a person there; signs of a person or of an attack stop it here too.
        for text in findings(name, data, any_words=True):
            raise SubmissionError(
                f"a text of the submission holds {text.what}",
                path=path.name,
                tag=f"{name}.{text.column}",
                value=text.value[:80],
            )
    _summaries(path, found)
    return found


def _summaries(path: Path, found: Submission) -> tuple[SiteSummary, ...]:
    if found.summaries is None:
        return ()
    try:
        return summaries_in(found.summaries, site=found.manifest.site)
    except DoseledgerError as error:
        raise SubmissionError(error.what, path=path.name, tag=SUMMARIES, value=error.value) from None


def latest(submissions: Sequence[Submission]) -> tuple[list[Submission], list[Submission]]:
    """The submission with the highest revision of each site and source, and those that it replaces.

    Raises
    ------
    SubmissionError
        Two different submissions of a site have the same revision, or there is none.
    """
    if not submissions:
        raise SubmissionError("there is no submission to merge", remedy="Name at least one.")
    distinct = {item.sha256: item for item in submissions}
    by_key: dict[tuple[str, str], list[Submission]] = {}
    for item in sorted(distinct.values(), key=lambda s: (s.key, s.manifest.revision, s.sha256)):
        by_key.setdefault(item.key, []).append(item)
    for (site, source), items in by_key.items():
        counts = Counter(item.manifest.revision for item in items)
        for revision, times in counts.items():
            if times > 1:
                raise SubmissionError(
                    f"{times} different submissions have the same revision",
                    tag=f"site {site}, source {source}",
                    value=revision,
                    remedy="Ask the site which one counts: it needs a higher --revision. Nothing was merged.",
                )
    used = [items[-1] for _, items in sorted(by_key.items())]
    return used, [item for _, items in sorted(by_key.items()) for item in items[:-1]]


def _write(used: Sequence[Submission], superseded: Sequence[Submission], out: Path) -> Merged:
    rows: Counter[str] = Counter()
    quarantined: Counter[str] = Counter()
    notes: list[str] = []
    sites = sorted({item.manifest.site for item in used})
    for site in sites:
        own = [item for item in used if item.manifest.site == site]
        tables, sources, not_taken = _together(own)
        notes += not_taken
        found = list(bad_rows(tables))
        aside = [row for bad in found for row in _set_aside(site, bad, tables[bad.table], sources[bad.table])]
        for name, data in tables.items():
            kept = ~np.logical_or.reduce(
                [bad.rows for bad in found if bad.table == name] or [np.zeros(data.num_rows, bool)]
            )
            quarantined[name] += int(np.count_nonzero(~kept))
            rows[name] += int(np.count_nonzero(kept))
            _write_part(out, name, site, data.filter(pa.array(kept)))
        _write_part(out, QUARANTINE, site, table(QUARANTINE, aside))
        own_rows = [row for row in aside if row["source"] == LEDGER]
        notes += [n for item in own if item.manifest.source == LEDGER for n in sums_of_rows_set_aside(item, own_rows)]
    summaries = [s for item in used if item.manifest.source == LEDGER for s in _summaries(out, item)]
    notes = [*_strangers(used, superseded), *_differences(used), *notes, *write_merged_prior(out / PRIOR, summaries)]
    merged = Merged(
        rows=dict(sorted(rows.items())),
        quarantined={name: count for name, count in sorted(quarantined.items()) if count},
        used=tuple(map(_described, used)),
        superseded=tuple(map(_described, superseded)),
        notes=tuple(notes),
    )
    record = {
        "schema_version": SCHEMA_VERSION,
        "software_version": __version__,
        "rows": merged.rows,
        "quarantined": merged.quarantined,
        "used": merged.used,
        "superseded": merged.superseded,
        "notes": merged.notes,
    }
    (out / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return merged


def _together(own: Sequence[Submission]) -> tuple[dict[str, pa.Table], dict[str, np.ndarray[Any, Any]], list[str]]:
    """The tables of one site over all its sources, the source of every row, and what was not taken."""
    tables, sources, notes = {}, {}, []
    for name in SCHEMAS:
        parts = [(item.manifest.source, item.tables[name]) for item in own if name in item.tables]
        kept = [(source, _beside_the_ledger(name, source, data, dict(parts).get(LEDGER))) for source, data in parts]
        for (source, data), (_, rest) in zip(parts, kept, strict=True):
            if rest.num_rows < data.num_rows:
                site, less = own[0].manifest.site, data.num_rows - rest.num_rows
                notes.append(f"site {site}, {name}: {less} rows of {source} not taken: the ledger has those cycles")
        if parts:
            tables[name] = pa.concat_tables([data for _, data in kept])
            sources[name] = np.repeat([source for source, _ in kept], [data.num_rows for _, data in kept])
    return tables, sources, notes


def _beside_the_ledger(name: str, source: str, data: pa.Table, ledger: pa.Table | None) -> pa.Table:
    """Rows of another program that can stand beside the ledger's.

    Doses have their engine in their key. Administrations and activities of a cycle have no place for a second opinion.
    """
    if source == LEDGER or ledger is None or name == "organ_dose":
        return data
    known = {(row["patient"], row["cycle"]) for row in _keys(ledger)}
    return data.filter(pa.array([(row["patient"], row["cycle"]) not in known for row in _keys(data)], pa.bool_()))


def _keys(data: pa.Table) -> list[Row]:
    return list(data.select(["patient", "cycle"]).to_pylist())


def _set_aside(site: str, bad: Bad, data: pa.Table, sources: np.ndarray[Any, Any]) -> list[Row]:
    """A row of `quarantine` for every row that shares one reason."""
    places = np.flatnonzero(bad.rows)
    columns = {name for name, _ in sort_keys(data.schema)} | ({bad.column} if bad.column else set())
    rows = data.select(sorted(columns)).take(places).to_pylist()
    return [
        {
            "site": site,
            "source": str(sources[place]),
            "source_table": bad.table,
            "row_key": row_key(data.schema, row),
            "reason": bad.reason,
            "column": bad.column,
            "value": None if bad.column is None else str(row[bad.column])[:_MAX_QUOTED],
            "sentence": REASONS[bad.reason],
            "software_version": __version__,
        }
        for place, row in zip(places, rows, strict=True)
    ]


def _write_part(out: Path, name: str, site: str, data: pa.Table) -> None:
    if data.num_rows:
        folder = out / name / f"site={site}"
        folder.mkdir(parents=True)
        write_table(folder / "part-0.parquet", data.sort_by(sort_keys(data.schema)))


def _described(item: Submission) -> Row:
    stated = item.manifest
    return {
        "site": stated.site,
        "source": stated.source,
        "revision": stated.revision,
        "sha256": item.sha256,
        "schema_version": stated.schema_version,
        "software_version": stated.software_version,
        "pseudonyms": stated.pseudonyms,
        "suppress_below": stated.suppress_below,
        "rows": {name: data.num_rows for name, data in sorted(item.tables.items())},
    }


def _strangers(used: Sequence[Submission], superseded: Sequence[Submission]) -> Iterable[str]:
    """Submissions replaced by one that has none of their patients: two hospitals may have taken one name."""
    newer = {item.key: item for item in used}
    for old in superseded:
        new = newer[old.key]
        if _patients(old) and not _patients(old) & _patients(new):
            yield (
                f"site {old.manifest.site}: revision {new.manifest.revision} replaces revision {old.manifest.revision} "
                "and has none of its patients: ask whether two hospitals have taken one name, or a key was changed"
            )


def _patients(item: Submission) -> set[str]:
    tables = [data for data in item.tables.values() if "patient" in data.column_names]
    return {name for data in tables for name in pc.unique(data["patient"]).to_pylist()}


def _differences(used: Sequence[Submission]) -> Iterable[str]:
    """What differs between submissions and is no error: a reader of the dataset must know it."""
    for name in ("software_version", "schema_version"):
        values = sorted({str(getattr(item.manifest, name)) for item in used})
        if len(values) > 1:
            yield f"{name.replace('_', ' ')} differs between submissions: {', '.join(values)}"
    for item in used:
        for table_name, columns in sorted(item.absent.items()):
            yield f"site {item.manifest.site}, {table_name}: empty, unknown to its version: {', '.join(columns)}"
    own = [item for item in used if item.manifest.source == LEDGER]
    sections = sorted({section for item in own for section in item.manifest.settings})
    for section in sections:
        texts = {json.dumps(item.manifest.settings.get(section), sort_keys=True) for item in own}
        if len(texts) > 1:
            yield f"settings of {section} differ between sites"


def _put_in_place(partial: Path, out: Path) -> None:
    """Replace an older dataset by the new one; a reader sees the one or the other, or for a moment none."""
    old = out.with_name(f".{out.name}.replaced-{os.getpid()}")
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def write_page(out: Path) -> Path:
    """The page of the merged cohort, beside its tables."""
    # Figures are loaded here: the process that tries files needs none.
    from doseledger.report.cohort_page import cohort_page
    from doseledger.steps.cohort_page import read_cohort_table

    tables = {name: read_cohort_table(out, name) for name in SCHEMAS if name != QUARANTINE}
    html = cohort_page(cohort=out.absolute().name, tables=tables, software_version=__version__)
    path = out / PAGE
    path.write_text(html, encoding="utf-8")
    return path
