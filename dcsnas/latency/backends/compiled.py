"""Backend ``compile``: modules compiled by torch.compile with Inductor."""

import os
import shutil
import sys
import sysconfig
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.latency.backends.backend import Backend, Workload, held_bytes, placed
from dcsnas.latency.backends.eager import cpu_dtypes
from dcsnas.latency.conditions import Conditions


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


def require_compiler() -> None:
    """Raise UserError where there is no C++ compiler, or what it needs is missing."""
    # as torch._inductor.config.cpp.cxx chooses it; what it compiles includes Python.h
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise UserError(
            f"backend compile: no C++ compiler '{compiler}'; install one (on Debian: apt install "
            "g++), or name yours in the environment variable CXX"
        )
    headers = Path(sysconfig.get_path("include"))
    if sys.platform == "linux" and not (headers / "Python.h").exists():
        raise UserError(
            f"backend compile: {headers} has no Python.h, which compiled kernels include; install "
            "Python's headers (on Debian: apt install python3-dev)"
        )


COMPILE = Backend(
    "compile",
    compiled_workload,
    dtypes=cpu_dtypes,
    require=require_compiler,
    setup_s=1.5,
    enters_once=True,
)
