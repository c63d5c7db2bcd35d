"""Attention agents after SCAL: the formulas, their costs, where they may stand.

Shapes: B images, C channels, H x W positions.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from backbone_fakes import FakeBackbone
from torch import nn

from dcsnas.config.errors import UserError
from dcsnas.deployment.export import export_onnx
from dcsnas.nn.attention.gates import GRID, gates
from dcsnas.nn.build import build, build_layer
from dcsnas.nn.weights import network_in_memory
from dcsnas.spaces.layers import Attention, Selection
from dcsnas.spaces.space import SearchSpace, load_space
from dcsnas.spaces.units import total_cost
from dcsnas.zoo.counting import count_call


def layer_of(kind: str, channels: int = 32, **arguments: Any) -> Attention:
    given = {kind: arguments} if arguments else {}
    return Attention(
        kind=kind, channels=channels, affinity="dot", scale="cosine", tau=1.0, arguments=given
    )


def test_a_channel_agent_is_the_papers_formula() -> None:
    gate: Any = build_layer(layer_of("scal_channel", reduction=8))
    x = torch.randn(3, 32, 5, 4, dtype=torch.float64)
    gate.double()
    w1, b1, w2, b2 = (p.detach() for p in gate.agent.parameters())
    assert w1.shape == (4, 32)
    for image, found in zip(x, gate(x), strict=True):
        hidden = (w1 @ image.mean((1, 2)) + b1).clamp(min=0)
        weights = 1 / (1 + (-(w2 @ hidden + b2)).exp())
        torch.testing.assert_close(found, image * weights[:, None, None])
    assert gate.agent.describe(gate.agent(x)).shape == (3, gate.agent.described)


def test_a_spatial_agent_is_the_papers_formula_by_convolutions() -> None:
    gate: Any = build_layer(layer_of("scal_spatial", width=2, kernel=1))
    x = torch.randn(3, 32, 16, 8, dtype=torch.float64)
    gate.double()
    w1, b1, w2, b2 = (p.detach().flatten() for p in gate.agent.parameters())
    for image, found in zip(x, gate(x), strict=True):
        hidden = (w1[:, None, None] * image.mean(0) + b1[:, None, None]).clamp(min=0)
        weights = 1 / (1 + (-((w2[:, None, None] * hidden).sum(0) + b2)).exp())
        torch.testing.assert_close(found, image * weights)
    weights = gate.agent(x)
    described = gate.agent.describe(weights)
    assert described.shape == (3, gate.agent.described)
    blocks = weights.reshape(3, GRID[0], 2, GRID[1], 2).mean((2, 4))
    torch.testing.assert_close(described, blocks.flatten(1))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("scal_channel", {}),
        ("scal_channel", {"reduction": 100}),
        ("scal_spatial", {}),
        ("scal_spatial", {"width": 3, "kernel": 7}),
    ],
)
def test_costs_are_those_of_the_built_module(kind: str, arguments: dict[str, int]) -> None:
    layer = layer_of(kind, **arguments)
    gate = build_layer(layer)
    assert total_cost(layer.units((6, 4))) == count_call(gate, torch.zeros(1, 32, 6, 4))


def test_they_follow_the_stages_of_a_backbone(fake_backbone: FakeBackbone, tmp_path: Path) -> None:
    content = {
        "schema_version": 2, "name": "gated", "source": "test", "output_stride": 16,
        "input": {"height": 64, "width": 32}, "backbone": "fake",
        "attention": [{"kind": "scal_channel"}, {"kind": "none"},
                      {"kind": "scal_spatial", "arguments": {"scal_spatial": {"kernel": 5}}}],
    }  # fmt: skip
    path = tmp_path / "gated.yaml"
    path.write_text(yaml.safe_dump(content))
    file = SearchSpace.load(path).sample()
    network = build(file.network).eval()
    assert list(gates(network)) == ["attentions.0", "attentions.2"]
    assert file.params == sum(parameter.numel() for parameter in network.parameters())
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    used = network_in_memory(network, task="reid", size=(64, 32), mean=(0.4,) * 3, std=(0.2,) * 3)
    found = export_onnx(used, tmp_path / "gated.onnx")
    assert max(one.features for one in found.differences) < 1e-5


def test_where_they_cannot_stand() -> None:
    with pytest.raises(UserError, match="scal_channel: multiplies the map and is no option among"):
        load_space("tiny", ["sa", "scal_channel"])
    with pytest.raises(UserError, match="scal_spatial needs a fixed width, and the row before it"):
        load_space("tiny", "scal_spatial").sample()
    with pytest.raises(UserError, match="vit_base: attention position 0: scal_spatial: multiplies"):
        load_space("vit_base", "scal_spatial").sample()
    with pytest.raises(ValueError, match="scal_channel: multiplies a map, and a transformer's"):
        Selection(kind="scal_channel", channels=32, tau=1.0)
    with pytest.raises(ValueError, match="arguments of scal_channel: reduction"):
        layer_of("scal_channel", width=3)
