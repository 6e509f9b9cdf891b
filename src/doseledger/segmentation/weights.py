"""Weights of the networks: where they lie, whether they are whole and unchanged, whom they may be used on.

A weights folder holds TotalSegmentator's ``DatasetNNN_*`` folders and ``weights.json`` with the SHA-256
of every file that is read, written when the weights were fetched. Checkpoints are pickles, which run
code when they are loaded: none is loaded before its hash was compared. Jobs only read the folder;
`fetch_weights` and `register_weights` are the only writers, under a lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from doseledger.errors import WeightsError
from doseledger.segmentation.process import worker_environment
from doseledger.segmentation.protocol import Mode
from doseledger.segmentation.tasks import CHECKPOINT, Network, networks_needed

#: Hashes of the weights, in the weights folder.
REGISTER: Final = "weights.json"
#: Marks weights that were trained on virtual patients.
DEMO_MARK: Final = "doseledger_demo_weights.json"
#: The value of ``data_origin`` for virtual patients, and the key of a demo network's ``dataset.json``.
VIRTUAL: Final = "virtual"
DATA_ORIGIN: Final = "data_origin"

_LOCK: Final = ".weights.lock"
_FETCH: Final = (
    "Fetch the weights on a machine with internet access (`doseledger weights fetch`), then copy the folder."
)
_PINNED_NAMES: Final = ("plans.json", "dataset.json", CHECKPOINT)


@dataclass(frozen=True)
class Weights:
    """Verified weights of one task.

    Attributes
    ----------
    networks
        The only networks that a worker may load.
    weights_sha256
        Hash of the hashes of all files that are read; the same wherever the folder lies.
    virtual_only
        The networks were trained on virtual patients and know no other.
    """

    folder: Path
    networks: tuple[Network, ...]
    weights_sha256: str
    virtual_only: bool


def weights_folder(configured: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the config, else ``TOTALSEG_WEIGHTS_PATH``, else TotalSegmentator's default."""
    if configured is not None:
        return configured
    if path := environment.get("TOTALSEG_WEIGHTS_PATH"):
        return Path(path)
    home = environment.get("TOTALSEG_HOME_DIR")
    return (Path(home) if home else Path.home() / ".totalsegmentator") / "nnunet" / "results"


def find_weights(folder: Path, task: str, mode: Mode = "default", roi_subset: Collection[str] = ()) -> Weights:
    """Weights that TotalSegmentator loads for a task, after checking that they are whole and unchanged.

    Raises
    ------
    SegmentationError
        The task, mode or subset is not offered.
    WeightsError
        No folder; files missing, not registered, or changed since they were registered.
    """
    networks = networks_needed(task, mode, roi_subset)
    if not folder.is_dir():
        raise WeightsError("the weights folder does not exist", path=folder, remedy=_FETCH)
    return verify(folder, networks)


def verify(folder: Path, networks: tuple[Network, ...]) -> Weights:
    """Compare every file of `networks` with the register of the folder.

    Raises
    ------
    WeightsError
        Files missing, not registered, or changed since they were registered.
    """
    names = sorted({name for network in networks for name in network.files})
    for name in names:
        if not (folder / name).is_file():
            raise WeightsError("the weights are incomplete: a file is missing", path=name, remedy=_FETCH)
    pins = _read_register(folder)
    for name in names:
        if name not in pins:
            raise WeightsError(
                "the weights are not registered",
                path=name,
                expected=f"its SHA-256 in {REGISTER}",
                remedy="If you trust where they came from, run `doseledger weights register` once.",
            )
        if (found := _sha256(folder / name)) != pins[name]:
            raise WeightsError(
                "the weights have changed since they were registered",
                path=name,
                value=found,
                expected=pins[name],
                remedy="Delete this network's folder and fetch it again; do not load the file.",
            )
    listing = "".join(f"{pins[name]}  {name}\n" for name in names)
    return Weights(folder, networks, hashlib.sha256(listing.encode()).hexdigest(), _virtual_only(folder, networks))


