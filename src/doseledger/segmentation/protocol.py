"""What a segmentation worker is asked and what it answers: one JSON file each way, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

REQUEST: Final = "request.json"
RESULT: Final = "result.json"

Device = Literal["cpu", "gpu"]
Mode = Literal["default", "fast", "fastest"]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls.model_validate_json(path.read_bytes())

    def write(self, path: Path) -> None:
        """Write under another name and rename: a reader never sees half a file."""
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        partial.replace(path)


class CtRequest(_Message):
    """One image to segment, and where the label map goes."""

    key: str
    ct: Path
    labels: Path


class TotalsegmentatorRequest(_Message):
    """What to run: a task of TotalSegmentator."""

    engine: Literal["totalsegmentator"] = "totalsegmentator"
    task: str
    mode: Mode
    roi_subset: tuple[str, ...]


class NnunetRequest(_Message):
    """What to run: one nnU-Net v2 model folder."""

    engine: Literal["nnunet"] = "nnunet"
    folds: tuple[str, ...]
    mirroring: bool


class WorkerRequest(_Message):
    """Everything that a worker knows.

    Attributes
    ----------
    networks
        Model folders below `weights_folder` whose files were verified; no other one is loaded.
    label_count
        Highest label that may occur.
    """

    weights_folder: Path
    networks: tuple[str, ...]
    label_count: int
    run: TotalsegmentatorRequest | NnunetRequest = Field(discriminator="engine")
    device: Device
    threads: int = Field(ge=1)
    cts: tuple[CtRequest, ...] = Field(min_length=1)


class CtResult(_Message):
    """One image: what it cost, whether any voxel was labelled, or why there is no label map.

    `peak_memory_mib` is the highest resident memory of the process up to the end of this image.
    """

    key: str
    cpu_s: float
    peak_memory_mib: float
    empty: bool = False
    error: str | None = None


class Refusal(_Message):
    """The data of a `SegmentationError` that a worker raised."""

    what: str
    path: str | None
    tag: str | None
    value: str | None
    expected: str | None
    remedy: str


class WorkerResult(_Message):
    """How a worker ended.

    Attributes
    ----------
    refusal
        Set if and only if `status` is ``refused``.
    message
        Type and text of the exception, if `status` is ``failed``.
    network_attempts
        Connections that something in the worker tried to open; each was prevented.
    """

    status: Literal["ok", "refused", "failed"]
    refusal: Refusal | None = None
    message: str | None = None
    cts: tuple[CtResult, ...] = ()
    network_attempts: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
