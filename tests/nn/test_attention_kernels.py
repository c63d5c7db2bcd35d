"""Which kernels attention runs on: none may hold the N x N products of softmax.

Shapes: B images, N tokens, C channels.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dcsnas.nn.attention.block import AttentionBlock, attend_dot, attend_softmax

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
TOKENS, CHANNELS = 512, 16


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operator returns."""

    numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Run an operator."""
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, Tensor):
                self.numel = max(self.numel, one.numel())
        return out


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", ["sa", "dcs"])
def test_softmax_attention_holds_no_products_of_all_tokens(kind, layout, device) -> None:
    block = AttentionBlock(CHANNELS, kind=kind, affinity="softmax", scale="cosine", tau=1.0)
    images = torch.randn(1, CHANNELS, 32, 16, device=device).to(memory_format=layout)
    images.requires_grad_()
    block.to(device)
    with Largest() as largest:
        block(images).square().sum().backward()
    assert images.grad is not None
    assert largest.numel < TOKENS**2 / 4  # B N C, and what a kernel pads


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [24, 40, 216])
def test_softmax_attention_is_its_formula(channels, device) -> None:
    query, key, value = (torch.randn(3, 2, 128, channels) / channels**0.25).to(device)
    formula = (query @ key.transpose(1, 2)).softmax(-1) @ value
    assert torch.allclose(attend_softmax(query, key, value), formula, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("attend", [attend_dot, attend_softmax])
def test_attention_computes_on_a_gpu_what_it_does_on_the_cpu(attend) -> None:
    tokens = torch.randn(2, 300, 32) / 4
    here = attend(tokens, tokens, tokens)
    there = attend(*(tokens.cuda(),) * 3).cpu()
    assert torch.allclose(here, there, rtol=1e-3, atol=1e-4)
