"""The parent of a segmentation worker, and what a worker checks and forbids; no network runs here."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from doseledger.errors import SegmentationError, WeightsError
from doseledger.geometry import Grid
from doseledger.io.nifti import write_image
from doseledger.segmentation import process
from doseledger.segmentation.nnunet import find_model, model_classes
from doseledger.segmentation.patches import TRAINERS, import_trainers_directly, load_verified_networks_once, required
from doseledger.segmentation.patches import replace as patch
from doseledger.segmentation.process import WorkerFailedError, worker_environment
from doseledger.segmentation.protocol import CtRequest, TotalsegmentatorRequest, WorkerRequest, WorkerResult
from doseledger.segmentation.tasks import TASKS, Network, networks_needed
from doseledger.segmentation.totalsegmentator import Request, segment_cts
from doseledger.segmentation.weights import DEMO_MARK, REGISTER, register_weights
from doseledger.segmentation.worker import checked_ct, checked_labels

GRID = Grid((4, 5, 6), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
#: The parts of a model's dataset.json that matter.
SOUND = {"file_ending": ".nii.gz", "channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
#: Longer than a worker takes to notice, shorter than the child would live.
PATIENCE_S = 20.0


@pytest.fixture
def request_of(tmp_path: Path) -> Request:
    """Weights that are registered but hold nothing, and a CT."""
    for name in networks_needed("total", "fastest")[0].files:
        path = tmp_path / "weights" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    register_weights(tmp_path / "weights")
    ct = tmp_path / "ct.nii.gz"
    write_image(ct, np.zeros(GRID.shape), GRID, dtype="int16")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Request({"1": ct}, tmp_path / "out", tmp_path / "weights", "patient", mode="fastest", scratch=scratch)


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """A shell script takes the place of the worker's interpreter; the request is its last argument."""
    command = folder / "python"
    command.write_text(f'#!/bin/sh\nfor REQUEST; do :; done\nROOM=$(dirname "$REQUEST")\n{script}\n')
    command.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(command))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo loading; kill -9 $$", r"killed by SIGKILL.*memory did not suffice.*more memory.*\n.*log:\nloading"),
        ("kill -15 $$", "killed by SIGTERM"),
        ("echo broken >&2; exit 3", r"ended with exit status 3 and without a result\n.*log:\nbroken"),
        ("exit 0", "ended with exit status 0 and without a result"),
        ('echo \'{"status": "failed", "message": "MemoryError: 3 GiB"}\' > $ROOM/result.json', "failed: MemoryError"),
    ],
)
def test_a_worker_that_dies_fails_the_job_and_shows_its_log(
    script: str, words: str, request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, tmp_path, script)
    with pytest.raises(WorkerFailedError, match=words):
        segment_cts(request_of)
    assert request_of.scratch is not None
    assert not list(request_of.scratch.iterdir())


