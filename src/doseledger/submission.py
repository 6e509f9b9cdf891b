"""What a site hands over: the tables of its cohort without anything that identifies, and a page of exactly that."""

from __future__ import annotations

import hmac
import os
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from doseledger import __version__
from doseledger.cohort import COHORT_FOLDERS, PARTIAL, Plan, Row
from doseledger.errors import ForeignResultsError, IdentifyingError, InputMissingError, SheetError, of_writing
from doseledger.io.row_checks import REASONS, bad_rows
from doseledger.io.shared_text import SENTENCES, Finding, distinct_texts, findings, is_text, secrets_of, trouble
from doseledger.io.submission import (
    FORMAT,
    FORMAT_VERSION,
    LEDGER,
    PAGE,
    SHARED_TABLES,
    SUMMARIES,
    Manifest,
    pack,
    part,
    sha256,
    table_bytes,
)
from doseledger.io.tables import SCHEMA_VERSION, read_part, table
from doseledger.kinetics import PopulationPrior, SiteSummary
from doseledger.report.submission_page import submission_page
from doseledger.site_kinetics import site_summaries, summary_bytes

#: Bands from this age on are one: few people are that old.
OLDEST_BAND_FROM_A: Final = 90
OLDEST_BAND: Final = "90 or more"
#: What says who a patient might be, in the order in which it is withheld.
QUASI_IDENTIFIERS: Final = ("diagnosis", "kidney_function_band", "prior_therapy", "age_band", "sex")
#: Numbers that are a person's own, withheld from all when small groups are.
EXACT: Final = ("mass_kg", "height_cm", "prior_kidney_dose_gy")
#: Hashes of what stands on the site's disks.
_LINKING: Final = ("spect_sha256", "ct_sha256", "input_sha256")
SMALLEST_KEY_BYTES: Final = 16
_LETTERS: Final = "abcdefghijklmnop"
#: Settings that are places on the site's disks.
_PLACES: Final = frozenset({("segment", "weights"), ("segment", "model")})

Tables = dict[str, pa.Table]


@dataclass(frozen=True)
class Withheld:
    """Cells that stay at the site, with the reason."""

    table: str
    column: str
    rows: int
    reason: str


@dataclass(frozen=True)
class Sharing:
    """What a site decides about a submission.

    Attributes
    ----------
    revision
        Counted by the site: of two submissions the one with the higher revision counts.
    suppress_below
        Characteristics of patients that fewer than so many share are withheld; None shares all.
    accepted
        Declared texts beyond the vocabulary that a person has read and found harmless.
    secrets
        Identifiers that must not occur, from the site's own list.
    key
        Pseudonyms and hashes of images are replaced by their HMAC with this key, which stays at the site.
    kinetics
        Whether sums over the site's patients go along, from which a merge makes a prior.
    reference
        The prior of an earlier merge, which all sites have: the sums are made around it.
    """

    revision: int = 1
    suppress_below: int | None = None
    accepted: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    key: bytes | None = None
    kinetics: bool = True
    reference: PopulationPrior | None = None


@dataclass(frozen=True)
class Written:
    """What is in a submission that was written."""

    site: str
    rows: dict[str, int]
    withheld: tuple[Withheld, ...]
    checks: tuple[Row, ...] = field(default=())


