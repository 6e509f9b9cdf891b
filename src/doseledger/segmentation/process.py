"""Starting a segmentation worker and turning its end into a result or an exception.

The networks run in a process of their own: torch and all its memory are gone when it ends, a worker
that is killed takes nothing with it, and what is patched in the libraries is patched nowhere else.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from doseledger.errors import SegmentationError
from doseledger.segmentation.protocol import REQUEST, RESULT, WorkerRequest, WorkerResult

#: Lines of the worker's log that a failure shows.
LOG_LINES: Final = 20
#: TotalSegmentator counts predictions and sends statistics unless its own config file says no.
TOOL_CONFIG: Final = {
    "totalseg_id": "totalseg_doseledger",
    "send_usage_stats": False,
    "prediction_counter": 0,
    "statistics_disclaimer_shown": True,
}
#: Thread counts that the libraries take from the environment, none of which asks the scheduler.
_THREADS: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "nnUNet_def_n_proc",
)


class WorkerFailedError(RuntimeError):
    """The worker was killed or hit a defect: ``failed``, not ``refused``, so that the job is retried."""


def run_worker(request: WorkerRequest, scratch: Path | None) -> WorkerResult:
    """Start one worker for all images of `request`, and wait for it.

    Parameters
    ----------
    scratch
        Existing folder for the worker's temporary files, which are removed at the end; None takes the system's.

    Raises
    ------
    SegmentationError
        What was asked for must not, or cannot, be done: an image that is refused, no GPU.
    WorkerFailedError
        The worker was killed (out of memory, as a rule) or failed; the message ends with its log.
    """
    with tempfile.TemporaryDirectory(prefix="segmentation-", dir=scratch) as name:
        room = Path(name).resolve()
        request.write(room / REQUEST)
        environment = worker_environment(room, request.weights_folder, request.threads)
        log = room / "worker.log"
        # -P: a file torch.py in the folder from which the workflow runs must not be imported.
        command = [sys.executable, "-P", "-m", "doseledger.segmentation.worker", str(room / REQUEST)]
        with log.open("wb") as stream:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode != 0 or not (room / RESULT).is_file():
            raise WorkerFailedError(f"the segmentation worker {_end_of(done.returncode)}{_tail(log)}")
        result = WorkerResult.read(room / RESULT)
        if result.status == "failed":
            raise WorkerFailedError(f"the segmentation worker failed: {result.message}{_tail(log)}")
    if result.network_attempts:
        logging.getLogger(__name__).warning(
            "a segmentation worker was kept from the network: %s", result.network_attempts
        )
    if result.refusal is not None:
        raise SegmentationError(**result.refusal.model_dump())
    return result


def worker_environment(room: Path, weights_folder: Path, threads: int) -> dict[str, str]:
    """Environment of a worker: nothing that it writes is shared with another process.

    Settings of nnU-Net and TotalSegmentator that a user has made for other work are left out.
    """
    home = room / "home"
    for folder in (home, room / "tmp", room / "cache"):
        folder.mkdir(exist_ok=True)
    (home / "config.json").write_text(json.dumps(TOOL_CONFIG), encoding="utf-8")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("nnUNet_", "TOTALSEG_"))}
    return (
        inherited
        | {
            "TOTALSEG_HOME_DIR": str(home),
            "TOTALSEG_WEIGHTS_PATH": str(weights_folder),
            "TMPDIR": str(room / "tmp"),
            "XDG_CACHE_HOME": str(room / "cache"),
            "MPLCONFIGDIR": str(room / "cache"),
        }
        | dict.fromkeys(_THREADS, str(threads))
    )


def _end_of(code: int) -> str:
    if code >= 0:
        return f"ended with exit status {code} and without a result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    cause = ", most likely because the memory did not suffice" if name == "SIGKILL" else ""
    return f"was killed by {name}{cause}: run the job again with more memory or fewer threads"


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return "\nEnd of its log:\n" + "\n".join(lines) if lines else ""