def test_a_refusal_of_the_worker_is_the_jobs(
    request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = {
        "what": "the CT is flat",
        "path": "ct.nii.gz",
        "tag": "t",
        "value": "2",
        "expected": "3",
        "remedy": "Go.",
    }
    result = json.dumps({"status": "refused", "refusal": refusal})
    stand_in(monkeypatch, tmp_path, f"echo '{result}' > $ROOM/result.json")
    with pytest.raises(
        SegmentationError, match=r"^the CT is flat \(file ct.nii.gz; tag t; found '2'; expected '3'\). Go"
    ):
        segment_cts(request_of)


def test_attempts_to_use_the_network_are_logged(
    request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    result = json.dumps({"status": "ok", "network_attempts": ["socket.getaddrinfo stats.example"]})
    stand_in(monkeypatch, tmp_path, f"echo '{result}' > $ROOM/result.json")
    segment_cts(request_of)
    assert "kept from the network: ('socket.getaddrinfo stats.example',)" in caplog.text


def test_the_worker_gets_the_whole_request_and_an_environment_of_its_own(
    request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_compile", "true")
    monkeypatch.setenv("TOTALSEG_HOME_DIR", "/shared")
    answer = {
        "status": "ok",
        "cts": [{"key": "1", "cpu_s": 2.0, "peak_memory_mib": 900.0, "empty": True}],
        "versions": {"torch": "2"},
    }
    script = f"""
    env > {tmp_path}/environment
    cp "$REQUEST" {tmp_path}/request.json
    cp $TOTALSEG_HOME_DIR/config.json {tmp_path}/config.json
    echo '{json.dumps(answer)}' > $ROOM/result.json"""
    stand_in(monkeypatch, tmp_path, script)
    found = segment_cts(replace(request_of, roi_subset=("liver",), threads=3))
    assert found.label_names == {5: "liver"}
    assert (found.empty, found.cpu_s, found.versions) == ({"1"}, {"1": 2.0}, {"torch": "2"})
    assert found.labels == {"1": request_of.out / "1.nii.gz"}

    asked = json.loads((tmp_path / "request.json").read_text())
    assert asked["run"] == {"engine": "totalsegmentator", "task": "total", "mode": "fastest", "roi_subset": ["liver"]}
    assert asked["networks"] == [networks_needed("total", "fastest")[0].folder]
    assert asked["label_count"] == 5
    lines = (tmp_path / "environment").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    assert "nnUNet_compile" not in environment
    assert environment["OMP_NUM_THREADS"] == environment["nnUNet_def_n_proc"] == "3"
    assert environment["TOTALSEG_WEIGHTS_PATH"] == str(request_of.weights_folder)
    for name in ("TOTALSEG_HOME_DIR", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        assert environment[name].startswith(f"{request_of.scratch}/segmentation-"), name
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["send_usage_stats"] is False
    assert config["statistics_disclaimer_shown"] is True


def test_homes_of_two_workers_are_apart(tmp_path: Path) -> None:
    rooms = [tmp_path / "a", tmp_path / "b"]
    for room in rooms:
        room.mkdir()
    homes = {worker_environment(room, tmp_path, 1)["TOTALSEG_HOME_DIR"] for room in rooms}
    assert len(homes) == 2


@pytest.mark.parametrize(
    ("key", "path", "words"),
    [
        ("../1", "ct.nii.gz", "key of a CT cannot name a file"),
        ("1", "lost.nii.gz", "the CT is not there.*lost.nii.gz"),
        ("1", "weights/weights.json", "not a .nii.gz.*weights.json"),
    ],
)
def test_images_that_cannot_be_segmented_are_refused(
    key: str, path: str, words: str, request_of: Request, tmp_path: Path
) -> None:
    with pytest.raises(SegmentationError, match=words):
        segment_cts(replace(request_of, cts={key: tmp_path / path}))


def test_no_image_is_refused(request_of: Request) -> None:
    with pytest.raises(SegmentationError, match="there is no CT"):
        segment_cts(replace(request_of, cts={}))


def test_demo_weights_never_start_a_worker_for_a_patient(
    request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request_of.weights_folder / DEMO_MARK).write_text("{}")
    stand_in(monkeypatch, tmp_path, f"touch {tmp_path}/started")
    with pytest.raises(WeightsError, match="know only virtual torsos"):
        segment_cts(request_of)
    assert not (tmp_path / "started").exists()
    with pytest.raises(WorkerFailedError):
        segment_cts(replace(request_of, data_origin="virtual"))
    assert (tmp_path / "started").exists()


def test_a_message_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    WorkerResult(status="ok").write(path)
    assert WorkerResult.read(path) == WorkerResult(status="ok")
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_a_worker_has_one_thread_or_more_and_at_least_one_image(tmp_path: Path) -> None:
    run = TotalsegmentatorRequest(task="total", mode="fast", roi_subset=())
    ct = CtRequest(key="1", ct=tmp_path, labels=tmp_path)
    common = {"weights_folder": tmp_path, "networks": (), "label_count": 1, "run": run, "device": "cpu"}
    for wrong in ({"threads": 0, "cts": (ct,)}, {"threads": 1, "cts": ()}):
        with pytest.raises(ValueError, match="validation error"):
            WorkerRequest(**common, **wrong)  # type: ignore[arg-type]


# What a worker checks.


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)  # type: ignore[attr-defined]
    return path


def test_a_sound_ct_passes(tmp_path: Path) -> None:
    affine, shape = checked_ct(save(tmp_path / "ct.nii.gz", np.zeros((3, 4, 5), np.float32)))
    assert shape == (3, 4, 5)
    assert np.array_equal(affine, np.eye(4))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4), np.float32), "not three-dimensional.*ct.nii.gz"),
        (np.zeros((3, 4, 5, 2), np.float32), "not three-dimensional"),
        (np.full((3, 4, 5), np.nan, np.float32), "not finite.*ct.nii.gz"),
        (np.zeros((3, 4, 5), np.complex64), "does not hold numbers.*complex64"),
    ],
)
def test_a_ct_that_would_give_an_empty_or_wrong_mask_is_refused(array: np.ndarray, words: str, tmp_path: Path) -> None:
    with pytest.raises(SegmentationError, match=words):
        checked_ct(save(tmp_path / "ct.nii.gz", array))


