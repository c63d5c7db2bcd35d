"""Classification from the command line: searched, derived, trained and scored."""

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dcsnas.config.files import read_json, read_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.nn.distributed import cpu_threads
from dcsnas.nn.weights import read_header, read_state
from dcsnas.plots.search_curves import plot_search_curves
from dcsnas.spaces.architecture import load_architecture
from dcsnas.spaces.shipped import shipped_folder
from latency_fakes import fake_latency
from reid_data import write_class_folder, write_reid_set
from search_setup import write_search_inputs

Command = Callable[..., str]
SMALL: dict[str, Any] = {
    "data": {"root": "classes", "workers": 0}, "batch_size": 8,
    "augment": {"pad": 1, "erase": 0.5},
}  # fmt: skip


def shipped(name: str, **changes: Any) -> dict[str, Any]:
    """Return a shipped configuration with ``changes``."""
    content = yaml.safe_load((shipped_folder("experiments") / f"{name}.yaml").read_text())
    return {**content, **SMALL, **changes}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space, its table, images of classes and configurations."""
    folder = write_search_inputs(tmp_path_factory.mktemp("classify"))
    write_class_folder(folder / "classes", images=12)
    files = {"space": "space.yaml", "table": "table.json", "validate_every": 2}
    phases = {"architecture": {"lr": 0.1, "warmup_epochs": 1}, "weights": {"lr": 0.05}}
    search = shipped("search_classify_tiny", **files, **phases, epochs=4)
    retrain = shipped("retrain_classify_tiny", epochs=10)
    for name, content in (("search", search), ("retrain", retrain)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture
def searched(work: Path, dcsnas: Command) -> Path:
    """Return the folder of a finished search, which is run once."""
    if not (work / "run" / "result.json").exists():
        dcsnas(work, "search", "search.yaml", "--allow-foreign", "--out", "run")
    return work / "run"


def test_a_search_logs_cross_entropy_and_accuracy(searched: Path) -> None:
    records = read_records(searched / "metrics.jsonl")
    names = {name for record in records for name in record}
    assert {"weights/loss", "architecture/loss", "validation/accuracy"} <= names
    assert not [name for name in names if "triplet" in name or "ibb" in name]
    assert ["validation/accuracy" in record for record in records] == [False, True, False, True]
    assert all(0 <= record.get("validation/accuracy", 0) <= 100 for record in records)
    assert records[-1]["weights/loss"] < records[0]["weights/loss"]
    assert read_yaml(searched / "config.yaml")["task"] == "classify"
    header = read_header(searched / "supernet.safetensors")
    assert (header.task, header.num_classes) == ("classify", 3)
    assert {"neck.weight", "neck.bias"} <= read_state(searched / "supernet.safetensors").keys()


def test_it_is_derived_trained_and_evaluated(
    work: Path, searched: Path, dcsnas: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    latency = fake_latency(2.0, {"batch": 1})
    monkeypatch.setattr("dcsnas.evaluation.speed.measure_latency", lambda path, **options: latency)
    best = ("--best-of", "3", "--weights", "derived.safetensors")
    shown = dcsnas(work, "derive", "run", *best)
    assert "of the 3 most probable: accuracy " in shown
    arch = ("--arch", "run/architecture.yaml")
    chosen = ("--set", "validation.every=5", "--set", "ema=0.5", "--set", "augment.mixup=0.2")
    start = ("--from", "run/supernet.safetensors")
    shown = dcsnas(work, "retrain", "retrain.yaml", *arch, *start, *chosen, "--out", "net")
    assert " 0 left as initialised" in shown
    assert "the best of those scored: accuracy " in shown
    header = read_header(work / "net" / "model.safetensors")
    assert header.architecture == load_architecture(searched / "architecture.yaml")
    assert header.chosen_epoch is not None
    assert (header.chosen_epoch.metric, header.chosen_epoch.selected_on) == ("accuracy", "test")

    data = ("--data", "classes", "--workers", "0")
    shown = dcsnas(work, "evaluate", "net/model.safetensors", *data)
    metrics = read_json(work / "net" / "metrics.json")
    assert f"accuracy {metrics['accuracy']:6.2f} %" in shown
    assert metrics["accuracy"] == pytest.approx(header.chosen_epoch.score, abs=1e-4)
    assert metrics["accuracy"] > 60
    assert metrics["chosen_epoch"]["metric"] == "accuracy"
    assert metrics["latency"] == latency
    assert "accuracy" in dcsnas(work, "evaluate", "derived.safetensors", *data, "--out", "d.json")
    drawn = {Path(path).stem for path in dcsnas(work, "plot", "net").split()}
    assert drawn == {"curves", "architecture", "confusion"}
    assert "4 images of 3" not in shown
    assert "centre crop of 87.5 %" in shown
    assert metrics["protocol"]["crop"] == 0.875
    rows = list(csv.reader((work / "net" / "classes.csv").read_text().splitlines()))
    assert [row[0] for row in rows[1:]] == ["class0", "class1", "class2"]
    assert [float(row[2]) for row in rows[1:]] == pytest.approx(
        list(metrics["by_class"].values()), abs=0.005
    )
    answers = list(csv.reader((work / "net" / "confusion.csv").read_text().splitlines()))
    right = sum(int(answers[label][label]) for label in (1, 2, 3))
    assert 100 * right / 36 == pytest.approx(metrics["accuracy"])
    assert header.classes == ("class0", "class1", "class2")
    assert read_header(work / "derived.safetensors").classes == header.classes
    titles = {axes.get_title("left") for axes in plot_search_curves(searched).axes}
    assert "accuracy, most probable network" in titles

    message = dcsnas(work, "evaluate", "net/model.safetensors", *data, "--flip", code=2)
    assert message.startswith("error: flip: is no rule for task 'classify'")
    message = dcsnas(work, "embed", "net/model.safetensors", "classes", "--out", "e.npz", code=2)
    assert message.startswith("error: net/model.safetensors: holds a network of task 'classify'")
    shown = dcsnas(work, "export", "net/model.safetensors", "--out", "model.onnx")
    assert "probabilities float32 [batch, 3]" in shown


def test_images_are_held_out_and_classes_drawn(work: Path, searched: Path, dcsnas: Command) -> None:
    dcsnas(work, "derive", "run", "--out", "held.yaml", "--force")
    part = ("--set", "data.classes={count: 2, seed: 1}", "--set", "data.in_memory=true")
    held = ("--set", "validation={every: 1, hold_out: 0.25}", "--set", "augment.pad=0")
    drawn = ("--set", "augment.crop={}", "--set", "augment.randaugment={}")
    mixed = ("--set", "augment.mixup=0.2", "--set", "augment.cutmix=1.0", "--set", "epochs=2")
    retrain = ("retrain", "retrain.yaml", "--arch", "held.yaml", "--out", "held")
    shown = dcsnas(work, *retrain, *part, *held, *drawn, *mixed)
    assert " % on held-out images" in shown
    header = read_header(work / "held" / "model.safetensors")
    assert header.chosen_epoch is not None
    assert header.chosen_epoch.selected_on == "held-out images"
    assert (header.num_classes, header.crop) == (2, 0.875)
    names = (work / "held" / "classes.txt").read_text().split()
    assert header.classes == tuple(names)
    assert len(names) == 2
    data = ("--data", "classes", "--workers", "0", "--no-latency")
    shown = dcsnas(work, "evaluate", "held", *data)
    counts = read_json(work / "held" / "metrics.json")["counts"]
    assert counts == {"val": 24, "classes": 2, "classes_in_data": 3}
    assert "24 images of 2 classes" in shown
    listed = ("--set", "data.classes={file: held/classes.txt}", "--set", "epochs=1")
    dcsnas(work, *retrain[:-1], "listed", *listed)
    assert read_header(work / "listed" / "model.safetensors").classes == header.classes
    start = ("--from", "run/supernet.safetensors", "--out", "refused", *held)
    message = dcsnas(work, *retrain[:-2], *start, code=2)
    assert "was trained on the images that are to be held out" in message


def test_random_search_keeps_the_most_accurate(work: Path, dcsnas: Command) -> None:
    free = ("--set", "strategy=random", "--set", "validate_every=0")
    free = (*free, "--set", "objective={form: add, weight: 0}", "--allow-foreign")
    free = (*free, "--set", "augment={randaugment: {}}")  # and random parts, unless padded
    dcsnas(work, "search", "search.yaml", *free, "--out", "random")
    networks = read_json(work / "random" / "random.json")["networks"]
    best = max(network["accuracy"] for network in networks)
    assert len(networks) == 3
    assert read_json(work / "random" / "result.json")["accuracy"] == best


def test_what_a_task_does_not_have_is_refused(work: Path, searched: Path, dcsnas: Command) -> None:
    write_reid_set(work / "people", identities=4)
    dcsnas(work, "derive", "run", "--out", "arch.yaml")
    retrain = ("retrain", "retrain.yaml", "--arch", "arch.yaml", "--out", "refused")
    reid = ("--set", "task=reid")
    assert "batch_size: unknown key; did you mean" in dcsnas(work, *retrain, *reid, code=2)
    (work / "reid.yaml").write_text(yaml.safe_dump({"data": {"root": "classes"}, "epochs": 1}))
    message = dcsnas(work, "retrain", "reid.yaml", "--arch", "arch.yaml", code=2)
    assert message.endswith("the task is 'reid'; this is a data set of task 'classify'\n")
    message = dcsnas(work, *retrain, "--data", "people", code=2)
    assert message.endswith("the task is 'classify'; this is a data set of task 'reid'\n")
    table = ("search", "search.yaml", "--allow-foreign", "--data", "people", "--out", "refused")
    assert "data set of task 'reid'" in dcsnas(work, *table, code=2)
    eta = ("tune-eta", "retrain.yaml", "--arch", "arch.yaml", "--out", "refused")
    assert "task: eta is a weight in the loss of task reid" in dcsnas(work, *eta, code=2)
    assert not (work / "refused").exists()


def test_people_can_be_pretrained_on(work: Path, searched: Path, dcsnas: Command) -> None:
    write_reid_set(work / "people", identities=4)
    dcsnas(work, "derive", "run", "--out", "arch.yaml")
    content = {"task": "reid", "data": {"root": "people", "workers": 0}, "epochs": 1,
               "batch": {"identities": 2, "images": 2}, "augment": {"pad": 0},
               "loss": {"ib_size": [4, 2]}, "run": {"threads": 1}}  # fmt: skip
    (work / "people.yaml").write_text(yaml.safe_dump(content))
    arch = ("--arch", "arch.yaml")
    with cpu_threads(2):
        shown = dcsnas(work, "pretrain", "people.yaml", *arch, "--out", "pretrained")
        assert torch.get_num_threads() == 2, "the configuration's 1 is the run's alone"
    assert torch.get_num_threads() == 1
    assert "% mAP on 4 classes" in shown
    backbone = work / "pretrained" / "backbone.safetensors"
    assert not [name for name in read_state(backbone) if name.startswith("neck.")]
    result = read_json(work / "pretrained" / "result.json")
    assert f"{result['map_percent']:.1f} % mAP" in shown
    records = read_records(work / "pretrained" / "metrics.jsonl")
    assert all("validation/map" in record for record in records)
    again = yaml.safe_load((work / "pretrained" / "config.yaml").read_text())
    assert (again["stage"], again["task"]) == ("pretrain", "reid")
    start = ("--from", "pretrained/backbone.safetensors", "--out", "after")
    dcsnas(work, "retrain", "retrain.yaml", *arch, *start, "--set", "epochs=1")


def test_nni_is_silent_for_a_search_alone(
    work: Path, dcsnas: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, levels = logging.getLogger("nni"), []
    logger.setLevel(logging.INFO)
    end = "dcsnas.search.run._finish"
    from dcsnas.search.run import _finish

    def watched(*arguments: Any) -> Any:
        levels.append(logger.level)
        return _finish(*arguments)

    monkeypatch.setattr(end, watched)
    options = ("--set", "epochs=2", "--set", "validate_every=0", "--allow-foreign")
    dcsnas(work, "search", "search.yaml", *options, "--out", "heard")
    assert levels == [logging.CRITICAL]
    assert logger.level == logging.INFO
