"""Backend ``compile``: modules compiled by torch.compile with Inductor."""

import types
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dcsnas.latency.conditions import Conditions
from dcsnas.latency.running import Workload, held_bytes, placed


def compiled_workload(module: nn.Module, images: Tensor, conditions: Conditions) -> Workload:
    """Return a call of ``module``, changed by ``placed``, compiled for ``images``.

    Kernels are generated for the number of threads that torch has now.
    """
    images = placed(module, images, conditions)
    # fullgraph: an error where a part of the module would run eagerly
    run = torch.compile(_with_own_code(module), dynamic=False, fullgraph=True)
    with torch.no_grad():
        run(images)
    return Workload(lambda: run(images), held_bytes(module, images))


def _with_own_code(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function that calls ``module`` and shares its code object with no other.

    Dynamo keeps what it compiled per code object and gives up after a few
    (``torch._dynamo.config.recompile_limit``): all blocks share one ``forward``.
    """

    def run(images: Tensor) -> Tensor:
        return module(images)

    code = run.__code__.replace()
    return types.FunctionType(code, run.__globals__, closure=run.__closure__)