def test_a_truncated_ct_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "ct.nii.gz", np.arange(6000, dtype=np.float32).reshape(10, 20, 30))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(SegmentationError, match=r"cannot be read as NIfTI.*ct.nii.gz"):
        checked_ct(path)


def test_label_maps_must_lie_on_the_ct_and_have_names(tmp_path: Path) -> None:
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[1, 1, 1] = 7
    path = save(tmp_path / "1.nii.gz", labels)
    assert checked_labels(path, np.eye(4), (3, 4, 5), 7).sum() == 7
    with pytest.raises(SegmentationError, match=r"labels without a name.*found 7.*up to 6"):
        checked_labels(path, np.eye(4), (3, 4, 5), 6)
    with pytest.raises(SegmentationError, match="does not lie on the grid"):
        checked_labels(path, np.eye(4), (3, 4, 6), 7)
    with pytest.raises(SegmentationError, match="does not lie on the grid"):
        checked_labels(path, np.diag([1.0, 1.0, 1.001, 1.0]), (3, 4, 5), 7)


# What a worker changes and forbids.


def test_a_patch_of_something_that_is_gone_is_refused() -> None:
    library = SimpleNamespace(function=1)
    assert patch(library, "function", 2) == 1
    assert library.function == 2
    with pytest.raises(SegmentationError, match=r"no SimpleNamespace.renamed.*envs/lock.txt"):
        patch(library, "renamed", 2)
    with pytest.raises(SegmentationError, match=r"no SimpleNamespace.renamed"):
        required(library, "renamed")


def test_a_network_is_loaded_once_and_only_if_it_was_verified(tmp_path: Path) -> None:
    loaded: list[str] = []

    class Predictor:
        plans_manager = configuration_manager = dataset_json = trainer_name = None
        allowed_mirroring_axes = label_manager = None

        def initialize_from_trained_model_folder(self, folder: str, folds: object, checkpoint_name: str) -> None:
            loaded.append(folder)
            self.network = SimpleNamespace(state_dict=lambda: f"numbers of {folder}")
            self.list_of_parameters = ["copies"]

    load_verified_networks_once(Predictor, [tmp_path / "a"])
    for _ in range(2):
        predictor = Predictor()
        predictor.initialize_from_trained_model_folder(str(tmp_path / "a"), [0], "checkpoint_final.pth")
        assert predictor.list_of_parameters == [f"numbers of {tmp_path / 'a'}"]
    assert loaded == [str(tmp_path / "a")]
    for folder, name in (("b", "checkpoint_final.pth"), ("a", "checkpoint_best.pth")):
        with pytest.raises(SegmentationError, match=f"not verified.*/{folder}/{name}"):
            Predictor().initialize_from_trained_model_folder(str(tmp_path / folder), [0], name)


