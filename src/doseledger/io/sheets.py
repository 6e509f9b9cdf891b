"""Config and sheets: the contract with the site, as pydantic models, and the plan made of them.

A defect of one row refuses the cycle it belongs to; a sheet that cannot be read at all refuses
every cycle that needs it. Only what leaves no cycle to speak of stops the start.

The validated plan is kept in the results folder under a hash of config, sheets and software
version, so that the many processes of one run (a cluster job parses the workflow twice) read
plain JSON of their own cycle instead of validating all again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import doseledger.data
from doseledger import __version__
from doseledger.cohort import LABEL, Cycle, Key, Plan, Row, claim_results, uses_prior
from doseledger.errors import (
    AdministrationMissingError,
    DoseledgerError,
    PriorError,
    RecordedError,
    SheetError,
    record,
)
from doseledger.io.kept_plan import KeptCycles, keep, read_index

if TYPE_CHECKING:
    from doseledger.io.models import SheetRow

PLANS: Final = ".plans"
#: Prior of the kinetics where the config names none.
DEFAULT_PRIOR: Final = Path(doseledger.data.__file__).parent / "kinetic_prior.json"
#: Layout of a kept plan: what was kept by code with another one is not read.
PLAN_LAYOUT: Final = 3
#: How an empty cell is written; "n/a" is the convention of BIDS.
EMPTY_CELLS: Final = frozenset({"", "n/a"})
_KEY_COLUMNS: Final = ("site", "patient", "cycle")
#: No name or path holds one.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_UNIT_SUFFIX: Final = re.compile(r"_(g|k|m)?(bq_per_ml|bq|gy|min|s|h|mm|cm|kg|g|years|us|rel|mbq)$")


def load_plan(config: Mapping[str, Any], base: str | Path) -> Plan:
    """The plan of a cohort from its config; sheet paths are relative to `base`.

    Raises
    ------
    SheetError
        The config is invalid, or the scan or administration sheet has no readable key columns.
    ForeignResultsError
        The results folder belongs to another cohort.
    """
    base = Path(base).resolve()
    settings = {k: v for k, v in config.items() if k not in ("available",)}
    results = (base / str(settings.get("results", ""))).resolve()
    kept = results / PLANS / _fingerprint(settings, base)
    if not kept.exists():
        data = _validate(settings, base)
        claim_results(results, data["cohort"])
        kept.parent.mkdir(exist_ok=True)
        keep(kept, data)
    index = read_index(kept)
    claim_results(results, index["cohort"])
    return _plan(kept, index, results, base)


def read_sheet(path: Path, model: type[SheetRow], *, unique: tuple[str, ...] = ()) -> list[Row]:
    """Rows of a sheet that is not read as part of a cohort, as plain data.

    Raises
    ------
    RecordedError, SheetError
        The first thing wrong with it.
    """
    sheet = _Sheet(path, model, unique=unique)
    sheet.require_keys()
    problems = [*sheet.problems, *(problem for key in sorted(sheet.keys()) for problem in sheet.problems_of(key))]
    if problems:
        raise RecordedError(**problems[0])
    return sheet.rows


def _fingerprint(settings: Mapping[str, Any], base: Path) -> str:
    digest = hashlib.sha256(
        json.dumps([__version__, PLAN_LAYOUT, settings, str(base)], sort_keys=True, default=str).encode()
    )
    # By name: where the package lies must not change what is read first.
    for name, path in sorted({**_sheet_paths(settings, base), "default prior": DEFAULT_PRIOR}.items()):
        content = path.read_bytes() if path.is_file() else b"absent"
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _sheet_paths(settings: Mapping[str, Any], base: Path) -> dict[str, Path]:
    sheets = settings.get("sheets")
    return {k: base / str(v) for k, v in sheets.items() if v is not None} if isinstance(sheets, Mapping) else {}


def _plan(kept: Path, data: Mapping[str, Any], results: Path, base: Path) -> Plan:
    kinetics = data["settings"]["kinetics"]
    persons = {(p["site"], p["patient"]): p for p in data["patients"]}

    def cycle(c: Row) -> Cycle:
        return Cycle(
            site=c["site"],
            patient=c["patient"],
            cycle=c["cycle"],
            administration=c["administration"],
            scans=tuple(c["scans"]),
            cameras=tuple(c["cameras"]),
            regions=tuple(data["regions"]),
            data_origin=data["data_origin"],
            base=str(base),
            review=tuple(c["review"]),
            curve_models=tuple(c["curve_models"]),
            blood_samples=tuple(c["blood_samples"]),
            person=persons.get((c["site"], c["patient"])),
            problems=tuple(c["problems"]),
            prior=_own_prior(data["prior"], c) if uses_prior(kinetics, len(c["scans"]), c["curve_models"]) else None,
        )

    return Plan(
        cohort=data["cohort"],
        results=results,
        settings=data["settings"],
        cycles=KeptCycles(kept, data, cycle),
        patients=persons,
        limits=tuple(data["limits"]),
        phantom_qc=tuple(data["phantom_qc"]),
        base=base,
        data_origin=data["data_origin"],
    )


def _own_prior(prior: Row | None, cycle: Row) -> Row | None:
    """The prior with the entries of the cycle's radiopharmaceutical alone."""
    given = (cycle["administration"] or {}).get("radiopharmaceutical")
    if prior is None:
        return None
    return prior | {"entries": [entry for entry in prior["entries"] if entry["radiopharmaceutical"] == given]}


