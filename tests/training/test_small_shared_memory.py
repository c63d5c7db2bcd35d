"""The commands that load images, with as little /dev/shm as containers have (faults 3 b)."""

from pathlib import Path

import pytest
import yaml

from dcsnas.config.files import read_json
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.sampling import smallest_choice
from killed_search import SharedMemory, command, needs_mounts
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set

SPACE = micro_space()
SMALL = {
    "data": {"root": "people"},
    "epochs": 2,
    "batch": {"identities": 4, "images": 2},
    "augment": {"pad": 1},
    "loss": {"ib_size": [4, 2]},
    "run": {"device": "cpu"},
}
LARGE = {**SMALL, "epochs": 1, "input": [256, 128], "batch": {"identities": 16, "images": 4}}
"""So that a batch has 6 MB."""
FEWER = "loading with 2 processes instead of 8 (data.workers): [Errno 28] No space left on device"


def write_inputs(folder: Path, config: dict, *, images: int) -> None:
    write_reid_set(folder / "people", identities=16, images=images)
    choice = smallest_choice(SPACE)
    network = architecture_of(SPACE, choice, table=fake_table(SPACE), seed=0)
    save_architecture(folder / "architecture.yaml", network)
    (folder / "retrain.yaml").write_text(yaml.safe_dump(config))


COMMANDS: dict[str, tuple[str, ...]] = {
    "calibrate": ("--data", "people", "--fpr", "0.1", "--out", "OUT/threshold.json"),
    "embed": ("people/query", "--out", "OUT/features.npz"),
    "evaluate": ("--data", "people", "--out", "OUT/metrics.json"),
}
SAME = ("model.safetensors", "metrics.jsonl", "threshold.json", "features.npz")


def flow(folder: Path, out: str, workers: int, names: list[str], *changes: SharedMemory) -> str:
    """Retrain, and use the weights; return what was printed."""
    training = ("retrain.yaml", "--arch", "architecture.yaml", "--out", out)
    calls = [["retrain", *training, "--set", f"data.workers={workers}"]]
    for name in names:
        options = [option.replace("OUT", out) for option in COMMANDS[name]]
        using = ["--workers", str(workers), "--device", "cpu"]
        calls.append([name, f"{out}/model.safetensors", *options, *using])
    ended = [command(folder, call, *changes) for call in calls]
    printed = "".join(one.output for one in ended)
    assert not any(one.code for one in ended), printed
    return printed


def assert_same(folder: Path, one: str, other: str) -> None:
    for name in SAME:
        assert (folder / one / name).read_bytes() == (folder / other / name).read_bytes(), name


@needs_mounts
def test_fewer_processes_load_where_their_locks_find_no_room(tmp_path: Path) -> None:
    write_inputs(tmp_path, SMALL, images=6)
    names = ["calibrate", "embed"]
    flow(tmp_path, "alone", 0, names)
    printed = flow(tmp_path, "with_8", 8, names, SharedMemory("64k"))
    assert printed.count(FEWER) == 3
    assert "Traceback" not in printed
    assert_same(tmp_path, "alone", "with_8")


@pytest.mark.slow
@needs_mounts
@pytest.mark.parametrize("size", ["64m", "64k"])
def test_batches_of_the_papers_take_no_shared_memory(tmp_path: Path, size: str) -> None:
    write_inputs(tmp_path, LARGE, images=80)  # 20 batches of 6 MB, of which 16 may be under way
    flow(tmp_path, "alone", 0, list(COMMANDS))
    printed = flow(tmp_path, "with_8", 8, list(COMMANDS), SharedMemory(size))
    assert printed.count(FEWER) == 4 * (size == "64k")
    assert_same(tmp_path, "alone", "with_8")
    one, other = (read_json(tmp_path / out / "metrics.json") for out in ("alone", "with_8"))
    assert {
        name: value for name, value in one.items() if name != "latency"
    }.items() <= other.items()
