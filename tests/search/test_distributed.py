"""Several processes train as one: real two-process runs over gloo on small data."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

import distributed_worker
from dcsnas.config.errors import UserError
from dcsnas.config.jsonl import read_records
from dcsnas.config.stages import RunConfig
from dcsnas.latency.table import save_table
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.sampling import largest_choice
from dcsnas.training.fitting import SHARED_STREAM, EpochSeed, epoch_seed
from dcsnas.training.processes import ALONE, Process, this_process
from latency_fakes import fake_table, micro_space
from reid_data import write_class_folder
from search_setup import write_search_inputs

TESTS = Path(__file__).parents[1]
SECONDS = 120
"""Far more than any run needs; a run that hangs is killed then."""

# float32, four epochs of sums in another order: differences were below 3e-6
RTOL, ATOL = 1e-4, 2e-5

# without draws of their own, processes can be compared with one
PLAIN = distributed_worker.plain_augmentation()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the inputs of all stages, with attention modules that draw nothing."""
    root = write_search_inputs(tmp_path_factory.mktemp("distributed"))
    write_class_folder(root / "classes")
    attention = {"kind": "sa", "affinity": "dot", "scale": "cosine", "tau": 1.0}
    space = micro_space(attention=attention)
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


def search_changes(devices: int, **changes: Any) -> dict[str, Any]:
    return {"augment": PLAIN, "run": {"device": "cpu", "devices": devices}, **changes}


def state(folder: Path, name: str, rank: int) -> dict[str, Tensor]:
    return torch.load(folder / f"{name}.rank{rank}.pt", weights_only=True)


def assert_states_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    far = [n for n, t in expected.items() if not torch.allclose(found[n], t, rtol=RTOL, atol=ATOL)]
    assert far == []


def assert_states_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.fixture(scope="module")
def searched(folder: Path) -> str:
    """Return the name of a finished search by two processes."""
    done = run("search", folder, "two", search_changes(2, validate_every=2))
    assert done.returncode == 0, done.stdout
    return "two"