# --- validation, once per content -------------------------------------------------------------


def _validate(settings: Mapping[str, Any], base: Path) -> Row:
    from doseledger.io import models

    config = models.parse_config(settings)
    paths = _sheet_paths(settings, base)
    scans = _Sheet(paths["scans"], models.Scan)
    administrations = _Sheet(paths["administrations"], models.Administration)
    cameras = _Sheet(paths["cameras"], models.Camera, unique=("site", "camera"))
    regions = _Sheet(paths["regions"], models.Region, unique=("source_name",))
    limits = _Sheet(paths.get("limits"), models.Limit)
    patients = _Sheet(paths.get("patients"), models.Patient, unique=("site", "patient"))
    review = _Sheet(paths.get("review"), models.Review, unique=("site", "patient", "cycle", "time_point"))
    curve_models = _Sheet(paths.get("curve_models"), models.CurveModel, unique=("radiopharmaceutical", "region"))
    blood = _Sheet(paths.get("blood_samples"), models.BloodSample)
    for sheet in (scans, administrations, review, blood):
        sheet.require_keys()

    keys = sorted({*scans.keys(), *administrations.keys()})
    if not keys:
        raise SheetError("the sheets name no cycle", path=paths["scans"])
    studies, unusable = _phantom_qc(paths.get("phantom_qc"), cameras.rows, config.data_origin)
    shared = [*unusable, *cameras.problems, *regions.problems, *limits.problems, *patients.problems]
    shared += curve_models.problems
    if config.segment.lesion_policy == "included":
        shared += [record(e) for e in _outlined_lesions(regions.rows, paths["regions"])]
    kinetics = config.stage_settings()["kinetics"]
    prior, no_prior = _prior(paths.get("kinetic_prior"), (base / config.results).resolve())
    # A rejection that belongs to no scan belongs to another one: nothing may go on as if nobody had said it.
    shared += [record(e) for e in _strays(review, scans, paths)]
    shared += [record(e) for e in _blood_strays(blood, keys, paths)]
    needs_haematocrit = config.dose.marrow.blood_ratio == "haematocrit"
    cycles = []
    for key in keys:
        own_scans = sorted(scans.rows_of(key), key=lambda r: int(r["time_point"]))
        problems = [*scans.problems_of(key), *administrations.problems_of(key), *review.problems_of(key), *shared]
        administration = next(iter(administrations.rows_of(key)), None)
        own_models = [
            row
            for row in curve_models.rows
            if administration and row["radiopharmaceutical"] == administration["radiopharmaceutical"]
        ]
        if uses_prior(kinetics, len(own_scans), own_models):
            problems += no_prior
        problems += [record(e) for e in _defects(key, own_scans, administration, administrations, cameras, paths)]
        problems += blood.problems_of(key)
        samples, unusable_samples = _samples(blood.rows_of(key), administration, paths, needs_haematocrit)
        problems += unusable_samples
        cycles.append(
            {
                "site": key[0],
                "patient": key[1],
                "cycle": key[2],
                "administration": administration,
                # A cycle whose scan rows are all defective still had scans: it is refused, not "not imaged".
                "scans": own_scans or [{"time_point": 1, "defective": True}] * bool(scans.problems_of(key)),
                "cameras": [c for c in cameras.rows if c["site"] == key[0]],
                "review": review.rows_of(key),
                "curve_models": own_models,
                "blood_samples": samples,
                "problems": problems,
            }
        )
    return {
        "cohort": config.cohort,
        "data_origin": config.data_origin,
        "settings": config.stage_settings(),
        "cycles": cycles,
        "regions": regions.rows,
        "limits": limits.rows,
        "prior": prior,
        "patients": patients.rows,
        "phantom_qc": studies,
    }


