"""Does an exported model compute what torch computes?

DCS-Attention's channel mask is a step: where theta is 0 up to rounding, two correct programs may
select differently. A network of the fbnetv2 spaces makes about 80,000 selections per image; a
single one that fell otherwise was seen to move features by up to 6e-4, also between torch's float32
and float64. So two things are compared: the selections, which may differ only next to 0, and the
features under the model's own selections.

Shapes: B images, N tokens, C channels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from dcsnas.latency.backends.onnx_runtime import INPUT
from dcsnas.nn.attention.block import attention_blocks

_ERRORS = 3  # and nothing less severe is logged

Run = Callable[[Tensor], tuple[Tensor, list[Tensor]]]
"""What runs an exported model on images, uint8 [B, 3, H, W]: its features [B, D], and the mask
[B, N, C] of each of its attention modules."""


@dataclass(frozen=True)
class Difference:
    """How far a model is from torch on one batch.

    ``features`` is the largest difference of a feature's value under the same selections and
    ``plain`` the one under each program's own. ``differing`` of ``selections`` differ; ``margin``
    is the largest theta among those, as a share of its module's root mean square.
    """

    batch: int
    features: float
    plain: float
    selections: int
    differing: int
    margin: float


@torch.no_grad()
def compare(run: Run, module: nn.Module, images: Tensor) -> Difference:
    """Compare a model with ``module``, which it was exported from, on uint8 ``images``."""
    found, masks = run(images)
    plain = module(images)
    with _selecting(maskings(module), masks) as differences:
        features = module(images)
    return Difference(
        batch=len(images),
        features=float((found - features).abs().max()),
        plain=float((found - plain).abs().max()),
        selections=sum(mask.numel() for mask in masks),
        differing=sum(differing for differing, _ in differences),
        margin=max((margin for _, margin in differences), default=0.0),
    )


def maskings(module: nn.Module) -> list[nn.Module]:
    """Return what makes the channel masks of ``module``, in the order of its attention modules."""
    return [masking for block in attention_blocks(module).values() for masking in block.maskings]


def onnx_run(model: bytes) -> Run:
    """Return what runs an ONNX model on the CPU, with the runtime's optimisations, as in use."""
    return partial(_run_onnx, model)


def _run_onnx(model: bytes, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    import onnx
    import onnxruntime

    proto = onnx.load_from_string(model)
    masks = [node.output[0] for node in proto.graph.node if node.op_type == "Greater"]
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, None) for name in masks
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _ERRORS
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    features, *found = session.run(None, {INPUT: images.numpy()})
    return torch.from_numpy(features), [torch.from_numpy(np.asarray(mask)) for mask in found]


@contextmanager
def _selecting(
    modules: Sequence[nn.Module], masks: Sequence[Tensor]
) -> Iterator[list[tuple[int, float]]]:
    """Have ``modules`` give ``masks`` inside the block.

    Yields a list that each module adds to: how many of its own selections differ, and how far
    their thetas are from 0 at most, as a share of the root mean square.
    """
    differences: list[tuple[int, float]] = []

    def select_by(mask: Tensor):
        def hook(masking: nn.Module, inputs: tuple[Tensor], own: Tensor) -> Tensor:
            (theta,) = inputs
            far = theta[(own > 0.5) != mask].abs()
            size = theta.square().mean().sqrt()
            differences.append((far.numel(), float(far.max() / size) if len(far) else 0.0))
            return mask.to(own.dtype)

        return hook

    handles = [
        masking.register_forward_hook(select_by(mask))
        for masking, mask in zip(modules, masks, strict=True)
    ]
    try:
        yield differences
    finally:
        for handle in handles:
            handle.remove()
