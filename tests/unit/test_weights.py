"""Which networks a task loads, that they are whole, unchanged and allowed, and how they are fetched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from doseledger.errors import SegmentationError, WeightsError
from doseledger.segmentation import tasks, weights
from doseledger.segmentation.tasks import Network, class_names, networks_needed
from doseledger.segmentation.weights import (
    DEMO_MARK,
    REGISTER,
    check_allowed,
    fetch_weights,
    find_weights,
    register_weights,
    weights_folder,
)

CHECKPOINT_6_MM = (
    "Dataset298_TotalSegmentator_total_6mm_1559subj/"
    "nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_fullres/fold_0/checkpoint_final.pth"
)


def write_network(folder: Path, network: Network, content: str = "numbers") -> None:
    """Files of a network's names; nothing here loads them."""
    for name in network.files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}" if path.suffix == ".json" else content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Registered weights of task total at 6 mm."""
    place = tmp_path / "weights"
    for network in networks_needed("total", "fastest"):
        write_network(place, network)
    register_weights(place)
    return place


def ids(*arguments: object) -> list[int | None]:
    return [network.task_id for network in networks_needed(*arguments)]  # type: ignore[arg-type]


def test_networks_of_each_task_and_mode_are_those_that_the_tool_loads() -> None:
    # Numbers of the data sets: TotalSegmentator 2.18.0, map_tasks_config and the code of python_api.
    assert ids("total") == [291, 292, 293, 294, 295]
    assert ids("total", "fast") == [297]
    assert ids("total", "fastest") == [298]
    assert ids("body") == [299]
    assert ids("body", "fast") == [300]
    assert ids("head_glands_cavities") == [298, 775]


def test_a_subset_needs_the_crop_and_only_the_parts_with_its_classes() -> None:
    assert ids("total", "default", ["kidney_left", "liver"]) == [298, 291]
    assert ids("total", "default", ["kidney_left", "vertebrae_L1"]) == [298, 291, 292]
    assert ids("total", "fast", ["liver"]) == [298, 297]
    assert ids("total", "fastest", ["liver"]) == [298]


def test_the_files_of_a_network_lie_where_the_tool_looks() -> None:
    (network,) = networks_needed("total", "fastest")
    assert network.files[-1] == CHECKPOINT_6_MM
    (glands,) = (n for n in networks_needed("head_glands_cavities") if n.task_id == 775)
    assert glands.folder.endswith("nnUNetTrainer_DASegOrd0_NoMirroring__nnUNetPlans__3d_fullres_high")


def test_classes_are_those_of_the_tool() -> None:
    names = class_names("total")
    assert len(names) == 117
    # Label ids of the label maps that the tool writes.
    assert {label: names[label] for label in (1, 2, 3, 5, 21, 31)} == {
        1: "spleen",
        2: "kidney_right",
        3: "kidney_left",
        5: "liver",
        21: "urinary_bladder",
        31: "vertebrae_L1",
    }
    assert class_names("total", ["liver", "spleen"]) == {1: "spleen", 5: "liver"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tissue_types",), "needs a licence key.*tag task.*tissue_types"),
        (("heartchambers_highres",), "needs a licence key"),
        (("total_mr",), "the task is not offered.*total_mr.*head_glands_cavities"),
        (("no_such_task",), "the task is not offered"),
        (("body", "fastest"), "task body has no such mode.*fastest.*default.*fast"),
        (("head_glands_cavities", "fast"), "has no such mode"),
        (("total", "fast", ["liver", "lever"]), "no such class.*roi_subset.*'lever'"),
        (("body", "default", ["body_trunc"]), "only task total takes a subset"),
    ],
)
def test_what_is_not_offered_is_refused(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(SegmentationError, match=words):
        networks_needed(*arguments)  # type: ignore[arg-type]


def test_another_version_of_the_tool_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "version", lambda name: "2.19.0")
    with pytest.raises(SegmentationError, match=r"found '2.19.0'; expected '2.18.0'.*Install TotalSegmentator==2.18.0"):
        networks_needed("total")


def test_the_folder_is_that_of_the_config_else_of_the_environment_else_the_tools() -> None:
    set_by_user = {"TOTALSEG_WEIGHTS_PATH": "w", "TOTALSEG_HOME_DIR": "h"}
    assert weights_folder(Path("c"), set_by_user) == Path("c")
    assert weights_folder(None, set_by_user) == Path("w")
    assert weights_folder(None, {"TOTALSEG_HOME_DIR": "h"}) == Path("h/nnunet/results")
    assert weights_folder(None, {}) == Path.home() / ".totalsegmentator/nnunet/results"


