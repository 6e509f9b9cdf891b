"""Results of another program as a submission of its own, which merges beside the site's ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from doseledger.errors import SheetError, UnknownNameError
from doseledger.foreign.readers import KINDS
from doseledger.foreign.rows import Case, ledger_tables
from doseledger.submission import Sharing, Written, write_submission


def import_results(
    kind: str,
    paths: Sequence[Path],
    out: Path,
    sharing: Sharing,
    *,
    case: Case | None = None,
    unit: str | None = None,
    engine: str | None = None,
    primary: bool = False,
) -> Written:
    """Read files of another program and write them as a submission with that program as its source.

    Raises
    ------
    UnknownNameError
        No such kind of file.
    SheetError, UnitError, CrossCheckError
        A file is not of that kind, states no unit, or contradicts the administered activity.
    """
    if kind not in KINDS:
        raise UnknownNameError("the kind of file is not known", value=kind, expected=sorted(KINDS))
    found = KINDS[kind].read(paths, case, unit)
    sites = sorted({whose.site for whose, _ in found})
    if len(sites) != 1:
        raise SheetError("the files hold results of several sites", value=sites, remedy="Import each site on its own.")
    name = engine or KINDS[kind].engine
    tables = ledger_tables(name, found, primary=primary, path=paths[0])
    return write_submission(out, tables, sharing, site=sites[0], source=name, settings={})
