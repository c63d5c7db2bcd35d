"""Backends ``eager``, ``channels_last``, ``cuda``: plain calls of torch modules; ``cuda-graph``.

The last launches all kernels of a module at once, by replaying a CUDA graph.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcsnas.latency.backends.backend import Backend, Workload, held_bytes, placed
from dcsnas.latency.conditions import Conditions, DType
from dcsnas.latency.timing import Run

_WARMUP_RUNS = 3  # as torch's notes on CUDA graphs; cuDNN must not choose kernels while capturing


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


def graph_workload(module: nn.Module, images: Tensor, conditions: Conditions) -> Workload:
    """Return the replay of ``module``, changed by ``placed``, captured on ``images``.

    Source: docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
    """
    eager = eager_workload(module, images, conditions)
    with torch.no_grad():
        _warm_up_aside(eager.run)
        torch.cuda.empty_cache()
        reserved = torch.cuda.memory_reserved()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = eager.run()
    pool_bytes = torch.cuda.memory_reserved() - reserved
    return Workload(_Replay(graph, eager.run, output), eager.num_bytes + max(0, pool_bytes))


@dataclass(frozen=True)
class _Replay:
    """Replays a graph, and keeps alive the tensors whose memory it reads and writes."""

    graph: torch.cuda.CUDAGraph
    captured: Run
    output: object

    def __call__(self) -> object:
        self.graph.replay()
        return self.output


def _warm_up_aside(run: Run) -> None:
    """Run a few times on a stream of its own, as capturing will."""
    current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        for _ in range(_WARMUP_RUNS):
            run()
    current.wait_stream(aside)


EAGER = Backend("eager", eager_workload, dtypes=cpu_dtypes)
CHANNELS_LAST = Backend(
    "channels_last", eager_workload, memory_format="channels_last", dtypes=cpu_dtypes
)
CUDA = Backend("cuda", eager_workload, device="cuda", dtypes=cuda_dtypes)
CUDA_GRAPH = Backend(
    "cuda-graph", graph_workload, device="cuda", dtypes=cuda_dtypes, enters_once=True
)

PLAIN = {"cpu": EAGER.name, "cuda": CUDA.name}
"""The backend to take on a device where none is named."""
