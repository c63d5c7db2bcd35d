"""A search that is killed anywhere, or finds the disk full, and is run again ends the same.

Real processes, real SIGKILL. An epoch of the small search is four steps of the weights' phase and
two of the architecture's; the first of the four epochs trains weights alone.
"""

import random
import shutil
import signal
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
import torch

from dcsnas.config.outputs import LOCK
from dcsnas.latency.table import save_table
from killed_search import (
    Fault,
    die,
    die_after,
    die_half_written,
    die_in_a_line,
    disk_full,
    search_command,
    terminate,
    write_case,
)
from latency_fakes import fake_table, micro_space
from search_setup import write_search_inputs

CASES = {
    "add": {"validate_every": 2},
    "target": {"objective": {"form": "target", "target": 0.22}},
    "bfloat16": {"run": {"precision": "bf16-mixed"}},
    "shared": {
        "architecture": {"lr": 0.1, "warmup_epochs": 1, "steps": "shared", "weight_draws": "hard"}
    },
    "workers": {"validate_every": 2, "data": {"root": "data", "workers": 2}},
}
WRITTEN = ("result.json", "metrics.jsonl", "probabilities.jsonl", "supernet.safetensors")

STEP = "dcsnas.search.loop:FBNetV2Module.training_step"
WEIGHTS = "dcsnas.search.loop:FBNetV2Module.advance_optimization"
ARCHITECTURE = "dcsnas.search.loop:FBNetV2Module._architecture_step"
DUAL_ASCENT = "dcsnas.search.cost_terms:CostObjective.advance"
CHECKPOINT = "dcsnas.training.trainer:LastCheckpoint.on_train_epoch_end"
CHECKPOINT_BYTES = "pathlib:Path.write_bytes"
METRICS_LINE = "dcsnas.training.trainer:append_record"
PROBABILITIES_LINE = "dcsnas.search.recording:append_record"
VALIDATION = "dcsnas.search.validation:recalibrate"
SAVE_WEIGHTS = "dcsnas.search.run:save_weights"
SAVE_RESULT = "dcsnas.search.run:write_json"
RENAME = "os:replace"

