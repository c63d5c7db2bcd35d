"""Classes in an order, through ``dcsnas search``, ``derive``, ``retrain`` and ``evaluate``."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from dcsnas.config.files import read_json, read_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.nn.weights import read_header, read_state
from reid_data import write_class_folder
from search_setup import write_search_inputs

PLUGIN = ("--plugin", "examples.extending.task")
COMMON = {"task": "ordinal", "data": {"root": "classes", "workers": 0}, "augment": {"pad": 0}}


def write(name: str, **content: Any) -> str:
    Path(name).write_text(yaml.safe_dump({**COMMON, **content}))
    return name


def test_a_network_is_searched_trained_and_scored(dcsnas: Callable[..., str]) -> None:
    write_search_inputs(Path())
    write_class_folder(Path("classes"), classes=4, images=12)
    search = write("search.yaml", space="space.yaml", table="table.json", epochs=4, batch_size=8,
                   distance=0.5, validate_every=2, architecture={"warmup_epochs": 1})  # fmt: skip
    wrong = (*PLUGIN, "search", search, "--allow-foreign", "--set", "distanse=1")
    assert "distanse: unknown key; did you mean 'distance'?" in dcsnas(*wrong, code=2)
    dcsnas(*PLUGIN, "search", search, "--allow-foreign", "--out", "run")
    assert read_yaml(Path("run/config.yaml"))["distance"] == 0.5
    last = read_records(Path("run/metrics.jsonl"))[-1]
    for phase in ("weights", "architecture"):
        parts = last[f"{phase}/cross_entropy"] + 0.5 * last[f"{phase}/distance"]
        assert last[f"{phase}/loss"] == pytest.approx(parts, rel=1e-5)
    shown = dcsnas(*PLUGIN, "derive", "run", "--best-of", "3")
    assert "most probable: at most one class off " in shown
    seen = float(shown.split("at most one class off ")[1].split(" %")[0])
    assert 0 <= seen <= 100

    train = write("train.yaml", epochs=8, batch_size=8,
                  optimizer={"name": "adam", "lr": 0.01, "schedule": "cosine"})  # fmt: skip
    arch = ("--arch", "run/architecture.yaml")
    dcsnas(*PLUGIN, "retrain", train, *arch, "--from", "run/supernet.safetensors", "--out", "net")
    weights = Path("net/model.safetensors")
    assert read_header(weights).task == "ordinal"
    assert {"neck.directions", "neck.scale"} <= read_state(weights).keys()

    shown = dcsnas(*PLUGIN, "evaluate", str(weights), "--data", "classes", "--workers", "0")
    metrics = read_json(Path("net/metrics.json"))
    assert f"within_one {metrics['within_one']:6.2f} %" in shown
    assert metrics["within_one"] >= metrics["right"] > 60
    assert metrics["latency"]["measured_ms"] > 0


def test_the_distance_is_that_of_the_answers() -> None:
    from dcsnas.nn.heads import Output
    from examples.extending.task import OrdinalObjective, scores

    config = SimpleNamespace(label_smoothing=0.0, distance=2.0)
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, 2, 2])
    terms = OrdinalObjective(config, 4, 8)(
        Output(torch.zeros(5, 8), logits), torch.zeros(0), labels, progress=0.0
    )
    off = [[abs(k - label) for k in range(4)] for label in labels.tolist()]
    expected = sum(p * d for row, ds in zip(logits.softmax(1), off, strict=True)
                   for p, d in zip(row.tolist(), ds, strict=True)) / 5  # fmt: skip
    assert terms["distance"].item() == pytest.approx(expected, rel=1e-5)
    right = 100 * sum(row.argmax() == label for row, label in zip(logits, labels, strict=True)) / 5
    assert scores(logits, labels)["right"] == pytest.approx(float(right))
