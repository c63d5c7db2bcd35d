"""Backend ``onnxruntime``: modules exported to ONNX and run by ONNX Runtime on the CPU."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from dcsnas.latency.conditions import Conditions
from dcsnas.latency.running import Workload, held_bytes, placed
from dcsnas.nn.onnx import INPUT, OUTPUT, to_onnx

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

_ARENA_BYTES = 2**20  # what a session allocates at once, at least
_ERRORS = 3  # and nothing less severe is logged


def onnx_workload(module: nn.Module, images: Tensor, conditions: Conditions) -> Workload:
    """Return an inference of ``module``, changed by ``placed``, exported for ``images``.

    Input and output are bound once, so that no copy of them is timed.
    """
    images = placed(module, images, conditions)
    model = to_onnx(module, images)
    try:
        session = _session(model, conditions.threads)
    except Exception as error:
        _raise_if_out_of_memory(error)
        raise
    output = torch.empty(session.get_outputs()[0].shape)
    binding = session.io_binding()
    binding.bind_input(INPUT, "cpu", 0, np.float32, images.shape, images.data_ptr())
    binding.bind_output(OUTPUT, "cpu", 0, np.float32, output.shape, output.data_ptr())
    run = _Inference(session, binding, images, output)
    return Workload(run, held_bytes(module, images) + _ARENA_BYTES)


@dataclass(frozen=True)
class _Inference:
    """Runs a session, and keeps alive the tensors whose memory is bound."""

    session: "InferenceSession"
    binding: "IOBinding"
    images: Tensor
    output: Tensor

    def __call__(self) -> Tensor:
        try:
            self.session.run_with_iobinding(self.binding)
        except Exception as error:
            _raise_if_out_of_memory(error)
            raise
        return self.output


def _session(model: bytes, threads: int) -> "InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS
    # every session has threads of its own that wait for work by spinning: within a run, as they
    # do in use, but not on while other sessions are timed
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _raise_if_out_of_memory(error: Exception) -> None:
    # ONNX Runtime's errors derive from Exception alone, and only the text tells them apart
    if "Failed to allocate memory" in str(error) or "bad_alloc" in str(error):
        raise MemoryError(str(error)) from error
