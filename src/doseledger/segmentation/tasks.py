"""What TotalSegmentator's own tables say of a task: its classes, and the networks it loads.

The tables are plain data: nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from totalsegmentator.map_tasks_config import DEFAULT_CONFIG, TASK_CONFIGS, TASK_ID_WEIGHTS_CONFIGS
from totalsegmentator.map_to_binary import class_map, class_map_5_parts, map_taskid_to_partname_ct
from totalsegmentator.registry import requires_license

from doseledger.errors import SegmentationError
from doseledger.segmentation.protocol import Mode

#: The version whose tables and functions are used here and patched in the worker.
TOTALSEGMENTATOR: Final = "2.18.0"
#: Tasks that are offered: CT, open licence, and useful for organ doses.
TASKS: Final = ("total", "body", "head_glands_cavities")
#: The whole-body network at 6 mm that finds where to crop (`python_api`, roi_subset and crop).
CROP_TASK_ID: Final = 298
#: `nnUNet_predict_image` loads this file, with these plans.
CHECKPOINT: Final = "checkpoint_final.pth"
PLANS: Final = "nnUNetPlans"


@dataclass(frozen=True)
class Network:
    """One trained network.

    Attributes
    ----------
    task_id
        Number of its data set in TotalSegmentator; None for a network of another source.
    folder
        Model folder below the weights folder, with ``/``.
    folds
        Names of the trained folds that are averaged.
    """

    task_id: int | None
    folder: str
    folds: tuple[str, ...] = ("0",)

    @property
    def dataset(self) -> str:
        """Folder of the data set, which is downloaded as a whole."""
        return self.folder.split("/")[0]

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read, below the weights folder."""
        names = ("plans.json", "dataset.json", *(f"fold_{fold}/{CHECKPOINT}" for fold in self.folds))
        return tuple(f"{self.folder}/{name}" for name in names)


def check_version() -> None:
    """Refuse any TotalSegmentator but the one that was tested.

    Raises
    ------
    SegmentationError
        Another version is installed, or none.
    """
    try:
        installed = version("TotalSegmentator")
    except PackageNotFoundError:
        installed = "none"
    if installed != TOTALSEGMENTATOR:
        raise SegmentationError(
            "this version of TotalSegmentator is not the one that was tested",
            value=installed,
            expected=TOTALSEGMENTATOR,
            remedy=f"Install TotalSegmentator=={TOTALSEGMENTATOR}.",
        )


def class_names(task: str, roi_subset: Collection[str] = ()) -> dict[int, str]:
    """Classes by their label, of the whole task or of `roi_subset`.

    Raises
    ------
    SegmentationError
        Unknown or licensed task; a subset of a task that has none; a class that the task does not know.
    """
    _check_task(task)
    names: dict[int, str] = class_map[task]
    if not roi_subset:
        return dict(names)
    if task != "total":
        raise SegmentationError(
            "only task total takes a subset of its classes",
            tag="roi_subset",
            value=task,
            remedy="Leave roi_subset empty for this task.",
        )
    unknown = sorted(set(roi_subset) - set(names.values()))
    if unknown:
        raise SegmentationError(
            f"task {task} has no such class",
            tag="roi_subset",
            value=unknown,
            remedy=f"Use class names of TotalSegmentator (`TotalSegmentator --list-classes {task}` prints them).",
        )
    return {label: name for label, name in names.items() if name in roi_subset}


def networks_needed(task: str, mode: Mode = "default", roi_subset: Collection[str] = ()) -> tuple[Network, ...]:
    """Networks that TotalSegmentator loads, the one that finds the crop first.

    Raises
    ------
    SegmentationError
        As `class_names`; or the task has no such mode.
    """
    class_names(task, roi_subset)
    settings = _settings(task, mode)
    ids = settings["task_id"] if isinstance(settings["task_id"], list) else [settings["task_id"]]
    if roi_subset and len(ids) > 1:
        ids = [i for i in ids if set(class_map_5_parts[map_taskid_to_partname_ct[i]].values()) & set(roi_subset)]
    found = [_network(i, settings) for i in ids]
    if roi_subset or settings["crop"]:
        found.insert(0, _network(CROP_TASK_ID, _settings("total", "fastest")))
    return tuple(dict.fromkeys(found))


def _check_task(task: str) -> None:
    check_version()
    if task in TASK_CONFIGS and (requires_license(task) or TASK_CONFIGS[task].get("commercial")):
        raise SegmentationError(
            "the task needs a licence key of TotalSegmentator, which doseledger does not use",
            tag="task",
            value=task,
            expected=TASKS,
            remedy="Use an open task, or import the licensed tool's masks as contours.",
        )
    if task not in TASKS:
        raise SegmentationError(
            "the task is not offered", tag="task", value=task, expected=TASKS, remedy="Use one of the tasks listed."
        )


def _settings(task: str, mode: Mode) -> dict[str, Any]:
    raw = TASK_CONFIGS[task]
    modes = raw.get("sub_modes", {"default": raw})
    if mode not in modes:
        # The tool itself takes another mode without a word, or stops.
        raise SegmentationError(
            f"task {task} has no such mode",
            tag="mode",
            value=mode,
            expected=sorted(modes),
            remedy="Use one of the modes listed.",
        )
    return {**DEFAULT_CONFIG, **modes[mode]}


def _network(task_id: int, settings: dict[str, Any]) -> Network:
    dataset = TASK_ID_WEIGHTS_CONFIGS[task_id]["foldername"]
    folds = tuple(str(fold) for fold in settings["folds"])
    return Network(task_id, f"{dataset}/{settings['trainer']}__{PLANS}__{settings['model']}", folds)
