"""Peak memory of a module of any library, as ``spaces/units.py`` counts our own.

The module runs on a tensor without content, of which only shapes are computed, and every operation
is followed: after each one the storages that something still refers to are summed.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dcsnas.spaces.backbones import Size
from dcsnas.spaces.units import FLOAT32_BYTES, IMAGE_CHANNELS, Held, TrunkMemory


class LiveStorages(TorchDispatchMode):
    """Follows how many bytes of storage are alive, those of ``known`` tensors apart.

    Kernels' own memory, which they give back before they return, is not seen.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        kept = (StorageWeakRef(tensor.untyped_storage()) for tensor in known)
        self._known = {reference.cdata: reference for reference in kept}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        """The most bytes that were alive at one time."""

    def watch(self, *tensors: Tensor) -> None:
        """Count what ``tensors`` are stored in from now on."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            if reference.cdata not in self._known:
                self._live[reference.cdata] = reference, storage.nbytes()
        self.peak = max(self.peak, self.alive())

    def alive(self) -> int:
        """Return the bytes alive now."""
        self._live = {key: one for key, one in self._live.items() if not one[0].expired()}
        return sum(count for _, count in self._live.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count what it gives."""
        self.alive()  # forgets what is gone, whose address its result may have
        result = func(*args, **(kwargs or {}))
        self.watch(*(one for one in tree_leaves(result) if isinstance(one, Tensor)))
        return result


def observe_memory(
    network: nn.Module, stage_ends: Sequence[str], size: Size, layout: str = "NCHW"
) -> TrunkMemory:
    """Return what ``network`` holds while it runs on one image of (height, width) ``size``.

    ``layout`` is that of the maps at its stage ends. With NLC these are blocks' own attention, and
    what is found is beside the tokens that a selection gets (``select``).
    """
    ends: list[Held] = []
    channels = layout.index("C")
    handles = []
    selecting = [network.get_submodule(name) for name in stage_ends if layout == "NLC"]
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        # referred to until the end, or operations would make others of them
        own = [fake.from_tensor(one) for one in (*network.parameters(), *network.buffers())]
        held = LiveStorages(own)

        def look(module: nn.Module, inputs: object, output: Tensor) -> None:
            beside = held.alive() - output.numel() * output.element_size()
            ends.append(Held(_elements(beside), output.stride(channels) == 1))

        def look_within(tokens: Tensor, both: Tensor) -> Tensor:
            beside = held.alive() - tokens.numel() * tokens.element_size()
            ends.append(Held(_elements(beside)))
            return both

        for name in stage_ends if not selecting else ():
            handles.append(network.get_submodule(name).register_forward_hook(look))
        for module in selecting:
            module.select = look_within  # pyright: ignore[reportArgumentType]
        try:
            images = torch.zeros(1, IMAGE_CHANNELS, *size)
            held.watch(images)
            with torch.no_grad(), held:
                network.eval()(images)
        finally:
            for handle in handles:
                handle.remove()
    image = IMAGE_CHANNELS * size[0] * size[1]
    return TrunkMemory(_elements(held.peak) - image, tuple(ends))


def _elements(count: int) -> int:
    return -(-count // FLOAT32_BYTES)
