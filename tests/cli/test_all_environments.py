"""Every command in every environment that other programs leave: what it writes is the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dcsnas.zoo.torchvision_shim import import_timm
from hostile_environments import HOSTILE, Hostile, open_copy, run_in
from reid_data import write_class_folder

pytestmark = pytest.mark.slow

MODEL = "retrained/model.safetensors"
FOREIGN = "--allow-foreign"
PREPARED = {
    "backbone": ("sample", "test_resnet", "--attention", "none", "--out", "backbone.yaml"),
    "search": ("search", "search.yaml", FOREIGN, "--out", "searched"),
    "retrain": ("retrain", "retrain.yaml", "--arch", "small.yaml", "--out", "retrained"),
    "profile": ("profile", "space.yaml", "--rounds", "2", "--out", "measured.json"),
    "calibrate": ("calibrate", MODEL, "--data", "people", "--fpr", "0.2"),
}
"""What the other commands start from, made in a clean environment."""
PEOPLE = "people/query/0005_c1s1_000001_00.jpg", "people/query/0006_c1s1_000001_00.jpg"
COMMANDS = {
    "spaces": ("spaces", "space.yaml"),
    "sample": ("sample", "space.yaml", "--out", "new.yaml"),
    "data check": ("data", "check", "people"),
    "data render": ("data", "render", "new", "--train-identities", "2", "--test-identities", "2"),
    "profile": ("profile", "space.yaml", "--rounds", "2", "--out", "new.json"),
    "profile-check": ("profile-check", "measured.json", "--networks", "2", "--rounds", "2"),
    "search": ("search", "search.yaml", FOREIGN, "--out", "new"),
    "derive": ("derive", "searched", "--top-k", "2", "--out", "new"),
    "weights": ("weights", "import", "backbone.pt", "--arch", "backbone.yaml",
                "--out", "new.safetensors"),
    "pretrain": ("pretrain", "pretrain.yaml", "--arch", "small.yaml", "--out", "new"),
    "tune-eta": ("tune-eta", "retrain.yaml", "--arch", "small.yaml", "--eta", "0", "--eta", "0.1",
                 "--folds", "2", "--set", "epochs=3", "--out", "new"),
    "retrain": ("retrain", "retrain.yaml", "--arch", "small.yaml", "--out", "new"),
    "two devices": ("retrain", "retrain.yaml", "--arch", "small.yaml", "--out", "new",
                    "--set", "run.devices=2", "--set", "run.device=cpu"),
    "evaluate": ("evaluate", MODEL, "--data", "people", "--workers", "1"),
    "calibrate": ("calibrate", MODEL, "--data", "people", "--fpr", "0.3", "--out", "new.json"),
    "match": ("match", MODEL, *PEOPLE),
    "embed": ("embed", MODEL, "people/query", "--workers", "1", "--out", "new.npz"),
    "export": ("export", MODEL, "--out", "new.onnx"),
    "plot": ("plot", "searched"),
    "experiment": ("experiment", "start", "sweep.yaml", "--out", "new"),
}  # fmt: skip
TIMED = ("profile", "profile-check", "evaluate", "experiment")
"""Their numbers are those of a clock, or NNI's, so that only their files are compared."""
VARYING = (".ckpt", ".lock", "environment.json")
NEVER = ("tensorboard", "nni", "trials", "locks", "best")


@pytest.fixture
def ready(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ``work`` with a finished search, trained weights and a measured table, made once."""
    kept = tmp_path_factory.getbasetemp() / "ready"
    if not kept.exists():
        write_class_folder(work / "classes")
        pretrain = {"data": {"root": "classes", "workers": 0}, "epochs": 1, "batch_size": 4}
        (work / "pretrain.yaml").write_text(yaml.safe_dump(pretrain))
        sweep = {"name": "s", "search": "search.yaml", "allow_foreign": True, "measure": False,
                 "set": {"validate_every": 1},
                 "parameters": {"weight": {"key": "objective.weight", "values": [0]}}}  # fmt: skip
        (work / "sweep.yaml").write_text(yaml.safe_dump(sweep))
        torch.save(import_timm().create_model("test_resnet").state_dict(), work / "backbone.pt")
        for arguments in PREPARED.values():
            done = run_in(work, arguments, Hostile())
            assert done.returncode == 0, done.stdout + done.stderr
        shutil.copytree(work, kept)
    return kept


def content(path: Path) -> Any:
    """Return what a file holds, without when and where it was made."""
    if path.suffix == ".json":
        data = json.loads(path.read_text())
        return {key: value for key, value in data.items() if key not in ("date", "started")}
    return path.read_bytes()


def written(folder: Path, before: set[Path]) -> dict[str, Any]:
    """Return the files that a command has made in ``folder``, with their content."""
    found = {}
    for path in sorted(set(folder.rglob("*")) - before):
        name = path.relative_to(folder)
        if path.is_file() and not {*name.parts} & {*NEVER} and not name.name.endswith(VARYING):
            found[str(name)] = content(path)
    return found


def results(work: Path, command: str, hostile: Hostile) -> dict[str, Any]:
    with open_copy(work) as folder:
        for file in hostile.files:
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).touch()
        before = set(folder.rglob("*"))
        done = run_in(folder, COMMANDS[command], hostile)
        assert done.returncode == 0, done.stdout + done.stderr
        found = written(folder, before)
        return dict.fromkeys(found) if command in TIMED else found


@pytest.fixture(scope="module")
def clean() -> dict[str, dict[str, Any]]:
    """Return the results in a clean environment, once known."""
    return {}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("command", COMMANDS)
def test_results_are_the_same(
    command: str, name: str, ready: Path, clean: dict[str, dict[str, Any]]
) -> None:
    if command not in clean:
        clean[command] = results(ready, command, Hostile())
    assert results(ready, command, HOSTILE[name]) == clean[command]
