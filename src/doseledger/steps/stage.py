"""The stage contract, in one place so that no stage can break it.

* A stage writes into a temporary folder beside its output and is renamed when it is whole;
  ``outcome.json`` is written last and lists name, size and SHA-256 of every file.
* ``ok``; ``refused`` (a `DoseledgerError`: an outcome without data, which later stages copy
  forward); anything else is raised: the job fails, and a note of why stays beside the output.
* A stage checks the sizes of its inputs against their manifests before it uses them.
* No time and no path of the machine goes into an outcome.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from doseledger import __version__
from doseledger.cohort import PARTIAL
from doseledger.errors import DoseledgerError, StageDamagedError
from doseledger.steps.usage import measured

OUTCOME: Final = "outcome.json"
FAILURE: Final = "failure.json"
#: Folders of an absolute path: the messages of libraries name the machine's, the ledger must not.
_FOLDERS: Final = re.compile(r"(?<![\w.])/(?:[^\s/'\":;]+/)+")
_ATTEMPT: Final = re.compile(rf"{PARTIAL}(?P<host>.*)\.(?P<process>\d+)\.\w+$")
Row = dict[str, Any]
#: Inputs that are stages of another cycle: named in the outcome, but their settings are not in its chain of settings.
ASIDE: Final = ("donors",)


@dataclass(frozen=True)
class Job:
    """What a stage gets: input folders by stage, the folder to write to, settings, sheet rows, and a machine.

    `threads` and `gpus` are what the scheduler has granted; no number depends on them.
    """

    inputs: Mapping[str, tuple[Path, ...]]
    out: Path
    settings: Row
    rows: Row
    threads: int = 1
    gpus: int = 0

    def one(self, stage: str) -> Path:
        """The single input folder of a stage."""
        (folder,) = self.inputs[stage]
        return folder

    @property
    def key(self) -> Row:
        """Key columns of every row that the stage writes."""
        return {k: self.rows[k] for k in ("site", "patient", "cycle") if k in self.rows}

    @property
    def where(self) -> str:
        return where(self.key)


class StepModule(Protocol):
    """A steps module: its version, whether it goes on over refused inputs (all, none, those named), and its work."""

    STAGE_VERSION: int
    TAKES_REFUSED: bool | tuple[str, ...]

    def step(self, job: Job) -> None: ...


class _Snakemake(Protocol):
    input: Any
    output: Any
    params: Any
    log: Any
    threads: int
    resources: Any


def run(stage: str, snakemake: _Snakemake) -> None:
    """Run a stage for a rule: named inputs are stage folders, the one output is the stage's folder."""
    inputs = {
        name: tuple(Path(p) for p in ([paths] if isinstance(paths, str) else paths))
        for name, paths in snakemake.input.items()
    }
    log = str(snakemake.log[0]) if snakemake.log else None
    _log_to(log)
    output = Path(str(snakemake.output[0]))
    settings, rows = dict(snakemake.params.settings), dict(snakemake.params.rows)
    try:
        gpus = int(snakemake.resources.get("gpu", 0))
        with measured(stage, log, int(snakemake.threads)) as said:
            outcome = run_stage(
                stage,
                inputs=inputs,
                output=output,
                settings=settings,
                rows=rows,
                threads=int(snakemake.threads),
                gpus=gpus,
            )
            said["status"] = outcome["status"]
    except Exception:
        logging.getLogger(__name__).exception("%s failed", stage)
        raise
    key = " ".join(f"{name} {value}" for name, value in outcome["key"].items())
    reason = f": {outcome['sentence']}" if outcome["origin_stage"] == stage else ""
    sys.stdout.write(f"stage {stage:<11} {key} {outcome['status']}{reason}\n")


