"""Parameters and work of a network as others count them, so that published numbers compare.

``dcsnas`` is this package's own count. ``fvcore`` and ``torchreid`` are what those libraries print
for the same network. ``papers`` is what the tables of the DCS-Attention papers were found to hold:
torchreid's operations with its normalisation, on the authors' form of a network.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from dcsnas.config.errors import UserError
from dcsnas.nn.build import build
from dcsnas.nn.layers import InvertedResidual
from dcsnas.spaces.backbones import Size, find_backbone
from dcsnas.spaces.network import AnyNetwork, BackboneNetwork
from dcsnas.zoo.counting import evaluating

PER_NORMALISED = 4
"""Of torchreid's counter: mean, deviation, scale and shift."""
REID_STRIDE = 16
"""That of re-identification: stride 1 in the last stage of a network that would reduce to 1/32."""
UNEXPANDED = "DepthwiseSeparableConv"
"""timm's name for MobileNetV2's first block, which expands by 1 and so has no expansion."""


@dataclass(frozen=True)
class Counts:
    """Parameters, and operations for one image."""

    params: int
    macs: int
    """Multiply-accumulates, and under some conventions what else they add to them."""


@dataclass(frozen=True)
class Convention:
    """A way to count: what is counted, in words, and the count of a network at an input size."""

    counts: str
    count: Callable[[AnyNetwork, Size], Counts]


def count_under(convention: str, network: AnyNetwork, size: Size) -> Counts:
    """Return the counts of ``network`` for one image of (height, width) ``size``.

    Raises UserError for an unknown convention and for a size that the network cannot take.
    """
    if convention not in CONVENTIONS:
        raise UserError(
            f"--convention {convention}: unknown; choose one of {', '.join(CONVENTIONS)}, or leave "
            "it out for all of them"
        )
    network.operators(size)  # raises for a size that does not do
    return CONVENTIONS[convention].count(network, size)


def _dcsnas(network: AnyNetwork, size: Size) -> Counts:
    cost = network.cost(size)
    return Counts(cost.params, cost.macs)


def _fvcore(network: AnyNetwork, size: Size) -> Counts:
    module = build(network)
    with evaluating(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore scripts functions at import, and traces
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(module, _image(size))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return Counts(_params(module), int(analysis.total()))


def _torchreid(network: AnyNetwork, size: Size) -> Counts:
    params = macs = 0
    for module, _, output in _ran(build(network), size, _is_basic):
        params += _params(module)
        macs += _products(module, output, biased=True)
    return Counts(params, macs)


def _papers(network: AnyNetwork, size: Size) -> Counts:
    module = build(_last_stride_one(network))
    macs = 0
    counted = lambda one: _is_basic(one) or _lacks_expansion(one)  # noqa: E731
    for ran, image, output in _ran(module, size, counted):
        macs += _products(ran, output, biased=False)
        if isinstance(ran, _BatchNorm):
            macs += PER_NORMALISED * output.numel()
        elif _lacks_expansion(ran):
            macs += image.numel() * (image.shape[1] + PER_NORMALISED)
    return Counts(_params(module), macs)


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _is_basic(module: nn.Module) -> bool:
    """Return whether torchreid counts ``module``: one without others inside.

    timm's BatchNorm has its activation inside, which no counter would see in the authors' code.
    """
    return isinstance(module, _BatchNorm) or not list(module.children())


def _image(size: Size) -> Tensor:
    return torch.zeros(1, 3, *size)


def _ran(
    network: nn.Module, size: Size, watched: Callable[[nn.Module], bool]
) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """Return the ``watched`` modules as they run, each time with first input and output."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen.append((module, inputs[0], output))

    handles = [m.register_forward_hook(keep) for m in network.modules() if watched(m)]
    try:
        with evaluating(network):
            network(_image(size))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _products(module: nn.Module, output: Tensor, *, biased: bool) -> int:
    """Return the operations of a convolution or a linear layer, 0 of another module.

    ``biased`` counts a bias as one more for each output element.
    """
    if isinstance(module, _ConvNd):
        each = module.in_channels // module.groups * prod(module.kernel_size)
    elif isinstance(module, nn.Linear):
        each = module.in_features
    else:
        return 0
    # torchreid divides the bias of a grouped convolution by its groups with the rest
    if biased and module.bias is not None:
        groups = module.groups if isinstance(module, _ConvNd) else 1
        return int((each * groups + 1) * output.numel() / groups)
    return each * output.numel()


def _lacks_expansion(module: nn.Module) -> bool:
    ours = isinstance(module, InvertedResidual) and module.expand is None
    return ours or type(module).__name__ == UNEXPANDED


def _last_stride_one(network: AnyNetwork) -> AnyNetwork:
    """Return a backbone's network with maps of 1/16 at its end, where it can; a chain as it is."""
    if not isinstance(network, BackboneNetwork):
        return network
    if REID_STRIDE not in find_backbone(network.backbone).output_strides:
        return network
    return network.model_copy(update={"output_stride": REID_STRIDE})


CONVENTIONS = {
    "dcsnas": Convention(
        "parameters once; multiply-accumulates of convolutions, linear layers and the matrix "
        "products of attention, without biases and normalisation",
        _dcsnas,
    ),
    "fvcore": Convention(
        "as fvcore's FlopCountAnalysis prints: also 2 an element of BatchNorm and 5 of LayerNorm; "
        "not scaled_dot_product_attention, which it does not know",
        _fvcore,
    ),
    "torchreid": Convention(
        "as torchreid's compute_model_complexity prints: convolutions and linear layers with "
        "biases, no attention; a module's parameters once for every time that it runs",
        _torchreid,
    ),
    "papers": Convention(
        "the DCS papers' FLOPs: convolutions and linear layers, 4 an element of BatchNorm; at "
        "output stride 16, with an expansion convolution in blocks of expansion 1; not the "
        "products of attention",
        _papers,
    ),
}
