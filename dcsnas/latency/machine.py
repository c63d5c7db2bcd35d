"""What the backends need of a machine, and how to get it where it is missing."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch

from dcsnas.config.errors import UserError
from dcsnas.latency.allocator import current_allocator
from dcsnas.latency.conditions import Backend, Conditions, DType, Statistic, device_of
from dcsnas.latency.table import LatencyTable, load_table
from dcsnas.spaces.layers import Size

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


def current_conditions(
    size: Size,
    batch: int,
    *,
    backend: Backend = "eager",
    threads: int = 1,
    dtype: DType = "float32",
    statistic: Statistic = "p25",
) -> Conditions:
    """Return the conditions of measuring here, now, at (height, width) ``size``.

    Raises UserError where this machine cannot run ``backend`` in ``dtype``.
    """
    refuse_unsupported(backend, dtype)
    device = device_of(backend)
    on_cuda = device == "cuda"
    return Conditions(
        device=device,
        device_name=torch.cuda.get_device_name() if on_cuda else cpu_name(),
        driver=_nvidia_driver() if on_cuda else None,
        torch=torch.__version__,
        cuda=f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}" if on_cuda else None,
        backend=backend,
        backend_version=_backend_version(backend),
        threads=threads,
        allocator=current_allocator(),
        dtype=dtype,
        memory_format="channels_last" if backend == "channels_last" else "contiguous",
        batch=batch,
        input=size,
        statistic=statistic,
    )


def conditions_like(measured: Conditions) -> Conditions:
    """Return the conditions of measuring here what was ``measured``, perhaps elsewhere.

    Raises UserError where this machine cannot run its backend in its type.
    """
    return current_conditions(
        measured.input,
        measured.batch,
        backend=measured.backend,
        threads=measured.threads,
        dtype=measured.dtype,
        statistic=measured.statistic,
    )


def cpu_name() -> str:
    """Return the CPU's model, with family and instruction set where its name says too little."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().split("\n\n")[0].splitlines() if cpuinfo.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    name = fields.get("model name") or platform.processor() or platform.machine()
    # virtual machines shorten the name ("AMD EPYC"); the numbers tell the generations apart
    shown = [key for key in ("cpu family", "model", "CPU part") if key in fields]
    details = [f"{key} {fields[key]}" for key in shown]
    return f"{name} ({', '.join([*details, torch.backends.cpu.get_cpu_capability()])})"


def _backend_version(backend: Backend) -> str | None:
    if backend != "onnxruntime":
        return None
    import onnxruntime

    return onnxruntime.__version__


def _nvidia_driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.splitlines()[0].strip()


def open_table(path: Path, size: Size, *, allow_foreign: bool) -> LatencyTable:
    """Return the table in ``path`` for networks at input (height, width) ``size``.

    What a search does with a table does not depend on the search's own threads or allocator, so
    only the machine, its software and the input must agree; ``allow_foreign`` accepts another
    machine's (searching on a server for a device), never another input.
    Raises UserError that names what differs.
    """
    table = load_table(path, expected=None)
    measured = table.file.conditions
    if measured.input != size:
        raise UserError(
            f"{path}: measured at input {measured.input[0]}x{measured.input[1]}, this run uses "
            f"{size[0]}x{size[1]}; set input to the table's, or profile again with --input "
            f"{size[0]}x{size[1]}"
        )
    if allow_foreign:
        return table
    return load_table(path, expected=_same_setup_here(path, measured))


def _same_setup_here(path: Path, measured: Conditions) -> Conditions:
    try:
        here = conditions_like(measured)
    except UserError as error:
        raise UserError(
            f"{path}: measured on {measured.device_name}, which cannot be repeated here: {error}; "
            "or use --allow-foreign to work for that device from here"
        ) from None
    return here.model_copy(update={"allocator": measured.allocator})
