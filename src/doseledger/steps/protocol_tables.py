"""What a study of reduced protocols leaves: a table for the screen, CSV, Parquet and a page."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from doseledger import __version__
from doseledger.report.protocols_page import protocols_page
from doseledger.steps.protocols import Summary


def text_table(summaries: Sequence[Summary]) -> str:
    """The errors as a table of Markdown, for a terminal and for a document."""
    lines = [
        "| radiopharmaceutical | region | against | scans | method | n | median, % | rms, % | >10 %, % | >20 %, % | "
        "worst, % | in interval, % |",
        "|" + "---|" * 12,
    ]
    for s in summaries:
        numbers = (100.0 * (s.median_ratio - 1.0), 100.0 * (s.worst_ratio - 1.0))
        shares = " | ".join(f"{100.0 * v:.0f}" for v in (s.beyond_10, s.beyond_20))
        lines.append(
            f"| {s.radiopharmaceutical} | {s.region} | {s.against} | {s.schedule} | {s.method} | {s.n} | "
            f"{numbers[0]:+.1f} | {100.0 * s.rms_ln:.1f} | {shares} | {numbers[1]:+.0f} | {100.0 * s.inside_95:.0f} |"
        )
    return "\n".join(lines)


def write_all(
    summaries: Sequence[Summary], page: Path, *, cohort: str, origins: Sequence[str], cycles: int
) -> list[Path]:
    """The page, and the errors as CSV and Parquet beside it."""
    rows = [asdict(summary) for summary in summaries]
    html = protocols_page(cohort=cohort, rows=rows, origins=origins, cycles=cycles, software_version=__version__)
    page.write_text(html, encoding="utf-8")
    return [page, *_write_tables(summaries, page)]


def _write_tables(summaries: Sequence[Summary], stem: Path) -> list[Path]:
    rows = [asdict(summary) for summary in summaries]
    names = [field.name for field in fields(Summary)]
    text, table = stem.with_suffix(".csv"), stem.with_suffix(".parquet")
    with text.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), table)
    return [text, table]
