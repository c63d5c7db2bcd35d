"""Grad-CAM and affinities against what they are by definition.

Shapes: B images, C channels, N tokens, h x w positions.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dcsnas.evaluation.seeing import affinities_at, as_image_map, grad_cam, token_grid
from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.build import build
from dcsnas.nn.heads import LinearHead, TaskNetwork
from dcsnas.spaces.sampling import largest_choice
from latency_fakes import micro_space

IMAGES = torch.randn(3, 3, 16, 8)


def network_of(**attention: Any) -> TaskNetwork:
    """Return a network whose attention adds something, in evaluation mode."""
    torch.manual_seed(0)
    space = micro_space(attention=attention)
    backbone = build(space.architecture(largest_choice(space)))
    for block in attention_blocks(backbone).values():
        nn.init.ones_(block.norm.weight)
    return TaskNetwork(backbone, LinearHead(backbone.feature_dim, 5)).eval()


def test_the_stages_are_those_of_the_feature_maps() -> None:
    network = network_of(kind="dcs")
    cams = grad_cam(network, IMAGES)
    backbone: Any = network.backbone
    maps = backbone.feature_maps(IMAGES)
    assert [tuple(cam.values.shape[1:]) for cam in cams] == [tuple(m.shape[2:]) for m in maps]
    assert all(cam.values.min() >= 0 for cam in cams)
    assert max(cam.values.max() for cam in cams) > 0
    assert all(p.grad is None for p in network.parameters())


class Pooled(nn.Module):
    """A map, and its mean: where Grad-CAM is the class activation map."""

    layout = "NCHW"

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=4, padding=1)

    def end_modules(self, x: Tensor) -> dict[str, nn.Module]:
        return {"conv": self.conv}

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


def test_it_is_the_class_activation_map_where_a_linear_layer_follows_the_pooling() -> None:
    torch.manual_seed(0)
    network = TaskNetwork(Pooled(), LinearHead(6, 4)).eval()
    head: Any = network.neck
    maps = network.backbone.get_submodule("conv")(IMAGES)
    classes = network(IMAGES).logits.argmax(1)
    expected = torch.einsum("bc,bchw->bhw", head.weight[classes], maps).relu() / (4 * 2)
    (cam,) = grad_cam(network, IMAGES)
    assert cam.module == "conv"
    torch.testing.assert_close(cam.values, expected.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["sa", "dcs_window", "dcs"])
@pytest.mark.parametrize("affinity", ["dot", "softmax"])
def test_affinities_are_the_weights_of_the_values(kind: str, affinity: str) -> None:
    network = network_of(kind=kind, affinity=affinity)
    inputs: list[Tensor] = []
    attended: list[Tensor] = []
    (block,) = attention_blocks(network).values()
    block.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    block.depthwise.register_forward_pre_hook(lambda module, given: attended.append(given[0]))
    (heat,) = affinities_at(network, IMAGES, (0.6, 0.3))
    assert heat.values.shape == (3, 4, 2)
    row, column = int(0.6 * 4), int(0.3 * 2)
    expected = attended[0][:, :, row, column]
    found = torch.einsum("bhw,bchw->bc", heat.values, inputs[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    if affinity == "softmax":
        torch.testing.assert_close(heat.values.sum((1, 2)), torch.ones(3))


def test_no_attention_has_no_affinities() -> None:
    assert affinities_at(network_of(kind="none"), IMAGES, (0.5, 0.5)) == []


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (128, (256, 128), (0, 16, 8)),
        (129, (256, 128), (1, 16, 8)),
        (211, (256, 128), (1, 21, 10)),  # TransReID's, of stride 12
        (197, (224, 224), (1, 14, 14)),
        (198, (224, 224), (2, 14, 14)),
        (1, (32, 32), (0, 1, 1)),
    ],
)
def test_grids_of_tokens(tokens: int, size: tuple[int, int], grid: tuple[int, int, int]) -> None:
    assert token_grid(tokens, size) == grid


def test_tokens_without_a_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="13 tokens are no grid of an image of 256x128"):
        token_grid(13, (256, 128))


class Tokens(nn.Module):
    """A transformer's first layers: patches, a class token, an attention of its own."""

    layout = "NCHW"

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, stride=4)
        self.attention, self.part = TokenAttention(6), TokenAttention(6)

    def end_modules(self, x: Tensor) -> dict[str, nn.Module]:
        return {"attention": self.attention, "part": self.part}

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).mT
        tokens = self.attention(torch.cat((patches.mean(1, keepdim=True), patches), 1))
        parts = self.part(tokens.repeat(4, 1, 1))  # as TransReID's parts: a larger batch
        return tokens.mean(1) + parts.mean(1).unflatten(0, (4, -1)).mean(0)


class TokenAttention(nn.Linear):
    """Attention over tokens [B, N, C]."""

    attends = True

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def affinities(self, x: Tensor, token: int) -> Tensor:
        return (x[:, token : token + 1] @ x.mT)[:, 0]

    def forward(self, input: Tensor) -> Tensor:
        return super().forward((input @ input.mT).softmax(-1) @ input)


def test_networks_of_tokens() -> None:
    torch.manual_seed(0)
    network = TaskNetwork(Tokens(), LinearHead(6, 4)).eval()
    (cam,) = grad_cam(network, IMAGES)
    assert cam.values.shape == (3, 4, 2)
    (heat,) = affinities_at(network, IMAGES, (0.99, 0.99))
    last = network.backbone.get_submodule("patch")(IMAGES)
    expected = torch.einsum("bc,bchw->bhw", last[:, :, 3, 1], last)
    torch.testing.assert_close(heat.values, expected, rtol=1e-4, atol=1e-5)


def test_layouts() -> None:
    x = torch.randn(2, 5, 4, 2)
    assert torch.equal(as_image_map(x.permute(0, 2, 3, 1), "NHWC", (16, 8)), x)
    assert torch.equal(as_image_map(x.flatten(2).mT, "NCHW", (16, 8)), x)