def _prior(path: Path | None, results: Path) -> tuple[Row | None, list[Row]]:
    """The prior as plain data, or why it must not be used."""
    from doseledger.io.prior_rows import prior_row
    from doseledger.io.priors import read_prior

    try:
        if path is not None and path.resolve().is_relative_to(results):
            raise PriorError(
                "the prior lies in the results of the cohort that reads it",
                path=path.name,
                tag="sheets.kinetic_prior",
                remedy="Look at what was learnt, copy it beside the config and name the copy: a prior is frozen.",
            )
        return prior_row(read_prior(path or DEFAULT_PRIOR)), []
    except DoseledgerError as error:
        # The ledger names files as the config does, never by a path of this machine.
        error.path = None if error.path is None else Path(error.path).name
        return None, [record(error)]


def _phantom_qc(path: Path | None, cameras: Sequence[Row], data_origin: str) -> tuple[list[Row], list[Row]]:
    """Phantom studies of the cohort's cameras, and why they must not be used."""
    if path is None:
        return [], []
    from doseledger.io.tables import read_part

    try:
        rows: list[Row] = read_part(path, "phantom_qc").to_pylist()
        known = {(camera["site"], camera["camera"]) for camera in cameras}
        for row in rows:
            if (row["site"], row["camera"]) not in known:
                raise SheetError(
                    "a phantom study is of a camera that the camera sheet does not have",
                    path=path.name,
                    tag="camera",
                    value=f"{row['site']} {row['camera']}",
                )
            if row["data_origin"] != data_origin:
                raise SheetError(
                    "a phantom study is of another origin than the cohort",
                    path=path.name,
                    tag="data_origin",
                    value=row["data_origin"],
                    expected=data_origin,
                )
    except SheetError as error:
        return [], [record(error)]
    return rows, []


def _strays(review: _Sheet, scans: _Sheet, paths: Mapping[str, Path]) -> Iterator[DoseledgerError]:
    known = {tuple(row[c] for c in (*_KEY_COLUMNS, "time_point")) for row in scans.rows}
    # Of a cycle with a defective scan row nobody can say which time points it has.
    unclear = {key for key in sorted(scans.keys()) if scans.problems_of(key)}
    for row in review.rows:
        key = tuple(row[c] for c in _KEY_COLUMNS)
        if key not in unclear and (*key, row["time_point"]) not in known:
            yield SheetError(
                "the review is of a time point that the scan sheet does not have",
                path=paths["review"].name,
                tag="time_point",
                value=" ".join(str(v) for v in (*key, row["time_point"])),
                expected="site, patient, cycle and time_point of a scan",
                remedy="Correct the key of the row.",
            )


def _outlined_lesions(regions: Sequence[Row], path: Path) -> Iterator[DoseledgerError]:
    """A lesion of the sheet takes its voxels from the organ, which the policy ``included`` denies."""
    for row in regions:
        if row["kind"] == "lesion":
            yield SheetError(
                "an outlined lesion cannot be part of the organ around it",
                path=path.name,
                tag="kind",
                value=row["source_name"],
                expected="no row of kind lesion with segment.lesion_policy included",
                remedy="Take the rows of lesions out of the sheet, or choose excluded.",
            )


