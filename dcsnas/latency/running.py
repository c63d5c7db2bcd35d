"""Workloads: modules made ready to run under given conditions, and the calm to time them in."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcsnas.latency.conditions import Conditions
from dcsnas.latency.timing import Run
from dcsnas.nn.build import build_layer, layer_input
from dcsnas.spaces.operators import Operator


@dataclass(frozen=True)
class Workload:
    """Something to time: a call without arguments, and the memory that it holds."""

    run: Run
    num_bytes: int


def eager_workload(
    module: nn.Module, inputs: tuple[Tensor, ...], conditions: Conditions
) -> Workload:
    """Return a plain call of ``module`` on ``inputs``, both moved as ``conditions`` say.

    The module itself is changed: evaluation mode, device, type and memory format.
    """
    device, dtype = torch.device(conditions.device), getattr(torch, conditions.dtype)
    channels_last = conditions.memory_format == "channels_last"
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module.eval().to(device, dtype)
    module.to(memory_format=layout)  # type: ignore[call-overload]  # absent from torch's stubs
    placed = tuple(
        x.to(device, dtype, memory_format=layout if x.dim() == 4 else torch.contiguous_format)
        for x in inputs
    )
    held = (*placed, *module.parameters(), *module.buffers())
    return Workload(lambda: module(*placed), sum(t.numel() * t.element_size() for t in held))


def operator_workload(operator: Operator, conditions: Conditions) -> Workload:
    """Return ``operator`` alone, with random weights and inputs, ready to run."""
    generator = torch.Generator().manual_seed(0)
    images = layer_input(operator.layer, operator.size, conditions.batch, generator)
    return eager_workload(build_layer(operator.layer), (images,), conditions)


@contextmanager
def measuring(conditions: Conditions) -> Iterator[None]:
    """Run the block without gradients and garbage collection, on the threads of ``conditions``.

    cuDNN chooses its kernels by trial; the global random state is left as it was.
    """
    threads, autotune = torch.get_num_threads(), torch.backends.cudnn.benchmark
    torch.set_num_threads(conditions.threads)
    torch.backends.cudnn.benchmark = True
    gc.disable()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        gc.enable()
        torch.backends.cudnn.benchmark = autotune
        torch.set_num_threads(threads)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether ``error`` says that the device or the host has no memory left."""
    # the CPU allocator raises a plain RuntimeError that only its text tells apart
    on_host = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
    return on_host or isinstance(error, torch.OutOfMemoryError)