def submit(plan: Plan, out: Path, sharing: Sharing, *, site: str | None = None) -> Written:
    """Write one site's submission from the tables of a cohort.

    Raises
    ------
    InputMissingError
        The cohort has no tables yet, or none of the site.
    SheetError
        The cohort has several sites and none is named.
    IdentifyingError
        Something that would go out identifies a person, a date or a machine.
    QuantityError
        The reference was not learnt with the curve of the summaries.
    """
    folder = plan.results / COHORT_FOLDERS[0]
    sites = sorted({path.name.removeprefix("site=") for path in folder.glob("*/site=*")})
    if not sites:
        raise InputMissingError(
            "the cohort has no tables yet", path=folder.name, remedy="Run the cohort to its end first."
        )
    if site is None and len(sites) > 1:
        raise SheetError("the cohort has several sites", value=sites, remedy="Name one with --site.")
    chosen = site or sites[0]
    if chosen not in sites:
        raise InputMissingError("the cohort has no such site", value=chosen, expected=sites, remedy="Name one of them.")
    tables = {
        name: read_part(path, name)
        for name in SHARED_TABLES
        if (path := folder / name / f"site={chosen}" / "part-0.parquet").exists()
    }
    # Pseudonyms do not enter the sums: they may be made of the tables as they are.
    summaries = site_summaries(tables, sharing.reference) if sharing.kinetics else ()
    return write_submission(
        out, tables, sharing, site=chosen, source=LEDGER, settings=_settings(plan), summaries=summaries
    )


def write_submission(
    out: Path,
    tables: Mapping[str, pa.Table],
    sharing: Sharing,
    *,
    site: str,
    source: str,
    settings: Mapping[str, Any],
    summaries: Sequence[SiteSummary] = (),
) -> Written:
    """Redact, look through and pack tables; the file appears whole or not at all.

    Raises
    ------
    IdentifyingError
        As `submit`.
    InputMissingError, ForeignResultsError
        `out` lies in no folder, or is something that is no archive.
    """
    _require_place(out)
    shared, withheld = shareable(tables, sharing)
    found = [
        f for name in shared for f in findings(name, shared[name], accepted=sharing.accepted, secrets=sharing.secrets)
    ]
    found += _in_settings(settings, sharing.secrets)
    if found:
        raise _identifying(found)
    checks = [
        {"table": bad.table, "reason": bad.reason, "column": bad.column, "rows": int(bad.rows.sum())}
        for bad in bad_rows(shared)
    ]
    content = {name: table_bytes(data) for name, data in shared.items()}
    stated: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "schema_version": SCHEMA_VERSION,
        "software_version": __version__,
        "site": site,
        "source": source,
        "revision": sharing.revision,
        "pseudonyms": "keyed" if sharing.key else "as_in_sheets",
        "suppress_below": sharing.suppress_below,
        "settings": dict(settings),
        "withheld": [asdict(item) for item in withheld],
        "checks": checks,
    }
    page = submission_page(
        stated=stated,
        tables=shared,
        accepted=sorted(_let_through(shared, sharing.accepted)),
        reasons=REASONS,
        summaries=[vars(summary) for summary in summaries],
        software_version=__version__,
    )
    files = {PAGE: page.encode()} | ({SUMMARIES: summary_bytes(summaries)} if summaries else {})
    manifest = Manifest(
        **stated,
        tables={name: part(shared[name], content[name]) for name in content},
        files={name: sha256(text) for name, text in files.items()},
    )
    partial = out.with_name(f".{out.name}{PARTIAL}{os.getpid()}")
    try:
        pack(partial, manifest, content, files)
        partial.replace(out)
    except OSError as error:
        raise (of_writing(error) or error) from None
    finally:
        partial.unlink(missing_ok=True)
    return Written(site, {name: data.num_rows for name, data in shared.items()}, tuple(withheld), tuple(checks))


def shareable(tables: Mapping[str, pa.Table], sharing: Sharing) -> tuple[Tables, list[Withheld]]:
    """The tables as they go out, and what was taken out of them."""
    shared = dict(tables)
    withheld: list[Withheld] = []
    if "stage_outcome" in shared:
        shared["stage_outcome"], taken = _without_sentences(shared["stage_outcome"])
        withheld += taken
    if "patient" in shared:
        shared["patient"], taken = _without_great_ages(shared["patient"])
        withheld += taken
        if sharing.suppress_below is not None:
            shared["patient"], taken = _without_small_groups(shared["patient"], sharing.suppress_below)
            withheld += taken
    if sharing.key is not None:
        shared = {name: _keyed(data, sharing.key) for name, data in shared.items()}
    return shared, withheld


