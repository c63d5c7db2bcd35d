"""Where attention can go in a network that was written without it: the ends of its stages.

A network says in ``feature_info`` which modules end a stage. Each is run once, and refused with the
reason where what it gives is not the map that was announced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dcsnas.spaces.backbones import Size, StageEnd

SMALLEST_REDUCTION = 4
"""Earlier maps are too large for attention between their positions."""
TOLERANCE = 2**0.5
"""Of an announced reduction: without padding maps come out smaller, but nearer to it than to the
next power of two."""
BATCH = 2

Layout = Literal["NCHW", "NHWC"]


class NotAdaptableError(Exception):
    """A network cannot be used as a backbone; the message says why."""


@dataclass(frozen=True)
class Observed:
    """What a network gave when it was run once."""

    outputs: Mapping[str, Sequence[Any]]
    """Of each module that was watched, one for every time that it ran."""
    features: Any


def announced_ends(network: nn.Module) -> tuple[StageEnd, ...]:
    """Return the stage ends that ``network`` announces; raises NotAdaptableError."""
    info = getattr(network, "feature_info", None)
    entries = getattr(info, "info", info)  # timm's class, or the plain list that it is made of
    if not entries:
        raise NotAdaptableError("it announces no stages (it has no feature_info)")
    ends = tuple(
        StageEnd(entry["module"], entry["num_chs"], entry["reduction"])
        for entry in entries
        if entry["reduction"] >= SMALLEST_REDUCTION
    )
    if not ends:
        raise NotAdaptableError(f"it announces no stage of reduction {SMALLEST_REDUCTION} or more")
    known = {name for name, _ in network.named_modules()}
    for end in ends:
        if end.module not in known:
            raise NotAdaptableError(f"it announces a stage {end.module}, which is no module of it")
    return ends


def observe(network: nn.Module, modules: Sequence[str], size: Size) -> Observed:
    """Return what ``modules`` and ``network`` give for images of (height, width) ``size``.

    Runs where its weights are; on the meta device nothing is computed but shapes.
    """
    outputs: dict[str, list[Any]] = {name: [] for name in modules}
    handles = []
    for name in outputs:

        def keep(_module: nn.Module, _args: Any, output: Any, seen: list = outputs[name]) -> None:
            seen.append(output)

        handles.append(network.get_submodule(name).register_forward_hook(keep))
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            features = network(torch.zeros(BATCH, 3, *size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return Observed(outputs, features)


def map_layout(ends: Sequence[StageEnd], observed: Observed, size: Size) -> Layout:
    """Return the layout of the maps at ``ends``; raises NotAdaptableError where one is no map."""
    layouts: list[Layout] = ["NCHW", "NHWC"]
    for end in ends:
        outputs = observed.outputs[end.module]
        if len(outputs) != 1:
            raise NotAdaptableError(f"{end.module} runs {len(outputs)} times for one image")
        (output,) = outputs
        if not isinstance(output, Tensor):
            kind = type(output).__name__
            raise NotAdaptableError(f"{end.module} gives a {kind}, not a map of channels")
        shape = tuple(output.shape)
        if len(shape) != 4:
            raise NotAdaptableError(
                f"{end.module} gives tokens of shape {shape_text(shape)}, not a map [B, C, H, W]"
            )
        layouts = [layout for layout in layouts if _fits(shape, layout, end, size)]
        if not layouts:
            raise NotAdaptableError(
                f"{end.module} gives {shape_text(shape)} for images of {size[0]}x{size[1]}, where "
                f"{end.channels} channels at 1/{end.reduction} are announced"
            )
    return layouts[0]


def map_size(shape: Sequence[int], layout: Layout) -> Size:
    """Return (height, width) of a map of ``shape``."""
    height, width = shape[2:] if layout == "NCHW" else shape[1:3]
    return height, width


def _fits(shape: Sequence[int], layout: Layout, end: StageEnd, size: Size) -> bool:
    channels = shape[1] if layout == "NCHW" else shape[3]
    wanted = [side / end.reduction for side in size]
    ratios = [got / want for got, want in zip(map_size(shape, layout), wanted, strict=True)]
    near = all(1 / TOLERANCE < ratio < TOLERANCE for ratio in ratios)
    return channels == end.channels and near


def shape_text(shape: Sequence[int]) -> str:
    """Return the shape of a batch of B for a reader."""
    return f"[B, {', '.join(map(str, shape[1:]))}]"
