"""Several processes train as one: real two-process runs over gloo, and the gradients alone."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import distributed_worker
from dcsnas.config.jsonl import read_records
from distributed_setup import (
    PLAIN,
    SECONDS,
    assert_states_close,
    assert_states_equal,
    retrain_content,
    run,
    run_alone,
    state,
    write_distributed_inputs,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the inputs of all stages, with attention modules that draw nothing."""
    return write_distributed_inputs(tmp_path_factory.mktemp("distributed"), "sa")


def retrain_changes(folder: Path, devices: int) -> dict[str, Any]:
    run = {"device": "cpu", "devices": devices}
    return {**retrain_content(folder), "ema": 0.8, "run": run}


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
