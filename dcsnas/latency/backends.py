"""Backends: one place that knows how each of them runs a module."""

import torch
from torch import Tensor, nn

from dcsnas.latency.compiled import compiled_workload
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.graphs import graph_workload
from dcsnas.latency.onnx_runtime import onnx_workload
from dcsnas.latency.running import Workload, eager_workload
from dcsnas.nn.build import build_layer, layer_input
from dcsnas.nn.layers import init_weights
from dcsnas.spaces.network import Operator


def prepare_module(module: nn.Module, images: Tensor, conditions: Conditions) -> Workload:
    """Return ``module`` on ``images`` [B, C, H, W] ready to run on the backend of ``conditions``.

    The module itself is changed: evaluation mode, device, type and memory format.
    """
    match conditions.backend:
        case "eager" | "channels_last" | "cuda":
            return eager_workload(module, images, conditions)
        case "compile":
            return compiled_workload(module, images, conditions)
        case "onnxruntime":
            return onnx_workload(module, images, conditions)
        case "cuda-graph":
            return graph_workload(module, images, conditions)


def prepare_operator(operator: Operator, conditions: Conditions) -> Workload:
    """Return ``operator`` alone, with random weights and input, ready to run."""
    generator = torch.Generator().manual_seed(0)
    module = build_layer(operator.layer)
    init_weights(module, generator)
    images = layer_input(operator.layer, operator.size, conditions.batch, generator)
    return prepare_module(module, images, conditions)
