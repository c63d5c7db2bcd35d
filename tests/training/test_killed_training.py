"""A training that is killed, stopped, or finds the disk full, and is run again ends the same.

Real processes, real signals. An epoch has six steps, and the checkpoint is written after every
second of them.
"""

import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from dcsnas.config.stages import DataConfig
from dcsnas.nn.build import build
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from killed_search import (
    Act,
    Clock,
    Ended,
    Fault,
    command,
    die,
    die_after,
    die_half_written,
    disk_full,
    interrupt,
    interrupt_and_hang,
    terminate,
)
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set

SPACE = micro_space()
LARGEST, SMALLEST = (
    architecture_of(SPACE, choose(SPACE), table=fake_table(SPACE), seed=0)
    for choose in (largest_choice, smallest_choice)
)
CONFIG = {
    "data": {"root": "people", "workers": 2},
    "epochs": 3,
    "batch": {"identities": 4, "images": 2},
    "augment": {"pad": 1, "mixup": 0.5},
    "loss": {"ib_size": [4, 2]},
    "run": {"checkpoint_minutes": 2, "device": "cpu"},
}
CLOCK = Clock("dcsnas.training.checkpoint:monotonic")
STEP = "dcsnas.training.module:TaskModule.training_step"
PICTURE = "dcsnas.data.images:ImageSet.pixels"
"""Which is called in the processes that load."""
CHECKPOINT_BYTES = "pathlib:Path.write_bytes"
"""The third call is after step 2 of the second epoch: 2, 4 and the end of the first, then that."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an architecture, a data set and a configuration."""
    folder = tmp_path_factory.mktemp("killed_training")
    write_reid_set(folder / "people", identities=8, images=6)
    save_architecture(folder / "architecture.yaml", LARGEST)
    (folder / "retrain.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


def retrain(folder: Path, out: str, *changes: Fault, options: tuple[str, ...] = ()) -> Ended:
    arguments = ["retrain", "retrain.yaml", "--arch", "architecture.yaml", "--out", out]
    return command(folder, [*arguments, *options], CLOCK, *changes)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """Return the folder of the uninterrupted run."""
    ended = retrain(folder, "whole")
    assert ended.code == 0, ended.output
    return folder / "whole"


def assert_ends_as(folder: Path, out: str, whole: Path) -> None:
    ended = retrain(folder, out)
    assert ended.code == 0, ended.output
    assert {p.name for p in (folder / out).iterdir()} == {p.name for p in whole.iterdir()}
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (folder / out / name).read_bytes() == (whole / name).read_bytes(), name


def steps_done(run: Path) -> int:
    return torch.load(run / "last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("fault", "kept"),
    [
        (Fault(STEP, 6 + 4, die), 6 + 2),
        (Fault(STEP, 2 * 6 + 5, die_after), 2 * 6 + 4),
        (Fault(CHECKPOINT_BYTES, 4, die_half_written), 6),
    ],
    ids=["before a step", "after a step", "while the checkpoint is written"],
)
def test_killed_within_an_epoch(
    folder: Path, whole: Path, request: pytest.FixtureRequest, fault: Fault, kept: int
) -> None:
    out = request.node.callspec.id.replace(" ", "_")
    killed = retrain(folder, out, fault)
    assert killed.code == -signal.SIGKILL, killed.output
    assert steps_done(folder / out) == kept
    assert_ends_as(folder, out, whole)


@pytest.mark.parametrize(
    ("act", "number"), [(terminate, signal.SIGTERM), (interrupt, signal.SIGINT)]
)
def test_asked_to_stop(folder: Path, whole: Path, act: Act, number: signal.Signals) -> None:
    out = number.name
    stopped = retrain(folder, out, Fault(STEP, 6 + 3, act))
    assert last_line(stopped) == f"stopped by {out}; to continue: {same_command(out)}"
    assert stopped.code == 128 + number
    assert steps_done(folder / out) == 6 + 3
    assert_ends_as(folder, out, whole)


def last_line(ended: Ended) -> str:
    """Return what follows the lines that tell of the training."""
    assert "Traceback" not in ended.output
    return ended.output.splitlines()[-1]


def same_command(out: str) -> str:
    return f"dcsnas retrain retrain.yaml --arch architecture.yaml --out {out}"


def test_ctrl_c_while_images_do_not_come(folder: Path, whole: Path) -> None:
    """Wish 3 and faults 3: the first Ctrl-C ends a run that waits for its loaders."""
    hang = Fault(PICTURE, 2 * 4 * 2, interrupt_and_hang)
    began = time.monotonic()
    stopped = retrain(folder, "hang", hang)
    assert time.monotonic() - began < 20
    assert last_line(stopped) == f"stopped by SIGINT; to continue: {same_command('hang')}"
    assert stopped.code == 128 + signal.SIGINT
    assert_ends_as(folder, "hang", whole)


LOADING = {
    "evaluate": ("--data", "people"),
    "calibrate": ("--data", "people", "--fpr", "0.1"),
    "embed": ("people/query", "--out", "features.npz"),
}


@pytest.mark.parametrize("name", LOADING)
def test_ctrl_c_ends_what_waits_for_its_loaders(folder: Path, whole: Path, name: str) -> None:
    arguments = [name, str(whole / "model.safetensors"), *LOADING[name], "--device", "cpu"]
    stopped = command(folder, arguments, Fault(PICTURE, 1, interrupt_and_hang))
    assert stopped.code == 128 + signal.SIGINT
    assert len(stopped.output.splitlines()) == 1, "the bar"


def test_a_killed_loading_process_is_one_message(folder: Path) -> None:
    """Faults 3 (c): it was 142 lines of traceback."""
    ended = retrain(folder, "loader", Fault(PICTURE, 9, die))
    assert ended.code == 2
    assert re.fullmatch(
        r"error: a process that loads images failed \(RuntimeError: DataLoader worker \(pid \d+\) "
        r"is killed by signal: Killed\.\); lower data\.workers \(--workers\) if memory is short, "
        "or set it to 0 to load without further processes",
        last_line(ended),
    )


def test_full_disk(folder: Path, whole: Path) -> None:
    retrain(folder, "full", Fault(STEP, 6 + 4, die))
    kept = (folder / "full" / "last.ckpt").read_bytes()
    ended = retrain(folder, "full", Fault(CHECKPOINT_BYTES, 1, partial(disk_full, 5000)))
    assert ended.code == 2, ended.output
    assert last_line(ended) == (
        "error: full/last.ckpt: cannot be written (File too large); free space there, or make the "
        "folder writable, and run the same command again"
    )
    assert not list((folder / "full").glob("*.partial"))
    assert (folder / "full" / "last.ckpt").read_bytes() == kept
    assert_ends_as(folder, "full", whole)


@pytest.fixture(scope="module")
def begun(folder: Path) -> str:
    """Return the name of a run that began with weights and was killed."""
    save_backbone(folder / "backbone.safetensors", seed=0)
    options = ("--from", "backbone.safetensors")
    assert retrain(folder, "begun", Fault(STEP, 4, die), options=options).code == -signal.SIGKILL
    return "begun"


def save_backbone(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    data = DataConfig(root=Path("classes"))
    header = header_of("pretrain", LARGEST, data, LARGEST.input, num_classes=3)
    save_weights(path, build(LARGEST.network).state_dict(), header)


@pytest.fixture
def copy(folder: Path, begun: str, tmp_path: Path) -> Path:
    """Return a copy of the inputs and the begun run, to be changed."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path


def refused(folder: Path, *options: str) -> list[str]:
    """Return the differences for which the begun run is not continued."""
    run = folder / "begun"
    (run / "writer.lock").unlink(missing_ok=True)  # of the process that was killed
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    ended = retrain(folder, "begun", options=options)
    (run / "writer.lock").unlink(missing_ok=True)
    assert ended.code == 2, ended.output
    first, *lines, last = ended.output.splitlines()
    assert first == "error: begun: holds a run with another configuration:"
    assert last == "give another --out, or the same configuration to continue"
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    return [line.removeprefix("  ") for line in lines]


def test_other_start_weights_are_refused(copy: Path) -> None:
    weights = "backbone.safetensors"
    assert refused(copy) == [f"inputs.start: there {weights}, now none"]
    save_backbone(copy / weights, seed=1)
    (found,) = refused(copy, "--from", weights)
    assert found.startswith(f"inputs.start: {weights} has changed, though not in stage pretrain,")


def test_another_data_set_is_refused(copy: Path) -> None:
    for path in (copy / "people" / "bounding_box_train").glob("0003_*"):
        path.unlink()
    assert refused(copy, "--from", "backbone.safetensors") == [
        "inputs.data: people has changed",
        "inputs.data.identities: there 8, now 7",
        "inputs.data.images: there 48, now 42",
    ]


def test_another_architecture_is_refused(copy: Path) -> None:
    save_architecture(copy / "architecture.yaml", SMALLEST)
    found = refused(copy)
    assert found[0] == "inputs.architecture: the architecture has changed"
    label, wide = next(iter(LARGEST.provenance.choice.items()))
    narrow = SMALLEST.provenance.choice[label]
    assert found[1] == f"inputs.architecture.choice.{label}: there {wide!r}, now {narrow!r}"


def test_another_configuration_is_refused(copy: Path) -> None:
    options = ("--set", "loss.eta=0.5", "--set", "batch.images=3")
    assert refused(copy, "--from", "backbone.safetensors", *options) == [
        "batch.images: there 2, now 3",
        "loss.eta: there 0.1, now 0.5",
    ]
