"""The comparison of exported models with torch: what it must find, and what it must not."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dcsnas.deployment.parity import Difference, compare, onnx_run
from dcsnas.latency.backends.onnx_runtime import to_onnx
from dcsnas.nn.attention.block import AttentionBlock
from dcsnas.nn.attention.selectors import TokenLinear

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def theta_of(block: AttentionBlock) -> TokenLinear:
    """Return what computes the logits of a ``dcs`` module."""
    theta = block.get_submodule("selectors.dcs.theta")
    assert isinstance(theta, TokenLinear)
    return theta


class Pixels(nn.Module):
    """Two attention modules on uint8 images, with thetas that are not next to 0."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Conv2d(3, 8, 1)
        self.first, self.second = (
            AttentionBlock(8, kind="dcs", affinity="dot", scale="cosine", tau=1.0) for _ in range(2)
        )
        for module in (self.first, self.second):
            nn.init.ones_(module.norm.weight)
            nn.init.zeros_(theta_of(module).weight)
            theta_of(module).bias.data = torch.tensor([1.0, -1, 1, -1, 1, 1, -1, 1])
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        x = self.second(self.first(self.widen(images.float() / 255)))
        return nn.functional.normalize(x.mean((2, 3)))


IMAGES = torch.randint(256, (3, 3, 6, 4), dtype=torch.uint8)
POSITIONS = 3 * 6 * 4


def differences(change: Callable[[Pixels], object], images: Tensor = IMAGES) -> Difference:
    """Return how a model differs from torch that was exported after ``change``."""
    module = Pixels()
    exported = copy.deepcopy(module)
    change(exported)
    return compare(onnx_run(to_onnx(exported, images[:2], dynamic_batch=True)), module, images)


def set_theta(module: AttentionBlock, channel: int, value: float) -> None:
    theta_of(module).bias.data[channel] = value


def test_faithful_model() -> None:
    found = differences(lambda module: None)
    assert found.batch == 3
    assert found.features == found.plain < 1e-6
    assert (found.selections, found.differing, found.margin) == (2 * 8 * POSITIONS, 0, 0.0)
    assert differences(lambda module: None, IMAGES[:1]).features < 1e-6


def test_other_weights_are_found() -> None:
    found = differences(lambda module: module.widen.weight.data.mul_(1.01))
    assert found.features > 1e-4
    found = differences(lambda module: module.second.depthwise.weight.data.neg_())
    assert found.features > 1e-2


def test_selections_next_to_zero_do_not_count_against_the_features() -> None:
    module = Pixels()
    set_theta(module.first, 4, -1e-6)
    exported = copy.deepcopy(module)
    set_theta(exported.first, 4, 1e-6)
    found = compare(onnx_run(to_onnx(exported, IMAGES[:2], dynamic_batch=True)), module, IMAGES)
    assert found.differing == POSITIONS
    assert found.margin == pytest.approx(1e-6 / (7 / 8) ** 0.5, rel=1e-3)
    assert found.features < 1e-6
    assert found.plain > 1e-3, "the selection matters"


def test_selections_far_from_zero_are_found() -> None:
    found = differences(lambda module: set_theta(module.second, 0, -0.5))
    assert found.differing == POSITIONS
    assert found.margin == pytest.approx(1.0)


def test_a_theta_of_zero_selects_nothing() -> None:
    module = Pixels()
    for attention in (module.first, module.second):
        nn.init.zeros_(theta_of(attention).bias)
    found = compare(onnx_run(to_onnx(module, IMAGES, dynamic_batch=True)), module, IMAGES)
    assert (found.differing, found.features) == (0, found.plain)
    assert found.plain < 1e-6


def test_module_is_left_as_it_was() -> None:
    module = Pixels()
    before = module(IMAGES)
    compare(onnx_run(to_onnx(module, IMAGES, dynamic_batch=True)), module, IMAGES)
    assert not any(child.training for child in module.modules())
    assert torch.equal(module(IMAGES), before)


def test_batch_is_fixed_unless_asked_otherwise() -> None:
    module = Pixels()
    with pytest.raises(Exception, match="invalid dimensions for input: images"):
        compare(onnx_run(to_onnx(module, IMAGES)), module, IMAGES[:1])
