"""What a network sees in an image: Grad-CAM at its stage ends, and the affinities of a position.

Source: Selvaraju et al., "Grad-CAM", ICCV 2017, Equations 1 and 2; the affinities are what Figure 1
of Differentiable Channel Selection for Self-Attention (2022) shows.

Shapes: B images, C channels, N tokens, h x w positions of a map.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dcsnas.nn.heads import TaskNetwork
from dcsnas.spaces.layers import Size

Place = tuple[float, float]
"""A position in an image as shares of its height and width, below 1."""
PREFIX = 2
"""Tokens that a transformer may have before those of the image: of a class, of a teacher."""


@runtime_checkable
class Attending(Protocol):
    """A module of attention that can show its affinities."""

    attends: bool

    def affinities(self, x: Tensor, token: int) -> Tensor:
        """Return the affinities [B, N] of one token of the input ``x`` to all tokens."""
        ...


@dataclass(frozen=True)
class Heat:
    """A value for every position of the map of a module, [B, h, w]."""

    module: str
    values: Tensor


def token_grid(tokens: int, size: Size) -> tuple[int, int, int]:
    """Return how many tokens come before the image's, and the (h, w) of the others.

    That is the grid whose sides are most like those of the image, (height, width) ``size``, with at
    most two tokens before it. Raises ValueError where there is none within a factor of sqrt(2).
    """
    wanted = size[0] / size[1]
    grids = [
        (before, rows, (tokens - before) // rows)
        for before in range(min(PREFIX, tokens - 1) + 1)
        for rows in range(1, tokens - before + 1)
        if (tokens - before) % rows == 0
    ]

    def unlike(grid: tuple[int, int, int]) -> float:
        ratio = grid[1] / grid[2] / wanted
        return max(ratio, 1 / ratio)

    best = min(grids, key=unlike)
    if unlike(best) > 2**0.5:
        raise ValueError(f"{tokens} tokens are no grid of an image of {size[0]}x{size[1]}")
    return best


def as_image_map(output: Tensor, layout: str, size: Size) -> Tensor:
    """Return an output [B, C, h, w], [B, h, w, C] (``NHWC``) or [B, N, C] as a map [B, C, h, w]."""
    if output.dim() == 3:
        before, rows, columns = token_grid(output.shape[1], size)
        return output[:, before:].transpose(1, 2).unflatten(2, (rows, columns))
    return output.permute(0, 3, 1, 2) if layout == "NHWC" else output


def grad_cam(network: TaskNetwork, images: Tensor) -> list[Heat]:
    """Return Grad-CAM [B, h, w] at every stage end, for the most probable class of each image.

    ``images`` [B, 3, H, W] are normalised, and ``network`` is in evaluation mode. Values are at
    least 0, in the units of the class's logit; no parameter keeps a gradient. Ends that see parts
    of images, apart from each other, are left out: they have no map of an image.
    """
    backbone: Any = network.backbone
    ends: dict[str, nn.Module] = backbone.end_modules(images)
    with torch.enable_grad(), _outputs(ends) as outputs:
        score = network(images).logits.amax(1).sum()
        outputs = {name: output for name, output in outputs.items() if len(output) == len(images)}
        gradients = torch.autograd.grad(score, list(outputs.values()))
    layout, size = getattr(backbone, "layout", "NCHW"), (images.shape[2], images.shape[3])
    heats = []
    for (name, output), gradient in zip(outputs.items(), gradients, strict=True):
        values, slopes = (as_image_map(t.detach(), layout, size) for t in (output, gradient))
        weights = slopes.mean((2, 3), keepdim=True)  # of the image's own positions
        heats.append(Heat(name, (weights * values).sum(1).relu()))
    return heats


@torch.no_grad()
def affinities_at(network: TaskNetwork, images: Tensor, place: Place) -> list[Heat]:
    """Return the affinities [B, h, w] of one place to all others, of every attention that runs.

    ``images`` [B, 3, H, W] are normalised, and ``network`` is in evaluation mode. Attention on
    parts of images, apart from each other, is left out, as in ``grad_cam``.
    """
    size: Size = (images.shape[2], images.shape[3])
    modules = {
        name: module
        for name, module in network.backbone.named_modules()
        if isinstance(module, Attending) and module.attends
    }
    inputs: dict[str, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(_keeping(inputs, name))  # type: ignore[attr-defined]
        for name, module in modules.items()
    ]
    try:
        network.backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    heats = []
    for name, x in inputs.items():
        if len(x) != len(images):
            continue
        before, rows, columns = _grid_of(x, size)
        token = before + int(place[0] * rows) * columns + int(place[1] * columns)
        row = modules[name].affinities(x, token)[:, before:]
        heats.append(Heat(name, row.unflatten(1, (rows, columns))))
    return heats


def _grid_of(x: Tensor, size: Size) -> tuple[int, int, int]:
    return (0, x.shape[2], x.shape[3]) if x.dim() == 4 else token_grid(x.shape[1], size)


def _keeping(inputs: dict[str, Tensor], name: str):
    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs[name] = given[0]

    return keep


@contextmanager
def _outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Yield a dictionary that holds what ``modules`` gave last, after their attention."""
    outputs: dict[str, Tensor] = {}

    def keeping(name: str):
        def keep(module: nn.Module, given: object, output: Tensor) -> None:
            outputs[name] = output

        return keep

    handles = [module.register_forward_hook(keeping(name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
