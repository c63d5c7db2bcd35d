"""What the backends need of a machine, and how to get it where it is missing."""

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import torch

from dcsnas.config.errors import UserError

_INSTALL = "pip install -c constraints.txt -e '.[export]'"


def refuse_unsupported(backend: str, dtype: str) -> None:
    """Raise UserError where this machine cannot run ``backend``, or not in ``dtype``."""
    match backend:
        case "cuda" | "cuda-graph":
            _require_cuda(backend)
        case "compile":
            _require_compiler()
        case "onnxruntime":
            require_packages("backend onnxruntime", "onnx", "onnxruntime")
    supported = _dtypes(backend)
    if dtype not in supported:
        raise UserError(
            f"dtype {dtype}: backend {backend} does not run it on this machine, only "
            f"{', '.join(supported)}; use one of these"
        )


def require_packages(purpose: str, *names: str) -> None:
    """Raise UserError where one of the packages is not installed that ``purpose`` needs."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{purpose}: the package {name} is not installed; {_INSTALL}")


def _require_cuda(backend: str) -> None:
    if not torch.cuda.is_available():
        raise UserError(
            f"backend {backend}: torch {torch.__version__} sees no CUDA device here; use backend "
            "eager, or check that nvidia-smi lists a GPU and that torch is a CUDA build"
        )


def _require_compiler() -> None:
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


def _dtypes(backend: str) -> list[str]:
    """Return the types that ``backend`` has kernels for on this machine."""
    match backend:
        case "onnxruntime":
            bfloat16 = float16 = False
        case "cuda" | "cuda-graph":
            bfloat16, float16 = torch.cuda.is_bf16_supported(including_emulation=False), True
        case _:
            onednn = torch.backends.mkldnn.is_available()
            bfloat16 = onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
            float16 = onednn and torch.ops.mkldnn._is_mkldnn_fp16_supported()
    runs = {"float32": True, "bfloat16": bfloat16, "float16": float16}
    return [dtype for dtype, is_supported in runs.items() if is_supported]