def _without_sentences(outcomes: pa.Table) -> tuple[pa.Table, list[Withheld]]:
    """Sentences name files and quote headers: each is replaced by what its code means."""
    rows = outcomes.to_pylist()
    replaced = [row["sentence"] for row in rows if row["sentence"] not in (None, SENTENCES.get(row["code"]))]
    files = [row["file"] for row in rows if row["file"] is not None]
    tags = [row["tag"] for row in rows if row["tag"] is not None and trouble("technical", row["tag"])]
    for row in rows:
        row["sentence"] = SENTENCES.get(row["code"]) if row["sentence"] is not None else None
        row["file"] = None
        row["tag"] = None if row["tag"] in tags else row["tag"]
    withheld = [
        Withheld("stage_outcome", "sentence", len(replaced), "it can name files and quote headers; its code and what "
                 "that means in general are shared"),
        Withheld("stage_outcome", "file", len(files), "names of files stay at the site"),
        Withheld("stage_outcome", "tag", len(tags), "it is no plain name of a tag or column"),
    ]  # fmt: skip
    return table("stage_outcome", rows), [item for item in withheld if item.rows]


def _without_great_ages(patients: pa.Table) -> tuple[pa.Table, list[Withheld]]:
    rows = patients.to_pylist()
    bands = [re.match(r"\d+", row["age_band"] or "") for row in rows]
    old = [row for row, start in zip(rows, bands, strict=True) if start and int(start[0]) >= OLDEST_BAND_FROM_A]
    for row in old:
        row["age_band"] = OLDEST_BAND
    reason = f"ages from {OLDEST_BAND_FROM_A} years on are one band"
    return table("patient", rows), [Withheld("patient", "age_band", len(old), reason)] if old else []


def _without_small_groups(patients: pa.Table, smallest: int) -> tuple[pa.Table, list[Withheld]]:
    """Withhold characteristics until every combination that is shown is that of `smallest` patients.

    From all columns down to none, in a fixed order: patients whose combination is frequent enough keep it, and
    only the others lose the next column. A patient who is left in a group that is too small keeps nothing.
    """
    rows = patients.to_pylist()
    waiting, shown = list(range(len(rows))), {}
    for first in range(len(QUASI_IDENTIFIERS)):
        columns = QUASI_IDENTIFIERS[first:]
        groups = Counter(tuple(rows[i][c] for c in columns) for i in waiting)
        frequent = [i for i in waiting if groups[tuple(rows[i][c] for c in columns)] >= smallest]
        shown.update(dict.fromkeys(frequent, columns))
        waiting = [i for i in waiting if i not in shown]
    withheld = Counter[str]()
    for i, row in enumerate(rows):
        for column in (*QUASI_IDENTIFIERS, *EXACT):
            if column not in shown.get(i, ()) and row[column] is not None:
                withheld[column] += 1
                row[column] = None
    reasons = {
        **dict.fromkeys(QUASI_IDENTIFIERS, f"fewer than {smallest} patients of the site share the combination"),
        **dict.fromkeys(EXACT, "a person's own number; withheld from all where small groups are"),
    }
    taken = [Withheld("patient", c, withheld[c], reasons[c]) for c in reasons if withheld[c]]
    return table("patient", rows), taken


def _keyed(data: pa.Table, key: bytes) -> pa.Table:
    """Pseudonyms that only the holder of the key can lead back; the same in every revision."""
    for column, make in (("patient", _pseudonym), *((name, _keyed_hash) for name in _LINKING)):
        if column in data.column_names:
            coded = pc.dictionary_encode(data[column].combine_chunks())
            coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
            texts = pa.array([make(key, column, text) for text in coded.dictionary.to_pylist()], pa.string())
            new = texts.take(coded.indices)
            data = data.set_column(data.column_names.index(column), data.schema.field(column), new)
    return data


def _keyed_hash(key: bytes, what: str, text: str) -> str:
    return hmac.new(key, f"{what}/{text}".encode(), "sha256").hexdigest()


