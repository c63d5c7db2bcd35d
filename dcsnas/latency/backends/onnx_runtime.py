"""Backend ``onnxruntime``: modules exported to ONNX and run by ONNX Runtime on the CPU."""

import importlib.util
import io
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.latency.backends.backend import Backend, Workload, held_bytes, placed
from dcsnas.latency.conditions import Conditions

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

INPUT, OUTPUT = "images", "features"
OPSET = 17
"""Version of the operator set: ONNX Runtime has read it since 1.12 (2022)."""

_ARENA_BYTES = 2**20  # what a session allocates at once, at least
_ERRORS = 3  # and nothing less severe is logged


def onnx_workload(module: nn.Module, images: Tensor, conditions: Conditions) -> Workload:
    """Return an inference of ``module``, changed by ``placed``, exported for ``images``.

    Input and output are bound once, so that no copy of them is timed.
    """
    images = placed(module, images, conditions)
    model = to_onnx(module, images)
    try:
        session = onnx_session(model, conditions.threads)
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


def onnx_session(model: bytes, threads: int) -> "InferenceSession":
    """Return a session that runs ``model`` on so many threads of the CPU."""
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


def to_onnx(
    module: nn.Module, images: Tensor, *, dynamic_batch: bool = False, output: str = OUTPUT
) -> bytes:
    """Return ``module`` in evaluation mode as an ONNX model for inputs of the shape of ``images``.

    With ``dynamic_batch`` the first dimension of input and output is free. ``output`` names what
    comes out.

    The TorchScript exporter takes 10 ms for a block, the one on torch.export 700 ms; ONNX Runtime
    runs both graphs equally fast.
    """
    model = io.BytesIO()
    with warnings.catch_warnings():
        # the other exporter is preferred for new models
        warnings.filterwarnings("ignore", "You are using the legacy", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        # Python's decisions on shapes are traced as they fall for these images: meant so
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # the runtime folds what the exporter leaves
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        torch.onnx.export(
            _ImagesOnly(module),
            (images,),
            model,  # type: ignore[arg-type]  # annotated for the other exporter
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[output],
            dynamic_axes={name: {0: "batch"} for name in (INPUT, output)} if dynamic_batch else {},
        )
    return model.getvalue()


class _ImagesOnly(nn.Module):
    """Hides a module's optional arguments, the masks of a supernet, from tracing."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training  # the mode that the exporter puts everything back into

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images)


def require_onnx(purpose: str) -> None:
    """Raise UserError where a package is missing that exports or runs graphs, for ``purpose``."""
    for name in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"{purpose}: the package {name} is not installed; "
                "pip install -c constraints.txt -e '.[export]'"
            )


def _version() -> str:
    import onnxruntime

    return onnxruntime.__version__


ONNX_RUNTIME = Backend(
    "onnxruntime",
    onnx_workload,
    require=partial(require_onnx, "backend onnxruntime"),
    version=_version,
    setup_s=0.03,
    enters_once=True,
)
