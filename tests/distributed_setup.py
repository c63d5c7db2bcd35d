"""What the tests of several processes share: inputs on disk, real runs over gloo, their states."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch import Tensor

import distributed_worker
from dcsnas.latency.table import save_table
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.sampling import largest_choice
from latency_fakes import fake_table, micro_space
from reid_data import write_class_folder
from search_setup import write_search_inputs

TESTS = Path(__file__).parent
SECONDS = 120
"""Far more than any run needs; a run that hangs is killed then."""

# float32, four epochs of sums in another order: differences were below 3e-6
RTOL, ATOL = 1e-4, 2e-5

# without draws of their own, processes can be compared with one
PLAIN = distributed_worker.plain_augmentation()


def retrain_content(folder: Path) -> dict[str, Any]:
    """Return a retraining on the inputs in ``folder`` with every loss term, of four epochs."""
    return {
        "data": {"root": str(folder / "data"), "workers": 0},
        "epochs": 4,
        "classifier_epochs": 1,
        "batch": {"identities": 4, "images": 4},
        "augment": PLAIN,
        "loss": {"ib_size": [4, 2], "eta": 1.0, "eta_warmup": 0.0, "center": 0.01},
        "optimizer": {"name": "sgd", "lr": 0.01},
        "validation": {"every": 2},
    }


def write_distributed_inputs(root: Path, kind: str) -> Path:
    """Write the inputs of all stages to ``root``, with attention modules of ``kind``."""
    write_search_inputs(root)
    write_class_folder(root / "classes")
    space = micro_space(attention={"kind": kind, "affinity": "dot", "scale": "cosine", "tau": 1.0})
    save_table(root / "table.json", fake_table(space).file)
    (root / "space.yaml").write_text(yaml.safe_dump(space.file.model_dump(mode="json")))
    file = architecture_of(space, largest_choice(space), table=fake_table(space), seed=0)
    save_architecture(root / "architecture.yaml", file)
    return root


def program(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the worker with what it starts in a session of its own, which ends with it."""
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(TESTS.parent), str(TESTS)))}
    # what Lightning or torchrun may have left in this process is not for those it starts
    foreign = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {key: value for key, value in os.environ.items() if key not in foreign}
    command = [sys.executable, "-W", "ignore", *launcher]
    command += [str(TESTS / "distributed_worker.py"), *map(str, arguments)]
    running = subprocess.Popen(
        command,
        env={**environment, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = running.communicate(timeout=SECONDS)
    finally:
        try:
            os.killpg(running.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return subprocess.CompletedProcess(command, running.returncode, output)


def run(
    stage: str,
    folder: Path,
    name: str,
    changes: dict[str, Any],
    *,
    stop: int = -1,
    failing: int | None = None,
    launcher: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a stage; see the worker for ``stop`` and ``failing``."""
    described = json.dumps(changes), stop, json.dumps(failing)
    return program(stage, folder, name, *described, launcher=launcher)


def run_alone(
    stage: str, folder: Path, name: str, changes: dict[str, Any], patch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    """Run a stage in this process and return its module's last state."""
    with patch.context() as fitting:
        fitting.setattr(pl.Trainer, "fit", pl.Trainer.fit)  # what the worker changes goes back
        distributed_worker.keep_last_state(folder, name)
        distributed_worker.run_stage(stage, folder, name, changes)
    return state(folder, name, 0)


def state(folder: Path, name: str, rank: int) -> dict[str, Tensor]:
    return torch.load(folder / f"{name}.rank{rank}.pt", weights_only=True)


def assert_states_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    far = [n for n, t in expected.items() if not torch.allclose(found[n], t, rtol=RTOL, atol=ATOL)]
    assert far == []


def assert_states_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