FAULTS = {
    "at the first step": ("add", Fault(WEIGHTS, 1, die)),
    "in the weights' phase": ("add", Fault(WEIGHTS, 7, die)),
    "after a step of the weights": ("target", Fault(WEIGHTS, 14, die_after)),
    "at the first step of the architecture": ("add", Fault(ARCHITECTURE, 1, die)),
    "after the last step of the architecture": ("add", Fault(ARCHITECTURE, 6, die_after)),
    "before dual ascent": ("target", Fault(DUAL_ASCENT, 4, die)),
    "after dual ascent": ("target", Fault(DUAL_ASCENT, 5, die_after)),
    "while the first checkpoint is written": ("add", Fault(CHECKPOINT_BYTES, 1, die_half_written)),
    "while a checkpoint is written": ("target", Fault(CHECKPOINT_BYTES, 3, die_half_written)),
    "before a checkpoint": ("add", Fault(CHECKPOINT, 2, die)),
    "after a checkpoint": ("add", Fault(CHECKPOINT, 2, die_after)),
    "in a line of the metrics": ("add", Fault(METRICS_LINE, 3, die_in_a_line)),
    "in a line of the probabilities": ("add", Fault(PROBABILITIES_LINE, 3, die_in_a_line)),
    "while it validates": ("add", Fault(VALIDATION, 1, die)),
    "after the last epoch": ("add", Fault(SAVE_WEIGHTS, 1, die)),
    "between the results": ("add", Fault(SAVE_RESULT, 1, die)),
    "before it has a configuration": ("add", Fault(RENAME, 1, die)),
    "before it has an environment": ("add", Fault(RENAME, 2, die)),
    "with bfloat16": ("bfloat16", Fault(ARCHITECTURE, 3, die_after)),
    "with shared steps": ("shared", Fault(ARCHITECTURE, 4, die_after)),
    "with worker processes": ("workers", Fault(WEIGHTS, 10, die)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space, its table, a data set and the configurations."""
    folder = write_search_inputs(tmp_path_factory.mktemp("killed"))
    for case, changes in CASES.items():
        write_case(folder, case, **changes)
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> Callable[[str], Path]:
    """Return a function that gives the folder of a case's uninterrupted run."""

    @cache
    def run_once(case: str) -> Path:
        ended = search_command(folder, case, f"whole_{case}")
        assert ended.code == 0, ended.output
        return folder / f"whole_{case}"

    return run_once


def assert_same_end(run: Path, expected: Path) -> None:
    assert {path.name for path in run.iterdir()} == {path.name for path in expected.iterdir()}
    for name in WRITTEN:
        assert (run / name).read_bytes() == (expected / name).read_bytes(), name


def finish(folder: Path, case: str, out: str) -> Path:
    ended = search_command(folder, case, out)
    assert ended.code == 0, ended.output
    return folder / out


QUICK = (
    "after a step of the weights",
    "after dual ascent",
    "while a checkpoint is written",
    "in a line of the metrics",
    "while it validates",
    "between the results",
    "with shared steps",
)
"""One of every kind; the others are slow for their number."""


@pytest.mark.parametrize(
    "when", [w if w in QUICK else pytest.param(w, marks=pytest.mark.slow) for w in FAULTS]
)
def test_search_killed(folder: Path, whole: Callable[[str], Path], when: str) -> None:
    case, fault = FAULTS[when]
    out = when.replace(" ", "_")
    killed = search_command(folder, case, out, fault=fault)
    assert killed.code == -signal.SIGKILL, killed.output
    assert not (folder / out / "result.json").exists()
    assert_same_end(finish(folder, case, out), whole(case))


def test_search_killed_again_and_again(folder: Path, whole: Callable[[str], Path]) -> None:
    rng = random.Random(0)
    epochs = set()
    for _ in range(4):
        act = rng.choice([die, die_after])
        ended = search_command(
            folder, "target", "again", fault=Fault(STEP, rng.randint(1, 12), act)
        )
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGKILL, ended.output
        epochs.add(checkpointed_epoch(folder / "again"))
    assert len(epochs) > 1, "never got from one epoch to the next"
    assert_same_end(finish(folder, "target", "again"), whole("target"))


def test_search_asked_to_stop(folder: Path, whole: Callable[[str], Path]) -> None:
    stopped = search_command(folder, "add", "asked", fault=Fault(ARCHITECTURE, 3, terminate))
    again = "dcsnas search add.yaml --allow-foreign --out asked"
    assert stopped.output.endswith(f"\nstopped by SIGTERM; to continue: {again}\n")
    assert stopped.code == 128 + signal.SIGTERM
    assert checkpointed_epoch(folder / "asked") == 1
    assert_same_end(finish(folder, "add", "asked"), whole("add"))


def test_worker_processes_change_nothing(whole: Callable[[str], Path]) -> None:
    assert_same_end(whole("workers"), whole("add"))


def checkpointed_epoch(run: Path) -> int | None:
    path = run / "last.ckpt"
    return torch.load(path, weights_only=True)["epoch"] if path.exists() else None


@pytest.mark.parametrize(
    ("name", "place", "call", "room"),
    [
        ("last.ckpt", CHECKPOINT_BYTES, 1, 5000),
        ("metrics.jsonl", METRICS_LINE, 1, 20),
        ("probabilities.jsonl", PROBABILITIES_LINE, 1, 20),
        ("result.json", SAVE_RESULT, 1, 5),
        ("supernet.safetensors", SAVE_WEIGHTS, 1, 5000),
    ],
)
def test_full_disk(
    folder: Path, whole: Callable[[str], Path], name: str, place: str, call: int, room: int
) -> None:
    out = f"full_{name}"
    run = folder / out
    search_command(folder, "target", out, fault=Fault(CHECKPOINT, 3, die))
    kept = (run / "last.ckpt").read_bytes()
    assert checkpointed_epoch(run) == 1
    ended = search_command(
        folder, "target", out, fault=Fault(place, call, partial(disk_full, room))
    )
    assert ended.code == 2, ended.output
    assert ended.output.endswith(
        f"\nerror: {out}/{name}: cannot be written (File too large); free space there, or make the "
        "folder writable, and run the same command again\n"
    )
    assert not list(run.glob("*.partial"))
    if name not in ("result.json", "supernet.safetensors"):
        assert (run / "last.ckpt").read_bytes() == kept
    assert_same_end(finish(folder, "target", out), whole("target"))


@pytest.fixture(scope="module")
def stopped(folder: Path) -> Path:
    """Return ``folder`` with a run called stopped, killed in its third epoch."""
    ended = search_command(folder, "add", "stopped", fault=Fault(ARCHITECTURE, 3, die))
    assert ended.code == -signal.SIGKILL, ended.output
    return folder


@pytest.fixture
def copy(stopped: Path, tmp_path: Path) -> Path:
    """Return a copy of the inputs and the stopped run, to be changed."""
    for name in ("space.yaml", "table.json", "add.yaml"):
        shutil.copy(stopped / name, tmp_path / name)
    for name in ("data", "stopped"):
        shutil.copytree(stopped / name, tmp_path / name)
    return tmp_path


def contents(run: Path) -> dict[Path, bytes]:
    files = (path for path in run.rglob("*") if path.is_file() and path.name != LOCK)
    return {path: path.read_bytes() for path in files}


def refused(folder: Path, *options: str) -> str:
    """Continue the stopped run, check that nothing in its folder changes, return the message."""
    before = contents(folder / "stopped")
    ended = search_command(folder, "add", "stopped", *options)
    assert ended.code == 2, ended.output
    assert contents(folder / "stopped") == before
    _, error, message = ended.output.partition("error: stopped")
    return error + message


def test_changed_configuration_is_refused(copy: Path) -> None:
    message = refused(copy, "--set", "objective.weight=0.7", "--set", "epochs=5")
    assert "  epochs: there 4, now 5\n  objective.weight: there 0.1, now 0.7\n" in message


def test_changed_space_is_refused(copy: Path) -> None:
    text = (copy / "space.yaml").read_text()
    assert "hard_swish" in text
    (copy / "space.yaml").write_text(text.replace("hard_swish", "relu"))
    assert refused(copy) == only(
        "  inputs.space: space.yaml has changed\n"
        "  inputs.space.activation: there 'hard_swish', now 'relu'\n"
    )


def test_changed_table_is_refused(copy: Path) -> None:
    table = fake_table(micro_space()).file
    conditions = table.conditions.model_copy(update={"threads": 3})
    table = table.model_copy(update={"conditions": conditions, "date": "2030-01-01"})
    save_table(copy / "table.json", table)
    assert refused(copy) == only(
        "  inputs.table: table.json has changed\n"
        "  inputs.table.date: there '2025-01-01T00:00:00+00:00', now '2030-01-01'\n"
        "  inputs.table.threads: there 1, now 3\n"
    )


def test_changed_data_set_is_refused(copy: Path) -> None:
    sorted((copy / "data" / "bounding_box_train").iterdir())[0].unlink()
    assert refused(copy) == only(
        "  inputs.data: data has changed\n  inputs.data.images: there 40, now 39\n"
    )


def only(differences: str) -> str:
    """Return the whole message for these lines."""
    return (
        f"error: stopped: holds a run with another configuration:\n{differences}"
        "give another --out, or the same configuration to continue\n"
    )


def truncate(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])


def zip_anything(checkpoint: Path) -> None:
    shutil.make_archive(str(checkpoint), "zip", checkpoint.parent, "metrics.jsonl")
    checkpoint.with_name("last.ckpt.zip").rename(checkpoint)


@pytest.mark.parametrize("spoil", [truncate, zip_anything, partial(Path.write_text, data="x")])
def test_broken_checkpoint_is_refused(
    copy: Path, whole: Callable[[str], Path], spoil: Callable[[Path], None]
) -> None:
    spoil(copy / "stopped" / "last.ckpt")
    message = refused(copy)
    assert "last.ckpt: truncated or not a checkpoint; delete it to start this run over" in message
    (copy / "stopped" / "last.ckpt").unlink()
    assert_same_end(finish(copy, "add", "stopped"), whole("add"))


def test_checkpoint_of_another_run_is_refused(copy: Path, whole: Callable[[str], Path]) -> None:
    shutil.copy(whole("target") / "last.ckpt", copy / "stopped")
    assert "last.ckpt: the checkpoint of another run" in refused(copy)
