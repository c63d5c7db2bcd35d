"""Weights that version 0.1 wrote: today's code reads them, and they give the same features.

``tests/files/schema_1`` was written by commit f962e93. ``model.safetensors`` is ``dcsnas retrain``
of the smallest network of ``tiny`` (20 epochs on 16 drawn identities), ``supernet.safetensors`` a
search on ``micro.yaml`` (25 epochs), and ``features.json`` the features of ``images`` there: of the
model after its neck, and of three networks with slices of the supernet.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from dcsnas.evaluation.reid import load_reid_network
from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.build import build
from dcsnas.nn.heads import BNNeck, TaskNetwork
from dcsnas.nn.inherit import inherit_weights
from dcsnas.nn.weights import load_weights, read_header, read_state
from dcsnas.search.supernet import network_weights
from dcsnas.spaces.space import SearchSpace
from supernet_fakes import supernet_of

FILES = Path(__file__).parents[1] / "files" / "schema_1"
MODEL, SUPERNET = FILES / "model.safetensors", FILES / "supernet.safetensors"
EXPECTED: dict[str, Any] = json.loads((FILES / "features.json").read_text())
SPACE = SearchSpace.load(FILES / "micro.yaml")
CHOICE = {
    "b01_expansion": 3.0, "b01_width": 8, "b02_expansion": 3.0, "b02_width": 8, "b03_width": 16,
}  # fmt: skip
KINDS = ("none", "sa", "dcs")


def images(height: int, width: int) -> Tensor:
    """Return two images of waves."""
    n = torch.arange(2 * 3 * height * width, dtype=torch.float64)
    waves = 1.5 * torch.sin(0.37 * n) + 0.5 * torch.cos(0.011 * n)
    return waves.reshape(2, 3, height, width).float()


def assert_features(found: Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def names_in(path: Path) -> set[str]:
    """Return the names of the tensors as the file has them."""
    with safe_open(path, framework="pt") as file:
        return set(file.keys())


@torch.no_grad()
def test_a_trained_network_gives_the_same_features() -> None:
    network, header, _ = load_reid_network(MODEL)
    assert header.architecture is not None
    assert (header.stage, header.num_classes, header.input) == ("retrain", 16, (64, 32))
    assert header.architecture.network.digest == "c6a058ee5c87d91c"
    x = images(64, 32)
    assert_features(network.eval().embed(x), EXPECTED["model"])
    for block in attention_blocks(network).values():
        for parameter in block.search_parameters():
            parameter.zero_()
    changed = network.embed(x) - torch.tensor(EXPECTED["model"])
    assert changed.abs().max() > 0.1, "the features depend on the logits of attention"


def test_names_are_those_of_today() -> None:
    network, _, _ = load_reid_network(MODEL)
    state = read_state(MODEL)
    assert state.keys() == network.state_dict().keys()
    old, new = names_in(MODEL), set(state)
    assert old - new == {
        f"backbone.layers.{n}.theta.{kind}" for n in (4, 7, 10) for kind in ("weight", "bias")
    }
    assert new - old == {
        f"backbone.layers.{n}.selectors.dcs.theta.{kind}"
        for n in (4, 7, 10)
        for kind in ("weight", "bias")
    }


def test_the_network_is_built_from_the_file_alone() -> None:
    header = read_header(MODEL)
    assert header.architecture is not None
    assert header.architecture.schema_version == 2
    backbone = build(header.architecture.network)
    network = TaskNetwork(backbone, BNNeck(backbone.feature_dim, header.num_classes))
    load_weights(MODEL, network, architecture=header.architecture)
    with torch.no_grad():
        assert_features(network.eval().embed(images(64, 32)), EXPECTED["model"])


@pytest.mark.parametrize("kind", KINDS)
def test_networks_inherit_from_an_old_supernet(kind: str) -> None:
    network = build(SPACE.architecture({**CHOICE, "a0_kind": kind}))
    report = inherit_weights(network, read_state(SUPERNET))
    assert not report.left
    assert report.sliced
    with torch.no_grad():
        assert_features(network.eval()(images(16, 8)), EXPECTED["supernet"][kind])


def test_a_supernet_of_today_has_the_names_of_the_old_one() -> None:
    header = read_header(SUPERNET)
    assert (header.stage, header.architecture) == ("search", None)
    assert header.space_digest == SPACE.digest
    names = {name for name in read_state(SUPERNET) if not name.startswith("neck.")}
    assert names == network_weights(supernet_of(SPACE)).keys()
    assert {"layers.3.selectors.dcs.theta.weight", "layers.3.selectors.dcs.theta.bias"} <= names
