"""What text may leave a hospital: a rule for every text column, and what betrays a person, a date or a machine.

The rule is closed: a column without a rule is a defect, text that does not fit its rule is a finding, and a finding
stops the submission. The same rules are applied to what others submit, so that no text of an archive reaches a page
or a spreadsheet that could be read as markup, a formula or a command.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from doseledger.io.vocabulary import VOCABULARY
from doseledger.refusals import REFUSALS

#: Longest text of any cell, characters: the longest sentence of a refusal has about 300.
MAX_TEXT: Final = 600

Rule = Literal[
    "label", "pseudonym", "name", "hash", "version", "number_code", "window", "technical", "words", "sentence", "none"
]  # fmt: skip

#: Whole texts of columns that hold names of this program or of sheets.
_PATTERNS: Final[dict[str, re.Pattern[str]]] = {
    "label": re.compile(r"[A-Za-z0-9]{1,32}"),
    "pseudonym": re.compile(r"[A-Za-z0-9]{1,32}"),
    "name": re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}"),
    "hash": re.compile(r"[0-9a-f]{16}|[0-9a-f]{64}"),
    "version": re.compile(r"[0-9]+(\.[0-9]+){1,2}[0-9a-z.+]{0,24}"),
    # A concept of SNOMED CT: its last three digits say so, which those of most dates and record numbers do not.
    "number_code": re.compile(r"[0-9]{3,15}[01]0[0-9]"),
    "window": re.compile(r"[0-9]{1,4}(\.[0-9]+)?-[0-9]{1,4}(\.[0-9]+)?([,;+ ]+[0-9.]+-[0-9.]+){0,5}"),
    "technical": re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._,+()/:%&*#-]{0,127}"),
    "words": re.compile(r"[A-Za-z0-9][A-Za-z0-9 .,;+()/%-]{0,127}"),
}

#: Rule of each text column; ``table.column`` where a column means something else in one table.
RULES: Final[dict[str, Rule]] = {
    "site": "label",
    "patient": "pseudonym",
    **dict.fromkeys(
        ("region", "lesion_id", "sex", "region_level", "laterality", "protocol", "region_source", "lesion_policy",
         "marrow_method", "curve_source", "mass_source", "partial_volume_method", "curve_model", "dose_engine",
         "method", "model", "parameter_names", "status", "cumulative_status", "limit_quantity", "appearance",
         "code", "stage", "origin_stage", "review_status", "outline_modality", "flags", "data_origin", "body_names",
         "phantom", "sensitivity_basis", "decay_correction_in_header", "source", "source_table", "reason",
         "column", "matrix"),
        "name",
    ),
    **dict.fromkeys(
        ("analysis_id", "settings_sha256", "input_sha256", "weights_sha256", "prior_sha256", "spect_sha256",
         "ct_sha256"),
        "hash",
    ),
    "software_version": "version",
    "sct_code": "number_code",
    **dict.fromkeys(("energy_window_kev", "age_band"), "window"),
    **dict.fromkeys(
        ("radiopharmaceutical", "nuclide", "camera", "manufacturer", "acquisition.model", "collimator",
         "reconstruction", "unit_source", "sensitivity_geometry", "geometry", "device", "tag", "prior"),
        "technical",
    ),
    **dict.fromkeys(
        ("diagnosis", "kidney_function_band", "prior_therapy", "preparation", "location", "delineation", "response",
         "limit_source"),
        "words",
    ),
    "age_band": "words",
    "sentence": "sentence",
    "file": "none",
    "row_key": "technical",
    "value": "technical",
}  # fmt: skip

_MONTH: Final = (
    r"(?:jan(?:uar|uary)?|feb(?:ruar|ruary)?|m(?:ar|arch|är|ärz|rz|aerz)|apr(?:il)?|ma[iy]|jun[ei]?|jul[yi]?"
    r"|aug(?:ust)?|sep(?:t|tember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)(?![A-Za-zä])"
)
_YEAR: Final = r"(?:19[2-9]\d|20[0-4]\d)"

#: What a text must not hold, whatever its column; the first that is found is named.
_SIGNS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("control characters", re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")),
    ("markup, a formula or a command", re.compile(r"^[=+@\t-]|[<>{}|;$`]|&&")),
    ("an e-mail address", re.compile(r"[^\s@]+@[^\s@]+")),
    ("a DICOM person name", re.compile(r"\^")),
    (
        "an address of the web",
        re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|\bwww\."
                   r"|[a-z0-9]\.(?:org|com|edu|gov|local|lan|intranet|de|ch|uk|fr|nl|se|dk|eu|au|ca|jp|cn)\b",
                   re.IGNORECASE),
    ),
    (
        "a path",
        re.compile(r"(?:^|[\s\"'(=])(?:~?/|\.{1,2}/|[A-Za-z]:[\\/]|\\\\)|[^\s/\\]+[/\\][^\s/\\]+[/\\]"
                   r"|\.(?:dcm|ima|img|hdr|mhd|mha|nrrd|mat|log)\b|\.(?:nii|gz|tsv|csv|ya?ml|json|parquet|xlsx?|docx?|pdf|txt|zip)\b",
                   re.IGNORECASE),
    ),
    ("an IP address", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])|\b(?:[0-9a-f]{1,4}:){3,}", re.I)),
    ("a UID", re.compile(r"(?<![\d.])[0-2](?:\.\d+){3,}|(?<!\d)\d+(?:\.\d+){4,}")),
    (
        "a date",
        re.compile(r"(?<!\d)(?:19|20)\d{2}[-./ ]?(?:0[1-9]|1[0-2])[-./ ]?(?:0[1-9]|[12]\d|3[01])(?!\d)"
                   r"|(?<!\d)\d{1,2}[-./]\d{1,2}[-./](?:19|20)?\d{2}(?!\d)"
                   rf"|(?<![A-Za-z]){_MONTH}\.?[-\s]*(?:\d{{1,2}},?[-\s]+)?{_YEAR}(?!\d)"
                   rf"|(?<!\d)\d{{1,2}}\.?[-\s]*{_MONTH}"
                   # A month of a year: what says when somebody was treated.
                   rf"|(?<![\d.]){_YEAR}[-/](?:0[1-9]|1[0-2])(?![\d])|(?<![\d.])(?:0?[1-9]|1[0-2])[-/.]{_YEAR}(?!\d)",
                   re.IGNORECASE),
    ),
    ("a time of day", re.compile(r"(?<!\d)(?:[01]?\d|2[0-3])[:h][0-5]\d(?::[0-5]\d)?(?!\d)")),
    ("a long number", re.compile(r"\d{6,}")),
    # Groups of digits: a telephone, an insurance. Eight digits or more, the first group or the second of three.
    (
        "a number in groups",
        re.compile(r"(?<![\d.])(?=\d(?:[ -]?\d){7})(?:\d{3,5}[ -]\d{2,5}|\d{2}[ -]\d{3,5})(?:[ -]\d{2,5})*(?![\d.])"),
    ),
    (
        "a title or a record of a person",
        re.compile(r"\b(?:Dr|Prof|Mr|Mrs|Herr|Frau)\b|(?i:(?<![a-z])(?:mrn|ssn|dob|born|geb)(?![a-z]))"),
    ),
)  # fmt: skip

#: A private or repeating DICOM tag in brackets is eight digits that mean no person.
_TAG: Final = re.compile(r"\([0-9A-Fa-fx]{4},[0-9A-Fa-fx]{4}\)")

#: As `doseledger submit --pseudonym-key` makes them.
_KEYED: Final = re.compile(r"[a-p]{16}")

#: Integers beyond which a cycle or a scan is none: a date or a record number in the wrong column.
_LARGEST_COUNT: Final = 999
_COUNTS: Final = ("cycle", "time_point")

#: Grades, stages and numbers between the words of a diagnosis.
_GRADE: Final = re.compile(
    r"g[1-3]|t[0-4][a-d]?|n[0-3]|m[01][a-c]?|[0-9]{1,3}|[0-9]{1,2}\.[0-9]{1,2}|l[1-5]|th?[0-9]{1,2}|ki"
)
_WORD: Final = re.compile(r"[A-Za-z0-9]+")
#: Parts of words that are written together: JohnDoe, doe1.
_PART: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
#: Characters from which an identifier with a digit is also looked for within a word.
_SHORTEST_WITHIN: Final = 4

#: Sentences of outcomes by code: what goes out in place of those that name files.
SENTENCES: Final[dict[str, str]] = {
    **{refusal.code: refusal.meaning for refusal in REFUSALS},
    "not_imaged": "The cycle was administered, but the scan sheet has no scans of it.",
    "not_run": "The stage has not run: an earlier one failed, or the workflow was stopped. Run it again.",
}
_SENTENCES: Final = frozenset(SENTENCES.values())


@dataclass(frozen=True)
class Finding:
    """A text that must not be shared as it is."""

    table: str
    column: str
    value: str
    what: str


def findings(
    table: str,
    data: pa.Table,
    *,
    accepted: Collection[str] = (),
    secrets: Collection[str] = (),
    any_words: bool = False,
) -> Iterator[Finding]:
    """Every distinct text of a table that does not fit the rule of its column.

    Parameters
    ----------
    accepted
        Declared texts that a person has read and found harmless; they may hold any words, no identifying sign.
    secrets
        Identifiers of the site's own list, in lower case.
    any_words
        Do not hold declared texts against the vocabulary: where they come from a person has read them.

    Raises
    ------
    KeyError
        A text column has no rule: a defect, never passed over.
    """
    for field in data.schema:
        if field.name in _COUNTS:
            largest = pc.max(data[field.name]).as_py()
            if largest is not None and largest > _LARGEST_COUNT:
                yield Finding(table, field.name, str(largest), "a number that counts nothing")
        if not is_text(field.type):
            continue
        rule = rule_of(table, field.name)
        for value in distinct_texts(data[field.name]):
            what = trouble(rule, value, accepted=(value,) if any_words else accepted, secrets=secrets)
            if what is not None:
                yield Finding(table, field.name, value, what)


def rule_of(table: str, column: str) -> Rule:
    return RULES[f"{table}.{column}"] if f"{table}.{column}" in RULES else RULES[column]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text, alone or in lists."""
    return bool(pa.types.is_string(kind.value_type if pa.types.is_list(kind) else kind))


