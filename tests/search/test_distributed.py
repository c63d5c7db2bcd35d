"""Several processes search as one: real two-process runs over gloo on small data."""

from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.jsonl import read_records
from distributed_setup import (
    PLAIN,
    assert_states_close,
    assert_states_equal,
    run,
    run_alone,
    state,
    write_distributed_inputs,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the inputs of all stages, with attention modules that draw nothing."""
    return write_distributed_inputs(tmp_path_factory.mktemp("distributed"), "sa")


def search_changes(devices: int, **changes: Any) -> dict[str, Any]:
    # at a low temperature assignments magnify rounding
    loss = {"ib_size": [4, 2], "ib_temperature": 1.0}
    run = {"device": "cpu", "devices": devices}
    return {"augment": PLAIN, "loss": loss, "run": run, **changes}


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
    assert [record["epoch"] for record in metrics] == [1, 2, 3, 4]
    assert ["validation/map" in record for record in metrics] == [False, True, False, True]
    logged = read_records(folder / searched / "probabilities.jsonl", first=0)
    assert [record["epoch"] for record in logged] == [0, 1, 2, 3, 4]


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


@pytest.mark.slow
def test_a_loss_of_each_share_alone_searches_as_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classification has no loss over the whole batch: its gradients are averaged."""
    data = {"root": str(folder / "classes"), "workers": 0}
    task = {"task": "classify", "data": data, "batch_size": 4, "validate_every": 2}
    alone = run_alone("search", folder, "classes1", search_changes(1, **task), monkeypatch)
    done = run("search", folder, "classes2", search_changes(2, **task))
    assert done.returncode == 0, done.stdout
    first, second = (state(folder, "classes2", rank) for rank in (0, 1))
    assert all(alone[name].std() > 1e-3 for name in alone if "_arch_alpha" in name)
    assert_states_equal(second, first)
    assert_states_close(first, alone)
    logs = [read_records(folder / name / "metrics.jsonl") for name in ("classes1", "classes2")]
    for one, two in zip(*logs, strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-3)


@pytest.mark.slow
def test_processes_that_draw_masks_of_their_own_end_with_one_architecture(tmp_path: Path) -> None:
    write_distributed_inputs(tmp_path, "dcs")
    done = run("search", tmp_path, "dcs", search_changes(2, epochs=2))
    assert done.returncode == 0, done.stdout
    first, second = (state(tmp_path, "dcs", rank) for rank in (0, 1))
    choices = [name for name in first if "_arch_alpha" in name]
    assert choices
    assert [name for name in first if "theta" in name]
    assert all(first[name].std() > 1e-3 for name in choices)
    assert_states_equal(second, first)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_failure_of_one_process_ends_all(folder: Path, rank: int) -> None:
    done = run("search", folder, f"failed{rank}", search_changes(2), stop=1, failing=rank)
    assert done.returncode != 0
    assert f"process {rank} fails" in done.stdout
