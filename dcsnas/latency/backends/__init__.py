"""Backends: the ways of running networks that can be timed. A new one is a file and a line here."""

from dcsnas.latency.backends.backend import (
    BACKENDS,
    Backend,
    Workload,
    backend_named,
    register_backend,
)
from dcsnas.latency.backends.compiled import COMPILE
from dcsnas.latency.backends.eager import CHANNELS_LAST, CUDA, CUDA_GRAPH, EAGER
from dcsnas.latency.backends.onnx_runtime import ONNX_RUNTIME

__all__ = ["BACKENDS", "Backend", "Workload", "backend_named", "register_backend"]

for _backend in (EAGER, CHANNELS_LAST, COMPILE, ONNX_RUNTIME, CUDA, CUDA_GRAPH):
    register_backend(_backend)