def distinct_texts(column: pa.ChunkedArray) -> list[str]:
    """Texts that occur in a column, in order; without nulls."""
    flat = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    return sorted(value for value in pc.unique(flat).to_pylist() if value is not None)


def trouble(rule: Rule, value: str, *, accepted: Collection[str] = (), secrets: Collection[str] = ()) -> str | None:
    """What is wrong with one text, None if nothing is.

    Examples
    --------
    >>> trouble("words", "ileum NET G2"), trouble("words", "surgery by Miller"), trouble("technical", "OSEM 2024-03-01")
    (None, "the word 'Miller' is not in the vocabulary", 'a date')
    >>> trouble("pseudonym", "P1"), trouble("pseudonym", "Miller")
    (None, 'a pseudonym without a digit, which may be a name')
    """
    if len(value) > MAX_TEXT:
        return f"more than {MAX_TEXT} characters"
    if rule == "none":
        return "text where none is shared"
    if rule == "sentence":
        return None if value in _SENTENCES else "a sentence that is not the meaning of a code"
    if secret := _secret_in(value, secrets):
        return f"an identifier of the site's list ({len(secret)} characters)"
    if rule not in ("hash", "version"):
        # A date in a name is written with underscores.
        readable = (_TAG.sub(" ", value) if rule == "technical" else value).replace("_", "-")
        for what, sign in _SIGNS:
            if (rule not in ("window", "number_code") or what == "a date") and sign.search(readable):
                return what
    if not _PATTERNS[rule].fullmatch(value):
        return f"no {rule.replace('_', ' ')}" if rule != "words" else "unusual characters"
    if value in accepted:
        return None
    if rule == "words":
        return _unknown_word(value)
    if rule == "pseudonym" and not (re.search(r"\d", value) or _KEYED.fullmatch(value)):
        return "a pseudonym without a digit, which may be a name"
    return None


def _secret_in(value: str, secrets: Collection[str]) -> str | None:
    if not secrets:
        return None
    low = value.lower()
    parts: list[str] = [*_WORD.findall(low), *(part.lower() for part in _PART.findall(value))]
    for secret in (low, *parts):
        if secret in secrets:
            return secret
    for secret in secrets:
        # A number within a longer name is still that number; a name within a word mostly is none.
        within = not secret.isalnum() or (len(secret) >= _SHORTEST_WITHIN and re.search(r"\d", secret))
        if within and secret in low:
            return secret
    return None


def _unknown_word(value: str) -> str | None:
    for word in _WORD.findall(value):
        if word.lower() not in VOCABULARY and not _GRADE.fullmatch(word.lower()):
            return f"the word {word!r} is not in the vocabulary"
    return None


def secrets_of(cells: Iterable[str]) -> frozenset[str]:
    """Identifiers from the cells of a site's list: whole, and the parts of names; nothing shorter than three."""
    found: set[str] = set()
    for cell in cells:
        low = cell.strip().lower()
        found.update(part for part in (low, *re.split(r"[\^,;\s]+", low)) if len(part) >= 3)
    return frozenset(found)