def test_two_processes_search_as_one(
    folder: Path, searched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = search_changes(1, validate_every=2)
    alone = run_alone("search", folder, "one", changes, monkeypatch)
    first, second = (state(folder, searched, rank) for rank in (0, 1))
    choices = [name for name in alone if "_arch_alpha" in name]
    assert choices
    # the search has moved every choice much further than the tolerance
    assert all(alone[name].std() > 1e-3 for name in choices)
    assert_states_equal(second, first)
    assert_states_close(first, alone)


def test_the_first_process_alone_writes_the_run(folder: Path, searched: str) -> None:
    names = {path.name for path in (folder / searched).iterdir()}
    assert names == {
        "config.yaml", "environment.json", "inputs.json", "last.ckpt", "metrics.jsonl",
        "probabilities.jsonl", "result.json", "space.yaml", "supernet.safetensors", "table.json",
        "tensorboard",
    }  # fmt: skip
    metrics = read_records(folder / searched / "metrics.jsonl")
    assert [record["epoch"] for record in metrics] == [0, 1, 2, 3]
    assert ["validation/map" in record for record in metrics] == [False, True, False, True]
    logged = read_records(folder / searched / "probabilities.jsonl")
    assert [record["epoch"] for record in logged] == [-1, 0, 1, 2, 3]


@pytest.mark.slow
def test_stopped_search_of_two_processes_ends_as_the_uninterrupted_one(
    folder: Path, searched: str
) -> None:
    changes = search_changes(2, validate_every=2)
    assert run("search", folder, "stopped", changes, stop=2).returncode != 0
    assert len(read_records(folder / "stopped" / "metrics.jsonl")) == 3
    done = run("search", folder, "stopped", changes)
    assert done.returncode == 0, done.stdout
    assert_states_equal(state(folder, "stopped", 0), state(folder, searched, 0))
    metrics = [read_records(folder / n / "metrics.jsonl") for n in ("stopped", searched)]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_torchrun_gives_the_same_search(folder: Path, searched: str) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    changes = search_changes(2, validate_every=2)
    done = run("search", folder, "torchrun", changes, launcher=launcher)
    assert done.returncode == 0, done.stdout
    assert_states_equal(state(folder, "torchrun", 0), state(folder, searched, 0))


def retrain_changes(folder: Path, devices: int) -> dict[str, Any]:
    return {
        "data": {"root": str(folder / "data"), "workers": 0},
        "epochs": 4,
        "classifier_epochs": 1,
        "batch": {"identities": 4, "images": 4},
        "augment": PLAIN,
        "loss": {"ib_size": [4, 2], "eta": 1.0, "eta_warmup": 0.0, "center": 0.01},
        "optimizer": {"name": "sgd", "lr": 0.01},
        "ema": 0.8,
        "validation": {"every": 2},
        "run": {"device": "cpu", "devices": devices},
    }


def pretrain_changes(folder: Path, devices: int) -> dict[str, Any]:
    return {
        "data": {"root": str(folder / "classes"), "workers": 0},
        "epochs": 3,
        "batch_size": 10,  # of 24 images: two full batches
        "augment": PLAIN,
        "optimizer": {"lr": 0.05},
        "run": {"device": "cpu", "devices": devices},
    }


@pytest.mark.parametrize(
    ("stage", "changes", "weights"),
    [
        ("retrain", retrain_changes, "model.safetensors"),
        pytest.param("pretrain", pretrain_changes, "backbone.safetensors", marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_as_one(
    folder: Path, stage: str, changes: Any, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run_alone(stage, folder, f"{stage}1", changes(folder, 1), monkeypatch)
    done = run(stage, folder, f"{stage}2", changes(folder, 2))
    assert done.returncode == 0, done.stdout
    first, second = (state(folder, f"{stage}2", rank) for rank in (0, 1))
    assert_states_equal(second, first)
    assert_states_close(first, alone)
    found, expected = (load_file(folder / f"{stage}{n}" / weights) for n in (2, 1))
    assert_states_close(found, expected)
    logged = [read_records(folder / f"{stage}{n}" / "metrics.jsonl") for n in (1, 2)]
    assert [pytest.approx(record, rel=1e-4, abs=1e-4) for record in logged[0]] == logged[1]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_failure_of_one_process_ends_all(folder: Path, rank: int) -> None:
    done = run("search", folder, f"failed{rank}", search_changes(2), stop=1, failing=rank)
    assert done.returncode != 0
    assert f"process {rank} fails" in done.stdout


def test_gradients_of_a_gathered_loss_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    images = torch.randn(8, 3, 6, 4, dtype=torch.float64) * 2 + 1
    torch.save(
        {"images": images, "labels": torch.arange(4).repeat_interleave(2)}, tmp_path / "batch"
    )
    expected = distributed_worker.gradients(0, 1, tmp_path)
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=distributed_worker.save_gradients, args=(rank, 2, tmp_path))
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(SECONDS)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"gradients{rank}", weights_only=True)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-12)


def test_processes_draw_differently_and_share_what_they_must() -> None:
    drawn = {}
    for rank in (0, 1):
        for epoch in (0, 1):
            trainer: Any = SimpleNamespace(current_epoch=epoch, global_rank=rank)
            EpochSeed(5).on_train_epoch_start(trainer, pl.LightningModule())
            drawn[rank, epoch] = torch.rand(4)
    generator = torch.Generator().manual_seed(epoch_seed(5, 0, SHARED_STREAM))
    drawn["shared"] = torch.rand(4, generator=generator)
    for first, second in combinations(drawn.values(), 2):
        assert not torch.equal(first, second)
    # one process draws what it always did
    torch.manual_seed(5 * 1_000_003)
    assert torch.equal(drawn[0, 0], torch.rand(4))


def test_processes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    two = RunConfig(device="cpu", devices=2)
    assert this_process(RunConfig(device="cpu")) == ALONE
    assert this_process(two) == Process(0, 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert this_process(two) == Process(1, 2)
    # two machines with two processes each
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "RANK": "3", "WORLD_SIZE": "4"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    assert this_process(two) == Process(3, 4)
    with pytest.raises(UserError) as caught:
        this_process(RunConfig(device="cpu", devices=4))
    assert str(caught.value) == (
        "run.devices is 4, but torchrun started 2 processes on this machine; set run.devices=2, or"
        " start it with --nproc-per-node 4"
    )
