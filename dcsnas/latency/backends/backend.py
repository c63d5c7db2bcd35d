"""What a backend is, and the backends by name.

A backend is one record, registered when its module is imported. Nothing but its own module asks
which one it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.config.plugins import registered
from dcsnas.latency.conditions import Conditions, Device, DType, MemoryFormat
from dcsnas.latency.timing import Run, Stopwatch, stopwatch_for
from dcsnas.nn.build import build_layer, layer_input
from dcsnas.nn.layers import init_weights
from dcsnas.spaces.network import Operator


@dataclass(frozen=True)
class Workload:
    """Something to time: a call without arguments that returns its output, and what it holds."""

    run: Run
    num_bytes: int


@dataclass(frozen=True)
class Backend:
    """A way of running networks; ``prepare`` is all that most of them add."""

    name: str
    prepare: Callable[[nn.Module, Tensor, Conditions], Workload]
    """Makes a module ready to run on images [B, C, H, W]; the module itself may be changed."""
    device: Device = "cpu"
    memory_format: MemoryFormat = "contiguous"
    dtypes: Callable[[], Sequence[DType]] = lambda: ("float32",)
    """Returns the types of weights and images that have kernels on this machine."""
    require: Callable[[], None] = lambda: None
    """Raises UserError where this machine lacks something; a GPU is asked for without it."""
    version: Callable[[], str | None] = lambda: None
    """Returns the version of the package that runs networks; None where torch itself does."""
    setup_s: float = 0.003
    """To prepare one operator, for estimates; building a module takes 3 ms."""
    enters_once: bool = False
    """Whether it is entered once for a whole network, not at every operator. Operators that are
    timed alone each pay for entering it, so their sum counts that too often."""
    stopwatch: Callable[[Conditions], Stopwatch] = stopwatch_for

    def refuse_unsupported(self, dtype: str) -> None:
        """Raise UserError where this machine cannot run the backend, or not in ``dtype``."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError(
                f"backend {self.name}: torch {torch.__version__} sees no CUDA device here; use "
                "backend eager, or check that nvidia-smi lists a GPU and that torch is a CUDA build"
            )
        self.require()
        if dtype not in (supported := self.dtypes()):
            raise UserError(
                f"dtype {dtype}: backend {self.name} does not run it on this machine, only "
                f"{', '.join(supported)}; use one of these"
            )


BACKENDS: dict[str, Backend] = {}


def register_backend(backend: Backend) -> None:
    """Make ``backend`` known by its name; raises UserError where another has that name."""
    if BACKENDS.setdefault(backend.name, backend) is not backend:
        raise UserError(f"backend {backend.name}: there is another of that name; rename this one")


def backend_named(name: str) -> Backend:
    """Return the backend called ``name``; raises UserError with the known names for another."""
    return registered(BACKENDS, name, "backend")


def prepare_module(module: nn.Module, images: Tensor, conditions: Conditions) -> Workload:
    """Return ``module`` on ``images`` [B, C, H, W] ready to run on the backend of ``conditions``.

    The module itself is changed: evaluation mode, device, type and memory format.
    """
    return backend_named(conditions.backend).prepare(module, images, conditions)


def prepare_operator(operator: Operator, conditions: Conditions) -> Workload:
    """Return ``operator`` alone, with random weights and input, ready to run."""
    return prepare_module(*operator_module(operator, conditions.batch), conditions)


def operator_module(operator: Operator, batch: int) -> tuple[nn.Module, Tensor]:
    """Return ``operator`` as a module with random weights, and its input [batch, C, H, W]."""
    generator = torch.Generator().manual_seed(0)
    module = build_layer(operator.layer)
    init_weights(module, generator)
    return module, layer_input(operator.layer, operator.size, batch, generator)


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


def is_out_of_memory(error: Exception) -> bool:
    """Return whether ``error`` says that the device or the host has no memory left."""
    # the CPU allocator raises a plain RuntimeError that only its text tells apart
    on_host = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
    return on_host or isinstance(error, torch.OutOfMemoryError)


@contextmanager
def out_of_memory_as(message: str) -> Iterator[None]:
    """Raise UserError with ``message`` where the block runs out of memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(message) from None