def test_trainers_that_are_not_known_are_looked_up_by_nnunet() -> None:
    module = SimpleNamespace(recursive_find_trainer_class_by_name=lambda name: f"found {name}")
    import_trainers_directly(module)
    assert module.recursive_find_trainer_class_by_name("nnUNetTrainerOfASite") == "found nnUNetTrainerOfASite"


def test_all_trainers_of_the_offered_tasks_are_known() -> None:
    offered = [
        ("total", "default"),
        ("total", "fast"),
        ("total", "fastest"),
        ("body", "default"),
        ("body", "fast"),
        ("head_glands_cavities", "default"),
    ]
    assert {task for task, _ in offered} == set(TASKS)
    folders = [network.folder for task, mode in offered for network in networks_needed(task, mode)]  # type: ignore[arg-type]
    assert {folder.split("/")[1].split("__")[0] for folder in folders} <= TRAINERS.keys()


def test_any_use_of_the_network_is_prevented_and_noted() -> None:
    """Against a server that would answer: in a process of its own, as the hook stays for good."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        code = f"""
import json, socket, urllib.request
from doseledger.segmentation.patches import forbid_network
attempts = []
forbid_network(attempts)
def attempt(action):
    try:
        action()
    except OSError as error:
        return str(error)
    raise SystemExit("got through")
print(json.dumps([
    attempt(lambda: urllib.request.urlopen("http://127.0.0.1:{port}/", timeout=5)),
    attempt(lambda: socket.create_connection(("127.0.0.1", {port}), timeout=5)),
    attempt(lambda: socket.socket().connect(("127.0.0.1", {port}))),
    attempt(lambda: socket.gethostbyname("localhost")),
    len(attempts),
]))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        *messages, noted = json.loads(done.stdout)
        assert all("uses no network" in message for message in messages), messages
        assert noted == 4
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    child = (
        "import os, pathlib, time; from doseledger.segmentation.worker import end_with_parent; end_with_parent(); "
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); time.sleep(300)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"]
    )
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    assert running(pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: not running(pid))


def wait_for(condition: Callable[[], object]) -> str:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return str(found)
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def running(pid: int) -> bool:
    """Whether a process lives; one that ended and was not yet collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


# Models of nnU-Net.


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Files of a model with two folds, registered."""
    folder = tmp_path / "Dataset500" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    for name in Network(None, folder.name, ("0", "1")).files:
        path = folder.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(SOUND))
    register_weights(folder.parent)
    return folder


def test_a_model_is_found_with_all_its_folds_and_classes(model: Path) -> None:
    weights, names = find_model(model, "patient")
    assert weights.networks[0].folds == ("0", "1")
    assert len(weights.weights_sha256) == 64
    assert names == {1: "liver"}


def test_models_that_must_not_be_loaded_are_refused(model: Path) -> None:
    (model / "fold_1" / "checkpoint_final.pth").write_text("others")
    with pytest.raises(WeightsError, match=r"have changed.*fold_1/checkpoint_final.pth"):
        find_model(model, "patient")
    (model.parent / REGISTER).unlink()
    (model / "dataset.json").write_text(json.dumps(SOUND | {"data_origin": "virtual"}))
    register_weights(model.parent)
    with pytest.raises(WeightsError, match="know only virtual torsos"):
        find_model(model, "patient")
    with pytest.raises(WeightsError, match=r"has no trained fold.*Dataset500.*TRAINER__PLANS"):
        find_model(model.parent, "patient")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file_ending": ".nrrd"}, "tag file_ending.*.nrrd"),
        ({"channel_names": {"0": "CT", "1": "PET"}}, "tag channel_names"),
        ({"labels": {"background": 0, "kidneys": [1, 2]}}, "tag labels.*kidneys"),
    ],
)
def test_models_that_do_not_label_single_cts_are_refused(change: dict[str, object], words: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(SOUND))
    assert model_classes(tmp_path) == {1: "liver"}
    (tmp_path / "dataset.json").write_text(json.dumps(SOUND | change))
    with pytest.raises(WeightsError, match=words):
        model_classes(tmp_path)