def check_allowed(weights: Weights, data_origin: str) -> None:
    """Keep demo weights away from patients.

    Raises
    ------
    WeightsError
        The networks know virtual patients only, and `data_origin` is another.
    """
    if weights.virtual_only and data_origin != VIRTUAL:
        raise WeightsError(
            "these demo weights know only virtual torsos and must not be used on patients",
            path=DEMO_MARK,
            tag=DATA_ORIGIN,
            value=data_origin,
            expected=VIRTUAL,
            remedy="Set the weights folder to TotalSegmentator's own weights (`doseledger weights fetch`).",
        )


def register_weights(folder: Path) -> Path:
    """Pin the SHA-256 of all weights in the folder that are not pinned yet, and return the register.

    Raises
    ------
    WeightsError
        No weights in the folder, or a registered file that has changed.
    """
    with _locked(folder):
        return _register(folder)


def fetch_weights(folder: Path, task: str, mode: Mode = "default", roi_subset: Collection[str] = ()) -> Weights:
    """Download what a task lacks by TotalSegmentator's own function, register it, and verify all.

    Two that fetch at the same time wait for each other; a data set is in its place whole or not at all.

    Raises
    ------
    SegmentationError, WeightsError
        As `find_weights`; the download failed or did not bring what the task loads.
    """
    networks = networks_needed(task, mode, roi_subset)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        for network in networks:
            if not (folder / network.dataset).exists():
                _fetch(folder, network)
        _register(folder)
    return verify(folder, networks)


def _fetch(folder: Path, network: Network) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as name:
        room = Path(name)
        (room / "weights").mkdir()
        _download(network, room)
        missing = [file for file in network.files if not (room / "weights" / file).is_file()]
        if missing:
            raise WeightsError("the download is incomplete", path=missing[0], remedy="Fetch the weights again.")
        (room / "weights" / network.dataset).rename(folder / network.dataset)


def _download(network: Network, room: Path) -> None:
    """In a process of its own: the function takes its folders from the environment and imports torch."""
    code = f"from totalsegmentator.libs import download_pretrained_weights as d; d({network.task_id!r})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=worker_environment(room, room / "weights", threads=1),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise WeightsError(f"the download failed: {reason}", path=network.dataset, remedy=_FETCH)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _register(folder: Path) -> Path:
    # Not below hidden folders: an interrupted download may have left one.
    files = [p for top in folder.iterdir() if not top.name.startswith(".") for p in _weights_below(top)]
    if not files:
        raise WeightsError("the folder holds no weights", path=folder, remedy=_FETCH)
    path = folder / REGISTER
    pins = _read_register(folder) if path.exists() else {}
    for file in sorted(files):
        name, found = file.relative_to(folder).as_posix(), _sha256(file)
        if pins.setdefault(name, found) != found:
            raise WeightsError(
                "the weights have changed since they were registered",
                path=name,
                value=found,
                expected=pins[name],
                remedy=f"Delete {REGISTER} if you replaced the weights on purpose, and register them again.",
            )
    partial = folder / f"{REGISTER}.partial"
    partial.write_text(json.dumps({"sha256": pins}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def _weights_below(top: Path) -> Iterable[Path]:
    return (p for p in (top.rglob("*") if top.is_dir() else [top]) if p.name in _PINNED_NAMES)


def _read_register(folder: Path) -> dict[str, str]:
    path = folder / REGISTER
    if not path.is_file():
        return {}
    try:
        pins = json.loads(path.read_text(encoding="utf-8"))["sha256"]
        return {str(name): str(sha256) for name, sha256 in pins.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            "the register of the weights cannot be read",
            path=REGISTER,
            remedy="Restore it from where the weights came from, or delete it and register the weights again.",
        ) from error


def _virtual_only(folder: Path, networks: Iterable[Network]) -> bool:
    """Either mark is enough, so that neither a copied network nor a lost file can hide what they are."""
    if (folder / DEMO_MARK).exists():
        return True
    datasets = (json.loads((folder / f"{n.folder}/dataset.json").read_text(encoding="utf-8")) for n in networks)
    return any(dataset.get(DATA_ORIGIN) == VIRTUAL for dataset in datasets)


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    """Size and time are part of the key: within a process, an unchanged file is read once."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
