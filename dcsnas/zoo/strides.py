"""A finer last map: the strides of a network's last stage, found by watching it run, and removed.

Person re-identification runs backbones with the stride of their last stage taken out ("last
stride 1"). No weight changes its shape for it, and nothing is dilated, as timm's ``output_stride``
would.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dcsnas.spaces.backbones import Size, StageEnd
from dcsnas.zoo.stages import Layout, NotAdaptableError, map_size, observe

TWO = (2, (2, 2))


def last_strides(
    network: nn.Module, ends: Sequence[StageEnd], layout: Layout, size: Size
) -> tuple[str, ...]:
    """Return the modules whose stride makes the last stage's map half as large as the one before.

    Raises NotAdaptableError where there are none.
    """
    last = ends[-1].reduction
    before = [end for end in ends if 2 * end.reduction == last]
    if not before:
        raise NotAdaptableError(f"no stage before the last ends at 1/{last // 2}")
    first_of_last = next(end for end in ends if end.reduction == last)
    ran: list[tuple[str, Size]] = []
    strided = {
        name: module
        for name, module in network.named_modules()
        if getattr(module, "stride", None) in TWO
    }
    watched = [before[-1].module, first_of_last.module]
    handles = [_note(network.get_submodule(watched[0]), "", ran)]
    handles += [_note(module, name, ran) for name, module in strided.items()]
    try:
        seen = observe(network, watched, size).outputs
    finally:
        for handle in handles:
            handle.remove()
    fine, coarse = (map_size(seen[module][0].shape, layout) for module in watched)
    since = ran[[name for name, _ in ran].index("") + 1 :]
    found = tuple(name for name, out_size in since if out_size == coarse != fine)
    if not found:
        raise NotAdaptableError("its last stage reduces by other means than strides")
    return found


def _note(module: nn.Module, name: str, ran: list[tuple[str, Size]]) -> Any:
    """Append ``name`` and the size of its map to ``ran`` whenever ``module`` has run."""

    def append(_module: nn.Module, _args: Any, output: Any) -> None:
        is_map = isinstance(output, Tensor) and output.dim() == 4
        ran.append((name, map_size(output.shape, "NCHW") if is_map else (0, 0)))

    return module.register_forward_hook(append)


def remove_strides(network: nn.Module, modules: Sequence[str]) -> None:
    """Set the stride of ``modules`` to 1."""
    for name in modules:
        module: Any = network.get_submodule(name)
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and module.kernel_size in TWO:
            # over as many positions as it steps over, of which none are left
            module.kernel_size = _ones(module.kernel_size)
        module.stride = _ones(module.stride)


def _ones(like: Any) -> Any:
    return 1 if isinstance(like, int) else (1, 1)
