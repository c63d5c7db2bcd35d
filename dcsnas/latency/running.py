"""Workloads: modules made ready to run under given conditions, and the calm to time them in."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcsnas.latency.affinity import Cpus, bound_to, idle_cpus
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.timing import Run


@dataclass(frozen=True)
class Workload:
    """Something to time: a call without arguments that returns its output, and what it holds."""

    run: Run
    num_bytes: int


def placed(module: nn.Module, images: Tensor, conditions: Conditions) -> Tensor:
    """Return ``images`` moved as ``conditions`` say, and move ``module`` alike, to evaluate it.

    The module itself is changed: evaluation mode, device, type and memory format.
    """
    device, dtype = torch.device(conditions.device), getattr(torch, conditions.dtype)
    channels_last = conditions.memory_format == "channels_last"
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module.eval().to(device, dtype)
    module.to(memory_format=layout)  # type: ignore[call-overload]  # absent from torch's stubs
    return images.to(device, dtype, memory_format=layout)


def held_bytes(module: nn.Module, images: Tensor) -> int:
    """Return the memory of a module's weights and of its input."""
    held = (images, *module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


def eager_workload(module: nn.Module, images: Tensor, conditions: Conditions) -> Workload:
    """Return a plain call of ``module``, changed by ``placed``, on ``images``."""
    images = placed(module, images, conditions)
    return Workload(lambda: module(images), held_bytes(module, images))


@contextmanager
def measuring(conditions: Conditions) -> Iterator[Cpus | None]:
    """Run the block without gradients and garbage collection, on the threads of ``conditions``.

    On the CPU the calling thread keeps to that many CPUs, which the block receives (None: it is
    free to move). cuDNN chooses its kernels by trial; the global random state is left as it was.
    """
    threads, autotune = torch.get_num_threads(), torch.backends.cudnn.benchmark
    cpus = idle_cpus(conditions.threads) if conditions.device == "cpu" else None
    torch.set_num_threads(conditions.threads)
    torch.backends.cudnn.benchmark = True
    gc.disable()
    try:
        with bound_to(cpus), torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield cpus
    finally:
        gc.enable()
        torch.backends.cudnn.benchmark = autotune
        torch.set_num_threads(threads)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether ``error`` says that the device or the host has no memory left."""
    # the CPU allocator raises a plain RuntimeError that only its text tells apart
    on_host = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
    return on_host or isinstance(error, torch.OutOfMemoryError)