def test_whole_weights_have_a_hash_that_does_not_depend_on_the_place(folder: Path, tmp_path: Path) -> None:
    found = find_weights(folder, "total", "fastest")
    shutil.copytree(folder, tmp_path / "copy")
    assert find_weights(tmp_path / "copy", "total", "fastest").weights_sha256 == found.weights_sha256
    assert len(found.weights_sha256) == 64
    assert not found.virtual_only
    # Other weights, properly registered, have another hash.
    (tmp_path / "copy" / CHECKPOINT_6_MM).write_text("others")
    (tmp_path / "copy" / REGISTER).unlink()
    register_weights(tmp_path / "copy")
    assert find_weights(tmp_path / "copy", "total", "fastest").weights_sha256 != found.weights_sha256


def lose(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    path.write_text("numbeRs")  # of the same size


def forget(path: Path) -> None:
    register = path.parents[3] / REGISTER
    pins = json.loads(register.read_text())
    del pins["sha256"][CHECKPOINT_6_MM]
    register.write_text(json.dumps(pins))


def spoil(path: Path) -> None:
    (path.parents[3] / REGISTER).write_text('{"sha256": [')


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lose, "incomplete: a file is missing.*checkpoint_final.pth.*Fetch the weights"),
        (change, "have changed since they were registered.*checkpoint_final.pth.*do not load"),
        (forget, "are not registered.*checkpoint_final.pth.*doseledger weights register"),
        (spoil, "register of the weights cannot be read.*weights.json"),
    ],
)
def test_weights_that_must_not_be_loaded_are_refused(damage: Callable[[Path], None], words: str, folder: Path) -> None:
    find_weights(folder, "total", "fastest")  # what was read once must not hide what comes later
    damage(folder / CHECKPOINT_6_MM)
    with pytest.raises(WeightsError, match=words):
        find_weights(folder, "total", "fastest")


def test_a_network_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="Dataset297_TotalSegmentator_total_3mm"):
        find_weights(folder, "total", "fast")
    with pytest.raises(WeightsError, match=r"folder does not exist.*nowhere"):
        find_weights(tmp_path / "nowhere", "total", "fast")


def test_registering_again_adds_but_never_accepts_a_change(folder: Path) -> None:
    before = json.loads((folder / REGISTER).read_text())["sha256"]
    (network,) = networks_needed("total", "fast")
    write_network(folder, network)
    register_weights(folder)
    after = json.loads((folder / REGISTER).read_text())["sha256"]
    assert before.items() < after.items()
    assert len(after) == 6
    change(folder / CHECKPOINT_6_MM)
    with pytest.raises(WeightsError, match="have changed since they were registered"):
        register_weights(folder)


def test_a_folder_without_weights_cannot_be_registered(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no weights"):
        register_weights(tmp_path)


@pytest.mark.parametrize("mark", ["file", "network"])
def test_demo_weights_are_for_virtual_patients_only(mark: str, folder: Path) -> None:
    if mark == "file":
        (folder / DEMO_MARK).write_text('{"data_origin": "virtual"}')
    else:
        (folder / CHECKPOINT_6_MM).parents[1].joinpath("dataset.json").write_text('{"data_origin": "virtual"}')
        (folder / REGISTER).unlink()
        register_weights(folder)
    found = find_weights(folder, "total", "fastest")
    assert found.virtual_only
    check_allowed(found, "virtual")
    with pytest.raises(WeightsError, match=r"know only virtual torsos.*data_origin.*'patient'"):
        check_allowed(found, "patient")


def test_other_weights_are_for_all(folder: Path) -> None:
    check_allowed(find_weights(folder, "total", "fastest"), "patient")


def test_fetching_brings_registers_and_brings_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int | None] = []

    def download(network: Network, room: Path) -> None:
        fetched.append(network.task_id)
        write_network(room / "weights", network)

    monkeypatch.setattr(weights, "_download", download)
    first = fetch_weights(tmp_path / "w", "total", "fast", ["liver"])
    assert fetched == [298, 297]
    assert fetch_weights(tmp_path / "w", "total", "fast", ["liver"]) == first
    assert fetched == [298, 297]
    assert sorted(p.name.split("_")[0] for p in (tmp_path / "w").iterdir()) == [
        ".weights.lock",
        "Dataset297",
        "Dataset298",
        "weights.json",
    ]


def test_half_a_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(network: Network, room: Path) -> None:
        write_network(room / "weights", network)
        (room / "weights" / network.files[-1]).unlink()

    monkeypatch.setattr(weights, "_download", download)
    with pytest.raises(WeightsError, match=r"download is incomplete.*checkpoint_final.pth"):
        fetch_weights(tmp_path, "total", "fastest")
    assert [p.name for p in tmp_path.iterdir()] == [".weights.lock"]


def test_a_download_that_fails_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is replaced by a command that fails like one without a way out of the machine."""
    command = tmp_path / "python"
    command.write_text("#!/bin/sh\necho 'ConnectionError: no route' >&2\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setattr(weights.sys, "executable", str(command))
    with pytest.raises(WeightsError, match=r"download failed: ConnectionError: no route.*Dataset298.*copy the folder"):
        fetch_weights(tmp_path / "w", "total", "fastest")
