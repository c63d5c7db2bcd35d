"""The commands that load images, with as little /dev/shm as containers have (faults 3 b)."""

from pathlib import Path

import pytest
import yaml

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
LARGE = {**SMALL, "input": [256, 128], "batch": {"identities": 16, "images": 4}}
"""So that a batch has 6 MB."""
FEWER = "loading with 2 processes instead of 8 (data.workers): [Errno 28] No space left on device"


def write_inputs(folder: Path, config: dict, *, images: int) -> None:
    write_reid_set(folder / "people", identities=16, images=images)
    choice = smallest_choice(SPACE)
    network = architecture_of(SPACE, choice, table=fake_table(SPACE), seed=0)
    save_architecture(folder / "architecture.yaml", network)
    (folder / "retrain.yaml").write_text(yaml.safe_dump(config))


def flow(folder: Path, out: str, workers: int, *changes: SharedMemory) -> list[str]:
    """Retrain, evaluate, calibrate and embed; return what each of them printed."""
    weights, using = f"{out}/model.safetensors", ("--workers", str(workers), "--device", "cpu")
    printed = []
    for arguments in (
        ("retrain", "retrain.yaml", "--arch", "architecture.yaml", "--out", out,
         "--set", f"data.workers={workers}"),
        ("evaluate", weights, "--data", "people", *using, "--out", f"{out}/metrics.json"),
        ("calibrate", weights, "--data", "people", *using, "--out", f"{out}/threshold.json"),
        ("embed", weights, "people/query", *using, "--out", f"{out}/features.npz"),
    ):  # fmt: skip
        ended = command(folder, arguments, *changes)
        assert ended.code == 0, ended.output
        printed.append(ended.output)
    return printed


def assert_same(folder: Path, one: str, other: str) -> None:
    for name in ("model.safetensors", "metrics.jsonl", "threshold.json", "features.npz"):
        assert (folder / one / name).read_bytes() == (folder / other / name).read_bytes(), name


@needs_mounts
def test_fewer_processes_load_where_their_locks_find_no_room(tmp_path: Path) -> None:
    write_inputs(tmp_path, SMALL, images=6)
    flow(tmp_path, "alone", 0)
    for printed in flow(tmp_path, "with_8", 8, SharedMemory("64k")):
        assert printed.count(FEWER) == 1
        assert "Traceback" not in printed
    assert_same(tmp_path, "alone", "with_8")


@pytest.mark.slow
@needs_mounts
@pytest.mark.parametrize("size", ["64m", "64k"])
def test_batches_of_the_papers_take_no_shared_memory(tmp_path: Path, size: str) -> None:
    write_inputs(tmp_path, LARGE, images=80)  # 20 batches of 6 MB, of which 16 may be under way
    flow(tmp_path, "alone", 0)
    for printed in flow(tmp_path, "with_8", 8, SharedMemory(size)):
        assert printed.count(FEWER) == (size == "64k")
    assert_same(tmp_path, "alone", "with_8")