def _blood_strays(blood: _Sheet, keys: Sequence[Key], paths: Mapping[str, Path]) -> Iterator[DoseledgerError]:
    for key in sorted(blood.keys() - set(keys)):
        yield SheetError(
            "a blood sample is of a cycle that the other sheets do not have",
            path=paths["blood_samples"].name,
            tag="cycle",
            value=" ".join(str(v) for v in key),
            expected="site, patient and cycle of an administration",
            remedy="Correct the key of the row.",
        )


def _samples(
    rows: list[Row], administration: Row | None, paths: Mapping[str, Path], needs_haematocrit: bool
) -> tuple[list[Row], list[Row]]:
    """Blood samples of a cycle, and why they must not be used; without an administration they have no time."""
    if not rows or administration is None:
        return [], []
    from doseledger.io.blood_samples import checked_samples

    path = paths["blood_samples"].name
    try:
        return checked_samples(rows, administration, path, needs_haematocrit=needs_haematocrit), []
    except DoseledgerError as error:
        return [], [record(error)]


def _defects(
    key: Key,
    scans: list[Row],
    administration: Row | None,
    administrations: _Sheet,
    cameras: _Sheet,
    paths: Mapping[str, Path],
) -> Iterator[DoseledgerError]:
    """What is wrong with a cycle although each of its rows is well formed."""
    sheet = paths["administrations"].name
    if administration is None and not administrations.problems_of(key):
        yield AdministrationMissingError("the cycle has scans but no administration", path=sheet)
    if len(administrations.rows_of(key)) > 1:
        yield SheetError("the cycle has two administrations", path=sheet)
    points = [r["time_point"] for r in scans]
    if len(set(points)) < len(points):
        yield SheetError("a time point is listed twice", path=paths["scans"].name, tag="time_point", value=points)
    known = {(c["site"], c["camera"]) for c in cameras.rows}
    for scan in scans:
        if not cameras.problems and (key[0], scan["camera"]) not in known:
            yield SheetError(
                "the camera is not in the camera sheet",
                path=paths["scans"].name,
                tag="camera",
                value=scan["camera"],
                remedy="Add its row, with the uncertainty of its calibration, to cameras.tsv.",
            )
            break