def run_stage(
    stage: str,
    *,
    inputs: Mapping[str, tuple[Path, ...]],
    output: Path,
    settings: Row,
    rows: Row,
    threads: int = 1,
    gpus: int = 0,
) -> Row:
    """Run one stage under the contract and return its outcome.

    Raises
    ------
    StageDamagedError
        An input does not hold what its manifest lists.
    Exception
        Whatever the stage raised that is not a `DoseledgerError`.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    # Host and process are in the name, so that `doseledger status` can tell a running job from a killed one.
    partial = Path(tempfile.mkdtemp(prefix=f".{stage}{PARTIAL}{platform.node()}.{os.getpid()}.", dir=output.parent))
    job = Job(inputs=inputs, out=partial, settings=settings, rows=rows, threads=threads, gpus=gpus)
    try:
        module: StepModule = importlib.import_module(f"doseledger.steps.{stage}")
        found = {name: [read_outcome(folder) for folder in folders] for name, folders in inputs.items()}
        upstream = [outcome for name in found if name not in ASIDE for outcome in found[name]]
        outcome = {
            "stage": stage,
            "key": job.key,
            "stage_version": module.STAGE_VERSION,
            "software_version": __version__,
            "settings": settings,
            "upstream": _settings_of(upstream),
        }
        if aside := [outcome["key"] for name in ASIDE for outcome in found.get(name, [])]:
            outcome["aside"] = aside
        refused = [o for name in found if not _takes_refused(module, name) for o in found[name] if _is_refused(o)]
        if refused:
            outcome |= {k: refused[0][k] for k in ("status", "code", "sentence", "file", "tag", "origin_stage")}
        else:
            outcome |= _attempt(module, stage, job)
        outcome["files"] = _manifest(partial)
        write_json(partial / OUTCOME, outcome)
    except BaseException as error:
        _note_failure(partial / FAILURE, error)
        raise
    _publish(partial, output, stage)
    logging.getLogger(__name__).info("%s %s: %s", stage, outcome["status"], outcome["sentence"] or job.where)
    return outcome


def _takes_refused(module: StepModule, name: str) -> bool:
    taken = module.TAKES_REFUSED
    return taken if isinstance(taken, bool) else name in taken


def _is_refused(outcome: Row) -> bool:
    return bool(outcome["status"] == "refused")


def _note_failure(note: Path, error: BaseException) -> None:
    try:
        write_json(note, {"code": type(error).__name__, "sentence": _FOLDERS.sub("", str(error))})
    except OSError:
        # A full disk has no room for the note either; half of one must not be read.
        note.unlink(missing_ok=True)


def _attempt(module: StepModule, stage: str, job: Job) -> Row:
    try:
        module.step(job)
    except DoseledgerError as error:
        for leftover in job.out.iterdir():
            leftover.unlink() if leftover.is_file() else shutil.rmtree(leftover)
        return {"status": "refused", **refusal(error, job.key, job.rows.get("base")), "origin_stage": stage}
    return {"status": "ok", "code": None, "sentence": None, "file": None, "tag": None, "origin_stage": None}


def where(key: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in key.items())


def refusal(error: DoseledgerError, key: Row, base: str | None) -> Row:
    """Code, sentence, file and tag of a refusal, as they stand in the ledger."""
    error.within(where(key))
    if error.path is not None and base:
        # The ledger names files as the site's sheets do, never by a path of this machine.
        error.path = error.path.removeprefix(f"{base}/")
    return {"code": error.code, "sentence": error.sentence, "file": error.path, "tag": error.tag}


def _settings_of(outcomes: list[Row]) -> Row:
    """Versions and settings of all stages that led here, by stage."""
    chain: Row = {}
    for outcome in outcomes:
        chain |= outcome["upstream"]
        chain[outcome["stage"]] = {"version": outcome["stage_version"], "settings": outcome["settings"]}
    return chain


def _manifest(folder: Path) -> list[Row]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [
        {"name": p.relative_to(folder).as_posix(), "size": p.stat().st_size, "sha256": file_sha256(p)} for p in files
    ]


def _publish(partial: Path, output: Path, stage: str) -> None:
    partial.chmod(0o777 & ~_umask())
    if output.exists():
        # A job that outlived a killed workflow got here first; the later one wins, whole.
        shutil.rmtree(output)
    partial.rename(output)
    for stale in output.parent.glob(f".{stage}{PARTIAL}*"):
        shutil.rmtree(stale, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def read_outcome(folder: Path, *, hashes: bool = False) -> Row:
    """Outcome of a finished stage, after checking that its files are all there.

    Raises
    ------
    StageDamagedError
        No readable outcome, a file missing, of another size, or (with `hashes`) of other content.
    """
    outcome = read_status(folder)
    for entry in outcome["files"]:
        path = f"{folder}/{entry['name']}"
        size = _size(path)
        if size != entry["size"]:
            raise StageDamagedError(folder, f"{entry['name']} has {size} bytes instead of {entry['size']}")
        if hashes and file_sha256(Path(path)) != entry["sha256"]:
            raise StageDamagedError(folder, f"the content of {entry['name']} has changed")
    return outcome


def _size(path: str) -> int | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def read_status(folder: Path) -> Row:
    """Outcome of a finished stage as it stands, without a look at the files.

    Raises
    ------
    StageDamagedError
        No readable outcome.
    """
    try:
        with open(f"{folder}/{OUTCOME}", encoding="utf-8") as stream:
            outcome: Row = json.load(stream)
        return outcome | {"files": outcome["files"]}
    except (OSError, ValueError, KeyError) as error:
        raise StageDamagedError(folder, f"no readable {OUTCOME} ({type(error).__name__})") from None


def attempt_of(output: Path) -> tuple[str, int] | None:
    """Host and process of the latest attempt at a stage that has not been published."""
    attempts = _attempts(output)
    match = _ATTEMPT.search(attempts[-1].name) if attempts else None
    return (match["host"], int(match["process"])) if match else None


def failure_of(output: Path) -> Row | None:
    """Why the latest attempt at a stage failed, from what it left behind; None if none did.

    A success removes what earlier attempts left, so that a failure beside an output is later than it.
    """
    attempts = _attempts(output)
    if not attempts:
        return None
    try:
        return dict(json.loads((attempts[-1] / FAILURE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        # No note, or half of one: it was killed before it could say more.
        pass
    return {
        "code": "killed",
        "sentence": "The job was killed before it could finish: out of memory, out of time, the disk full, "
        "or the machine gone. "
        "Run again; the log of the rule says more.",
    }


def _attempts(output: Path) -> list[Path]:
    try:
        names = os.listdir(output.parent)
    except FileNotFoundError:
        return []
    prefix = f".{output.name}{PARTIAL}"
    return sorted((output.parent / n for n in names if n.startswith(prefix)), key=lambda p: p.stat().st_mtime)


def settings_sha256(chain: Mapping[str, Any]) -> str:
    """Hash of the versions and settings of all stages that reached a row."""
    return hashlib.sha256(json.dumps(chain, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _log_to(path: str | None) -> None:
    handler = logging.FileHandler(path, mode="w", encoding="utf-8") if path else logging.StreamHandler(sys.stderr)
    form = "%(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, handlers=[handler], format=form, force=True)
    logging.captureWarnings(True)
