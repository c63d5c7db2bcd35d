"""Counting a network of any library as ``spaces/units.py`` counts our own.

fvcore traces the network for one image. Counted are convolutions, linear layers and matrix
products; neither normalisation nor activation functions nor products element by element.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.spaces.backbones import Size
from dcsnas.spaces.units import Cost

Counted = Counter[str]
Handler = Callable[[list[Any], list[Any]], Counted]

UNCOUNTED = ("lstm", "gru", "rnn_tanh", "rnn_relu", "bilinear", "_native_multi_head_attention")
"""Operations that multiply matrices, and that a trace does not show the sizes of."""

TRANSPOSED = 6
"""Which argument of a convolution says so; none does where its padding is a word."""


def count(network: nn.Module, size: Size) -> Cost:
    """Return the cost of ``network`` for one image [1, 3, H, W] of (height, width) ``size``."""
    weight = next(network.parameters(), torch.zeros(()))
    image = torch.zeros(1, 3, *size, device=weight.device, dtype=weight.dtype)
    return count_call(network, image)


def count_call(network: nn.Module, *inputs: Tensor) -> Cost:
    """Return the cost of ``network(*inputs)`` in evaluation.

    Raises UserError where it runs an operation whose work cannot be told from the outside.
    """
    with evaluating(network), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore scripts functions at import, and traces
        from fvcore.nn.jit_analysis import JitModelAnalysis

        analysis = JitModelAnalysis(network, inputs).set_op_handle(**HANDLERS)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counted = analysis.by_operator()
    uncounted = {kind.removeprefix("aten::") for kind in analysis.unsupported_ops()}
    if found := sorted(uncounted & set(UNCOUNTED)):
        raise UserError(
            f"{type(network).__name__}: the work of its {', '.join(found)} cannot be counted; "
            "choose a network of convolutions, linear layers and matrix products"
        )
    params = sum(parameter.numel() for parameter in network.parameters())
    return Cost(params, int(counted["macs"]), int(counted["activations"]))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Have ``network`` in evaluation, without gradients and with attention in plain sight."""
    training = {module: module.training for module in network.modules()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides attention in one operation
    try:
        with torch.no_grad():
            network.eval()
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, was in training.items():
            module.training = was


def _counted(macs: int, activations: int) -> Counted:
    return Counter({"macs": macs, "activations": activations})


def _shape(value: Any) -> list[int]:
    sizes = value.type().sizes()
    assert sizes is not None, "a trace knows every size"
    return sizes


def _convolution(inputs: list[Any], outputs: list[Any]) -> Counted:
    image, weight, out = _shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0])
    transposed = len(inputs) > TRANSPOSED and inputs[TRANSPOSED].toIValue() is True
    positions = prod((image if transposed else out)[2:])
    return _counted(out[0] * prod(weight) * positions, prod(out))


def _product_at(first: int, second: int) -> Handler:
    """Return the handler of an operation that multiplies two of its inputs as matrices."""

    def handler(inputs: list[Any], outputs: list[Any]) -> Counted:
        out, depth = _shape(outputs[0]), _shape(inputs[first])[-1]
        return _counted(prod(out) * depth, prod(out))

    return handler


def _attention(inputs: list[Any], outputs: list[Any]) -> Counted:
    # One call, whose output alone would hide Q K^T: it counts as the two products that its
    # definition writes out, whichever kernel runs them.
    query, key = _shape(inputs[0]), _shape(inputs[1])
    out = _shape(outputs[0])
    rows, keys = prod(out[:-1]), key[-2]
    return _counted(rows * keys * (query[-1] + out[-1]), rows * (keys + out[-1]))


def _einsum(inputs: list[Any], outputs: list[Any]) -> Counted:
    shapes = [_shape(value) for value in inputs[1].node().inputs()]
    return einsum_cost(inputs[0].toIValue(), shapes)


def einsum_cost(equation: str, shapes: Sequence[Sequence[int]]) -> Counted:
    """Return the cost of an einsum, done as torch does: from left to right, two at a time.

    A step is a matrix product where it sums over an index of both operands; else it multiplies
    element by element, which counts nowhere. An index of one operand alone is summed before.
    """
    terms, result, sizes = _parse(equation, shapes)
    total = _counted(0, 0)
    left = terms[0]
    for position, right in enumerate(terms[1:], start=1):
        later = set(result).union(*terms[position + 1 :])
        summed = (left & right) - later
        kept = (left | right) & later
        if summed:
            elements = prod(sizes[index] for index in kept)
            depth = prod(sizes[index] for index in summed)
            total += _counted(elements * depth, elements)
        left = kept
    return total


def _parse(
    equation: str, shapes: Sequence[Sequence[int]]
) -> tuple[list[set[str]], set[str], dict[str, int]]:
    """Return the indices of each operand and of the result, and the size of each index."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    terms = []
    for term, shape in zip(left.split(","), shapes, strict=True):
        indices = _expanded(term, len(shape))
        for index, length in zip(indices, shape, strict=True):
            sizes[index] = max(sizes.get(index, 1), length)  # a size of 1 is repeated
        terms.append(set(indices))
    if arrow:
        dots = {index for index in sizes if index.startswith(".")} if "..." in right else set()
        return terms, set(right.replace("...", "")) | dots, sizes
    once = {index for index in sizes if left.count(index) == 1}
    return terms, once | {index for index in sizes if index.startswith(".")}, sizes


def _expanded(term: str, rank: int) -> list[str]:
    """Return the index of each dimension; those of an ellipsis are counted from the last."""
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    return [*before, *(f".{number}" for number in range(hidden, 0, -1)), *after]


HANDLERS: dict[str, Handler] = {
    "aten::_convolution": _convolution,
    "aten::_convolution_mode": _convolution,  # with padding "same" or "valid"
    "aten::linear": _product_at(0, 1),
    "aten::matmul": _product_at(0, 1),
    "aten::mm": _product_at(0, 1),
    "aten::mv": _product_at(0, 1),
    "aten::bmm": _product_at(0, 1),
    "aten::addmm": _product_at(1, 2),
    "aten::baddbmm": _product_at(1, 2),
    "aten::scaled_dot_product_attention": _attention,
    "aten::einsum": _einsum,
}
