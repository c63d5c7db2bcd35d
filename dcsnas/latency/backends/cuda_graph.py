"""Backend ``cuda-graph``: all kernels of a module launched at once, by replaying a CUDA graph."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcsnas.latency.backends.backend import Backend, Workload
from dcsnas.latency.backends.eager import cuda_dtypes, eager_workload
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.timing import Run

_WARMUP_RUNS = 3  # as torch's notes on CUDA graphs; cuDNN must not choose kernels while capturing


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


CUDA_GRAPH = Backend(
    "cuda-graph", graph_workload, device="cuda", dtypes=cuda_dtypes, enters_once=True
)
