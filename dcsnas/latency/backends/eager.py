"""Backends ``eager``, ``channels_last`` and ``cuda``: plain calls of torch modules."""

import torch
from torch import Tensor, nn

from dcsnas.latency.backends.backend import Backend, Workload, held_bytes, placed
from dcsnas.latency.conditions import Conditions, DType


def eager_workload(module: nn.Module, images: Tensor, conditions: Conditions) -> Workload:
    """Return a plain call of ``module``, changed by ``placed``, on ``images``."""
    images = placed(module, images, conditions)
    return Workload(lambda: module(images), held_bytes(module, images))


def cpu_dtypes() -> list[DType]:
    """Return the types that torch does not emulate on this CPU."""
    onednn = torch.backends.mkldnn.is_available()
    bfloat16 = onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    float16 = onednn and torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return _dtypes(bfloat16, float16)


def cuda_dtypes() -> list[DType]:
    """Return the types that the GPU does not emulate."""
    return _dtypes(torch.cuda.is_bf16_supported(including_emulation=False), True)


def _dtypes(bfloat16: bool, float16: bool) -> list[DType]:
    runs: dict[DType, bool] = {"float32": True, "bfloat16": bfloat16, "float16": float16}
    return [dtype for dtype, is_supported in runs.items() if is_supported]


EAGER = Backend("eager", eager_workload, dtypes=cpu_dtypes)
CHANNELS_LAST = Backend(
    "channels_last", eager_workload, memory_format="channels_last", dtypes=cpu_dtypes
)
CUDA = Backend("cuda", eager_workload, device="cuda", dtypes=cuda_dtypes)

PLAIN = {"cpu": EAGER.name, "cuda": CUDA.name}
"""The backend to take on a device where none is named."""