def _pseudonym(key: bytes, what: str, text: str) -> str:
    """Letters only: digits by chance could read as a date or a record number."""
    return "".join(_LETTERS[int(digit, 16)] for digit in _keyed_hash(key, what, text)[:16])


def read_key(path: Path) -> bytes:
    """The site's key.

    Raises
    ------
    SheetError
        The file is too short to be a key.
    """
    content = path.read_bytes().strip()
    if len(content) < SMALLEST_KEY_BYTES:
        raise SheetError(
            "the key is too short",
            path=path.name,
            expected=f"at least {SMALLEST_KEY_BYTES} bytes",
            remedy="Make one: python -c 'import secrets; print(secrets.token_hex(32))'.",
        )
    return content


def read_accepted(path: Path) -> frozenset[str]:
    """Texts that a person let through, one a line.

    Raises
    ------
    SheetError
        The file is no text.
    """
    return frozenset(_lines(path))


def read_secrets(path: Path) -> frozenset[str]:
    """Identifiers from a site's list (tab-separated, with a heading): every column but that of the pseudonyms.

    Raises
    ------
    SheetError
        The file is no list of identifiers: looking for nothing would find nothing.
    """
    lines = [line.split("\t") for line in _lines(path)]
    names = [name.strip() for name in lines[0]] if lines else []
    kept = [i for i, name in enumerate(names) if name not in ("patient", "site")]
    found = secrets_of(row[i] for row in lines[1:] for i in kept if i < len(row))
    if "patient_id" not in names or not found:
        raise SheetError(
            "the list holds no identifiers" if "patient_id" in names else "the list has no column patient_id",
            path=path.name,
            expected="a heading and lines with tabs between the cells, as for `doseledger index --keys`",
        )
    return found


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SheetError("the file is no text in UTF-8", path=path.name, remedy="Save it as text, UTF-8.") from None
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _require_place(out: Path) -> None:
    """Refuse to write where there is no folder, or over something that is no archive."""
    if not out.absolute().parent.is_dir():
        raise InputMissingError("the folder of --out does not exist", path=out.parent, remedy="Make it first.")
    if out.exists() and not zipfile.is_zipfile(out):
        raise ForeignResultsError(
            "--out names something that is no archive", path=out.name, remedy="Give a new name, e.g. site.zip."
        )


def _let_through(tables: Mapping[str, pa.Table], accepted: Collection[str]) -> set[str]:
    """Accepted texts that are really there: what else stands in the file of a site is not shared."""
    there = {
        text
        for data in tables.values()
        for f in data.schema
        if is_text(f.type)
        for text in distinct_texts(data[f.name])
    }
    return there & set(accepted)


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        section: {name: value for name, value in keys.items() if (section, name) not in _PLACES}
        for section, keys in sorted(plan.settings.items())
    }


def _in_settings(settings: Mapping[str, Any], secrets: Collection[str]) -> list[Finding]:
    texts = [(section, str(name), text) for section, keys in settings.items() for name, text in _texts(keys)]
    return [
        Finding(section, name, text, what)
        for section, name, text in texts
        if (what := trouble("technical", text, secrets=secrets))
    ]


def _texts(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [found for key, item in value.items() for found in _texts(item, str(key))]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [found for item in value for found in _texts(item, name)]
    return [(name, value)] if isinstance(value, str) else []


def _identifying(found: Collection[Finding]) -> IdentifyingError:
    first = next(iter(found))
    more = f" (and {len(found) - 1} more texts)" if len(found) > 1 else ""
    remedy = None
    if "vocabulary" in first.what or "pseudonym" in first.what:
        remedy = (
            "Correct the sheet and run the cohort again; or read the text, and if it is harmless write it on a line of "
            "its own into a file for --accept. Nothing was written."
        )
    return IdentifyingError(
        f"what would be shared holds {first.what}{more}",
        tag=f"{first.table}.{first.column}",
        value=first.value[:80],
        remedy=remedy,
    )