class _Sheet:
    """A tab-separated sheet: good rows, and the problems of the others by cycle.

    Two rows with the same values in the `unique` columns contradict each other.
    """

    def __init__(self, path: Path | None, model: type[SheetRow], *, unique: tuple[str, ...] = ()) -> None:
        self.rows: list[Row] = []
        self.problems: list[Row] = []
        self._by_key: dict[Key, list[Row]] = {}
        self._problems_by_key: dict[Key, list[Row]] = {}
        self._unique = unique
        self._seen: set[tuple[str | None, ...]] = set()
        self._unkeyed: DoseledgerError | None = None
        if path is None:
            return
        try:
            self._read(path, model)
        except OSError:
            self._refuse_all(SheetError("the sheet cannot be read", path=path.name), unkeyed=True)
        except UnicodeDecodeError:
            self._refuse_all(SheetError("the sheet is not UTF-8 text", path=path.name), unkeyed=True)
        except csv.Error as error:
            self._refuse_all(SheetError(f"the sheet is not a table: {error}", path=path.name), unkeyed=True)

    def keys(self) -> set[Key]:
        return {*self._by_key, *self._problems_by_key}

    def rows_of(self, key: Key) -> list[Row]:
        return self._by_key.get(key, [])

    def problems_of(self, key: Key) -> list[Row]:
        return [*self.problems, *self._problems_by_key.get(key, [])]

    def require_keys(self) -> None:
        """Without keys there is no cycle that could be refused: stop here."""
        if self._unkeyed is not None:
            raise self._unkeyed

    def _read(self, path: Path, model: type[SheetRow]) -> None:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            # Without quoting every line is a row: a stray quotation mark cannot swallow the next ones.
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            columns = tuple(reader.fieldnames or ())
            if error := self._column_error(columns, path, model):
                self._refuse_all(error, unkeyed=any(columns.count(k) != 1 for k in _KEY_COLUMNS))
            for cells in reader:
                self._take(cells, reader.line_num, path, model)

    def _column_error(self, columns: tuple[str, ...], path: Path, model: type[SheetRow]) -> SheetError | None:
        known = set(model.model_fields)
        for column in columns:
            if columns.count(column) > 1:
                return SheetError("the sheet has a column twice", path=path.name, tag=column)
            if column not in known:
                stem = _UNIT_SUFFIX.sub("", column)
                meant = sorted(k for k in known if _UNIT_SUFFIX.sub("", k) == stem) or sorted(known)
                return SheetError(
                    "the sheet has a column that is not known", path=path.name, tag=column, value=column, expected=meant
                )
        required = [k for k, f in model.model_fields.items() if f.is_required()]
        if missing := [k for k in required if k not in columns]:
            return SheetError("the sheet lacks a column", path=path.name, tag=missing[0], expected=missing)
        return None

    def _take(self, cells: Mapping[str | None, Any], number: int, path: Path, model: type[SheetRow]) -> None:
        from doseledger.io.models import first_error

        row = {k: v.strip() for k, v in cells.items() if isinstance(k, str) and isinstance(v, str)}
        filled = {k: v for k, v in row.items() if v not in EMPTY_CELLS}
        key = _key(row)
        if not filled:
            return
        keyed = set(_KEY_COLUMNS) <= set(model.model_fields)
        problem = self._cell_error(cells, filled, number, path)
        if problem is None:
            parsed, problem = first_error(model, filled, path.name, number)
            if parsed is not None:
                self.rows.append(parsed)
                if keyed:
                    # The parsed key, not the text: a spreadsheet writes the cycle 1 as 1.0.
                    self._by_key.setdefault((parsed["site"], parsed["patient"], parsed["cycle"]), []).append(parsed)
                return
        assert problem is not None
        if keyed and key is None:
            self._unkeyed = self._unkeyed or problem
        elif keyed and key is not None:
            self._problems_by_key.setdefault(key, []).append(record(problem))
        else:
            self.problems.append(record(problem))

    def _cell_error(
        self, cells: Mapping[str | None, Any], filled: Mapping[str, str], number: int, path: Path
    ) -> SheetError | None:
        if None in cells:
            return SheetError(f"line {number} has more cells than columns", path=path.name)
        for column, cell in filled.items():
            if cell.startswith('"'):
                what = f"line {number}: a cell begins with a quotation mark; cells are not quoted"
                return SheetError(what, path=path.name, tag=column)
            if _CONTROL.search(cell):
                return SheetError(f"line {number}: a cell holds a control character", path=path.name, tag=column)
        own = tuple(filled.get(column) for column in self._unique)
        if own and own in self._seen:
            return SheetError(
                f"line {number} repeats an earlier row", path=path.name, tag=self._unique[-1], value=own[-1]
            )
        self._seen.add(own)
        return None

    def _refuse_all(self, error: DoseledgerError, *, unkeyed: bool = False) -> None:
        self.problems.append(record(error))
        if unkeyed:
            self._unkeyed = self._unkeyed or error


def _key(row: Mapping[str, str]) -> Key | None:
    site, patient, cycle = (row.get(c, "") for c in _KEY_COLUMNS)
    if LABEL.fullmatch(site) and LABEL.fullmatch(patient) and cycle.isdecimal() and int(cycle) > 0:
        return (site, patient, int(cycle))
    return None


def config_folder(configfiles: Sequence[str | Path]) -> Path:
    """Folder of the one config file of a run: sheet and result paths are relative to it.

    Raises
    ------
    SheetError
        None or several were given.
    """
    if len(configfiles) != 1:
        raise SheetError(
            "the workflow needs one config file",
            value=[str(path) for path in configfiles],
            remedy="Name it: snakemake --configfile my.yaml (config/config.yaml is a template).",
        )
    return Path(configfiles[0]).resolve().parent
