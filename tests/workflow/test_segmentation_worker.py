"""The worker process itself: the label maps of the command, without network, torchvision or shared state."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from doseledger.errors import SegmentationError
from doseledger.segmentation.nnunet import ModelRequest, segment_cts_by_model
from doseledger.segmentation.process import WorkerFailedError, run_worker, worker_environment
from doseledger.segmentation.protocol import CtRequest, TotalsegmentatorRequest, WorkerRequest
from doseledger.segmentation.tasks import Network
from doseledger.segmentation.totalsegmentator import Request, segment_cts
from doseledger.segmentation.weights import register_weights

from ..unit.tiny_weights import write_small_ct, write_tiny_network, write_tiny_weights

#: Classes that the random networks can give; the bladder is none of them.
CLASSES = ("spleen", "liver", "kidney_left", "kidney_right", "stomach", "aorta", "lung_upper_lobe_left")
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_weights(tmp_path_factory.mktemp("weights"), classes=CLASSES, trainer="nnUNetTrainer")
    register_weights(folder)
    return folder


@pytest.fixture(scope="module")
def cts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cts")
    return {key: write_small_ct(folder / f"ct_{key}.nii.gz", seed=seed) for seed, key in enumerate(("t1", "t2"), 1)}


@pytest.fixture
def request_of(weights: Path, cts: Mapping[str, Path], tmp_path: Path) -> Request:
    return Request(cts, tmp_path / "out", weights, "virtual", mode="fastest", scratch=tmp_path)


def run_command(weights: Path, command: list[str]) -> None:
    """A command of the environment, as a user runs it.

    Its room has a short path: the commands open sockets there, whose names may have 107 characters.
    """
    with tempfile.TemporaryDirectory(prefix="room-") as room:
        done = subprocess.run(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            env=worker_environment(Path(room), weights, threads=1),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr


def voxels(path: Path) -> Any:
    return np.asanyarray(nib.load(path).dataobj)  # type: ignore[attr-defined]


def test_label_maps_are_those_of_the_command(
    request_of: Request, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = segment_cts(request_of)
    assert not caplog.records  # nothing asked for the network
    last = tmp_path / "command.nii.gz"  # the image that is segmented by networks loaded for another one
    options = ["-i", str(request_of.cts["t2"]), "-o", str(last), "--ml", "--fastest", "-d", "cpu", "-ns", "1"]
    run_command(request_of.weights_folder, ["TotalSegmentator", *options])
    assert found.labels["t2"].read_bytes() == last.read_bytes()
    # The networks are random, but not constant: an all-equal map would prove nothing.
    assert len(np.unique(voxels(last))) > 3
    assert found.empty == frozenset()
    assert not np.array_equal(voxels(found.labels["t1"]), voxels(found.labels["t2"]))
    assert all(cpu > 0 for cpu in found.cpu_s.values())
    assert found.peak_memory_mib.keys() == request_of.cts.keys()
    # Nothing is left behind but the label maps.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["command.nii.gz", "out"]
    assert sorted(p.name for p in request_of.out.iterdir()) == ["t1.nii.gz", "t2.nii.gz"]


def test_subsets_are_those_of_the_command_for_any_number_of_threads(request_of: Request, tmp_path: Path) -> None:
    subset = ("spleen", "liver", "aorta")
    one = {"t2": request_of.cts["t2"]}
    found = segment_cts(replace(request_of, cts=one, mode="fast", roi_subset=subset, threads=2))
    last = tmp_path / "command.nii.gz"
    options = [
        "-i",
        str(request_of.cts["t2"]),
        "-o",
        str(last),
        "--ml",
        "--fast",
        "-d",
        "cpu",
        "-ns",
        "1",
        "-rs",
        *subset,
    ]
    run_command(request_of.weights_folder, ["TotalSegmentator", *options])
    assert found.labels["t2"].read_bytes() == last.read_bytes()
    assert set(np.unique(voxels(last))) - {0} <= found.label_names.keys()
    assert sorted(found.label_names.values()) == sorted(subset)
    assert voxels(last).any()


def test_a_subset_that_is_not_found_is_flagged(request_of: Request) -> None:
    one = {"t1": request_of.cts["t1"]}
    found = segment_cts(replace(request_of, cts=one, roi_subset=("urinary_bladder",)))
    assert found.empty == {"t1"}
    assert not voxels(found.labels["t1"]).any()


def test_two_workers_at_once_do_not_disturb_each_other(request_of: Request, tmp_path: Path) -> None:
    cts = {"t1": request_of.cts["t1"]}
    requests = [replace(request_of, cts=cts, out=tmp_path / name) for name in ("one", "other")]
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(segment_cts, requests)
    assert one.labels["t1"].read_bytes() == other.labels["t1"].read_bytes()


def test_a_broken_torchvision_is_never_imported(
    request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "fake" / "torchvision"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(fake.parent), os.environ.get("PYTHONPATH", "")]))
    weights = write_tiny_weights(tmp_path / "weights", modes=["fastest"], classes=CLASSES)
    register_weights(weights)
    found = segment_cts(replace(request_of, cts={"t1": request_of.cts["t1"]}, weights_folder=weights))
    assert found.empty == frozenset()


def test_a_gpu_that_is_not_there_is_refused(request_of: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SegmentationError, match=r"a GPU is asked for, and torch sees none .*device.*Set device to cpu"):
        segment_cts(replace(request_of, device="gpu"))
    assert not list(request_of.out.iterdir())


def test_nothing_is_fetched_and_no_unverified_network_is_loaded(
    weights: Path, cts: Mapping[str, Path], tmp_path: Path
) -> None:
    """An empty weights folder: TotalSegmentator itself would download what is missing."""
    empty = tmp_path / "empty"
    empty.mkdir()
    asked = WorkerRequest(
        weights_folder=empty,
        networks=(),
        label_count=117,
        run=TotalsegmentatorRequest(task="total", mode="fastest", roi_subset=()),
        device="cpu",
        threads=1,
        cts=(CtRequest(key="t1", ct=cts["t1"], labels=tmp_path / "t1.nii.gz"),),
    )
    with pytest.raises(WorkerFailedError, match="worker failed"):
        run_worker(asked, tmp_path)
    assert not list(empty.iterdir())
    with pytest.raises(SegmentationError, match=r"not verified .*Dataset298"):
        run_worker(asked.model_copy(update={"weights_folder": weights}), tmp_path)


def test_any_model_of_nnunet_runs_as_by_its_own_command(cts: Mapping[str, Path], tmp_path: Path) -> None:
    network = Network(None, "Dataset500_local/nnUNetTrainer__nnUNetPlans__3d_fullres")
    model = write_tiny_network(tmp_path, network, {1: "kidney", 2: "liver", 3: "spleen"}, 6.0)
    register_weights(model.parent)
    found = segment_cts_by_model(ModelRequest(cts, tmp_path / "out", model, "virtual", scratch=tmp_path))
    source = tmp_path / "source"
    source.mkdir()
    (source / "t2_0000.nii.gz").symlink_to(cts["t2"])
    options = ["-i", str(source), "-o", str(tmp_path / "command"), "-m", str(model), "-f", "0", "-device", "cpu"]
    run_command(model, ["nnUNetv2_predict_from_modelfolder", *options, "-npp", "1", "-nps", "1"])
    assert np.array_equal(voxels(found.labels["t2"]), voxels(tmp_path / "command" / "t2.nii.gz"))
    assert len(np.unique(voxels(found.labels["t2"]))) > 2
    assert found.label_names == {1: "kidney", 2: "liver", 3: "spleen"}
