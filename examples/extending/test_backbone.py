"""The toy backbone through the whole flow: sample, profile, search, derive, train, use."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from dcsnas.config.files import read_json
from dcsnas.config.jsonl import read_records
from dcsnas.latency.table import load_table
from dcsnas.nn.build import build
from dcsnas.nn.weights import read_header, read_state
from dcsnas.search.cost_terms import reach
from dcsnas.spaces.architecture import load_architecture
from reid_data import write_reid_set

PLUGIN = ("--plugin", "examples.extending.backbone")
SPACE = {
    "schema_version": 2,
    "name": "toy_kinds",
    "source": "tests",
    "input": {"height": 32, "width": 16},
    "output_stride": 8,
    "backbone": "toy",
    "attention": {"kind": ["none", "sa", "dcs"]},
}
SEARCH = {
    "space": "toy.yaml",
    "table": "table.json",
    "data": {"root": "data", "workers": 0},
    "epochs": 20,
    "batch": {"identities": 4, "images": 2},
    "augment": {"pad": 1},
    "loss": {"ib_size": [4, 2]},
    "architecture": {"lr": 0.1, "warmup_epochs": 1},
}
TRAIN = {
    "data": {"root": "data", "workers": 0},
    "epochs": 4,
    "batch": {"identities": 4, "images": 2},
    "augment": {"pad": 1},
    "loss": {"ib_size": [4, 2]},
}


def test_a_network_of_the_backbone_without_a_search(dcsnas: Callable[..., str]) -> None:
    shown = dcsnas(*PLUGIN, "spaces", "toy")
    assert "toy" in shown
    assert "+ dcs x 4" in shown
    shown = dcsnas(*PLUGIN, "sample", "toy", "--attention", "dcs", "--out", "network.yaml")
    assert "0.015 M parameters" in shown
    file = load_architecture(Path("network.yaml"))
    network = build(file.network)
    assert file.params == sum(p.numel() for p in network.parameters())
    maps = network.feature_maps(torch.zeros(1, 3, *file.input))
    assert [tuple(one.shape[1:]) for one in maps] == [
        *((8, 128, 64), (16, 64, 32), (24, 32, 16), (32, 16, 8)),
    ]
    message = dcsnas("sample", "toyy", "--out", "other.yaml", code=2)
    assert "no backbone called 'toyy'" in message
    importing = ("weights", "import", "--arch", "network.yaml", "--out", "w.safetensors")
    assert "no published weights" in dcsnas(*PLUGIN, *importing, code=2)
    trunk = network.get_submodule("trunk").state_dict()
    other = {f"layers.{name}": t.flatten() for name, t in trunk.items()}
    save_file({**other, "classifier.weight": torch.zeros(5, 32)}, "foreign.safetensors")
    message = dcsnas(*PLUGIN, *importing, "foreign.safetensors", code=2)
    assert "weights of another network: 0 of" in message
    save_file({**trunk, "classifier.weight": torch.zeros(5, 32)}, "own.safetensors")
    shown = dcsnas(*PLUGIN, *importing, "own.safetensors")
    assert "left out as a classifier: classifier.weight" in shown
    state = read_state(Path("w.safetensors"))
    assert all(torch.equal(state[f"trunk.{name}"], tensor) for name, tensor in trunk.items())


def test_its_attention_is_searched_within_a_latency(dcsnas: Callable[..., str]) -> None:
    write_reid_set(Path("data"))
    for name, content in (("toy", SPACE), ("search", SEARCH), ("train", TRAIN)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
    shown = dcsnas(*PLUGIN, "profile", "toy.yaml", "--rounds", "3", "--out", "table.json")
    assert "9 operators (1 trunk, 8 attention)" in shown
    table = load_table(Path("table.json"), expected=None)
    low, high = reach("latency", table.space, (32, 16), table)
    target = (low + high) / 2
    # three rounds make a rough table, which a busy machine may call disturbed
    rough = ("--allow-disturbed", "--out", "run")
    dcsnas(*PLUGIN, "search", "search.yaml", "--target-ms", f"{target}", *rough)
    last = read_records(Path("run/metrics.jsonl"))[-1]
    assert last["expected_latency_ms"] == pytest.approx(target, rel=0.02)
    dcsnas(*PLUGIN, "derive", "run")
    found = load_architecture(Path("run/architecture.yaml"))
    assert (found.provenance.predicted_latency_ms or 0) <= target
    dcsnas(*PLUGIN, "retrain", "train.yaml", "--arch", "run/architecture.yaml", "--from",
           "run/supernet.safetensors", "--out", "net")  # fmt: skip
    assert read_json(Path("net/inherited.json"))["left"] == []
    dcsnas(*PLUGIN, "evaluate", "net/model.safetensors", "--data", "data")
    metrics = read_json(Path("net/metrics.json"))
    assert metrics["latency"]["predicted_ms"] is not None
    assert metrics["map"] > 20
    shown = dcsnas(*PLUGIN, "export", "net/model.safetensors")
    assert "features float32 [batch, 32]" in shown
    header = read_header(Path("net/model.safetensors"))
    assert header.architecture is not None
    assert header.architecture.network.digest == found.network.digest
    dcsnas(*PLUGIN, "plot", "run")
