"""The machine that measures: its conditions, and tables that were measured under others."""

import platform
import subprocess
from pathlib import Path

import torch

from dcsnas.config.errors import UserError
from dcsnas.latency.allocator import current_allocator
from dcsnas.latency.backends import backend_named
from dcsnas.latency.conditions import Conditions, Device, DType, Statistic
from dcsnas.latency.table import LatencyTable, load_table
from dcsnas.nn.distributed import pick_device
from dcsnas.spaces.layers import Size


def current_conditions(
    size: Size,
    batch: int,
    *,
    backend: str = "eager",
    threads: int = 1,
    dtype: DType = "float32",
    statistic: Statistic = "relative",
) -> Conditions:
    """Return the conditions of measuring here, now, at (height, width) ``size``.

    Raises UserError where there is no such backend, or this machine cannot run it in ``dtype``.
    """
    chosen = backend_named(backend)
    chosen.refuse_unsupported(dtype)
    on_cuda = chosen.device == "cuda"
    return Conditions(
        device=chosen.device,
        device_name=device_name(chosen.device),
        driver=_nvidia_driver() if on_cuda else None,
        torch=torch.__version__,
        cuda=f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}" if on_cuda else None,
        backend=backend,
        backend_version=chosen.version(),
        threads=threads,
        allocator=current_allocator(),
        dtype=dtype,
        memory_format=chosen.memory_format,
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


def device_name(device: Device) -> str:
    """Return the name of the GPU that torch uses, or of the CPU."""
    return torch.cuda.get_device_name() if device == "cuda" else cpu_name()


def running_on(name: str) -> str:
    """Return the name of what ``auto``, ``cpu`` or ``cuda`` stands for; raises UserError."""
    return device_name("cuda" if pick_device(name).type == "cuda" else "cpu")


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


def _nvidia_driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.splitlines()[0].strip()


def open_table(
    path: Path, size: Size, *, allow_foreign: bool, allow_disturbed: bool = False
) -> LatencyTable:
    """Return the table in ``path`` for networks at input (height, width) ``size``.

    What a search does with a table does not depend on the search's own threads or allocator, so
    only the machine, its software and the input must agree; ``allow_foreign`` accepts another
    machine's (searching on a server for a device), never another input. ``allow_disturbed`` accepts
    one whose times do not hold. Raises UserError that names what differs.
    """
    table = load_table(path, expected=None)
    if not allow_disturbed:
        table.refuse_disturbed()
    measured = table.file.conditions
    if measured.input != size:
        raise UserError(
            f"{path}: measured at input {measured.input[0]}x{measured.input[1]}, this run uses "
            f"{size[0]}x{size[1]}; set input to the table's, or profile again with --input "
            f"{size[0]}x{size[1]}"
        )
    if allow_foreign:
        return table
    try:
        here = conditions_like(measured)
    except UserError as error:
        raise UserError(
            f"{path}: measured on {measured.device_name}, which cannot be repeated here: {error}; "
            "or use --allow-foreign to work for that device from here"
        ) from None
    table.refuse_other(here.model_copy(update={"allocator": measured.allocator}))
    return table
